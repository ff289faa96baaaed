// What a worker sets up before it trains.
#include "sweeps/worker.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <fstream>

#include "tests/sweeps/training_fixture.h"

namespace equisweep {
namespace test_worker {

using namespace testing;

constexpr int kThreads = 2;

void flush_everywhere(bool on) {
  at::parallel_for(0, kThreads, 1, [&](std::int64_t, std::int64_t) { at::globalContext().setFlushDenormal(on); });
}

/// Threads, out of kThreads, on which half of the least number with a full mantissa is zero, and the least number times a
/// large one too.
int flushing_threads() {
  std::atomic<int> count = 0;
  at::parallel_for(0, kThreads, 1, [&](std::int64_t, std::int64_t) {
    volatile float least_normal = 0x1p-126F, least = 0x1p-149F, half = 0.5F, large = 0x1p120F;
    const float made = least_normal * half, read = least * large;
    count += std::bit_cast<std::uint32_t>(made) == 0 && std::bit_cast<std::uint32_t>(read) == 0;
  });
  return count;
}

TEST(Worker, CountsDenormalNumbersAsZeroOnEveryThreadThatTrains) {
  const TempFolder scratch;
  const int before = at::get_num_threads();
  at::set_num_threads(kThreads);
  flush_everywhere(false);
  ASSERT_EQ(flushing_threads(), 0);
  const std::filesystem::path run_dir = scratch.path() / "run";
  std::filesystem::create_directories(run_dir);
  std::ofstream(run_dir / "config.yaml")
      << small_job("qwen3-nano", kSmallDimensions, {{"default", stack_entry("adamw")}}).dump();
  EXPECT_EQ(run_worker({.run_dir = run_dir, .corpora = scratch.path() / "corpora", .threads = kThreads}), ExitCode::ok);
  EXPECT_EQ(flushing_threads(), kThreads);
  flush_everywhere(false);
  at::set_num_threads(before);
}

}  // namespace test_worker
}  // namespace equisweep
