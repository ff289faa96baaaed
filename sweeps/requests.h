#pragma once
// What `equisweep cancel` and `equisweep retry` ask for. Where a supervisor runs the sweep it alone may write the database,
// so they leave it a file:
//
//   results/<sweep>/requests/<unique>.json   {"request": "cancel", "jobs": ["1f0c93a4b7d2e658", ...]}
//
// A file appears whole, is removed before it is acted on, and so is acted on once or never.

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/run_state.h"

namespace equisweep {

struct Request {
  enum class What { cancel, retry };
  What what = What::cancel;
  std::vector<std::string> jobs = {};  ///< ids
  bool operator==(const Request&) const = default;
};

/// Why a job is cancelled, in the database.
inline constexpr const char* kCancelled = "cancelled on request";

/// "cancel", "retry"
std::string name_of(Request::What what);

/// What retry takes where neither jobs nor states are named: all that ended without a result, except what was cancelled.
inline const std::set<RunState> kRetried = {RunState::failed, RunState::oom, RunState::timeout, RunState::lost,
                                            RunState::preempted};

/// Whether a request can do anything to a job in `state`: cancel to all that are no result, retry to all that have ended
/// without one.
bool applies(Request::What what, RunState state);

/// The jobs of the sweep in `folder` that `names` (ids, or the first digits of one) name, or all that are in one of `states`
/// where no name is given. Throws Error (nothing matches) for a name that is no job or several, for a named job to which the
/// request does not apply, and where nothing is chosen.
std::vector<std::string> choose_jobs(const std::filesystem::path& folder, Request::What what,
                                     const std::vector<std::string>& names, const std::set<RunState>& states);

/// Does what is asked, or where a supervisor runs the sweep leaves it the request and returns its process number.
std::optional<std::string> carry_out(const std::filesystem::path& folder, const Request& request);

/// Leaves a request for the supervisor of the sweep in `folder`. Throws Error if it cannot be written.
void leave_request(const std::filesystem::path& folder, const Request& request);

/// The supervisor's side. What lies there is believed as little as any input: too large, no regular file, not ours to
/// remove, not of the form above: each is a complaint and nothing else, said once for a file that cannot be removed.
class RequestBox {
 public:
  explicit RequestBox(const std::filesystem::path& folder) : folder_(folder / "requests") {}

  struct Taken {
    std::vector<Request> requests = {};  ///< in the order of the files' names
    std::vector<std::string> complaints = {};
  };
  Taken take();

 private:
  std::filesystem::path folder_;
  std::set<std::string> stuck_;  // complained of, and still there
};

}  // namespace equisweep
