#include "analysis/diagnostic.h"

#include <stdexcept>

namespace equisweep {

Diagnostic::Diagnostic(std::int64_t every) : every_(every) {
  if (every < 1) throw std::invalid_argument("the pace of a diagnostic is at least 1");
}

bool Diagnostic::wants(std::int64_t step) const { return step == 1 || step % every_ == 0; }

}  // namespace equisweep
