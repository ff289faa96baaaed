#pragma once
// A keyed pseudo-random permutation of 0 .. n-1 that needs no table.
//
// A Feistel network on 2k bits, 2^2k the smallest such power >= n, is a bijection whatever its round function; applying it
// again until the value is below n ("cycle walking") makes it one of 0 .. n-1, after fewer than 4 rounds of it on average.
// J. Black, P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002.

#include <bit>
#include <cassert>
#include <cstdint>

#include "core/rng.h"

namespace equisweep {

class Permutation {
 public:
  /// n >= 1.
  Permutation(std::int64_t n, std::uint64_t key)
      : n_(static_cast<std::uint64_t>(n)), key_(key), half_(static_cast<int>(std::bit_width(n_ - 1) + 1) / 2) {
    assert(n >= 1);
  }

  /// The image of i, 0 <= i < n.
  std::int64_t operator()(std::int64_t i) const {
    if (n_ == 1) return 0;
    auto value = static_cast<std::uint64_t>(i);
    do value = shuffle(value);
    while (value >= n_);
    return static_cast<std::int64_t>(value);
  }

 private:
  static constexpr int kRounds = 8;  // small domains have few bits a round, so more rounds than the customary 4

  std::uint64_t shuffle(std::uint64_t value) const {
    const std::uint64_t mask = (std::uint64_t{1} << half_) - 1;
    std::uint64_t left = value >> half_, right = value & mask;
    for (int round = 0; round < kRounds; ++round) {
      const std::uint64_t next =
          left ^ (SplitMix64(SplitMix64(key_ + static_cast<std::uint64_t>(round)).next() ^ right).next() & mask);
      left = right;
      right = next;
    }
    return left << half_ | right;
  }

  std::uint64_t n_, key_;
  int half_;
};

}  // namespace equisweep
