#pragma once
// A terminal in memory: understands cursor up, clear to the end of line and screen, bold; fails the test on anything else.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "sweeps/terminal.h"

namespace equisweep {

class Screen : public Terminal {
 public:
  Screen(int width, int height, bool live = true) : width_(width), height_(height), live_(live) {}
  bool live() const override { return live_; }
  bool colors() const override { return live_; }
  int width() const override { return width_; }
  int height() const override { return height_; }

  void write(std::string_view text) override {
    written_ += text;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') {
        ++row_;
        column_ = 0;
      } else if (text[i] == '\r') {
        column_ = 0;
      } else if (text[i] == '\x1b') {
        const std::size_t end = text.find_first_of("ABCDJKm", i);
        ASSERT_NE(end, std::string_view::npos);
        control(std::string(text.substr(i + 2, end - i - 2)), text[end]);
        i = end;
      } else {
        if (row_ >= rows_.size()) rows_.resize(row_ + 1);
        rows_[row_].resize(std::max(rows_[row_].size(), column_ + 1), ' ');
        rows_[row_][column_++] = text[i];
      }
    }
  }

  /// Makes the window narrower or wider, as a terminal that wraps lines does; rows once broken stay so.
  void resize(int width) {
    width_ = width;
    std::vector<std::string> wrapped;
    std::size_t row = 0;
    for (std::size_t i = 0; i < std::max(rows_.size(), row_); ++i) {
      if (i == row_) row = wrapped.size();
      std::string rest = i < rows_.size() ? rows_[i] : "";
      do {
        wrapped.push_back(rest.substr(0, static_cast<std::size_t>(width)));
        rest.erase(0, static_cast<std::size_t>(width));
      } while (!rest.empty());
    }
    if (row_ >= std::max(rows_.size(), row_)) row = wrapped.size();
    rows_ = wrapped;
    row_ = row;
  }

  /// What is on the screen, without empty lines at the end.
  std::vector<std::string> lines() const {
    std::vector<std::string> result = rows_;
    while (!result.empty() && result.back().empty()) result.pop_back();
    return result;
  }
  const std::string& written() const { return written_; }

 private:
  void control(const std::string& argument, char command) {
    if (command == 'A') {
      const auto up = static_cast<std::size_t>(std::atoi(argument.c_str()));
      ASSERT_LE(up, row_);
      row_ -= up;
    } else if (command == 'K') {
      if (row_ < rows_.size()) rows_[row_].resize(std::min(rows_[row_].size(), column_));
    } else if (command == 'J') {
      if (row_ < rows_.size()) {
        rows_[row_].resize(std::min(rows_[row_].size(), column_));
        rows_.resize(row_ + 1);
      }
    } else {
      ASSERT_EQ(command, 'm');
    }
  }

  int width_, height_;
  bool live_;
  std::string written_;
  std::vector<std::string> rows_;
  std::size_t row_ = 0, column_ = 0;
};

}  // namespace equisweep
