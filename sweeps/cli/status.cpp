#include <chrono>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "sweeps/cli/command.h"
#include "sweeps/cli/text_table.h"
#include "sweeps/overview.h"
#include "sweeps/progress_table.h"
#include "sweeps/sweep_folder.h"
#include "sweeps/terminal.h"

namespace equisweep {
namespace {

struct StatusOptions {
  std::string sweep;
  std::filesystem::path results;
  bool json = false;
  double every = 2;
};

std::string counts_text(const SweepOverview& overview) {
  std::vector<std::string> parts;
  std::size_t total = 0;
  for (const auto& [state, n] : overview.counts()) {
    parts.push_back(fmt::format("{} {}", n, name_of(state)));
    total += n;
  }
  return fmt::format("{}: {} jobs{}{}", printable(overview.name), total, parts.empty() ? "" : ": ", join(parts));
}

/// Each job once, in the order of the plan, that `wanted` says.
template <typename Wanted>
std::vector<const RunOverview*> jobs_that(const SweepOverview& overview, const Wanted& wanted) {
  std::vector<const RunOverview*> jobs;
  std::set<std::string> seen;
  for (const RunOverview& run : overview.runs)
    if (!run.retired && wanted(run) && seen.insert(run.job).second) jobs.push_back(&run);
  return jobs;
}

bool has_failed(const RunOverview& run) {
  return run.state == RunState::failed || run.state == RunState::oom || run.state == RunState::timeout ||
         run.state == RunState::lost;
}

std::string status_text(const SweepOverview& overview) {
  std::string text = counts_text(overview) + "\n";
  const auto running = jobs_that(overview, [](const RunOverview& r) { return r.state == RunState::running; });
  const auto failed = jobs_that(overview, has_failed);
  if (overview.supervisor) {
    const auto left = overview.seconds_left();
    text +=
        fmt::format("process {} runs it{}\n", *overview.supervisor, left ? ", about " + duration_text(*left) + " left" : "");
  }
  if (!running.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const RunOverview* run : running)
      rows.push_back({run->job, run->model, run->stack, fmt::format("{}", run->lr_scale), std::to_string(run->seed),
                      fmt::format("{}/{}", run->step, run->steps),
                      run->train_loss ? fmt::format("{:.4f}", *run->train_loss) : "-",
                      fmt::format("{:.0f}", run->tokens_per_second())});
    text += overview.supervisor ? "\n" : "\nnobody runs these any more; the next `equisweep run` continues them:\n";
    text += text_table({"job", "model", "stack", "lr_scale", "seed", "step", "loss", "tokens/s"}, rows);
  }
  if (!failed.empty()) text += "\nended without a result:\n";
  constexpr std::size_t kShown = 10;
  for (std::size_t i = 0; i < std::min(failed.size(), kShown); ++i)
    text +=
        fmt::format("  {} {} {} seed {}: {}: {}\n", failed[i]->job, printable(failed[i]->model), printable(failed[i]->stack),
                    failed[i]->seed, name_of(failed[i]->state), printable(failed[i]->message, 300));
  if (failed.size() > kShown)
    text += fmt::format("  and {} more: equisweep ls {}\n", failed.size() - kShown, printable(overview.name));
  const auto counts = overview.counts();
  const bool results = counts.contains(RunState::done) || counts.contains(RunState::diverged);
  if (!failed.empty() && !overview.supervisor)
    text += fmt::format("\nnext: equisweep run FILE tries them again; equisweep logs {} shows the first one's log\n",
                        failed[0]->job);
  else if (results)
    text += fmt::format("\nnext: equisweep report {}\n", printable(overview.name));
  return text;
}

nlohmann::json status_json(const SweepOverview& overview) {
  nlohmann::json counts = nlohmann::json::object(), running = nlohmann::json::array();
  for (const auto& [state, n] : overview.counts()) counts[std::string(name_of(state))] = n;
  for (const RunOverview* run : jobs_that(overview, [](const RunOverview& r) { return r.state == RunState::running; }))
    running.push_back(
        {{"job", run->job}, {"step", run->step}, {"steps", run->steps}, {"tokens_per_second", run->tokens_per_second()}});
  const auto left = overview.seconds_left();
  return {{"name", overview.name},
          {"supervisor", overview.supervisor ? nlohmann::json(*overview.supervisor) : nlohmann::json()},
          {"jobs", counts},
          {"running", running},
          {"seconds_left", left ? nlohmann::json(*left) : nlohmann::json()}};
}

ExitCode status(const StatusOptions& options) {
  const SweepOverview overview = read_overview(find_sweep(options.results, options.sweep));
  if (options.json)
    fmt::print("{}\n", status_json(overview).dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  else
    fmt::print("{}", status_text(overview));
  return ExitCode::ok;
}

/// Until nobody runs the sweep any more. A terminal is drawn again in place; a pipe gets a line where something has changed.
ExitCode watch(const StatusOptions& options) {
  const std::filesystem::path folder = find_sweep(options.results, options.sweep);
  StandardError terminal;
  std::string last;
  while (true) {
    const SweepOverview overview = read_overview(folder);
    if (!overview.supervisor) {
      if (terminal.live() && !last.empty()) terminal.write("\x1b[H\x1b[J");
      fmt::print("{}", status_text(overview));
      return ExitCode::ok;
    }
    if (terminal.live()) {
      std::string screen = "\x1b[H\x1b[J";
      std::string_view rest = last = status_text(overview);
      for (int line = 1; line < terminal.height() && !rest.empty(); ++line) {
        const std::size_t end = rest.find('\n');
        screen += fit(rest.substr(0, end), terminal.width()) + "\n";
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
      }
      terminal.write(screen);
    } else if (const std::string line = counts_text(overview); line != last) {
      fmt::print("{}\n", last = line);
      std::fflush(stdout);
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(options.every));
  }
}

}  // namespace

void add_status(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand("status",
                                             "How far a sweep is: jobs by state, what runs now, what failed and why.\n\n"
                                             "  equisweep status demo\n"
                                             "  equisweep status demo --json\n");
  auto options = std::make_shared<StatusOptions>();
  add_sweep_argument(*command, options->sweep);
  command->add_flag("--json", options->json, "machine-readable");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return status(*options); }; });
}

void add_watch(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand("watch",
                                             "The status of a sweep again and again, until nobody runs it any more.\n\n"
                                             "  equisweep watch demo\n"
                                             "  equisweep watch demo --every 10\n");
  auto options = std::make_shared<StatusOptions>();
  add_sweep_argument(*command, options->sweep);
  command->add_option("--every", options->every, "seconds between two looks")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return watch(*options); }; });
}

}  // namespace equisweep
