#include "core/document.h"

#include <nlohmann/json.hpp>

namespace equisweep {
namespace {

constexpr int kDeepestDocument = 64;

}  // namespace

std::optional<nlohmann::json> document_of(std::string_view text) {
  using Event = nlohmann::json::parse_event_t;
  bool deep = false;
  auto value = nlohmann::json::parse(
      text.begin(), text.end(),
      [&](int around, Event event, nlohmann::json&) {  // `around` counts the containers outside this one
        const bool opens = event == Event::object_start || event == Event::array_start;
        deep = deep || (opens && around >= kDeepestDocument);
        return !deep;
      },
      /*allow_exceptions=*/false);
  if (deep || value.is_discarded()) return std::nullopt;
  return value;
}

nlohmann::json object_of(std::string_view text) {
  auto value = document_of(text);
  return value && value->is_object() ? *std::move(value) : nlohmann::json::object();
}

}  // namespace equisweep
