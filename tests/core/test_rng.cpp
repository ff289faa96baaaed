#include "core/rng.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>
#include <string>

namespace equisweep {
namespace test_rng {

// Outputs for seed 1234567 as published with the algorithm's C code and in Rosetta Code's task on splitmix64.
TEST(Rng, SplitMix64GivesThePublishedNumbers) {
  SplitMix64 random(1234567);
  for (const auto expected : std::array<std::uint64_t, 5>{6457827717110365317U, 3203168211198807973U, 9817491932198370423U,
                                                          4593380528125082431U, 16408922859458223821U}) {
    EXPECT_EQ(random.next(), expected);
  }
}

TEST(Rng, BelowStaysBelowAndReachesEverything) {
  SplitMix64 random(1);
  for (const std::uint64_t n : {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{7}, std::uint64_t{1} << 63,
                                (std::uint64_t{1} << 63) + 1, ~std::uint64_t{0}}) {
    for (int i = 0; i < 1000; ++i) ASSERT_LT(random.below(n), n);
  }
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(random.below(7));
  EXPECT_EQ(seen.size(), 7U);
}

// With n = 3 * 2^62 a plain remainder would give the lowest 2^62 numbers twice as often as each of the others: half of all
// draws instead of a third.
TEST(Rng, BelowIsUnbiased) {
  constexpr std::uint64_t kThird = std::uint64_t{1} << 62;
  constexpr int kDraws = 30000;
  SplitMix64 random(2);
  int lowest = 0;
  for (int i = 0; i < kDraws; ++i) lowest += random.below(3 * kThird) < kThird ? 1 : 0;
  const double deviation = std::sqrt(kDraws * (1.0 / 3) * (2.0 / 3));
  EXPECT_NEAR(lowest, kDraws / 3.0, 5 * deviation);
}

TEST(Rng, UniformHas53BitsInTheUnitInterval) {
  SplitMix64 numbers(3), same(3);
  double sum = 0;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    const double u = numbers.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ASSERT_EQ(u * 0x1p53, static_cast<double>(same.next() >> 11));
    sum += u;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 5 / std::sqrt(12.0 * kDraws));
}

// Stored results depend on these. They are XXH3's 64 bits over seed and index (8 bytes each, little-endian) and the purpose.
TEST(Rng, DerivedSeedsNeverChange) {
  EXPECT_EQ(derive_seed(0, ""), 15034821391391295848U);
  EXPECT_EQ(derive_seed(1, "weights"), 8765410832001224929U);
  EXPECT_EQ(derive_seed(1, "weights", 7), 11527855108129913841U);
  std::string longer = "a purpose that is longer than two hundred and forty bytes makes XXH3 take another path: ";
  for (int i = 0; i < 20; ++i) longer += "0123456789";
  EXPECT_EQ(derive_seed(~std::uint64_t{0}, longer, 3), 17232044677620945625U);
}

TEST(Rng, DerivedSeedsDependOnEveryArgument) {
  std::set<std::uint64_t> seeds;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    for (const auto* purpose : {"", "a", "b", "ab", "ba"}) {
      for (std::uint64_t index = 0; index < 10; ++index) seeds.insert(derive_seed(seed, purpose, index));
    }
  }
  EXPECT_EQ(seeds.size(), 500U);
}

TEST(Rng, GeneratorsAreAPureFunctionOfTheirArguments) {
  const auto draw = [](std::uint64_t seed, std::string_view purpose, std::uint64_t index) {
    auto generator = make_generator(seed, purpose, index);
    return at::randn({64}, generator);
  };
  const auto first = draw(1, "weights", 2);
  at::randn({100});  // the global generator has no part in it
  EXPECT_TRUE(at::equal(draw(1, "weights", 2), first));
  EXPECT_FALSE(at::equal(draw(2, "weights", 2), first));
  EXPECT_FALSE(at::equal(draw(1, "batches", 2), first));
  EXPECT_FALSE(at::equal(draw(1, "weights", 3), first));
}

}  // namespace test_rng
}  // namespace equisweep
