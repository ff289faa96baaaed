#pragma once
// The contract of a diagnostic: an observer of steps that writes scalars to the run's database, switched on and paced from
// the sweep file (`log: {spectral: {every: 10}}`).
//
// A diagnostic changes nothing that it is shown, draws from no shared generator, and so never changes a training run. It
// queues its work on the device during observe() and reads the results one interval late, so that it waits for nothing.

#include <cstdint>
#include <map>
#include <string>

#include "core/language_model.h"
#include "core/run_store.h"
#include "core/step_observer.h"

namespace equisweep {

/// What a diagnostic is given beside its options.
struct DiagnosticContext {
  RunStore& store;                             ///< outlives the diagnostic
  std::map<std::string, std::int64_t> blocks;  ///< number of each weight in the table `blocks`, by name
  std::int64_t experts_per_token = 0;          ///< of a mixture of experts; 0: the model has none
  std::map<std::string, Role> roles = {};      ///< of each weight
  std::map<std::string, double> inner_roundoff =
      {};  ///< of a cast inside the rule of a weight that is narrower than its state
};

class Diagnostic : public StepObserver {
 public:
  /// `every`: pace in steps, at least 1.
  explicit Diagnostic(std::int64_t every);

  /// True for step 1 and each multiple of the pace.
  bool wants(std::int64_t step) const override;

  /// What the forward pass of a step that it wants left behind; called before the backward pass.
  virtual void observe_forward(std::int64_t, const Forward&) {}

  /// Writes what has been measured but not yet read from the device. Call it before a checkpoint and after the last step.
  virtual void flush() = 0;

 private:
  std::int64_t every_;
};

}  // namespace equisweep
