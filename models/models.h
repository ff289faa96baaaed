#pragma once
// The table of architectures and sizes, and the only place that lists their names.

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/field.h"
#include "core/language_model.h"

namespace equisweep {

struct Size {
  std::string_view name;        ///< nano, tiny, small, mid, paper
  std::string_view dimensions;  ///< JSON object over the architecture's fields
};

struct Architecture {
  std::string_view name;  ///< qwen3
  std::string_view summary;
  std::string_view source;
  std::vector<Field> fields;  ///< every dimension and constant: vocab, d, layers, heads, ..., each overridable
  std::vector<Size> sizes;
  /// Builds the model with unset weights from complete fields. Throws UsageError on dimensions that do not fit together.
  std::unique_ptr<LanguageModel> (*make)(const nlohmann::json& config, at::Device device);
};

std::span<const Architecture> architectures();

/// "qwen3-nano", "qwen3-tiny", ...: every name that may stand under grid.model.
std::vector<std::string> model_names();

/// The complete configuration of `name` with `overrides` (an object over the fields) laid over the size's row:
/// {"architecture": "qwen3", "vocab": 512, "d": 64, ...}. Throws UsageError on unknown names or fields, with the nearest.
nlohmann::json resolve_model(std::string_view name, const nlohmann::json& overrides);

/// The complete configuration from an architecture and fields, without a size: {"architecture": "qwen3", "vocab": ...}.
/// Throws UsageError like resolve_model().
nlohmann::json complete_config(const nlohmann::json& given);

/// The model of a complete configuration, fp32 weights unset (call initialize() or load).
std::unique_ptr<LanguageModel> make_model(const nlohmann::json& config, at::Device device = at::kCPU);

/// Draws every weight: a pure function of (seed, name of the weight), the same on every device and in every stack.
void initialize(LanguageModel& model, std::uint64_t seed);

/// Replaces every weight by a leaf with the same values on `device` in `dtype`. Call it before an Optimizer claims them.
void convert_weights(LanguageModel& model, at::Device device, at::ScalarType dtype);

/// The weights of a configuration without memory for them (tensors on the meta device): names, roles, shapes.
std::vector<Param> describe_params(const nlohmann::json& config);

}  // namespace equisweep
