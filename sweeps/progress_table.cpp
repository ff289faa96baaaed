#include "sweeps/progress_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace equisweep {
namespace {

constexpr double kLiveInterval = 0.2, kPlainInterval = 10;

std::string job_text(const Job& job) {
  std::string text = fmt::format("{}  {}  lr x{}  seed {}", job.model, job.stack, job.lr_scale, job.seed);
  if (!job.phase.empty()) text += "  " + job.phase;
  for (const auto& [path, value] : job.axes.items()) text += fmt::format("  {}={}", path, value.dump());
  return printable(text);
}

std::string rate_text(double tokens_per_second) {
  if (tokens_per_second <= 0) return "";
  if (tokens_per_second < 10'000) return fmt::format("{:.0f} tok/s", tokens_per_second);
  if (tokens_per_second < 1e7) return fmt::format("{:.0f}k tok/s", tokens_per_second / 1e3);
  return fmt::format("{:.0f}M tok/s", tokens_per_second / 1e6);
}

/// Characters of UTF-8, which are what a terminal counts.
int columns_of(std::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

double share(const Progress& p) {
  if (p.steps <= 0) return 0;
  return std::min(1.0, static_cast<double>(p.step) / static_cast<double>(p.steps));
}

}  // namespace

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "?";
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
  return fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
}

std::string fit(std::string_view text, int columns) {
  const std::string safe = printable(text, 4096);
  const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };  // of a UTF-8 character
  if (std::count_if(safe.begin(), safe.end(), begins) <= columns) return safe;
  std::string cut;
  int used = 0;
  for (const char c : safe) {
    if (begins(c) && ++used >= columns) break;
    cut += c;
  }
  return columns > 0 ? cut + "\u2026" : "";
}

ProgressTable::ProgressTable(Terminal& terminal, double now) : terminal_(terminal), begin_(now), last_draw_(now) {}

ProgressTable::~ProgressTable() { erase(); }

void ProgressTable::started(WorkerId worker, const Job& job, const std::string& device, std::int64_t attempt, double now) {
  running_[worker] = {.job = job, .device = device, .since = now};
  if (terminal_.live()) return;
  const std::string again = attempt > 1 ? fmt::format(", attempt {}", attempt) : "";
  say(fmt::format("start  {}  {}  on {}{}", job.id, job_text(job), device, again));
}

void ProgressTable::progressed(WorkerId worker, const Progress& progress) {
  if (const auto it = running_.find(worker); it != running_.end()) it->second.progress = progress;
}

/// On a terminal the table is what people look at: after so many lines about jobs the header's counts have to do.
void ProgressTable::tell(RunState state, const std::string& line) {
  constexpr std::size_t kTold = 30;
  if (!terminal_.live()) return say(line);
  if (state == RunState::done || told_ > kTold) return;
  say(++told_ <= kTold ? line : "more such lines are left out here; the summary and the database have them all");
}

void ProgressTable::ended(WorkerId worker, RunState state, const std::string& message, double now) {
  ++ended_[state];
  put_back(worker, state, message, now);
}

void ProgressTable::put_back(WorkerId worker, RunState state, const std::string& message, double now) {
  const auto it = running_.find(worker);
  if (it == running_.end()) return;
  const Row row = it->second;
  running_.erase(it);
  // Of a diverged run it would be that of a step before.
  const bool counts = row.progress.loss && state != RunState::diverged;
  const std::string loss = counts ? fmt::format("  loss {:.4f}", *row.progress.loss) : "";
  const std::string why = message.empty() ? "" : "  " + printable(message, 400);
  const std::string line = fmt::format("{}  {}  {}  after {}{}{}", name_of(state), row.job.id, job_text(row.job),
                                       duration_text(now - row.since), loss, why);
  // A job that is done with a message has stumbled after its end.
  tell(message.empty() ? state : RunState::failed, line);
}

void ProgressTable::skipped(const Job& job, RunState state, const std::string& message) {
  ++ended_[state];
  tell(state, fmt::format("{}  {}  {}  {}", name_of(state), job.id, job_text(job), printable(message, 400)));
}

void ProgressTable::reopened(RunState state) {
  const auto it = ended_.find(state);
  if (it != ended_.end() && --it->second == 0) ended_.erase(it);
}

std::size_t ProgressTable::ended(bool with_cancelled) const {
  std::size_t sum = 0;
  for (const auto& [state, n] : ended_) sum += state == RunState::cancelled && !with_cancelled ? 0 : n;
  return sum;
}

/// Rows that the drawn table takes up now: a window that has become narrower has wrapped its lines.
std::size_t ProgressTable::drawn_rows() const {
  const int width = std::max(1, terminal_.width());
  std::size_t rows = 0;
  for (const int columns : drawn_) rows += static_cast<std::size_t>(std::max(1, (columns + width - 1) / width));
  return rows;
}

void ProgressTable::erase() {
  if (drawn_.empty()) return;
  terminal_.write(fmt::format("\x1b[{}A\r\x1b[J", drawn_rows()));
  drawn_.clear();
}

void ProgressTable::say(const std::string& line) {
  erase();
  terminal_.write(line + "\n");
}

double ProgressTable::seconds_left(double now) const {
  const double elapsed = now - begin_;
  double work = static_cast<double>(ended(false));
  for (const auto& [worker, row] : running_) work += share(row.progress);
  if (work <= 0 || elapsed <= 0) return -1;
  return (static_cast<double>(total_ - already_ - (ended(true) - ended(false))) - work) * elapsed / work;
}

std::string ProgressTable::header(double now) const {
  const auto of = [&](RunState state) {
    const auto it = ended_.find(state);
    return it == ended_.end() ? std::size_t{0} : it->second;
  };
  const std::size_t gone = already_ + ended(true) + running_.size();
  const std::size_t queued = total_ - std::min(total_, gone);
  std::string text = fmt::format("{} of {} done, {} running, {} queued",
                                 already_ + of(RunState::done) + of(RunState::diverged), total_, running_.size(), queued);
  for (const auto& [state, n] : ended_) {
    if (state == RunState::diverged) text += fmt::format(" ({} diverged now)", n);
    if (!is_result(state)) text += fmt::format(", {} {}", n, name_of(state));
  }
  text += "; " + duration_text(now - begin_);
  if (const double left = seconds_left(now); left >= 0) text += ", about " + duration_text(left) + " left";
  return text;
}

std::string ProgressTable::row_text(const Row& row, double now, int width) const {
  const Progress& p = row.progress;
  const double done = share(p), elapsed = now - row.since;
  const std::string phase = p.phase.empty() ? "running" : p.phase;
  const std::string step = p.steps > 0 ? fmt::format("{}/{}", p.step, p.steps) : "";
  const std::string loss = p.loss ? fmt::format("{:.4f}", *p.loss) : "";
  const std::string eta = done > 0 ? duration_text(elapsed * (1 - done) / done) : "";
  const std::string numbers =
      fmt::format("{:>11} {:>8} {:>11} {:>12}  {}", step, loss, rate_text(p.tokens_per_second), eta, row.device);
  const int room = width - static_cast<int>(numbers.size()) - 13;
  if (room < 12) return fit(fmt::format("{} {} {}", step, loss, job_text(row.job)), width);  // too narrow for columns
  const std::string label = fit(job_text(row.job), room);
  const std::string padded = label + std::string(static_cast<std::size_t>(std::max(0, room - columns_of(label))), ' ');
  return fmt::format("  {:<9} {} {}", fit(phase, 9), padded, numbers);
}

std::vector<std::string> ProgressTable::lines(double now) const {
  const int width = std::max(1, terminal_.width() - 1);  // the last column would wrap on some terminals
  const auto rows = static_cast<std::size_t>(std::max(0, terminal_.height() - 2));
  std::vector<std::string> result = {fit(header(now), width)};
  for (const auto& [worker, row] : running_) {
    if (result.size() >= rows && running_.size() > rows) {
      result.push_back(fit(fmt::format("  and {} more", running_.size() + 1 - result.size()), width));
      break;
    }
    result.push_back(row_text(row, now, width));
  }
  return result;
}

void ProgressTable::draw(double now) {
  if (!terminal_.live()) {
    if (now - last_draw_ < kPlainInterval) return;
    last_draw_ = now;
    terminal_.write(header(now) + "\n");
    return;
  }
  if (!drawn_.empty() && now - last_draw_ < kLiveInterval) return;
  last_draw_ = now;
  const std::vector<std::string> table = lines(now);
  std::string frame = drawn_.empty() ? "" : fmt::format("\x1b[{}A\r", drawn_rows());
  drawn_.clear();
  for (std::size_t i = 0; i < table.size(); ++i) {
    const bool bold = i == 0 && terminal_.colors();
    frame += fmt::format("{}{}{}\x1b[K\n", bold ? "\x1b[1m" : "", table[i], bold ? "\x1b[0m" : "");
    drawn_.push_back(columns_of(table[i]));
  }
  frame += "\x1b[J";
  terminal_.write(frame);
}

}  // namespace equisweep
