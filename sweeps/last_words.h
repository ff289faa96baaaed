#pragma once
// What the program says of the exception that ends it.

#include <exception>
#include <string>

#include "core/error.h"

namespace equisweep {

struct LastWords {
  std::string text;
  ExitCode code = ExitCode::some_failed;
};

/// Our own errors speak for themselves and bring their exit code. Of LibTorch's only the message is said, not the frames of
/// its own code that what() goes on with.
LastWords last_words(const std::exception& error);

}  // namespace equisweep
