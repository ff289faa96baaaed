#include "sweeps/initial_weights.h"

#include <fmt/format.h>

#include <filesystem>

#include "core/data/sha256.h"
#include "core/error.h"
#include "models/huggingface/config.h"
#include "models/huggingface/weights.h"

namespace equisweep {

namespace fs = std::filesystem;

InitialWeights read_initial_weights(const std::string& path) {
  const fs::path folder(path);
  if (!fs::is_directory(folder))
    throw DataError(printable(path), "is no folder; one with config.json and model.safetensors is expected");
  const auto model = load_huggingface(folder);
  const fs::path normal = folder.lexically_normal();
  return {.name = (normal.has_filename() ? normal : normal.parent_path()).filename().string(),
          .model = model->config(),
          .identity = {{"path", path}, {"content", hash_weights(*model)}}};
}

bool same_model(const nlohmann::json& a, const nlohmann::json& b) {
  if (a == b) return true;
  try {
    return config_to_huggingface(a) == config_to_huggingface(b);
  } catch (const UsageError&) {  // one of them cannot be written in that layout, so it was not read from it
    return false;
  }
}

void check_tokenizer(const std::string& path, const CorpusInfo& corpus) {
  const fs::path theirs = fs::path(path) / "tokenizer.model", ours = fs::path(corpus.path) / "tokenizer.model";
  if (corpus.path.empty() || !fs::exists(theirs) || !fs::exists(ours)) return;
  if (sha256_of_file(theirs) != sha256_of_file(ours))
    throw DataError(theirs.string(), fmt::format("is another tokenizer than {}, so the tokens of corpus '{}' mean other "
                                                 "pieces than those that the weights know; use the corpus that they were "
                                                 "trained on",
                                                 ours.string(), corpus.name));
}

}  // namespace equisweep
