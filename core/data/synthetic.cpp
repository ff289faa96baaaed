#include "core/data/synthetic.h"

#include <fmt/format.h>

#include <cassert>
#include <cmath>
#include <utility>

#include "core/data/sha256.h"
#include "core/error.h"
#include "core/rng.h"

namespace equisweep {
namespace {

constexpr double kRestart = 1.0 / 64;
constexpr std::int64_t kSlotsOfRarest = 4;  // a rare token has up to this many successors
constexpr std::int64_t kRunShare = 8;       // smaller: more predictable successors of frequent tokens
constexpr std::int64_t kLargestVocabulary = 1 << 20;
constexpr std::int64_t kTrainTokens = std::int64_t{1} << 40, kValTokens = 1 << 24;

double x_ln_x(double x) { return x > 0 ? x * std::log(x) : 0; }

}  // namespace

ZipfMarkov::ZipfMarkov(std::int64_t vocabulary, std::uint64_t seed) {
  if (vocabulary < 2 || vocabulary > kLargestVocabulary) {
    throw UsageError(fmt::format("the synthetic corpus cannot have a vocabulary of {}; allowed: 2 to {}", vocabulary,
                                 kLargestVocabulary));
  }
  struct Run {
    std::int32_t token;
    std::int32_t length;
  };
  std::vector<Run> runs;
  first_.reserve(static_cast<std::size_t>(vocabulary) + 1);
  first_.push_back(0);
  for (std::int64_t token = 0; token < vocabulary; ++token) {
    const std::int64_t slots = kSlotsOfRarest * vocabulary / (token + 1);
    first_.push_back(first_.back() + slots);
    for (std::int64_t rest = slots; rest > 0;) {
      const std::int64_t length = (rest + kRunShare - 1) / kRunShare;
      runs.push_back({static_cast<std::int32_t>(token), static_cast<std::int32_t>(length)});
      rest -= length;
    }
  }
  SplitMix64 random(derive_seed(seed, "synthetic chain"));
  for (std::size_t i = runs.size(); i > 1; --i) std::swap(runs[i - 1], runs[random.below(i)]);
  table_.reserve(static_cast<std::size_t>(first_.back()));
  for (const Run& run : runs) table_.insert(table_.end(), static_cast<std::size_t>(run.length), run.token);
  measure();
}

double ZipfMarkov::stationary(std::int64_t token) const {
  const auto x = static_cast<std::size_t>(token);
  return static_cast<double>(first_[x + 1] - first_[x]) / static_cast<double>(table_.size());
}

std::vector<double> ZipfMarkov::successors(std::int64_t token) const {
  const auto x = static_cast<std::size_t>(token);
  std::vector<double> p(first_.size() - 1);
  for (std::size_t y = 0; y < p.size(); ++y) p[y] = kRestart * stationary(static_cast<std::int64_t>(y));
  const double share = (1 - kRestart) / static_cast<double>(first_[x + 1] - first_[x]);
  for (std::int64_t place = first_[x]; place < first_[x + 1]; ++place)
    p[static_cast<std::size_t>(table_[static_cast<std::size_t>(place)])] += share;
  return p;
}

// Most transitions of a token come from restarts alone, and their terms are the same for every token: they are summed once,
// and each token replaces the terms of its own successors.
void ZipfMarkov::measure() {
  double restart_terms = 0;
  for (std::int64_t y = 0; y < vocabulary(); ++y) {
    unigram_entropy_ -= x_ln_x(stationary(y));
    restart_terms += x_ln_x(kRestart * stationary(y));
  }
  std::vector<std::int64_t> count(first_.size() - 1);
  std::vector<std::int32_t> seen;
  for (std::int64_t x = 0; x < vocabulary(); ++x) {
    const std::int64_t begin = first_[static_cast<std::size_t>(x)], end = first_[static_cast<std::size_t>(x) + 1];
    seen.clear();
    for (std::int64_t place = begin; place < end; ++place) {
      const std::int32_t y = table_[static_cast<std::size_t>(place)];
      if (count[static_cast<std::size_t>(y)]++ == 0) seen.push_back(y);
    }
    double terms = restart_terms;
    for (const std::int32_t y : seen) {
      const double restart = kRestart * stationary(y);
      const double c = static_cast<double>(count[static_cast<std::size_t>(y)]) / static_cast<double>(end - begin);
      terms += x_ln_x((1 - kRestart) * c + restart) - x_ln_x(restart);
      count[static_cast<std::size_t>(y)] = 0;
    }
    entropy_rate_ -= stationary(x) * terms;
  }
}

std::uint64_t ZipfMarkov::below(std::uint64_t bits, std::uint64_t n) {
  constexpr std::uint64_t kLower = (std::uint64_t{1} << 58) - 1;
  // 58 bits times at most 28 bits: split so that nothing overflows 64.
  const std::uint64_t value = bits & kLower, high = value >> 29, low = value & ((1u << 29) - 1);
  return (high * n + ((low * n) >> 29)) >> 29;
}

std::int64_t ZipfMarkov::step(std::int64_t token, std::uint64_t bits) const {
  const auto x = static_cast<std::size_t>(token);
  const auto places = static_cast<std::uint64_t>(first_[x + 1] - first_[x]);
  return table_[static_cast<std::size_t>(first_[x]) + below(bits, places)];
}

SyntheticTokens::SyntheticTokens(std::shared_ptr<const ZipfMarkov> chain, std::uint64_t stream_seed, std::int64_t size)
    : chain_(std::move(chain)), key_(stream_seed), size_(size) {}

// The number that a splitmix64 generator seeded with key_ would give as its position-th: its state is a plain counter.
std::uint64_t SyntheticTokens::bits(std::int64_t position) const {
  return SplitMix64(key_ + static_cast<std::uint64_t>(position) * 0x9e3779b97f4a7c15).next();
}

void SyntheticTokens::read(std::int64_t begin, std::span<std::int64_t> out) const {
  assert(begin >= 0 && begin + std::ssize(out) <= size_);
  std::int64_t position = begin;
  while (position > 0 && !ZipfMarkov::restarts(bits(position))) --position;
  std::int64_t token = 0;
  for (const std::int64_t end = begin + std::ssize(out); position < end; ++position) {
    const std::uint64_t random = bits(position);
    token = position == 0 || ZipfMarkov::restarts(random) ? chain_->draw(random) : chain_->step(token, random);
    if (position >= begin) out[static_cast<std::size_t>(position - begin)] = token;
  }
}

Corpus synthetic_corpus(std::int64_t vocabulary, std::uint64_t seed) {
  const auto chain = std::make_shared<const ZipfMarkov>(vocabulary, seed);
  Corpus corpus;
  corpus.info.name = "synthetic";
  corpus.info.vocabulary = vocabulary;
  corpus.info.train_tokens = kTrainTokens;
  corpus.info.val_tokens = kValTokens;
  corpus.info.unigram_entropy = chain->unigram_entropy();
  corpus.info.entropy_rate = chain->entropy_rate();
  corpus.info.digest = sha256(fmt::format("zipf-markov 1: vocabulary {} seed {}", vocabulary, seed));
  corpus.train = std::make_shared<SyntheticTokens>(chain, derive_seed(seed, "synthetic train"), kTrainTokens);
  corpus.val = std::make_shared<SyntheticTokens>(chain, derive_seed(seed, "synthetic val"), kValTokens);
  return corpus;
}

}  // namespace equisweep
