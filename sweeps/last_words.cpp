#include "sweeps/last_words.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

namespace equisweep {

LastWords last_words(const std::exception& error) {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return {ours->what(), ours->code()};
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  return {fmt::format("equisweep: {}", torch ? torch->what_without_backtrace() : error.what())};
}

}  // namespace equisweep
