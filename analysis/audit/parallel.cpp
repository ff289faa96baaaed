#include "analysis/audit/parallel.h"

#include <ATen/Parallel.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace equisweep {

void parallel_for_each(std::size_t count, std::int64_t threads, const std::function<void(std::size_t)>& task) {
  const int threads_before = at::get_num_threads();
  std::exception_ptr error;
  std::mutex error_mutex;
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    at::set_num_threads(1);
    for (std::size_t i = next++; i < count; i = next++) try {
        task(i);
      } catch (...) {
        next = count;
        const std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
      }
  };
  {
    std::vector<std::jthread> others;
    for (std::int64_t i = 1; i < threads; ++i) others.emplace_back(work);
    work();
  }
  at::set_num_threads(threads_before);
  if (error) std::rethrow_exception(error);
}

}  // namespace equisweep
