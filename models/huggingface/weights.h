#pragma once
// model.safetensors of transformers, single or sharded, to and from our weights.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/language_model.h"

namespace equisweep {

/// The tensors on disk that make up `param`, as views of `tensor`, which is the weight or anything of its shape (a
/// gradient). Most weights are one tensor of the same name; OLMoE's expert stacks [E, 2r, d] and [E, d, r] are one for each
/// projection of each expert.
std::vector<std::pair<std::string, at::Tensor>> disk_views(const Param& param, const at::Tensor& tensor);

/// Sets every weight of `model` from `path`: a folder with model.safetensors, or with the files that
/// model.safetensors.index.json lists, or one file of tensors, in F64, F32, F16 or BF16. Throws DataError that lists the
/// missing, unknown and wrongly shaped tensors (the first 100), or names one with non-finite values; the model is unchanged
/// then.
void load_huggingface_weights(LanguageModel& model, const std::filesystem::path& path);

/// The model in `folder`: config.json, then its weights. Names and shapes are compared before anything is allocated, so that
/// no file can ask for more memory than its tensors take. Throws DataError.
std::unique_ptr<LanguageModel> load_huggingface(const std::filesystem::path& folder);

/// 32 hexadecimal digits that stand for the configuration, the names and the fp32 values of the weights (XXH3-128): the same
/// however the files are cut or rounded on disk, as long as the same numbers are read.
std::string hash_weights(LanguageModel& model);

/// Writes the weights under HuggingFace's names to `file`, whole or not at all.
void save_weights(LanguageModel& model, const std::filesystem::path& file, at::ScalarType dtype = at::ScalarType::Float);

struct ExportOptions {
  std::int64_t context = 4096;                 ///< max_position_embeddings
  std::optional<std::int64_t> eos_token = {};  ///< eos_token_id
};

/// Writes config.json and model.safetensors as transformers 4 and 5 read them, with fp32 weights.
void save_huggingface(LanguageModel& model, const std::filesystem::path& folder, const ExportOptions& options = {});

}  // namespace equisweep
