// The order of the data against brute force.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <vector>

#include "core/data/batches.h"
#include "core/data/permutation.h"
#include "core/error.h"

namespace equisweep {
namespace test_batches {

/// Token t is t, so a batch shows where it was read.
class Counting final : public TokenSource {
 public:
  explicit Counting(std::int64_t size) : size_(size) {}
  std::int64_t size() const override { return size_; }
  void read(std::int64_t begin, std::span<std::int64_t> out) const override {
    ASSERT_GE(begin, 0);
    ASSERT_LE(begin + std::ssize(out), size_);
    std::iota(out.begin(), out.end(), begin);
  }

 private:
  std::int64_t size_;
};

Corpus counting(std::int64_t train, std::int64_t val) {
  Corpus corpus;
  corpus.info.name = "counting";
  corpus.train = std::make_shared<Counting>(train);
  corpus.val = std::make_shared<Counting>(val);
  return corpus;
}

std::vector<std::int64_t> first_tokens(const Batch& batch) {
  const at::Tensor first = batch.tokens_BT.select(1, 0).contiguous();
  const auto* data = first.const_data_ptr<std::int64_t>();
  return {data, data + first.numel()};
}

TEST(Permutation, IsABijectionOfEverySize) {
  std::vector<std::int64_t> sizes(300);
  std::iota(sizes.begin(), sizes.end(), 1);
  for (const std::int64_t n : {997, 1024, 1025, 4095, 4096, 4097, 65537, 100003}) sizes.push_back(n);
  for (const std::int64_t n : sizes) {
    const Permutation order(n, static_cast<std::uint64_t>(n) * 31);
    std::vector<bool> hit(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t image = order(i);
      ASSERT_TRUE(image >= 0 && image < n && !hit[static_cast<std::size_t>(image)]) << n << ' ' << i;
      hit[static_cast<std::size_t>(image)] = true;
    }
  }
  const std::int64_t large = (std::int64_t{1} << 62) + 12345;
  const Permutation order(large, 1);
  for (std::int64_t i = 0; i < 100; ++i) EXPECT_TRUE(order(i) >= 0 && order(i) < large);
}

// All 24 orders of 4 windows come up about equally often over keys: chi-square with 23 degrees of freedom, keys fixed; 49.7
// is exceeded once in 1000. A Feistel network of too few rounds fails this by far.
TEST(Permutation, KeysGiveAllOrdersAlike) {
  std::map<std::vector<std::int64_t>, int> count;
  constexpr int kKeys = 24000;
  for (std::uint64_t key = 0; key < kKeys; ++key) {
    const Permutation order(4, SplitMix64(key).next());
    ++count[{order(0), order(1), order(2), order(3)}];
  }
  EXPECT_EQ(count.size(), 24U);
  double chi_square = 0;
  for (const auto& [order, n] : count) chi_square += (n - kKeys / 24.0) * (n - kKeys / 24.0) / (kKeys / 24.0);
  EXPECT_LT(chi_square, 49.7);
}

class EpochTest : public ::testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>> {};

// Batches may straddle epochs: the walk is one sequence of windows, cut into batches.
TEST_P(EpochTest, VisitsEveryWindowOnceInAnEpoch) {
  const auto [tokens, seq_len, batch, offset] = GetParam();
  const Batches batches(counting(tokens, tokens), seq_len, batch * seq_len, 5, offset);
  std::int64_t windows = 0;  // by brute force
  while (windows * seq_len + seq_len + offset <= tokens) ++windows;
  ASSERT_EQ(batches.windows(), windows);
  ASSERT_EQ(batches.batch_size(), batch);

  std::vector<std::int64_t> walk;
  for (std::int64_t step = 1; std::ssize(walk) < 3 * windows; ++step) {
    for (const std::int64_t token : first_tokens(batches.train(step))) walk.push_back(token);
  }
  std::set<std::vector<std::int64_t>> orders;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<std::int64_t> order(walk.begin() + epoch * windows, walk.begin() + (epoch + 1) * windows);
    orders.insert(order);
    std::ranges::sort(order);
    for (std::int64_t w = 0; w < windows; ++w) EXPECT_EQ(order[static_cast<std::size_t>(w)], w * seq_len);
  }
  EXPECT_TRUE(windows <= 8 || orders.size() == 3);  // epochs differ
}

INSTANTIATE_TEST_SUITE_P(Shapes, EpochTest,
                         ::testing::Values(std::tuple(9, 8, 1, 1), std::tuple(17, 8, 1, 1), std::tuple(16, 8, 1, 1),
                                           std::tuple(1000, 7, 3, 1), std::tuple(1000, 7, 3, 2), std::tuple(641, 64, 10, 1),
                                           std::tuple(512, 1, 4, 3)));

TEST(Batches, TargetsAreTheTokensThatFollow) {
  for (const std::int64_t offset : {1, 2, 5}) {
    const Batches batches(counting(5000, 500), 16, 64, 1, offset);
    for (const Batch& batch : {batches.train(1), batches.train(977), batches.val(0)}) {
      EXPECT_EQ(batch.tokens_BT.sizes(), (at::IntArrayRef{4, 16}));
      EXPECT_EQ(batch.tokens_BT.scalar_type(), at::kLong);
      for (std::int64_t b = 0; b < 4; ++b) {
        for (std::int64_t t = 0; t < 16; ++t) {
          EXPECT_EQ(batch.tokens_BT[b][t].item<std::int64_t>(), batch.tokens_BT[b][0].item<std::int64_t>() + t);
          EXPECT_EQ(batch.targets_BT[b][t].item<std::int64_t>(), batch.tokens_BT[b][t].item<std::int64_t>() + offset);
        }
      }
    }
  }
}

TEST(Batches, AreAFunctionOfSeedAndStep) {
  const Batches one(counting(100000, 1000), 16, 128, 1), same(counting(100000, 1000), 16, 128, 1),
      other(counting(100000, 1000), 16, 128, 2);
  const auto tenth = first_tokens(one.train(10));
  for (const std::int64_t step : {3, 900, 1}) first_tokens(same.train(step));
  EXPECT_EQ(first_tokens(same.train(10)), tenth);
  EXPECT_NE(first_tokens(other.train(10)), tenth);
  EXPECT_NE(first_tokens(one.train(11)), tenth);
  EXPECT_EQ(first_tokens(other.val(2)), first_tokens(one.val(2)));  // validation is the same for every seed
}

TEST(Batches, ValidationIsTheFirstWindowsInOrder) {
  const Batches batches(counting(1000, 16 * 10 + 1), 16, 48, 1);  // 10 windows, 3 a batch
  EXPECT_THAT(first_tokens(batches.val(0)), ::testing::ElementsAre(0, 16, 32));
  EXPECT_THAT(first_tokens(batches.val(2)), ::testing::ElementsAre(96, 112, 128));
  EXPECT_ANY_THROW(batches.val(3));
  EXPECT_ANY_THROW(batches.train(0));
  for (const auto& [eval_tokens, expected] :
       std::map<std::int64_t, std::int64_t>{{-5, 1}, {0, 1}, {1, 1}, {48, 1}, {49, 2}, {144, 3}, {INT64_MAX, 3}}) {
    EXPECT_EQ(batches.val_batches(eval_tokens), expected) << eval_tokens;
  }
}

TEST(Batches, ImpossibleOnesAreRefused) {
  struct Case {
    std::int64_t train, val, seq_len, batch_tokens, offset;
    const char* message;
  };
  for (const Case& c : std::vector<Case>{
           {1000, 1000, 0, 16, 1, "data.seq_len is 0; a whole number > 0 is expected"},
           {1000, 1000, 16, 16, 0, "data.target_offset is 0; a whole number > 0 is expected"},
           {1000, 1000, 16, 50, 1,
            "a batch of 50 tokens is not a whole number of sequences of 16 tokens; the nearest batch is 48"},
           {1000, 1000, 16, 0, 1,
            "a batch of 0 tokens is not a whole number of sequences of 16 tokens; the nearest batch is 16"},
           {64, 1000, 16, 64, 1,
            "corpus 'counting': its 64 training tokens make 3 windows of 16 tokens, and a batch has 4; use a smaller batch, "
            "shorter sequences or "
            "more text"},
           {1000, 3, 16, 16, 1,
            "corpus 'counting': its 3 validation tokens make 0 windows of 16 tokens, and a batch has 1; use a smaller "
            "batch, shorter sequences or "
            "more text"},
       }) {
    try {
      Batches(counting(c.train, c.val), c.seq_len, c.batch_tokens, 0, c.offset);
      ADD_FAILURE() << c.message;
    } catch (const UsageError& e) {
      EXPECT_STREQ(e.what(), c.message);
    }
  }
}

}  // namespace test_batches
}  // namespace equisweep
