#pragma once
// A seeded Zipf-Markov source whose entropy rate is known exactly: the floor of any model's loss.
//
// Construction. Token x of V has m_x = floor(4 V / (x + 1)) slots, M = sum m_x. The slots of all tokens, in runs of lengths
// ceil(rest / 8), are shuffled into a table T; token x owns m_x consecutive places of T, and what lies there are its
// successors. So every token is entered as often as it is left, and the walk "choose one of x's places at random, go to the
// token that lies there", with transition matrix C(y | x) = (places of x that hold y) / m_x, has the stationary distribution
//   pi(x) = m_x / M                            (Zipf with exponent 1)
// exactly. At each position the chain restarts from pi with probability e = 1/64:
//   P(y | x) = (1 - e) C(y | x) + e pi(y)
// which keeps pi, makes every transition possible (so the chain is ergodic), and, as the restarts are a function of the
// position alone, makes any position reachable from the last restart before it, 64 steps away on average. Then
//   H(pi) = -sum_x pi(x) ln pi(x)              unigram entropy, nats per token
//   h = -sum_x pi(x) sum_y P(y | x) ln P(y | x)   entropy rate, nats per token
// both summed in double over the table as it is. A model that knows P reaches h with one token of context; no model does
// better.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/data/corpus.h"

namespace equisweep {

/// The chain itself: a function of (vocabulary, seed).
class ZipfMarkov {
 public:
  /// Throws UsageError unless 2 <= vocabulary <= 2^20 (the table has about 4 V ln V entries of 4 bytes).
  ZipfMarkov(std::int64_t vocabulary, std::uint64_t seed);

  std::int64_t vocabulary() const { return static_cast<std::int64_t>(first_.size()) - 1; }
  double stationary(std::int64_t token) const;                 ///< pi(token)
  std::vector<double> successors(std::int64_t token) const;    ///< P(. | token)
  double unigram_entropy() const { return unigram_entropy_; }  ///< H(pi)
  double entropy_rate() const { return entropy_rate_; }        ///< h

  /// Whether random bits mean a restart, and the token that follows: from pi, or from `token`.
  static bool restarts(std::uint64_t bits) { return bits >> 58 == 0; }
  std::int64_t draw(std::uint64_t bits) const { return table_[below(bits, table_.size())]; }
  std::int64_t step(std::int64_t token, std::uint64_t bits) const;

 private:
  /// Uniform in [0, n) from the lower 58 bits; uneven by less than n / 2^58.
  static std::uint64_t below(std::uint64_t bits, std::uint64_t n);
  void measure();

  std::vector<std::int64_t> first_;  // V + 1: the places of token x are first_[x] .. first_[x + 1]
  std::vector<std::int32_t> table_;  // M
  double unigram_entropy_ = 0, entropy_rate_ = 0;
};

/// A stream of the chain: token t is a pure function of (chain, stream seed, t).
class SyntheticTokens final : public TokenSource {
 public:
  SyntheticTokens(std::shared_ptr<const ZipfMarkov> chain, std::uint64_t stream_seed, std::int64_t size);
  std::int64_t size() const override { return size_; }
  void read(std::int64_t begin, std::span<std::int64_t> out) const override;

 private:
  std::uint64_t bits(std::int64_t position) const;

  std::shared_ptr<const ZipfMarkov> chain_;
  std::uint64_t key_;
  std::int64_t size_;
};

/// 2^40 training tokens (no run sees one twice) and 2^24 validation tokens of an independent stream of the same chain.
/// unigram_entropy is H(pi), what the frequencies of infinitely many training tokens would give.
Corpus synthetic_corpus(std::int64_t vocabulary, std::uint64_t seed);

}  // namespace equisweep
