// The synthetic corpus against linear algebra on its transition matrix and against its own samples.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/data/synthetic.h"
#include "core/error.h"
#include "tests/support/oracle.h"

namespace equisweep {
namespace test_synthetic {

Eigen::MatrixXd transition_matrix(const ZipfMarkov& chain) {
  Eigen::MatrixXd p(chain.vocabulary(), chain.vocabulary());
  for (std::int64_t x = 0; x < chain.vocabulary(); ++x) {
    const std::vector<double> row = chain.successors(x);
    p.row(x) = Eigen::Map<const Eigen::RowVectorXd>(row.data(), std::ssize(row));
  }
  return p;
}

std::vector<std::int64_t> read(const TokenSource& source, std::int64_t begin, std::int64_t n) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(n));
  source.read(begin, tokens);
  return tokens;
}

class Synthetic : public ::testing::TestWithParam<std::int64_t> {};

// The stationary distribution and the entropies by definition: pi solves pi (P - 1) = 0 with sum 1.
TEST_P(Synthetic, EntropiesAreThoseOfTheTransitionMatrix) {
  for (const std::uint64_t seed : {0, 1, 7}) {
    const ZipfMarkov chain(GetParam(), seed);
    const Eigen::MatrixXd p = transition_matrix(chain);
    const Eigen::Index n = p.rows();
    EXPECT_LT((p.rowwise().sum().array() - 1).abs().maxCoeff(), 1e-12);
    EXPECT_GT(p.minCoeff(), 0);  // so it is ergodic, and pi is the only solution

    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> equations(n + 1, n);
    equations << p.transpose() - Eigen::MatrixXd::Identity(n, n), Eigen::RowVectorXd::Ones(n);
    const Eigen::VectorXd right = Eigen::VectorXd::Unit(n + 1, n);
    Eigen::VectorXd pi(n);
    testing::oracle::least_squares(equations.data(), n + 1, n, right.data(), pi.data());
    for (Eigen::Index x = 0; x < n; ++x) EXPECT_NEAR(chain.stationary(x), pi(x), 1e-12);

    EXPECT_NEAR(chain.unigram_entropy(), -(pi.array() * pi.array().log()).sum(), 1e-10);
    const Eigen::VectorXd of_rows = -(p.array() * p.array().log()).rowwise().sum();
    EXPECT_NEAR(chain.entropy_rate(), pi.dot(of_rows), 1e-10);
    EXPECT_LT(chain.entropy_rate(), chain.unigram_entropy());
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, Synthetic, ::testing::Values(2, 3, 17, 64, 300));

// The mean of -ln P(next | token) over a sample is h up to the standard error of a mean. Neighbouring terms are dependent
// for as long as the chain remembers, at most until a restart: 64 steps on average, so n / 128 counts as independent
// samples.
TEST(SyntheticSample, LossOfTheTrueModelIsTheEntropyRate) {
  constexpr std::int64_t n = 1 << 20;
  const Corpus corpus = synthetic_corpus(64, 3);
  const auto chain = std::make_shared<const ZipfMarkov>(64, 3);
  const Eigen::MatrixXd log_p = transition_matrix(*chain).array().log();
  for (const TokenSource* source : {corpus.train.get(), corpus.val.get()}) {
    const auto tokens = read(*source, 12345, n + 1);
    double sum = 0, squares = 0;
    std::vector<double> frequency(64);
    for (std::size_t t = 0; t < static_cast<std::size_t>(n); ++t) {
      const double loss = -log_p(tokens[t], tokens[t + 1]);
      sum += loss, squares += loss * loss;
      frequency[static_cast<std::size_t>(tokens[t])] += 1.0 / n;
    }
    const double mean = sum / n, error = std::sqrt((squares / n - mean * mean) / (n / 128.0));
    EXPECT_LT(error, 0.02);
    EXPECT_NEAR(mean, *corpus.info.entropy_rate, 4 * error);
    for (std::int64_t x = 0; x < 64; ++x) {
      const double pi = chain->stationary(x);
      EXPECT_NEAR(frequency[static_cast<std::size_t>(x)], pi, 4 * std::sqrt(pi / (n / 128.0))) << x;
    }
  }
}

TEST(SyntheticSample, TokensAreAFunctionOfThePosition) {
  const Corpus corpus = synthetic_corpus(50, 9);
  const auto all = read(*corpus.train, 0, 5000);
  for (std::int64_t begin = 0; begin < 4990; begin += 13) {
    EXPECT_EQ(read(*corpus.train, begin, 7), std::vector(all.begin() + begin, all.begin() + begin + 7)) << begin;
  }
  EXPECT_EQ(read(*synthetic_corpus(50, 9).train, 0, 5000), all);
  EXPECT_NE(read(*corpus.val, 0, 5000), all);
  EXPECT_NE(read(*synthetic_corpus(50, 10).train, 0, 5000), all);
  const std::int64_t end = corpus.info.train_tokens;
  EXPECT_EQ(corpus.train->size(), end);
  EXPECT_EQ(read(*corpus.train, end - 20, 20).size(), 20U);  // the last tokens can be read
}

// Stored losses are compared with this corpus: it must not change in silence.
TEST(SyntheticSample, Pinned) {
  const Corpus corpus = synthetic_corpus(512, 0);
  EXPECT_EQ(read(*corpus.train, 1'000'000'000'000, 8), (std::vector<std::int64_t>{499, 4, 10, 19, 225, 2, 27, 2}));
  EXPECT_NEAR(corpus.info.unigram_entropy, 4.721431304815342, 1e-12);
  EXPECT_NEAR(*corpus.info.entropy_rate, 2.789, 0.1);
}

TEST(SyntheticVocabulary, RefusedByName) {
  for (const std::int64_t v : {-1, 0, 1, (1 << 20) + 1}) {
    try {
      ZipfMarkov chain(v, 0);
      ADD_FAILURE() << v;
    } catch (const UsageError& e) {
      EXPECT_EQ(std::string(e.what()),
                "the synthetic corpus cannot have a vocabulary of " + std::to_string(v) + "; allowed: 2 to 1048576");
    }
  }
}

}  // namespace test_synthetic
}  // namespace equisweep
