#pragma once
// What the formats of an export share; export.cpp hands out the work.

#include <string>
#include <string_view>

#include "analysis/export/export.h"
#include "analysis/export/reader.h"
#include "core/data/file_io.h"

namespace equisweep {

/// Counts what is written and tells who wants to know, every few thousand rows.
class ExportMeter {
 public:
  explicit ExportMeter(const ExportProgress& progress) : progress_(progress) {}
  void begin(std::string doing);
  void row();
  void file(std::int64_t bytes);
  const ExportCounts& counts() const { return counts_; }

 private:
  const ExportProgress& progress_;
  ExportCounts counts_;
  std::string doing_;
};

/// A file that is written in large pieces.
class ExportFile {
 public:
  ExportFile(const std::filesystem::path& path, ExportMeter& meter) : file_(path), meter_(meter) {}
  void append(std::string_view bytes);
  void close();  ///< without it the file is not complete

 private:
  OutputFile file_;
  ExportMeter& meter_;
  std::string buffer_;
  std::int64_t bytes_ = 0;
};

void export_csv(const SweepReader& reader, const std::filesystem::path& folder, ExportMeter& meter);
void export_jsonl(const SweepReader& reader, const std::filesystem::path& folder, ExportMeter& meter);
void export_tensorboard(const SweepReader& reader, const std::filesystem::path& folder, ExportMeter& meter);

/// "inf", "-inf", "nan", or the shortest digits that give `x` again.
std::string real_text(double x);

/// A field of a CSV file: control characters visible, quoted where needed, no formula.
std::string csv_field(std::string_view text);

inline constexpr std::string_view kCsvLineEnd = "\r\n";  // RFC 4180

}  // namespace equisweep
