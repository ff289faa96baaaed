#pragma once
// Where progress is shown: a terminal that can be drawn on, or a pipe that gets plain lines.

#include <string>
#include <string_view>

namespace equisweep {

class Terminal {
 public:
  virtual ~Terminal() = default;
  virtual bool live() const = 0;  ///< lines can be drawn again in place
  virtual bool colors() const = 0;
  virtual int width() const = 0;  ///< in columns, asked anew each time: windows change their size
  virtual int height() const = 0;
  virtual void write(std::string_view text) = 0;
};

/// Standard error. Live if it is a terminal and TERM is not `dumb`; colours also need NO_COLOR unset or empty.
class StandardError : public Terminal {
 public:
  StandardError();
  bool live() const override { return live_; }
  bool colors() const override { return colors_; }
  int width() const override;
  int height() const override;
  void write(std::string_view text) override;

 private:
  bool live_ = false, colors_ = false;
};

}  // namespace equisweep
