#include "sweeps/launcher/local.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/error.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX leaves the declaration to the program

namespace equisweep {
namespace {

constexpr int kProgressFd = 3;
constexpr std::size_t kLineLimit = 4096;  // a longer line of progress is not ours
constexpr std::size_t kLogEnd = 16384;    // of a log that is too long, what is kept of its end

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    close();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  int get() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

struct Pipe {
  Descriptor read, write;
};

/// What a failed call means for the next worker.
[[noreturn]] void throw_cannot(const std::string& what, int cause) {
  const std::string message = fmt::format("{}: {}", what, std::strerror(cause));
  if (cause == EMFILE || cause == ENFILE || cause == EAGAIN || cause == ENOMEM) throw NoRoom(message);
  throw Error(message);
}

/// Descriptors are left for the databases that are open while a run is taken in.
void check_room_for_descriptors(int newest) {
  constexpr rlim_t kSpare = 32;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  if (static_cast<rlim_t>(newest) + kSpare >= limit.rlim_cur)
    throw NoRoom(fmt::format("a process may open {} files here (`ulimit -n`)", limit.rlim_cur));
}

Pipe make_pipe() {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) throw_cannot("cannot make a pipe", errno);
  ::fcntl(fds[0], F_SETFL, O_NONBLOCK);  // our end
  return {Descriptor(fds[0]), Descriptor(fds[1])};
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

/// The number that the process wrote before it ended; 0 once exec() has closed the pipe.
int reported(const Descriptor& failure) {
  ::fcntl(failure.get(), F_SETFL, 0);
  int error = 0;
  ssize_t n = 0;
  do n = ::read(failure.get(), &error, sizeof error);
  while (n < 0 && errno == EINTR);
  return n == sizeof error ? error : 0;
}

/// What the new process does until it is the worker. Only calls that are allowed between fork() and exec().
[[noreturn]] void become_worker(const char* program, char* const* arguments, char* const* environment, int progress,
                                int output, int failure, pid_t parent) {
  const auto fail = [failure] {
    const int error = errno;
    [[maybe_unused]] const auto written = ::write(failure, &error, sizeof error);
    ::_exit(127);
  };
  ::setpgid(0, 0);
  // The terminal's Ctrl-C is for the supervisor alone; the worker starts with default signals, but what is to outlive a
  // terminal (nohup) has workers that do.
  for (const int signal : {SIGINT, SIGTERM, SIGPIPE, SIGQUIT, SIGTSTP}) ::signal(signal, SIG_DFL);
  struct sigaction hangup {};
  ::sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) ::signal(SIGHUP, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // Here, because libraries run for a while before main(); and no signal to catch, because a worker that is stopped at the
  // same moment would wait with it for ever.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it died before we could ask
  const int null = ::open("/dev/null", O_RDONLY);
  if (null < 0 || ::dup2(null, 0) < 0 || ::dup2(output, 1) < 0 || ::dup2(output, 2) < 0) fail();
  // The pipe may lie where the worker looks for it; the copy is one that exec() leaves open.
  if (progress == kProgressFd ? ::fcntl(progress, F_SETFD, 0) != 0 : ::dup2(progress, kProgressFd) < 0) fail();
  ::execve(program, arguments, environment);
  fail();
  ::_exit(127);
}

}  // namespace

struct LocalLauncher::Worker {
  WorkerId id = 0;
  pid_t pid = -1;
  Descriptor progress, output, log;
  std::string line;  // of progress, not yet complete
  std::optional<Progress> newest;
  std::int64_t log_left = 0;     // until the log is full
  std::int64_t log_dropped = 0;  // bytes beyond it
  std::string log_end;           // the last of them

  /// Reads what is there; closes the descriptor at its end.
  template <typename Take>
  static void drain(Descriptor& from, std::size_t at_most, Take&& take) {
    std::array<char, 65536> buffer;
    for (std::size_t total = 0; from.get() >= 0 && total < at_most;) {
      const ssize_t n = ::read(from.get(), buffer.data(), buffer.size());
      if (n > 0) {
        take(std::string_view(buffer.data(), static_cast<std::size_t>(n)));
        total += static_cast<std::size_t>(n);
      } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        from.close();
      } else if (errno == EAGAIN) {
        return;
      }
    }
  }

  void take_progress(std::string_view bytes) {
    for (const char c : bytes) {
      if (c != '\n') {
        if (line.size() <= kLineLimit) line += c;
        continue;
      }
      if (line.size() <= kLineLimit) {
        if (auto progress_now = parse_progress(line)) newest = std::move(progress_now);
      }
      line.clear();
    }
  }

  /// The beginning of a long log goes to the file as it comes, its end when the worker ends: what made a job fail is there.
  void take_output(std::string_view bytes) {
    const auto room = static_cast<std::size_t>(log_left);
    write_log(bytes.substr(0, room));
    log_left -= static_cast<std::int64_t>(std::min(room, bytes.size()));
    if (bytes.size() <= room) return;
    bytes.remove_prefix(room);
    log_dropped += static_cast<std::int64_t>(bytes.size());
    log_end += bytes;
    if (log_end.size() > 2 * kLogEnd) log_end.erase(0, log_end.size() - kLogEnd);
  }

  void finish_log() {
    if (log_dropped == 0) return;
    if (log_end.size() > kLogEnd) log_end.erase(0, log_end.size() - kLogEnd);
    if (const auto lost = log_dropped - static_cast<std::int64_t>(log_end.size()); lost > 0)
      write_log(fmt::format("\n[equisweep: the log is full; {} bytes are left out here]\n", lost));
    write_log(log_end);
  }

  void write_log(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t n = ::write(log.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;  // a full disk must not stop the job for its log; run.db will say what is wrong
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  /// `at_most` keeps a worker that floods its output from holding up the others.
  void read_all(std::size_t at_most) {
    drain(progress, at_most, [&](std::string_view bytes) { take_progress(bytes); });
    drain(output, at_most, [&](std::string_view bytes) { take_output(bytes); });
  }

  /// How the worker ended, if it has; kills what is left of its group while its number cannot be given to another process.
  std::optional<WorkerExit> reap() const {
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT | WNOHANG) != 0) {
      if (errno != EINTR) return WorkerExit{.signalled = false, .code = -1};
    }
    if (info.si_pid != pid) return std::nullopt;
    ::kill(-pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return WorkerExit{.signalled = info.si_code != CLD_EXITED, .code = info.si_status};
  }
};

std::vector<std::string> worker_arguments(const WorkerSpec& spec) {
  std::vector<std::string> words = {"exec",     spec.folder.string(), "--attempt", std::to_string(spec.attempt),
                                    "--device", spec.device,          "--threads", std::to_string(spec.threads)};
  const auto add = [&](const char* option, const std::string& value) { words.insert(words.end(), {option, value}); };
  if (spec.checkpoint) {
    if (spec.checkpoint->every) add("--checkpoint-every", std::to_string(*spec.checkpoint->every));
    add("--checkpoint-minutes", fmt::format("{}", spec.checkpoint->minutes));
    add("--checkpoint-keep", std::to_string(spec.checkpoint->keep));
  }
  add("--progress-fd", std::to_string(kProgressFd));
  return words;
}

std::vector<std::string> worker_environment(const WorkerSpec& spec, const char* const* inherited) {
  struct Setting {
    std::string name, value;
    bool ours;  // replaces what was set outside
  };
  std::vector<Setting> settings = {
      {"CUDA_VISIBLE_DEVICES", spec.visible, true},
      {"OMP_NUM_THREADS", std::to_string(spec.threads), true},
      {"MKL_NUM_THREADS", std::to_string(spec.threads), true},
      {"MALLOC_MMAP_THRESHOLD_", std::to_string(1 << 30), false},
      {"MALLOC_TRIM_THRESHOLD_", std::to_string(INT32_MAX), false},
      {"MALLOC_TOP_PAD_", std::to_string(64 << 20), false},
  };
  std::vector<std::string> result;
  for (; *inherited != nullptr; ++inherited) {
    const std::string_view entry = *inherited;
    const auto it = std::find_if(settings.begin(), settings.end(),
                                 [&](const Setting& s) { return s.name == entry.substr(0, entry.find('=')); });
    if (it != settings.end() && it->ours) continue;
    if (it != settings.end()) settings.erase(it);
    result.emplace_back(entry);
  }
  for (const Setting& s : settings) result.push_back(s.name + "=" + s.value);
  return result;
}

LocalLauncher::LocalLauncher(std::filesystem::path program, std::int64_t log_limit)
    : program_(std::move(program)), log_limit_(log_limit) {}

LocalLauncher::~LocalLauncher() {
  for (const auto& worker : workers_) ::kill(-worker->pid, SIGKILL);
  // One that the kernel does not let go of must not hold up our own end.
  for (int i = 0; i < 500 && !workers_.empty(); ++i) {
    std::erase_if(workers_, [](const auto& worker) { return worker->reap().has_value(); });
    if (!workers_.empty()) ::poll(nullptr, 0, 10);
  }
}

WorkerId LocalLauncher::start(const WorkerSpec& spec) {
  auto worker = std::make_unique<Worker>();
  const std::filesystem::path log = spec.folder / "log.txt";
  worker->log = Descriptor(::open(log.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (worker->log.get() < 0) throw_cannot(fmt::format("{}: cannot be written", log.string()), errno);
  worker->log_left = log_limit_;
  Pipe progress = make_pipe(), output = make_pipe();
  // Nobody reads while this process is stopped (Ctrl-Z): an update is lost then, but nothing of a log.
  ::fcntl(progress.write.get(), F_SETFL, O_NONBLOCK);
  check_room_for_descriptors(output.write.get());
  std::vector<std::string> arguments = worker_arguments(spec);
  arguments.insert(arguments.begin(), "equisweep");
  std::vector<std::string> environment = worker_environment(spec, environ);
  const std::vector<char*> words = pointers(arguments), settings = pointers(environment);
  Pipe failure = make_pipe();
  const pid_t parent = ::getpid();
  worker->pid = ::fork();
  if (worker->pid == 0)
    become_worker(program_.c_str(), words.data(), settings.data(), progress.write.get(), output.write.get(),
                  failure.write.get(), parent);
  if (worker->pid < 0) throw_cannot(fmt::format("cannot start {}", program_.string()), errno);
  failure.write.close();
  if (const int error = reported(failure.read); error != 0) {
    ::waitpid(worker->pid, nullptr, 0);
    throw_cannot(fmt::format("cannot start {}", program_.string()), error);
  }
  worker->progress = std::move(progress.read);
  worker->output = std::move(output.read);
  worker->id = ++last_;
  workers_.push_back(std::move(worker));
  return last_;
}

std::vector<WorkerNews> LocalLauncher::wait(std::chrono::milliseconds patience) {
  std::vector<pollfd> fds;
  bool ending = false;  // a worker that has closed its descriptors is about to end; nothing will wake poll() then
  for (const auto& worker : workers_) {
    for (const Descriptor* d : {&worker->progress, &worker->output}) {
      if (d->get() >= 0) fds.push_back({.fd = d->get(), .events = POLLIN, .revents = 0});
    }
    ending = ending || worker->progress.get() < 0;
  }
  const auto longest = std::chrono::milliseconds(ending ? 5 : 100);
  ::poll(fds.data(), fds.size(), static_cast<int>(std::clamp(patience, std::chrono::milliseconds(0), longest).count()));
  std::vector<WorkerNews> news;
  for (const auto& worker : workers_) {
    worker->read_all(1 << 20);
    WorkerNews item{.worker = worker->id, .progress = {}, .exit = worker->reap()};
    if (item.exit) {
      worker->read_all(1 << 20);
      worker->finish_log();
    }
    item.progress = std::exchange(worker->newest, std::nullopt);
    if (item.progress || item.exit) news.push_back(item);
    if (item.exit) worker->id = 0;
  }
  std::erase_if(workers_, [](const auto& worker) { return worker->id == 0; });
  return news;
}

void LocalLauncher::abort(WorkerId id, Abort how) {
  for (const auto& worker : workers_) {
    // Not yet reaped, so the number is still its own. SIGTERM is for the worker; what it has started hears it from the
    // worker.
    if (worker->id == id) ::kill(how == Abort::ask ? worker->pid : -worker->pid, how == Abort::ask ? SIGTERM : SIGKILL);
  }
}

}  // namespace equisweep
