#include "sweeps/last_words.h"

#include <c10/util/Exception.h>
#include <c10/util/Logging.h>
#include <fmt/format.h>

#include <new>
#include <string_view>

namespace equisweep {

void throw_when_out_of_memory() { FLAGS_caffe2_use_fatal_for_enforce = false; }

bool is_out_of_memory(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
         dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         (dynamic_cast<const c10::Error*>(&error) != nullptr &&  // that of the CPU's allocator is a general one
          std::string_view(error.what()).find("DefaultCPUAllocator") != std::string_view::npos);
}

LastWords last_words(const std::exception& error) {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return {ours->what(), ours->code()};
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  return {fmt::format("equisweep: {}{}", is_out_of_memory(error) ? "out of memory: " : "",
                      torch ? torch->what_without_backtrace() : error.what())};
}

}  // namespace equisweep
