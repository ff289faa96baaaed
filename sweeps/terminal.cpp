#include "sweeps/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace equisweep {
namespace {

winsize window() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) size = {24, 80, 0, 0};
  return size;
}

}  // namespace

StandardError::StandardError() {
  const char* term = std::getenv("TERM");
  const char* no_color = std::getenv("NO_COLOR");
  live_ = ::isatty(STDERR_FILENO) == 1 && term != nullptr && std::string_view(term) != "dumb";
  colors_ = live_ && (no_color == nullptr || *no_color == '\0');
}

int StandardError::width() const { return window().ws_col; }
int StandardError::height() const { return window().ws_row; }

void StandardError::write(std::string_view text) {
  while (!text.empty()) {
    const auto n = ::write(STDERR_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // nobody is looking any more; the sweep goes on
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace equisweep
