#pragma once
// Parity with recordings of another implementation, on its own weights.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

namespace equisweep {

/// The worst error of one quantity in one precision, and what is allowed.
struct ParityRow {
  std::string precision;  ///< fp64 or fp32
  std::string quantity;   ///< logits, hidden, loss, gradients, router_logits, aux_loss, aux_gradients
  double error = 0;       ///< largest |ours - recorded| / largest |recorded| of a tensor; NaN counts as infinite
  double bound = 0;
  std::string worst;  ///< the tensor with that error
  bool ok() const { return error <= bound; }
};

struct ParityReport {
  std::string folder, architecture;
  std::vector<ParityRow> rows;
  bool ok() const;
};

/// Loads config.json and model.safetensors of `folder` and compares with io.safetensors (input_ids, labels, logits, loss;
/// where present hidden.*, router_logits.*, aux_loss, aux_grad.*) and, where present, grads.safetensors (d loss / d weight).
/// fp64 throughout: 1e-12, gradients (which are stored in fp32) 2e-7. fp32: logits, hidden states and router logits 1e-5,
/// losses 1e-6, gradients 3e-5. The model computes on `device`; what is compared is compared on the CPU. Throws DataError on
/// folders that do not hold such a recording.
ParityReport verify_parity(const std::filesystem::path& folder, at::Device device = at::kCPU);

/// A table of a report, one line a row.
std::string to_string(const ParityReport& report);

}  // namespace equisweep
