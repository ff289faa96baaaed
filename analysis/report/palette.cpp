#include "analysis/report/palette.h"

#include <array>

namespace equisweep {

StackStyle style_of(int stack, std::optional<std::size_t> baseline) {
  static constexpr std::array<std::string_view, 6> colours = {"#0072B2", "#D55E00", "#009E73",
                                                              "#CC79A7", "#E69F00", "#56B4E9"};
  if (stack < 0) return {"#808080"};
  auto index = static_cast<std::size_t>(stack);
  if (baseline == index) return {"#000000"};
  if (baseline && index > *baseline) --index;
  return {colours[index % colours.size()], static_cast<int>(index / colours.size())};
}

}  // namespace equisweep
