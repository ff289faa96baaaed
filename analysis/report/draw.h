#pragma once
// Drawing the figures of a report: several gnuplots at a time, while the caller goes on.

#include <cstddef>
#include <filesystem>
#include <future>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "analysis/report/content.h"

namespace equisweep {

/// A figure as files.
struct DrawnFigure {
  std::string svg = {};  ///< fit to stand in a page
  std::string pdf = {};
  std::string png = {};  ///< empty where this gnuplot has no terminal for it
};

class Drawing {
 public:
  /// Starts to draw `figures`, which must stay where they are, into `folder`. At most `processes` gnuplots run at a time (0:
  /// one a core, at most 8) with the figures shared out among them by the size of their scripts. The files do not depend on
  /// that number.
  Drawing(const std::vector<const Figure*>& figures, std::optional<std::size_t> baseline,
          const std::filesystem::path& folder, std::size_t processes = 0);
  ~Drawing() = default;  ///< waits
  Drawing(const Drawing&) = delete;
  Drawing& operator=(const Drawing&) = delete;

  /// Waits; the figures by id. Throws what run_gnuplot() throws.
  std::map<std::string, DrawnFigure> take();

 private:
  std::vector<std::future<std::map<std::string, DrawnFigure>>> shares_;
};

}  // namespace equisweep
