// Checksums against published vectors, and events against their bytes worked out from the formats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>

#include "analysis/export/event_file.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_event_file {

std::string bytes_of(std::initializer_list<int> values) {
  std::string out;
  for (const int v : values) out += static_cast<char>(v);
  return out;
}

// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
TEST(EventFile, ChecksumsOfTheStandard) {
  std::string up, down;
  for (int i = 0; i < 32; ++i) up += static_cast<char>(i), down += static_cast<char>(31 - i);
  const std::string read_command =
      bytes_of({0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
                0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0,    0});
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  EXPECT_EQ(crc32c(up), 0x46dd794eU);
  EXPECT_EQ(crc32c(down), 0x113fdb5cU);
  EXPECT_EQ(crc32c(read_command), 0xd9963a56U);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(""), 0U);
}

// A reader undoes the mask and compares.
TEST(EventFile, ARecordIsLengthChecksumBytesChecksum) {
  const std::string event = "hello";
  const std::string record = tfrecord(event);
  ASSERT_EQ(record.size(), 8 + 4 + event.size() + 4);
  EXPECT_EQ(record.substr(0, 8), bytes_of({5, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(record.substr(12, 5), event);
  const auto number = [&](std::size_t at) {
    std::uint32_t value = 0;
    std::memcpy(&value, record.data() + at, 4);
    return value;
  };
  const auto unmasked = [](std::uint32_t m) {
    const std::uint32_t rotated = m - 0xa282ead8U;
    return rotated >> 17 | rotated << 15;
  };
  EXPECT_EQ(unmasked(number(8)), crc32c(record.substr(0, 8)));
  EXPECT_EQ(unmasked(number(17)), crc32c(event));
}

TEST(EventFile, TheBytesOfItsEvents) {
  const TempFolder folder;
  const ExportProgress nobody;
  ExportMeter meter(nobody);
  {
    EventFile file(folder / "f", 1.5, meter);
    const std::vector<EventFile::Scalar> values = {{"a", 1.0}, {"b", -2.0}};
    file.scalars(2.0, 300, values);
    file.scalars(2.0, 301, {});
    file.text(0.0, "config", "# x");
    file.close();
  }
  std::ifstream in(folder / "f", std::ios::binary);
  std::string all{std::istreambuf_iterator<char>(in), {}};
  EXPECT_EQ(meter.counts().bytes, static_cast<std::int64_t>(all.size()));
  const std::string head = bytes_of({0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x1a, 13}) + "brain.Event:2";
  // Value {tag: "a", simple_value: 1}: 10 1 'a' 21 <float>; Summary: 10 8 <value> each; step 300 is the varint ac 02.
  const std::string first = bytes_of({0x0a, 1, 'a', 0x15, 0, 0, 0x80, 0x3f}),
                    second = bytes_of({0x0a, 1, 'b', 0x15, 0, 0, 0, 0xc0});
  const std::string summary = bytes_of({0x0a, 8}) + first + bytes_of({0x0a, 8}) + second;
  const std::string scalars = bytes_of({0x09, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x10, 0xac, 0x02, 0x2a, 20}) + summary;
  // TensorProto {dtype: DT_STRING, tensor_shape {}, string_val: "# x"}; SummaryMetadata {plugin_data {plugin_name: "text"}}
  const std::string tensor = bytes_of({0x08, 7, 0x12, 0, 0x42, 3}) + "# x";
  const std::string metadata = bytes_of({0x0a, 8, 0x0a, 4}) + "text" + bytes_of({0x12, 0});
  const std::string value = bytes_of({0x0a, 6}) + "config" + bytes_of({0x42, 9}) + tensor + bytes_of({0x4a, 10}) + metadata;
  const std::string text = bytes_of({0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x2a, 33, 0x0a, 31}) + value;
  EXPECT_EQ(all, tfrecord(head) + tfrecord(scalars) + tfrecord(text));
}

}  // namespace test_event_file
}  // namespace equisweep
