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

/// Lets LibTorch throw where memory cannot be had, as everything else does. Without it the process ends there and then, and
/// nobody hears why. Of the whole process, once, at its start.
void throw_when_out_of_memory();

/// Memory that could not be had.
bool is_out_of_memory(const std::exception& error);

/// Our own errors speak for themselves and bring their exit code. Of LibTorch's only the message is said, not the frames of
/// its own code that what() goes on with.
LastWords last_words(const std::exception& error);

}  // namespace equisweep
