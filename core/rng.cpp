#include "core/rng.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <xxhash.h>

#include <string>

namespace equisweep {
namespace {

void append_little_endian(std::string& bytes, std::uint64_t value) {
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(value >> shift & 0xff);
}

}  // namespace

std::uint64_t derive_seed(std::uint64_t seed, std::string_view purpose, std::uint64_t index) {
  // The two numbers have a fixed length and come first, so that different arguments never make the same bytes.
  std::string bytes;
  append_little_endian(bytes, seed);
  append_little_endian(bytes, index);
  bytes += purpose;
  return XXH3_64bits(bytes.data(), bytes.size());
}

at::Generator make_generator(std::uint64_t seed, std::string_view purpose, std::uint64_t index) {
  return at::detail::createCPUGenerator(derive_seed(seed, purpose, index));
}

// Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
std::uint64_t SplitMix64::next() {
  state_ += 0x9e3779b97f4a7c15U;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

std::uint64_t SplitMix64::below(std::uint64_t n) {
  TORCH_CHECK(n > 0, "SplitMix64::below needs n > 0");
  // Refusing the lowest 2^64 mod n numbers leaves a multiple of n of them.
  const std::uint64_t refused = (0 - n) % n;
  std::uint64_t number = next();
  while (number < refused) number = next();
  return number % n;
}

double SplitMix64::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

}  // namespace equisweep
