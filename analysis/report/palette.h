#pragma once
// One colour a stack, the same in every figure and table: black (the text colour on a dark page) for the baseline, then the
// palette of Okabe and Ito, which people with any colour vision can tell apart. After six stacks the dashes change.

#include <optional>
#include <string_view>

namespace equisweep {

struct StackStyle {
  std::string_view colour;  ///< "#RRGGBB"
  int dash = 0;             ///< 0: solid
};

StackStyle style_of(int stack, std::optional<std::size_t> baseline);

}  // namespace equisweep
