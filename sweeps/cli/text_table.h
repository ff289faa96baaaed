#pragma once
// A table for the terminal: columns as wide as their widest cell, numbers to the right.

#include <string>
#include <vector>

namespace equisweep {

/// Lines of `rows` under `header`, columns two spaces apart. A column whose cells all begin with a digit, sign or dash is
/// set to the right. Cells are made printable (no control characters).
std::string text_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);

}  // namespace equisweep
