#pragma once
// A job is one resolved config; its id is the hash of the canonical form.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/run_state.h"

namespace equisweep {

/// Canonical text of a JSON value: sorted keys, no spaces, numbers in one form (integral values without a point, others in
/// the shortest digits that read back exactly), UTF-8 as is. Two values with equal meaning have equal text. Throws
/// UsageError on NaN and infinities.
std::string canonical(const nlohmann::json& value);

/// First 16 hex digits of the XXH3-128 of `canonical_text`.
std::string hash_of(std::string_view canonical_text);

/// hash_of() the canonical text of `config`.
std::string job_id(const nlohmann::json& config);

/// The paths at which two configs differ, sorted: "train.steps", "stack.matrix.lr", "data" where only one has it.
std::vector<std::string> difference(const nlohmann::json& before, const nlohmann::json& after);

/// One point of a sweep. `config` is complete: everything that decides the result and nothing else, namely
///   {"data": {corpus, seq_len, batch_tokens, seed, target_offset}, "log": {...}, "model": {...models.h...}, "schedule":
///   {...},
///    "seed": 0, "stack": {entry: {...rules.h, complete, lr already multiplied by lr_scale...}}, "stop": {...},
///    "train": {steps, precision, grad_clip, eval: {every, tokens}}}
/// and, where they are on, "init_from": {path, content}, train.recompute, train.kernels, train.router, log.weights. What
/// concerns routers is not part of a job whose model has none. Names, notes and resources are not part of it.
struct Job {
  std::string id;
  nlohmann::json config;
  std::string model, stack;  ///< labels
  std::string phase = {};    ///< "tune" or "confirm" in a sweep that tunes, else empty
  bool baseline = false;
  double lr_scale = 1;
  std::int64_t seed = 0;
  nlohmann::json axes = nlohmann::json::object();  ///< values of the stack's sub-axes by path: {"embedding.lr": 0.1}
};

/// What a job has come to: what the next jobs of a plan may depend on.
struct JobResult {
  RunState state = RunState::done;  ///< done or diverged
  double loss = 0;  ///< last validation loss, nats per token; +infinity if it diverged or was never evaluated
};

}  // namespace equisweep
