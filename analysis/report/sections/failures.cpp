// Runs that ended without a result, or with one that is no loss: what they were, where they ended, how to see it again.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "analysis/report/attempts.h"
#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

constexpr std::size_t kInFull = 8;  // runs whose log and command are shown
constexpr std::int64_t kTailBytes = 2000;
constexpr std::size_t kTailLines = 12;

bool ended_badly(const RunRecord& run) { return !run.pending() && std::isinf(run.final_loss()); }

// The last lines of the worker's output; nothing if there is none, or a link stands in its place.
std::string log_tail(const ReportData& data, const RunRecord& run) {
  if (!has_plain_id(run)) return "";
  const std::string path = (data.sweeps[run.sweep].folder / "runs" / run.job / "log.txt").string();
  const int file = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return "";
  std::string tail;
  struct stat facts = {};
  if (fstat(file, &facts) == 0 && S_ISREG(facts.st_mode)) {
    const std::int64_t begin = std::max<std::int64_t>(0, facts.st_size - kTailBytes);
    tail.resize(static_cast<std::size_t>(facts.st_size - begin));
    const ssize_t got = pread(file, tail.data(), tail.size(), begin);
    tail.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    if (begin > 0) tail.erase(0, std::min(tail.find('\n') + 1, tail.size()));
  }
  close(file);
  while (!tail.empty() && tail.back() == '\n') tail.pop_back();
  std::size_t at = tail.size();
  for (std::size_t lines = 0; at != 0 && at != std::string::npos; ++lines) {
    at = tail.rfind('\n', at - 1);
    if (lines + 1 == kTailLines && at != std::string::npos) return tail.substr(at + 1);
  }
  return tail;
}

}  // namespace

Content failures_section(const SectionInput& input) {
  const ReportData& data = input.data;
  std::vector<const CellRecord*> bad;
  for (const CellRecord& cell : data.cells) {
    const bool known = std::any_of(bad.begin(), bad.end(), [&](const CellRecord* c) { return c->run == cell.run; });
    if (ended_badly(*cell.run) && !known) bad.push_back(&cell);
  }
  if (bad.empty()) return {Paragraph{"No run diverged or failed."}};

  std::string states;
  for (const RunState state : kRunStates) {
    const auto n = std::count_if(bad.begin(), bad.end(), [&](const CellRecord* c) { return c->run->state == state; });
    if (n > 0)
      states += fmt::format("{}{} {}", states.empty() ? "" : ", ", n,
                            state == RunState::done ? "done without a finite loss" : name_of(state));
  }
  Table table{
      .id = "failures",
      .caption =
          "Runs without a finite final loss. Those that diverged count as infinite losses wherever this report compares; "
          "those "
          "that ended without a result leave their learning rate incomplete.",
      .columns = {{.title = "Job", .csv_name = "job"},
                  {.title = "Model", .csv_name = "model"},
                  {.title = "Stack", .csv_name = "stack"},
                  {.title = "Point", .csv_name = "point"},
                  {.title = "Seed", .numeric = true, .csv_name = "seed"},
                  {.title = "State", .csv_name = "state"},
                  {.title = "Last step", .numeric = true, .csv_name = "last_step"},
                  {.title = "Last loss", .numeric = true, .csv_name = "last_batch_loss_nats"},
                  {.title = "Attempts", .numeric = true, .csv_name = "attempts"},
                  {.title = "Learning rates", .csv_name = "learning_rates", .hidden = true},
                  {.title = "Config", .csv_name = "config", .hidden = true},
                  {.title = "Message", .csv_name = "message", .prose = true}},
      .rows = {},
      .notes = {"Last loss: of the last batch, before its update. The CSV file has the whole configuration of each."}};
  for (const CellRecord* cell : bad) {
    const RunRecord& run = *cell->run;
    Value stack = text(data.stacks[cell->stack]);
    stack.key = static_cast<int>(cell->stack);
    const auto last = last_step(data, run);
    table.rows.push_back(
        {text(run.job), text(data.models[cell->model]), stack,
         text(point_name(LrPoint{.lr_scale = cell->lr_scale, .axes = cell->axes})), count(cell->seed),
         text(std::string(name_of(run.state))), last ? count(last->step) : nothing(),
         last ? number(last->loss, kLossDecimals) : nothing(), count(run.attempt), text(learning_rates(run)),
         text(run.config.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)), text(run.message)});
  }
  Content content = {Paragraph{fmt::format("{} of {} did not end with a finite loss: {}.", bad.size(),
                                           plural(data.runs.size(), "run"), states)},
                     std::move(table)};

  // Runs that failed tell more than those that diverged, so they come first.
  std::stable_sort(bad.begin(), bad.end(), [](const CellRecord* a, const CellRecord* b) {
    return (a->run->state == RunState::diverged) < (b->run->state == RunState::diverged);
  });
  if (bad.size() > kInFull) {
    content.emplace_back(Paragraph{fmt::format("{} of them in full:", kInFull)});
    bad.resize(kInFull);
  }
  for (const CellRecord* cell : bad) {
    const RunRecord& run = *cell->run;
    if (!has_plain_id(run)) continue;  // not a name that anybody should paste into a shell
    content.emplace_back(Paragraph{
        fmt::format("{}: {} on {}, seed {}, {}. To see it again, in the folder of {}:", visible(run.job),
                    visible(data.stacks[cell->stack]), visible(data.models[cell->model]), cell->seed, name_of(run.state),
                    data.sweeps.size() > 1 ? "the sweep " + visible(data.sweeps[run.sweep].name) : "this sweep")});
    std::string shown = fmt::format("equisweep exec runs/{} --verbose", visible(run.job));
    if (const std::string tail = log_tail(data, run); !tail.empty()) shown += "\n\n" + tail;
    content.emplace_back(Paragraph{std::move(shown), TextStyle::code});
  }
  return content;
}

}  // namespace equisweep
