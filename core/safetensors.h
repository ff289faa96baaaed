#pragma once
// Tensors in a file, in the safetensors format (https://huggingface.co/docs/safetensors): 8 bytes header length,
// little-endian; a JSON header {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, "__metadata__":
// {"key": "text"}}; then the data, little-endian and row-major, to the last byte of the file.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace equisweep {

/// A safetensors file, open for reading. Nothing is read but the header until tensor() asks for it.
class SafetensorsFile {
 public:
  /// Opens `path` and checks everything that the header claims: lengths, dtypes, shapes, offsets that cover the data without
  /// hole or overlap, and no name twice. Throws DataError, naming the file, the tensor or the byte offset, what was found
  /// and what belongs there.
  explicit SafetensorsFile(std::filesystem::path path);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// In the order of the data.
  std::vector<std::string> names() const;
  bool has(std::string_view name) const { return find(name) != nullptr; }

  /// Shape and dtype without reading the data. Throw DataError, with the nearest name, if there is no such tensor.
  const std::vector<std::int64_t>& shape(std::string_view name) const { return entry(name).shape; }
  at::ScalarType dtype(std::string_view name) const { return entry(name).dtype; }

  /// A copy on the CPU. Throws DataError if there is no such tensor, the file has shrunk since it was opened, or a BOOL is
  /// neither 0 nor 1.
  at::Tensor tensor(std::string_view name) const;

  /// Reads the whole file and throws DataError unless it ends in the tensor `checksum` of SafetensorsOptions and every byte
  /// before it is what was written.
  void verify_checksum() const;

  /// The texts of "__metadata__".
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    std::string name;
    at::ScalarType dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0, end = 0;  // from the start of the data
  };

  void read_header();
  Entry parse_entry(const std::string& name, const nlohmann::json& value) const;
  void check_cover(std::uint64_t data_bytes) const;
  void read_bytes(void* to, std::uint64_t offset, std::uint64_t count, std::string_view what) const;
  const Entry* find(std::string_view name) const;
  const Entry& entry(std::string_view name) const;
  [[noreturn]] void fail(const std::string& message) const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t data_begin_ = 0;
  std::vector<Entry> entries_;                             // in the order of the data
  std::map<std::string, std::size_t, std::less<>> index_;  // name -> position in entries_
  std::map<std::string, std::string> metadata_;
};

using NamedTensor = std::pair<std::string, at::Tensor>;

struct SafetensorsOptions {
  /// The file ends in one more tensor, "checksum", 16 bytes: the XXH3-128 (big-endian) of every byte before them.
  bool checksum = false;
  std::string fault_points = {};  ///< as AtomicFile's
};

/// Writes `tensors` to `path` so that the file appears complete or not at all (core/atomic_file.h). Tensors may be strided
/// or on another device; they keep their order, except that wider dtypes come first, so that each begins at a multiple of
/// its width. Throws Error if the file cannot be written; equal names or a dtype that the format lacks are programmer
/// errors.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {}, const SafetensorsOptions& options = {});

}  // namespace equisweep
