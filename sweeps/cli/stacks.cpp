#include <cstdio>
#include <nlohmann/json.hpp>

#include "sweeps/cli/command.h"
#include "sweeps/file/stacks.h"

namespace equisweep {
namespace {

/// "lr 0.02", or by architecture "lr qwen3 0.02, olmoe 0.005".
std::string in_words(const StackOption& option) {
  std::string text = option.path;
  const nlohmann::json* each = option.values[0].each();
  if (const nlohmann::json value = option.values[0].as_written(); !each)
    return text + " " + (value.is_string() ? value.get<std::string>() : value.dump());
  for (const auto& [architecture, own] : each->items())
    text += fmt::format("{}{} {}", text == option.path ? " " : ", ", architecture, own.dump());
  return text;
}

}  // namespace

ExitCode print_named_stacks(bool json) {
  nlohmann::json all = nlohmann::json::array();
  for (const NamedStackInfo& info : describe_named_stacks()) {
    nlohmann::json entries = nlohmann::json::object();
    if (!json) fmt::print("{}\n  {}\n", info.name, info.summary);
    for (const StackEntry& entry : info.stack.entries) {
      std::vector<std::string> parts;
      for (const StackOption& option : entry.options) {
        entries[entry.name][option.path] = option.values[0].as_written();
        parts.push_back(option.path == "rule" ? option.values[0].as_written().get<std::string>() : in_words(option));
      }
      if (!json) fmt::print("    {:<16} {}\n", entry.name, join(parts, "; "));
    }
    if (!json) fmt::print("\n");
    all.push_back({{"name", info.name}, {"summary", info.summary}, {"entries", entries}});
  }
  if (json) {
    fmt::print("{}\n", all.dump(2));
  } else {
    fmt::print(
        "In a sweep file: `stacks: {{ours: {{extends: builtin/muon}}}}`. Entries without a weight in any model are left "
        "out.\n");
  }
  return ExitCode::ok;
}

}  // namespace equisweep
