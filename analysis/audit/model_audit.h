#pragma once
// The audit of whole models (docs/audit.md): train a small model from theta and from g theta, in fp64, and compare.
//
//   function   |loss(g theta) - loss(theta)| <= 1e-12 |loss|, or g is no symmetry of the model
//   error  e = ||W'_T - g W_T|| / ||W_T - W_0||, over all weights that g moves
//   floor  f = the same for runs whose weights are rounded once more before every step, the largest of two more than there
//              are elements; ratio R the worst weight's e / f
//   drift    ||1^T (W_T - W_0)|| / (sqrt(m) ||W_T - W_0||) in place of e for shifts, which change no gradient
//
// What must hold follows from UpdateRule::symmetry() and the view of each weight; what must fail is a list of its own
// (must_fail), and so are the conditions under which an action is no symmetry (breaks).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/audit/closed_loop.h"
#include "analysis/audit/statistic.h"

namespace equisweep {

/// Largest relative change of the loss under a symmetry.
inline constexpr double kSameLoss = 1e-12;
/// A control that must fail has to be off by more than this after all steps. Rounding is off by 1e-13, the smallest control
/// (row_norm under a shift of olmoe's head) by 0.04: a drift, which the level of 0.1 of the audit of blocks would miss.
inline constexpr double kModelControlError = 0.01;
/// What is no symmetry has to change the loss, or what is not kept in training the weights, by more than this.
inline constexpr double kBreakError = 1e-5;

struct ModelAuditOptions {
  std::uint64_t seed = 0;
  std::int64_t steps = 12;
  std::int64_t elements = 4;     ///< of each action; each moves every layer by a matrix of its own
  std::int64_t threads = 1;      ///< the result does not depend on it
  at::Device device = at::kCPU;  ///< where models train
};

/// A cell of the matrix architectures x actions x rules.
struct ModelFinding {
  std::string architecture, subject, action;
  bool claimed = false;             ///< every weight's rule commutes with its part of g
  bool must_fail = false;           ///< a control
  double loss_change = 0;           ///< relative; above kSameLoss the action is wrong
  double error = 0;                 ///< e over all weights that g moves; for shifts the drift
  Cell cell;                        ///< the worst weight
  std::optional<bool> judged = {};  ///< of a stored audit: what failed() said when it was made
  /// A claim that does not hold, a control that does not fail, or no symmetry of the model.
  bool failed() const;
};

/// A condition under which an action is no symmetry, shown to be one.
struct ModelBreak {
  std::string architecture, action, condition;
  bool in_training = false;  ///< the loss stays the same at the start, and the runs part; else the loss changes
  double change = 0;         ///< relative change of the loss, or error e of sgd
  bool as_it_must = false;
};

struct ModelReport {
  std::vector<ModelFinding> findings;
  std::vector<ModelBreak> breaks;
  bool passed() const;
};

/// The names that columns of products have: all permutations and signs of the architecture, and all its symmetries, drawn
/// and composed in a random order.
inline constexpr std::string_view kProductOfSigns = "product_signs", kProductOfAll = "product_all";

/// The columns of the matrix: every action, then the products.
std::vector<std::pair<std::string_view, std::string_view>> model_columns();  // name, heading

/// The matrix, subjects by their names: "adamw" and "row_norm" are held to what they must fail, "sgd" trains the breaks and
/// has to be among the subjects.
ModelReport audit_models(const std::vector<AuditedModel>& models, const std::vector<ModelSubject>& subjects,
                         const ModelAuditOptions& options);

}  // namespace equisweep
