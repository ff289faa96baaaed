#pragma once
// What a person sees of a running sweep: a live table on a terminal, plain lines in a pipe.

#include <map>
#include <string>
#include <vector>

#include "core/run_state.h"
#include "sweeps/job.h"
#include "sweeps/launcher/launcher.h"
#include "sweeps/terminal.h"

namespace equisweep {

/// "12 s", "3 min 05 s", "2 h 07 min", "3 d 4 h"; "?" for what is not known (negative or not finite).
std::string duration_text(double seconds);

/// `text` cut to `columns` of the terminal with "…" where something is missing; control characters are made visible.
std::string fit(std::string_view text, int columns);

/// Times are seconds of any clock that only goes forward; the table never asks for the time itself.
class ProgressTable {
 public:
  ProgressTable(Terminal& terminal, double now);
  /// Leaves the terminal with the last table removed.
  ~ProgressTable();

  void expect(std::size_t jobs) { total_ += jobs; }   ///< that many more are to be done
  void already() { ++already_; }                      ///< one of them is a result of an earlier run
  void left_out(RunState state) { ++ended_[state]; }  ///< one of them will not be started

  void started(WorkerId worker, const Job& job, const std::string& device, std::int64_t attempt, double now);
  void progressed(WorkerId worker, const Progress& progress);
  void ended(WorkerId worker, RunState state, const std::string& message, double now);
  void skipped(const Job& job, RunState state, const std::string& message);  ///< ended without having been started
  void put_back(WorkerId worker, RunState state, const std::string& message, double now);  ///< ended so, and waits again
  void reopened(RunState state);  ///< a job that had ended in `state` waits again

  /// Removes the table for good; lines can still be said.
  void finish() { erase(); }
  /// A line that stays, above the table.
  void say(const std::string& line);
  /// Draws if it is time: a terminal 5 times a second, a pipe every 10 s.
  void draw(double now);
  /// What draw() shows on a terminal, one string a line.
  std::vector<std::string> lines(double now) const;

 private:
  struct Row {
    Job job;
    std::string device;
    double since = 0;
    Progress progress = {};
  };
  std::string header(double now) const;
  std::string row_text(const Row& row, double now, int width) const;
  double seconds_left(double now) const;
  std::size_t ended(bool with_cancelled) const;
  std::size_t drawn_rows() const;
  void erase();
  void tell(RunState state, const std::string& line);

  Terminal& terminal_;
  double begin_, last_draw_;
  std::size_t total_ = 0, already_ = 0;
  std::map<WorkerId, Row> running_;
  std::map<RunState, std::size_t> ended_;
  std::size_t told_ = 0;    // lines about jobs that stay on a terminal
  std::vector<int> drawn_;  // columns of each line of the table that is now on the terminal
};

}  // namespace equisweep
