#pragma once
// SHA-256 (FIPS 180-4): the name of a file's content in manifests.

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace equisweep {

class Sha256 {
 public:
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  /// 64 lower-case hexadecimal digits. Ends the use of this object.
  std::string hex();

 private:
  void compress(const std::byte* block);

  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> buffer_{};
  std::uint64_t length_ = 0;  ///< bytes so far
};

std::string sha256(std::string_view text);

/// Of a file's content; throws DataError if it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace equisweep
