#pragma once
// The characters and the plain scalars of a sweep file, before and beside YAML.

#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "sweeps/file/reader.h"

namespace equisweep {

/// `text` without BOM and with \n as line end. Adds a problem at the first byte that a sweep file cannot hold (NUL and other
/// control characters, tabs, invalid UTF-8); the result is then not to be parsed.
std::optional<std::string> clean_text(std::string_view text, const std::string& file, Problems& problems);

/// A plain scalar: number, boolean, text, or broken with a problem that says what to write instead.
NodeKind classify_plain(std::string_view scalar, const SourcePosition& where, Problems& problems);

}  // namespace equisweep
