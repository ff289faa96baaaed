#include "analysis/export/export.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "analysis/export/formats.h"
#include "analysis/report/escape.h"
#include "core/atomic_folder.h"

namespace equisweep {
namespace {

constexpr std::int64_t kRowsBetweenWords = 4096;
constexpr std::size_t kPiece = std::size_t{1} << 20;

}  // namespace

void ExportMeter::begin(std::string doing) {
  doing_ = std::move(doing);
  if (progress_) progress_(doing_, counts_);
}

void ExportMeter::row() {
  if (++counts_.rows % kRowsBetweenWords == 0 && progress_) progress_(doing_, counts_);
}

void ExportMeter::file(std::int64_t bytes) {
  ++counts_.files;
  counts_.bytes += bytes;
}

void ExportFile::append(std::string_view bytes) {
  buffer_ += bytes;
  bytes_ += static_cast<std::int64_t>(bytes.size());
  if (buffer_.size() < kPiece) return;
  file_.write(buffer_);
  buffer_.clear();
}

void ExportFile::close() {
  file_.write(buffer_);
  file_.close();
  meter_.file(bytes_);
}

std::string real_text(double x) { return std::isnan(x) ? "nan" : fmt::format("{}", x); }

std::string csv_field(std::string_view text) { return csv_text(visible(text, std::numeric_limits<std::size_t>::max())); }

ExportCounts export_sweep(const std::filesystem::path& sweep_db, const std::filesystem::path& out, ExportFormat format,
                          const ExportProgress& progress) {
  const SweepReader reader(sweep_db);
  AtomicFolder folder(out);
  ExportMeter meter(progress);
  switch (format) {
    case ExportFormat::csv:
      export_csv(reader, folder.path(), meter);
      break;
    case ExportFormat::jsonl:
      export_jsonl(reader, folder.path(), meter);
      break;
    case ExportFormat::tensorboard:
      export_tensorboard(reader, folder.path(), meter);
      break;
  }
  folder.commit();
  return meter.counts();
}

}  // namespace equisweep
