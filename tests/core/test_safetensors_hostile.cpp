// Files that are not what they claim to be: each is a valid file with one thing wrong.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/safetensors.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_safetensors_hostile {

using namespace std::string_literals;

class HostileSafetensors : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& bytes) const {
    const auto path = folder_ / "f.safetensors";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  /// What opening a file with these bytes complains of, without the name of the file; "" if it is accepted.
  std::string complaint(const std::string& bytes) const {
    const auto path = write(bytes);
    try {
      const SafetensorsFile file(path);
    } catch (const DataError& error) {
      const auto start = path.string() + ": ";
      EXPECT_EQ(std::string(error.what()).substr(0, start.size()), start);
      return std::string(error.what()).substr(start.size());
    }
    return "";
  }

  TempFolder folder_;
};

std::string with_length(std::uint64_t length, const std::string& rest) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(length >> shift & 0xff);
  return bytes + rest;
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return with_length(header.size(), header + std::string(data_bytes, '\1'));
}

const std::string kA = R"("a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]})";

std::string tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a": {"dtype": )" + dtype + R"(, "shape": )" + shape + R"(, "data_offsets": )" + offsets + "}}";
}

struct Case {
  std::string bytes, message;
};

TEST_F(HostileSafetensors, TheStartingPointIsValid) {
  EXPECT_EQ(complaint(file_of("{" + kA + "}", 8)), "");
  EXPECT_EQ(complaint(file_of("{" + kA + "}   ", 8)), "");
  EXPECT_EQ(complaint(file_of("{}", 0)), "");
  EXPECT_EQ(complaint(file_of(tensor(R"("F32")", "[0, 9223372036854775807]", "[0, 0]"), 0)),
            "tensor 'a': shape has more than 2^63 - 1 bytes");  // strides would overflow
  EXPECT_EQ(complaint(file_of(tensor(R"("F32")", "[3, 0, 5]", "[0, 0]"), 0)), "");
  EXPECT_EQ(complaint(file_of(tensor(R"("F64")", "[]", "[0, 8]"), 8)), "");
}

TEST_F(HostileSafetensors, Headers) {
  const std::vector<Case> cases = {
      {"", "is 0 bytes long; a safetensors file begins with the 8 bytes of its header's length"},
      {"1234567", "is 7 bytes long; a safetensors file begins with the 8 bytes of its header's length"},
      {with_length(0, ""), "byte 8: the header must begin with '{'"},
      {with_length(3, "{}"), "byte 0: claims a header of 3 bytes, but 2 bytes follow"},
      {with_length(~std::uint64_t{0}, "{}"), "byte 0: claims a header of 18446744073709551615 bytes, but 2 bytes follow"},
      {with_length(std::uint64_t{1} << 63, "{}"),
       "byte 0: claims a header of 9223372036854775808 bytes, but 2 bytes follow"},
      {file_of("[]", 0), "byte 8: the header must begin with '{'"},
      {file_of(" {}", 0), "byte 8: the header must begin with '{'"},
      {file_of("{\"a\"", 0), "the header is not JSON: error at byte 12"},
      {file_of("{}{}", 0), "the header is not JSON: error at byte 10"},
      {file_of("{\"\xff\": 1}", 0), "the header is not JSON: error at byte 10"},
      {file_of("{" + kA + ", " + kA + "}", 8), "the header has the key 'a' twice"},
      {file_of(R"({"a": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 8),
       "the header has the key 'dtype' twice"},
      {file_of(R"({"__metadata__": {"k": "1", "k": "2"}})", 0), "the header has the key 'k' twice"},
      {file_of("{\"a\": " + std::string(100000, '['), 0), "the header is nested more deeply than a safetensors header is"},
      {file_of(tensor(R"("F32")", "[2]", "[0, 1e400]"), 8), "the header holds a number that is too large to be read"},
      {file_of(tensor(R"("F32")", "[-1e999]", "[0, 8]"), 8), "the header holds a number that is too large to be read"},
      {file_of(R"({"__metadata__": []})", 0), "__metadata__ is not a map of texts"},
      {file_of(R"({"__metadata__": {"k": 1}})", 0), "__metadata__: the value of 'k' is not a text"},
  };
  for (const auto& c : cases) EXPECT_EQ(complaint(c.bytes), c.message);
}

TEST_F(HostileSafetensors, Entries) {
  const std::vector<Case> cases = {
      {R"({"a": 1})", "tensor 'a': the header's entry is not a map"},
      {R"({"\u001b[2J": 1})", "tensor '\\x1b[2J': the header's entry is not a map"},
      {R"({"a": {"shape": [2], "data_offsets": [0, 8]}})", "tensor 'a': key 'dtype' is missing"},
      {R"({"a": {"dtype": "F32", "data_offsets": [0, 8]}})", "tensor 'a': key 'shape' is missing"},
      {R"({"a": {"dtype": "F32", "shape": [2]}})", "tensor 'a': key 'data_offsets' is missing"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "x": 1}})",
       "tensor 'a': unknown key 'x'; allowed: dtype, shape, data_offsets"},
      {tensor(R"("F33")", "[2]", "[0, 8]"),
       "tensor 'a': unknown dtype 'F33'; allowed: F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL, F8_E4M3, "
       "F8_E5M2"},
      {tensor("7", "[2]", "[0, 8]"),
       "tensor 'a': unknown dtype that is not a text; allowed: F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, "
       "BOOL, F8_E4M3, F8_E5M2"},
      {tensor(R"("F32")", "2", "[0, 8]"), "tensor 'a': shape is not a list"},
      {tensor(R"("F32")", "[-2]", "[0, 8]"), "tensor 'a': shape has an entry that is not a whole number from 0 to 2^63 - 1"},
      {tensor(R"("F32")", "[2.0]", "[0, 8]"),
       "tensor 'a': shape has an entry that is not a whole number from 0 to 2^63 - 1"},
      {tensor(R"("F32")", "[\"2\"]", "[0, 8]"),
       "tensor 'a': shape has an entry that is not a whole number from 0 to 2^63 - 1"},
      {tensor(R"("F32")", "[9223372036854775808]", "[0, 8]"),
       "tensor 'a': shape has an entry that is not a whole number from 0 to 2^63 - 1"},
      {tensor(R"("F32")", "[99999999999999999999]", "[0, 8]"),
       "tensor 'a': shape has an entry that is not a whole number from 0 to 2^63 - 1"},
      {tensor(R"("F32")", "[4294967296, 4294967296]", "[0, 0]"), "tensor 'a': shape has more than 2^63 - 1 bytes"},
      {tensor(R"("F32")", "[2305843009213693952]", "[0, 0]"), "tensor 'a': shape has more than 2^63 - 1 bytes"},
      {tensor(R"("F32")",
              "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, "
              "1, 1, 1, 1, "
              "1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]",
              "[0, 8]"),
       "tensor 'a': shape has 65 axes; at most 64 are allowed"},
      {tensor(R"("F32")", "[2]", "8"), "tensor 'a': data_offsets is not a list of two whole numbers"},
      {tensor(R"("F32")", "[2]", "[0]"), "tensor 'a': data_offsets is not a list of two whole numbers"},
      {tensor(R"("F32")", "[2]", "[-8, 0]"), "tensor 'a': data_offsets is not a list of two whole numbers"},
      {tensor(R"("F32")", "[2]", "[0, 8.0]"), "tensor 'a': data_offsets is not a list of two whole numbers"},
      {tensor(R"("F32")", "[2]", "[8, 0]"), "tensor 'a': data_offsets [8, 0] end before they begin"},
      {tensor(R"("F32")", "[3]", "[0, 8]"), "tensor 'a': data_offsets [0, 8] span 8 bytes, but F32 of shape [3] needs 12"},
      {tensor(R"("F64")", "[2]", "[0, 8]"), "tensor 'a': data_offsets [0, 8] span 8 bytes, but F64 of shape [2] needs 16"},
      {tensor(R"("F32")", "[0]", "[0, 8]"), "tensor 'a': data_offsets [0, 8] span 8 bytes, but F32 of shape [0] needs 0"},
      {tensor(R"("F32")", "[2]", "[18446744073709551608, 18446744073709551615]"),
       "tensor 'a': data_offsets [18446744073709551608, 18446744073709551615] span 7 bytes, but F32 of shape [2] needs 8"},
  };
  for (const auto& c : cases) EXPECT_EQ(complaint(file_of(c.bytes, 8)), c.message) << c.bytes;
}

TEST_F(HostileSafetensors, DataIsCoveredExactlyOnce) {
  const auto two = [](const std::string& b_offsets) {
    return "{" + kA + R"(, "b": {"dtype": "F32", "shape": [2], "data_offsets": )" + b_offsets + "}}";
  };
  EXPECT_EQ(complaint(file_of(two("[8, 16]"), 16)), "");
  EXPECT_EQ(complaint(file_of(two("[8, 16]"), 15)),
            "tensor 'b': data_offsets [8, 16] reach beyond the 15 bytes of data; the file is cut short or damaged");
  EXPECT_EQ(complaint(file_of(two("[4, 12]"), 12)),
            "tensor 'b': data_offsets [4, 12] overlap with tensor 'a', which ends at 8");
  EXPECT_EQ(complaint(file_of(two("[0, 8]"), 8)),
            "tensor 'b': data_offsets [0, 8] overlap with tensor 'a', which ends at 8");
  EXPECT_EQ(complaint(file_of(two("[12, 20]"), 20)),
            "bytes 8 to 12 of the data, between tensor 'a' and tensor 'b', belong to no tensor");
  EXPECT_EQ(complaint(file_of(tensor(R"("F32")", "[1]", "[4, 8]"), 8)),
            "bytes 0 to 4 of the data, between the header and tensor 'a', belong to no tensor");
  EXPECT_EQ(complaint(file_of("{" + kA + "}", 11)),
            "byte " + std::to_string(8 + kA.size() + 2 + 8) + ": 3 bytes follow after the last tensor");
}

TEST_F(HostileSafetensors, EveryTruncationIsRefused) {
  const std::string whole = file_of(
      "{" + kA + R"(, "__metadata__": {"k": "v"}, "b": {"dtype": "BOOL", "shape": [1, 2], "data_offsets": [8, 10]}})", 10);
  EXPECT_EQ(complaint(whole), "");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(complaint(whole.substr(0, length)), "") << "accepted when cut to " << length << " bytes";
  }
}

TEST_F(HostileSafetensors, WhatIsNoFileIsRefused) {
  const auto message = [](const std::filesystem::path& path) -> std::string {
    try {
      const SafetensorsFile file(path);
    } catch (const DataError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(folder_ / "none"), (folder_ / "none").string() + ": cannot be opened: No such file or directory");
  EXPECT_EQ(message(folder_.path()), folder_.path().string() + ": is not a regular file");
  EXPECT_EQ(message("/dev/zero"), "/dev/zero: is not a regular file");
}

TEST_F(HostileSafetensors, AFileThatShrinksWhileOpenIsNoticed) {
  const auto path = write(file_of("{" + kA + "}", 8));
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_THROW(file.tensor("a"), DataError);
}

TEST_F(HostileSafetensors, ABoolIsZeroOrOne) {
  const std::string header = tensor(R"("BOOL")", "[3]", "[0, 3]");
  const SafetensorsFile file(write(with_length(header.size(), header + "\1\0\2"s)));
  const auto byte = std::to_string(8 + header.size() + 2);
  try {
    file.tensor("a");
    FAIL() << "accepted";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("tensor 'a': byte " + byte + ": 2 is neither 0 nor 1"), std::string::npos)
        << error.what();
  }
}

}  // namespace test_safetensors_hostile
}  // namespace equisweep
