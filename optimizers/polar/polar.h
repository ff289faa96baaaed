#pragma once
// Approximate polar factors: f(X) = sum p(s_i / N) p_i q_i^T for X = sum s_i p_i q_i^T, with p near 1.
//
// polar(X) = P Q^T for the thin SVD X = P S Q^T over the nonzero singular values only. Each method below approximates it;
// where it iterates an odd polynomial, the formula above holds with its composite polynomial p and its normalisation N.

#include <ATen/core/Tensor.h>

#include <array>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/field.h"

namespace equisweep {

/// How a method begins: X / (safety ||X||_F) in `dtype`.
struct PolarStart {
  double safety;
  at::ScalarType dtype;
};

class Polar {
 public:
  virtual ~Polar() = default;

  /// f(X) for each matrix of X [..., m, n], in the dtype of X (fp32 or fp64); a fresh tensor. f(0) = 0, rows and columns
  /// that are zero stay exactly zero, a matrix with a non-finite entry gives non-finite entries. X is not written to.
  virtual at::Tensor factor(const at::Tensor& x) const = 0;

  /// The two halves of factor() for X of dtype `working`, for callers that make the start of X themselves and take the
  /// result as it is; nothing for methods that begin otherwise. iterate() takes Y [B, m, n], whose memory it may use, and
  /// returns f(X) [B, m, n] in the same dtype and axis order.
  virtual std::optional<PolarStart> start(at::ScalarType /*working*/) const { return std::nullopt; }
  virtual at::Tensor iterate(at::Tensor y) const;
};

/// One step of an odd quintic: x -> a x + b x^3 + c x^5.
using Quintic = std::array<double, 3>;

/// What a method does where the options do not say otherwise.
struct PolarDefaults {
  std::string_view norm;              ///< what X is divided by: "fro" ||X||_F, "sqrt_gram_fro" sqrt(||X^T X||_F), "" nothing
  double safety = 1;                  ///< factor on that norm
  std::vector<Quintic> coefficients;  ///< one a step; empty where the method iterates no polynomial
};

/// Which Gram matrix a one-sided method forms.
enum class GramSide {
  shorter,  ///< of the shorter side of the block
  left,     ///< X X^T
  right,    ///< X^T X
};

/// A row of the table of methods.
struct PolarMethod {
  std::string_view name;
  std::string_view summary;
  std::string_view source;
  int default_steps = 0;                ///< 0: the method takes no steps
  int max_steps = 64;                   ///< more are known to fail
  std::vector<std::string> options;     ///< fields of polar_field() that change its result, beside `method`
  std::vector<std::string> precisions;  ///< values of `precision` that it accepts
  std::string_view precision_note;      ///< why others are refused
  PolarDefaults (*defaults)(const nlohmann::json& options);  ///< of complete options: they depend on the steps
  std::unique_ptr<Polar> (*make)(const nlohmann::json& options, GramSide side);
};

/// Every method, in the order of optimizers.md section 3.
std::span<const PolarMethod> polar_methods();

/// The option `polar: {method, steps, precision, ...}` of a rule.
Field polar_field();

/// `options` (complete by polar_field()) with the defaults of its method filled in. Throws UsageError on an option that has
/// no effect on the method, and on a precision in which the method is known to fail. Idempotent.
nlohmann::json complete_polar(const nlohmann::json& options);

/// The defaults of complete options.
PolarDefaults polar_defaults(const nlohmann::json& options);

/// The backend of complete options.
std::unique_ptr<Polar> make_polar(const nlohmann::json& options, GramSide side = GramSide::shorter);

}  // namespace equisweep
