#pragma once
// `init_from: DIR` of a sweep file: training that starts from weights in HuggingFace's layout.

#include <nlohmann/json.hpp>
#include <string>

#include "core/data/corpus.h"

namespace equisweep {

struct InitialWeights {
  std::string name;         ///< of the folder: the label of the model
  nlohmann::json model;     ///< complete configuration (models/models.h)
  nlohmann::json identity;  ///< {"path": as written, "content": hash_weights()}: part of every job of the sweep
};

/// Reads the folder and every weight in it. Throws DataError for what is missing, does not fit, or is not finite.
InitialWeights read_initial_weights(const std::string& path);

/// Whether two complete configurations are the same model, however its layers and scales are spelt.
bool same_model(const nlohmann::json& a, const nlohmann::json& b);

/// Throws DataError if `path` and the corpus both have a tokenizer.model and they differ: the weights would read other
/// pieces under the same numbers.
void check_tokenizer(const std::string& path, const CorpusInfo& corpus);

}  // namespace equisweep
