#include "analysis/report/facts.h"

#include <nlohmann/json.hpp>

namespace equisweep {

void gather(const nlohmann::json& document, const std::string& path, ValuesByPath& facts) {
  if (document.is_object()) {
    for (const auto& [key, inner] : document.items()) gather(inner, path.empty() ? key : path + "." + key, facts);
  } else {
    facts[path].insert(document.is_string() ? document.get<std::string>()
                                            : document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
}

ValueSet values_at(const ValuesByPath& facts, const std::string& path) {
  const auto found = facts.find(path);
  return found == facts.end() ? ValueSet{} : found->second;
}

}  // namespace equisweep
