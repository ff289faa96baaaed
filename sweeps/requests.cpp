#include "sweeps/requests.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/run_store.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLargestRequest = std::size_t{8} << 20;  // the ids of more jobs than a sweep may have
constexpr std::size_t kRequestsAtATime = 1000;

std::string errno_text() { return std::generic_category().message(errno); }

/// The whole of a regular file, or why not.
std::string read_request(int folder, const std::string& name, std::string& bytes) {
  const int fd = ::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return errno == ELOOP ? "is a link" : errno_text();
  struct stat status {};
  std::string problem;
  if (::fstat(fd, &status) != 0) {
    problem = errno_text();
  } else if (!S_ISREG(status.st_mode)) {
    problem = "is no plain file";
  } else if (status.st_size > static_cast<off_t>(kLargestRequest)) {
    problem = "is too large";
  } else {
    bytes.resize(static_cast<std::size_t>(status.st_size));
    std::size_t have = 0;
    while (have < bytes.size()) {
      const ssize_t n = ::pread(fd, bytes.data() + have, bytes.size() - have, static_cast<off_t>(have));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      have += static_cast<std::size_t>(n);
    }
    bytes.resize(have);
  }
  ::close(fd);
  return problem;
}

bool is_job_id(const std::string& text) {
  return text.size() == 16 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

/// Throws Error on anything that leave_request() does not write.
Request parse_request(const std::string& bytes) {
  // A depth of 3 is all that there is; nlohmann's own parser would follow a file of brackets to its end.
  const auto shallow = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > 3) throw Error("is nested too deeply");
    return true;
  };
  const nlohmann::json json = nlohmann::json::parse(bytes, shallow, false);
  if (!json.is_object() || json.size() != 2 || !json.contains("request") || !json.contains("jobs"))
    throw Error("is not an object with the keys 'request' and 'jobs'");
  Request request;
  const nlohmann::json &what = json["request"], &jobs = json["jobs"];
  if (what == "cancel") {
    request.what = Request::What::cancel;
  } else if (what == "retry") {
    request.what = Request::What::retry;
  } else {
    throw Error("asks for something other than 'cancel' or 'retry'");
  }
  if (!jobs.is_array()) throw Error("'jobs' is not a list");
  for (const nlohmann::json& job : jobs) {
    if (!job.is_string() || !is_job_id(job.get_ref<const std::string&>()))
      throw Error("names a job that is not 16 hexadecimal digits");
    request.jobs.push_back(job);
  }
  return request;
}

}  // namespace

std::string name_of(Request::What what) { return what == Request::What::cancel ? "cancel" : "retry"; }

bool applies(Request::What what, RunState state) {
  if (is_result(state)) return false;
  if (what == Request::What::cancel) return state != RunState::cancelled;
  return state != RunState::queued && state != RunState::running;
}

std::vector<std::string> choose_jobs(const fs::path& folder, Request::What what, const std::vector<std::string>& names,
                                     const std::set<RunState>& states) {
  std::map<std::string, RunState> jobs;
  const auto db = open_read_only(folder / "sweep.db");
  SQLite::Statement query(*db, "SELECT job, state FROM runs WHERE job IN (SELECT job FROM cells WHERE retired = 0)");
  while (query.executeStep()) {
    if (const auto state = run_state_from_name(query.getColumn(1).getString()))
      jobs.emplace(query.getColumn(0).getString(), *state);
  }
  std::set<std::string> chosen;
  for (const std::string& name : names) {
    const auto first = jobs.lower_bound(name);
    const auto begins_so = [&](auto it) { return !name.empty() && it != jobs.end() && it->first.starts_with(name); };
    if (!begins_so(first)) {
      throw Error(fmt::format("no job '{}' in this sweep; the table of `equisweep plan FILE` has the ids", printable(name)),
                  ExitCode::nothing_matches);
    }
    if (begins_so(std::next(first))) {
      throw Error(fmt::format("several jobs begin with '{}': {} and {} among them", printable(name), first->first,
                              std::next(first)->first),
                  ExitCode::nothing_matches);
    }
    if (!applies(what, first->second)) {
      throw Error(fmt::format("job {} is {}: nothing to {}", first->first, equisweep::name_of(first->second), name_of(what)),
                  ExitCode::nothing_matches);
    }
    chosen.insert(first->first);
  }
  std::map<RunState, std::size_t> others;
  for (const auto& [job, state] : jobs) {
    if (!names.empty()) break;
    if (states.contains(state) && applies(what, state)) {
      chosen.insert(job);
    } else {
      ++others[state];
    }
  }
  if (chosen.empty()) {
    std::vector<std::string> parts;
    for (const auto& [state, n] : others) parts.push_back(fmt::format("{} {}", n, equisweep::name_of(state)));
    throw Error(fmt::format("nothing to {}: {}", name_of(what), parts.empty() ? "the sweep has no jobs" : join(parts)),
                ExitCode::nothing_matches);
  }
  return {chosen.begin(), chosen.end()};
}

std::optional<std::string> carry_out(const fs::path& folder, const Request& request) {
  try {
    const ProcessLock lock = lock_sweep(folder);
    SweepStore store(folder / "sweep.db");
    for (const std::string& job : request.jobs) {
      if (!applies(request.what, store.state(job))) continue;  // it has ended meanwhile
      const bool cancels = request.what == Request::What::cancel;
      store.set_state(job, cancels ? RunState::cancelled : RunState::queued, cancels ? kCancelled : "", store.attempt(job));
    }
    return std::nullopt;
  } catch (const LockHeld&) {
    const std::string pid = lock_holder(folder / kSupervisorLock).value_or("unknown");
    leave_request(folder, request);  // if it ends before it looks, the next one will
    return pid;
  }
}

void leave_request(const fs::path& folder, const Request& request) {
  static std::atomic<unsigned> serial = 0;
  const fs::path box = folder / "requests";
  std::error_code error;
  fs::create_directory(box, error);
  if (error || !fs::is_directory(fs::symlink_status(box, error)))
    throw Error(fmt::format("{}: cannot be made, or is not a folder; check the permissions", printable(box.string(), 4096)));
  // Taken in the order in which they were left, by the clock of this machine that is never set.
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const std::string name = fmt::format("{:020}-{}-{}.json", std::chrono::nanoseconds(now).count(), ::getpid(), ++serial);
  write_file_atomically(box / name,
                        nlohmann::json({{"request", name_of(request.what)}, {"jobs", request.jobs}}).dump() + "\n");
}

RequestBox::Taken RequestBox::take() {
  Taken taken;
  const int fd = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return taken;  // nobody has asked for anything yet
  const std::unique_ptr<DIR, int (*)(DIR*)> box(::fdopendir(fd), ::closedir);
  if (!box) {
    ::close(fd);
    return taken;
  }
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(box.get())) {
    const std::string name = entry->d_name;
    // A name that begins with a point is still being written, or is the folder itself.
    if (name[0] == '.' || !name.ends_with(".json") || stuck_.contains(name)) continue;
    names.push_back(name);
    if (names.size() >= kRequestsAtATime) break;
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const auto complain = [&](const std::string& why) {
      taken.complaints.push_back(fmt::format("request {} is refused: {}", printable((folder_ / name).string(), 4096), why));
    };
    std::string bytes;
    const std::string problem = read_request(fd, name, bytes);
    if (::unlinkat(fd, name.c_str(), 0) != 0) {
      stuck_.insert(name);
      complain(problem.empty() ? fmt::format("it cannot be removed ({})", errno_text()) : problem);
      continue;
    }
    if (!problem.empty()) {
      complain(problem);
      continue;
    }
    try {
      taken.requests.push_back(parse_request(bytes));
    } catch (const Error& error) {
      complain(error.what());
    }
  }
  return taken;
}

}  // namespace equisweep
