#pragma once
// The King James Bible, public domain, as Debian's `bible` program prints it: 31,102 verses in 1,189 chapters.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/prepare.h"

namespace equisweep {

/// The chapters of what `bible -f gen1:1-rev22:21` prints: a verse a line, without references such as "1Sm1:1 ".
/// Throws DataError naming the line if one has no reference.
std::vector<std::string> kjv_chapters(std::string_view printed);

/// Runs the program. Throws Error, saying what to install, if it is missing, fails, or does not print 31,102 verses.
std::string print_kjv(const std::string& program = "bible");

/// Prepares `out` with `vocabulary` pieces unless it exists; several processes may try at once, and the others wait. Each
/// chapter is a document; every 20th (the 20th, the 40th, ...) is held out for validation.
void prepare_kjv(const std::filesystem::path& out, std::int64_t vocabulary, const PrepareProgress& progress = {});

}  // namespace equisweep
