#pragma once
// The fields that architectures share, and what is read from them.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "core/field.h"
#include "models/blocks/attention.h"

namespace equisweep {

namespace field {
Field vocab();
Field d();
Field layers();
Field heads();
Field kv_heads();
Field head_dim();
Field ff();
Field rope_base(double value);
Field window();  ///< of the sliding layers; 0: there are none
Field global_every(std::int64_t value);
Field global_layers();  ///< optional list, instead of global_every
Field softcap();
Field experts();
Field top_k();
Field expert_ff();
Field rope_scaling();  ///< optional map: kind, factor, and YaRN's constants
Field norm_eps(double value);
Field bias(bool value);
Field tied(bool value);
}  // namespace field

/// The part of an attention block that every configuration states: d, heads, kv_heads, head_dim, rope_base, rope_scaling,
/// norm_eps, bias; scale is head_dim^(-1/2). Throws UsageError where they do not fit together, or global_layers names a
/// layer that is not there.
AttentionShape attention_shape(const nlohmann::json& config);

/// Whether block `layer` attends to all keys before it: those of global_layers or, where that is absent, every
/// global_every-th, the last of each group; all where window is 0.
bool is_global(const nlohmann::json& config, std::int64_t layer);

/// rope_scaling of a configuration, or nothing.
std::optional<RopeScaling> rope_scaling_of(const nlohmann::json& config);

}  // namespace equisweep
