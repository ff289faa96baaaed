#pragma once
// Values of JSON documents by path: what some configs share and others do not.

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>

namespace equisweep {

using ValueSet = std::set<std::string>;
using ValuesByPath = std::map<std::string, ValueSet>;  ///< {"train.steps": {"100", "200"}}

/// Adds every value of `document` that is no object, as text, to those of its path below `path`. An empty object adds
/// nothing.
void gather(const nlohmann::json& document, const std::string& path, ValuesByPath& facts);

/// The values at `path`; none if there is no such path.
ValueSet values_at(const ValuesByPath& facts, const std::string& path);

}  // namespace equisweep
