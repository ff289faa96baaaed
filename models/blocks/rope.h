#pragma once
// Rotary position embedding (Su et al., arXiv:2104.09864) with YaRN (Peng et al., arXiv:2309.00071).

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "models/blocks/norm.h"

namespace equisweep {

/// What stretches the frequencies to longer contexts.
struct RopeScaling {
  enum class Kind { linear, yarn };
  Kind kind = Kind::yarn;
  double factor = 1;
  double beta_fast = 32, beta_slow = 1;  ///< yarn: rotations within the original context where the ramp begins and ends
  double original_context = 4096;        ///< yarn: positions
  bool truncate = true;                  ///< yarn: round the ends of the ramp to whole dimensions
  std::optional<double> attention_factor = {};  ///< yarn: multiplies cos and sin; absent: 0.1 ln(factor) + 1
  bool operator==(const RopeScaling&) const = default;
};

struct Rope {
  std::int64_t head_dim = 0;
  double base = 10000;
  std::optional<RopeScaling> scaling = {};
  bool operator==(const Rope&) const = default;

  /// inv_freq_i, i = 0 .. head_dim/2 - 1: base^(-2i/head_dim); linear: divided by the factor; yarn: blended between the two
  /// by the ramp.
  std::vector<double> inverse_frequencies() const;
  double attention_factor() const;
};

/// Rotates x [B, T, heads, head_dim] by halves: (x1, x2) -> (x1 c - x2 s, x2 c + x1 s), position t at index t. The tables
/// are computed in double and cached for each (rope, T, dtype, device); safe to call from several threads.
at::Tensor rotate(const Rope& rope, const at::Tensor& x_BTHC);

/// cos and sin of the rotation's angles times the attention factor, [T, head_dim/2], in at least fp32; cached.
struct RotationTables {
  at::Tensor cos, sin;
};
RotationTables rotation_tables(const Rope& rope, std::int64_t T, at::ScalarType dtype, at::Device device);

/// rotate(rope, norm(x)), in one pass on the CPU: x [B, T, heads * head_dim], the norm over each head (gain [head_dim]) or
/// over all of them (gain [heads * head_dim]); without a norm the rotation alone. -> [B, T, heads, head_dim].
at::Tensor normalize_and_rotate(const Rope& rope, const RmsNorm& norm, const at::Tensor& x_BTD);

}  // namespace equisweep
