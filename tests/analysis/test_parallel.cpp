// parallel_for_each: every task once, on as many threads as asked for, and the first error handed on.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "analysis/audit/parallel.h"

namespace equisweep {
namespace test_parallel {

TEST(ParallelForEach, DoesEveryTaskOnceWithOneTensorThread) {
  at::set_num_threads(2);
  for (const std::int64_t threads : {1, 2, 5}) {
    std::vector<std::atomic<int>> done(23);
    std::atomic<int> most_tensor_threads = 0;
    parallel_for_each(done.size(), threads, [&](std::size_t i) {
      ++done[i];
      if (at::get_num_threads() != 1) most_tensor_threads = at::get_num_threads();
    });
    for (const auto& count : done) EXPECT_EQ(count, 1);
    EXPECT_EQ(most_tensor_threads, 0);
    EXPECT_EQ(at::get_num_threads(), 2) << "as it was before";
  }
  parallel_for_each(0, 3, [](std::size_t) { FAIL(); });
}

TEST(ParallelForEach, ThrowsWhatATaskThrewAndBeginsNoOther) {
  std::atomic<int> begun = 0;
  try {
    parallel_for_each(1000, 1, [&](std::size_t i) {
      ++begun;
      if (i == 3) throw std::runtime_error("task 3");
    });
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_EQ(std::string(error.what()), "task 3");
  }
  EXPECT_EQ(begun, 4);
}

}  // namespace test_parallel
}  // namespace equisweep
