#pragma once
// Workers as processes of this machine.

#include <sys/types.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "sweeps/launcher/launcher.h"

namespace equisweep {

/// What a worker is called with, `exec FOLDER --attempt N --device D --threads T [--checkpoint-every N
/// --checkpoint-minutes M --checkpoint-keep K] --progress-fd 3`.
std::vector<std::string> worker_arguments(const WorkerSpec& spec);

/// What its environment says beyond ours: CUDA_VISIBLE_DEVICES, OMP_NUM_THREADS, MKL_NUM_THREADS, and glibc's malloc told to
/// keep freed memory (set in the environment already: left alone), because a training step frees and allocates the same
/// activations again and again and would fault them in each time.
std::vector<std::string> worker_environment(const WorkerSpec& spec, const char* const* inherited);

/// Starts each worker in a process group of its own, without a shell. Its standard output and error go to `folder`/log.txt
/// (appended, at most `log_limit` bytes an attempt and the last 16 kB; the log says how much is left out between), its
/// progress comes through descriptor 3. When a worker ends, whatever is left of its process group is killed. The destructor
/// kills all.
class LocalLauncher : public Launcher {
 public:
  explicit LocalLauncher(std::filesystem::path program = "/proc/self/exe", std::int64_t log_limit = std::int64_t{10} << 20);
  ~LocalLauncher() override;
  WorkerId start(const WorkerSpec& spec) override;
  std::vector<WorkerNews> wait(std::chrono::milliseconds patience) override;
  void abort(WorkerId worker, Abort how) override;

 private:
  struct Worker;
  std::filesystem::path program_;
  std::int64_t log_limit_;
  WorkerId last_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;
};

/// Says on `out` what would be started, and that it ended well at once.
class DryLauncher : public Launcher {
 public:
  explicit DryLauncher(std::ostream& out) : out_(out) {}
  WorkerId start(const WorkerSpec& spec) override;
  std::vector<WorkerNews> wait(std::chrono::milliseconds patience) override;
  void abort(WorkerId, Abort) override {}

 private:
  std::ostream& out_;
  WorkerId last_ = 0;
  std::vector<WorkerNews> news_;
};

}  // namespace equisweep
