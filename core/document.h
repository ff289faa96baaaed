#pragma once
// JSON texts from databases and files that anybody may have written.
//
// nlohmann's parser takes any depth, but what walks its result recurses: dump(), and whatever of ours looks at every value.
// A text of 200,000 brackets would end the process. What equisweep itself writes is less than ten deep.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string_view>

namespace equisweep {

/// The document in `text`, or nothing where it is no JSON or nested more than 64 deep.
std::optional<nlohmann::json> document_of(std::string_view text);

/// The object in `text`; an empty one where document_of() finds nothing or something else.
nlohmann::json object_of(std::string_view text);

}  // namespace equisweep
