#include "sweeps/export_huggingface.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/atomic_folder.h"
#include "core/data/batches.h"
#include "core/data/file_io.h"
#include "core/data/huggingface_tokenizer.h"
#include "core/data/text_source.h"
#include "core/data/tokenizer.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "models/huggingface/weights.h"
#include "models/models.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

void write_tokenizer(const fs::path& folder, const Tokenizer& tokenizer, std::int64_t context) {
  write_file_atomically(folder / "tokenizer.model", tokenizer.model());
  write_file_atomically(folder / "tokenizer.json", huggingface_tokenizer(tokenizer));
  const json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                       {"unk_token", tokenizer.piece(Tokenizer::kUnknown)},
                       {"eos_token", tokenizer.piece(Tokenizer::kDelimiter)},
                       {"clean_up_tokenization_spaces", false},
                       {"model_max_length", context}};
  write_file_atomically(folder / "tokenizer_config.json", config.dump(2) + "\n");
}

/// Two windows of validation tokens, or the one that there is, with our logits in fp64, as `models verify` reads them, and
/// what the tokenizer makes of the text of the first.
void write_logits(const fs::path& file, LanguageModel& model, const Corpus& corpus, std::int64_t seq_len,
                  const std::optional<Tokenizer>& tokenizer) {
  const at::NoGradGuard no_grad;
  const std::int64_t tokens = std::min(corpus.train->size(), corpus.val->size());  // Batches asks both parts for a batch
  const std::int64_t windows = std::clamp<std::int64_t>((tokens - 1) / seq_len, 1, 2);
  const Batch batch = Batches(corpus, seq_len, windows * seq_len, 0).val(0);
  convert_weights(model, at::kCPU, at::kDouble);
  model.set_compute_dtype(at::kDouble);
  const at::Tensor hidden = model.forward(batch.tokens_BT).hidden_BTD;
  std::vector<NamedTensor> tensors = {{"input_ids", batch.tokens_BT},
                                      {"labels", batch.targets_BT},
                                      {"logits", model.logits(hidden)},
                                      {"loss", model.loss(hidden, batch.targets_BT)}};
  std::map<std::string, std::string> notes;
  if (tokenizer) {
    const at::Tensor first = batch.tokens_BT[0].contiguous();
    std::string text = tokenizer->decode({first.const_data_ptr<std::int64_t>(), static_cast<std::size_t>(first.numel())});
    if (valid_utf8_prefix(text) == text.size()) {
      const std::vector<std::int64_t> ids = tokenizer->encode(text);
      tensors.emplace_back("text_ids", at::tensor(ids, at::kLong));
      notes["text"] = std::move(text);
    }
  }
  write_safetensors(file, tensors, notes);
}

}  // namespace

ExportSummary export_huggingface(const ExportRequest& request) {
  const json config = read_job_config(request.run_dir);
  const fs::path weights = request.run_dir / kFinalWeights;
  if (!fs::exists(weights))
    throw DataError(request.run_dir.string(),
                    fmt::format("has no {}; a sweep file with `log: {{weights: final}}` keeps the weights of its runs that "
                                "are done",
                                kFinalWeights));
  const auto model = make_model(config.at("model"));
  load_huggingface_weights(*model, weights);
  const auto& data = config.at("data");
  const std::int64_t seq_len = data.at("seq_len"), context = std::max<std::int64_t>(seq_len, 4096);
  const Corpus corpus = open_corpus(data.at("corpus"), model->vocabulary(), data.at("seed"), request.corpora);
  std::optional<Tokenizer> tokenizer;
  if (const fs::path file = fs::path(corpus.info.path) / "tokenizer.model"; !corpus.info.path.empty() && fs::exists(file))
    tokenizer = Tokenizer::load(file);

  AtomicFolder staging(request.out);
  ExportOptions options{.context = context};
  if (tokenizer) options.eos_token = Tokenizer::kDelimiter;
  save_huggingface(*model, staging.path(), options);
  if (tokenizer) write_tokenizer(staging.path(), *tokenizer, context);
  if (request.with_logits) write_logits(staging.path() / "io.safetensors", *model, corpus, seq_len, tokenizer);
  staging.commit();
  return {.architecture = config.at("model").at("architecture"),
          .parameters = model->parameter_count(),
          .tokenizer = tokenizer.has_value()};
}

}  // namespace equisweep
