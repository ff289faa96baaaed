#pragma once
// Replays recorded updates through the Optimizer, so that anybody's Python or JAX version of a rule can be held against
// ours.
//
// A case is <id>.safetensors with W0, G1..GT, W1..WT, optionally state.<slot> after step T and wide.W1..wide.WT (the same
// recorded in fp64), and <id>.json with rule, options, layout, dims and, optionally, tolerance {fp64, fp32} (null: this
// dtype is not expected to agree), kind, relation. The error is
//
//   max_t ||W_t - W_t^ref||_F / max_t ||W_t^ref - W_{t-1}^ref||_F
//
// and, for each state.<slot> that is recorded, ||S - S^ref||_F / ||S^ref||_F; the worse of them counts. It is infinite
// where a number on either side is not finite. A case of which nothing would be compared fails, and so does one with a
// key or a tensor that nobody reads (of kind "published", whose state has the published class's own names, a key only).

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

namespace equisweep {

enum class ReplayVerdict {
  pass,
  fail,
  differs,  ///< the recording says itself that it follows another formula; its distance is measured but not judged
};

struct ReplayResult {
  std::string id;
  std::string rule;
  std::string precision;  ///< "fp64" or "fp32": the dtype of our replay
  double error = 0;
  double tolerance = 0;
  ReplayVerdict verdict = ReplayVerdict::fail;
  std::string problem;  ///< why the case could not be replayed (an unknown rule or option, a damaged file); then it fails
};

/// Every case of `folder`, ordered by id, in each precision in which it is expected to agree, with weights, gradients and
/// state on `device`; what is compared is compared on the CPU. Throws UsageError if the folder does not exist or holds no
/// case.
std::vector<ReplayResult> verify_recordings(const std::filesystem::path& folder, at::Device device = at::kCPU);

/// One case; `sidecar` is the path of its .json.
std::vector<ReplayResult> verify_recording(const std::filesystem::path& sidecar, at::Device device = at::kCPU);

}  // namespace equisweep
