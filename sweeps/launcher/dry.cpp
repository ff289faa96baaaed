#include <fmt/format.h>

#include "core/error.h"
#include "sweeps/launcher/local.h"

namespace equisweep {

WorkerId DryLauncher::start(const WorkerSpec& spec) {
  std::vector<std::string> words = worker_arguments(spec);
  words.resize(words.size() - 2);  // the descriptor means nothing to a reader
  out_ << fmt::format("CUDA_VISIBLE_DEVICES='{}' OMP_NUM_THREADS={} equisweep {}\n", spec.visible, spec.threads,
                      join(words, " "));
  news_.push_back({.worker = ++last_, .exit = WorkerExit{}});
  return last_;
}

std::vector<WorkerNews> DryLauncher::wait(std::chrono::milliseconds) { return std::exchange(news_, {}); }

}  // namespace equisweep
