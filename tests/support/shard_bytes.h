#pragma once
// Test only: files of tokens in the published format, written from its definition.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace equisweep::testing {

using ShardHeader = std::array<std::int32_t, 256>;

/// The bytes of a shard: `header`, in which what is left out is zero, then the tokens as they are stored.
template <typename Stored>
std::string shard_bytes(const ShardHeader& header, const std::vector<Stored>& tokens) {
  std::string bytes(reinterpret_cast<const char*>(header.data()), sizeof header);
  return bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(Stored));
}

/// A right shard of `count` tokens, each 16 bits: token(i).
template <class F>
std::string shard_of(std::int32_t count, const F& token) {
  std::vector<std::uint16_t> tokens;
  for (std::int32_t i = 0; i < count; ++i) tokens.push_back(static_cast<std::uint16_t>(token(i)));
  return shard_bytes({20260317, 2, count, 2}, tokens);
}

}  // namespace equisweep::testing
