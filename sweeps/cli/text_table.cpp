#include "sweeps/cli/text_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/error.h"

namespace equisweep {
namespace {

bool is_number_like(std::string_view cell) {
  return cell.empty() || cell == "-" ||
         (cell.find_first_of("0123456789") != cell.npos &&
          std::string_view("0123456789+-.").find(cell[0]) != std::string_view::npos);
}

}  // namespace

std::string text_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  const std::size_t columns = header.size();
  std::vector<std::size_t> width(columns);
  std::vector<bool> right(columns, !rows.empty());
  std::vector<std::vector<std::string>> cells(rows.size());
  for (std::size_t c = 0; c < columns; ++c) width[c] = header[c].size();
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t c = 0; c < columns; ++c) {
      cells[r].push_back(printable(rows[r].at(c)));
      width[c] = std::max(width[c], cells[r][c].size());
      right[c] = right[c] && is_number_like(cells[r][c]);
    }
  std::string out;
  const auto line = [&](const std::vector<std::string>& row) {
    std::string text;
    for (std::size_t c = 0; c < columns; ++c)
      text += right[c] ? fmt::format("{:>{}}  ", row[c], width[c]) : fmt::format("{:<{}}  ", row[c], width[c]);
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line(header);
  for (const auto& row : cells) line(row);
  return out;
}

}  // namespace equisweep
