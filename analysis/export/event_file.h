#pragma once
// Event files, as TensorBoard reads them: TFRecords of protocol buffers, encoded here.
//
// A record is  length (8 bytes, little endian)  mask(crc32c(length))  bytes  mask(crc32c(bytes)), checksums of 4 bytes, with
//   mask(c) = ((c >> 15) | (c << 17)) + 0xa282ead8  modulo 2^32.
// Sources: tensorflow/core/lib/io/record_writer.h; the messages Event, Summary and TensorProto of tensorboard/compat/proto,
// and tensorboard/plugins/hparams/plugin_data.proto. CRC-32C: RFC 3720, appendix B.4.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "analysis/export/formats.h"

namespace equisweep {

/// The checksum of Castagnoli's polynomial, reflected: 0xe3069283 for "123456789".
std::uint32_t crc32c(std::string_view bytes);

/// `bytes` as a record.
std::string tfrecord(std::string_view bytes);

/// A value of a run's settings.
using HyperParameter = std::pair<std::string, std::variant<double, std::string>>;

/// The file of one run. Texts must be UTF-8.
class EventFile {
 public:
  struct Scalar {
    std::string tag;
    double value = 0;  ///< becomes the nearest float: event files know no other scalars
  };

  /// `wall_time`: seconds since 1970, of the head of the file.
  EventFile(const std::filesystem::path& path, double wall_time, ExportMeter& meter);

  void scalars(double wall_time, std::int64_t step, std::span<const Scalar> values);

  /// Markdown, at step 0.
  void text(double wall_time, std::string_view tag, std::string_view markdown);

  /// A row of the table of settings: what they were, and how the run ended.
  enum class Ended { unknown = 0, success = 1, failure = 2, running = 3 };
  void settings(double started, std::span<const HyperParameter> parameters, Ended ended);

  void close() { file_.close(); }

 private:
  void event(double wall_time, std::int64_t step, int field, std::string_view content);
  void plugin(double wall_time, std::string_view tag, std::string_view name, std::string_view data, std::string_view tensor);

  ExportFile file_;
};

}  // namespace equisweep
