#include "analysis/export/event_file.h"

#include <array>
#include <bit>

namespace equisweep {
namespace {

constexpr std::array<std::uint32_t, 256> kCastagnoli = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? c >> 1 ^ 0x82f63b78 : c >> 1;
    table[i] = c;
  }
  return table;
}();

void append_little_endian(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> 8 * i & 0xff);
}

std::uint32_t masked(std::uint32_t crc) { return std::rotl(crc, 17) + 0xa282ead8U; }

// Protocol buffers: a field is its number and wire type as a varint, then the value.

void append_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}

void append_integer(std::string& out, int field, std::int64_t value) {
  append_varint(out, static_cast<std::uint64_t>(field) << 3);
  append_varint(out, static_cast<std::uint64_t>(value));
}

void append_double(std::string& out, int field, double value) {
  append_varint(out, static_cast<std::uint64_t>(field) << 3 | 1);
  append_little_endian(out, std::bit_cast<std::uint64_t>(value), 8);
}

void append_float(std::string& out, int field, float value) {
  append_varint(out, static_cast<std::uint64_t>(field) << 3 | 5);
  append_little_endian(out, std::bit_cast<std::uint32_t>(value), 4);
}

void append_bytes(std::string& out, int field, std::string_view bytes) {
  append_varint(out, static_cast<std::uint64_t>(field) << 3 | 2);
  append_varint(out, bytes.size());
  out += bytes;
}

// Event
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5;
// Summary, Summary.Value
constexpr int kValue = 1, kTag = 1, kSimpleValue = 2, kTensor = 8, kMetadata = 9;
// SummaryMetadata, SummaryMetadata.PluginData
constexpr int kPluginData = 1, kPluginName = 1, kPluginContent = 2;
// TensorProto, TensorShapeProto; the types of its elements
constexpr int kElementType = 1, kShape = 2, kDimension = 2, kStrings = 8, kFloatElements = 1, kStringElements = 7;
// HParamsPluginData, SessionStartInfo, SessionEndInfo; google.protobuf.Value; an entry of a map
constexpr int kSessionStart = 3, kSessionEnd = 4, kParameters = 1, kStartTime = 5, kStatus = 1, kNumber = 2, kString = 3,
              kKey = 1, kMapValue = 2;

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t c = 0xffffffff;
  for (const char byte : bytes) c = kCastagnoli[(c ^ static_cast<unsigned char>(byte)) & 0xff] ^ c >> 8;
  return ~c;
}

std::string tfrecord(std::string_view bytes) {
  std::string record;
  append_little_endian(record, bytes.size(), 8);
  append_little_endian(record, masked(crc32c(record)), 4);
  record += bytes;
  append_little_endian(record, masked(crc32c(bytes)), 4);
  return record;
}

EventFile::EventFile(const std::filesystem::path& path, double wall_time, ExportMeter& meter) : file_(path, meter) {
  event(wall_time, 0, kFileVersion, "brain.Event:2");
}

void EventFile::event(double wall_time, std::int64_t step, int field, std::string_view content) {
  std::string bytes;
  append_double(bytes, kWallTime, wall_time);
  if (step != 0) append_integer(bytes, kStep, step);
  append_bytes(bytes, field, content);
  file_.append(tfrecord(bytes));
}

void EventFile::scalars(double wall_time, std::int64_t step, std::span<const Scalar> values) {
  if (values.empty()) return;
  std::string summary, value;
  for (const Scalar& scalar : values) {
    value.clear();
    append_bytes(value, kTag, scalar.tag);
    append_float(value, kSimpleValue, static_cast<float>(scalar.value));
    append_bytes(summary, kValue, value);
  }
  event(wall_time, step, kSummary, summary);
}

void EventFile::plugin(double wall_time, std::string_view tag, std::string_view name, std::string_view data,
                       std::string_view tensor) {
  std::string plugin_data, metadata, value, summary;
  append_bytes(plugin_data, kPluginName, name);
  append_bytes(plugin_data, kPluginContent, data);
  append_bytes(metadata, kPluginData, plugin_data);
  append_bytes(value, kTag, tag);
  append_bytes(value, kTensor, tensor);
  append_bytes(value, kMetadata, metadata);
  append_bytes(summary, kValue, value);
  event(wall_time, 0, kSummary, summary);
}

void EventFile::text(double wall_time, std::string_view tag, std::string_view markdown) {
  std::string tensor;
  append_integer(tensor, kElementType, kStringElements);
  append_bytes(tensor, kShape, "");
  append_bytes(tensor, kStrings, markdown);
  plugin(wall_time, tag, "text", "", tensor);
}

void EventFile::settings(double started, std::span<const HyperParameter> parameters, Ended ended) {
  std::string tensor, shape;  // an empty one: all is in the data of the plugin
  append_integer(tensor, kElementType, kFloatElements);
  append_bytes(shape, kDimension, "");
  append_bytes(tensor, kShape, shape);

  std::string start, data;
  for (const auto& [name, setting] : parameters) {
    std::string value, entry;
    if (const auto* number = std::get_if<double>(&setting))
      append_double(value, kNumber, *number);
    else
      append_bytes(value, kString, std::get<std::string>(setting));
    append_bytes(entry, kKey, name);
    append_bytes(entry, kMapValue, value);
    append_bytes(start, kParameters, entry);
  }
  append_double(start, kStartTime, started);
  append_bytes(data, kSessionStart, start);
  plugin(started, "_hparams_/session_start_info", "hparams", data, tensor);

  std::string end;
  append_integer(end, kStatus, static_cast<int>(ended));
  data.clear();
  append_bytes(data, kSessionEnd, end);
  plugin(started, "_hparams_/session_end_info", "hparams", data, tensor);
}

}  // namespace equisweep
