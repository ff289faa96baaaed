#pragma once
// A trained run as a folder that transformers loads.

#include <cstdint>
#include <filesystem>
#include <string>

namespace equisweep {

struct ExportRequest {
  std::filesystem::path run_dir;  ///< of a run with final weights (log: {weights: final})
  std::filesystem::path out;      ///< must not exist
  std::filesystem::path corpora;  ///< prepared corpora
  bool with_logits = false;       ///< also io.safetensors: validation tokens with our logits and loss
};

struct ExportSummary {
  std::string architecture;
  std::int64_t parameters = 0;
  bool tokenizer = false;  ///< false: the corpus has none of ours
};

/// Writes config.json (with the rope keys of transformers 4 and 5), model.safetensors (fp32) and, where the corpus has a
/// tokenizer of ours, tokenizer.model, tokenizer.json and tokenizer_config.json. The folder appears whole or not at all.
/// Throws UsageError if it exists, DataError if the run has no final weights or they are damaged.
ExportSummary export_huggingface(const ExportRequest& request);

}  // namespace equisweep
