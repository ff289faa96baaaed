#pragma once
// The order of the data: a pure function of (data seed, step).

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/data/corpus.h"

namespace equisweep {

struct Batch {
  at::Tensor tokens_BT;   ///< int64
  at::Tensor targets_BT;  ///< int64: targets[b, t] is the token `target_offset` after tokens[b, t]
};

/// The training tokens cut into fixed windows of seq_len + target_offset (stride seq_len), walked in an order that is a
/// pseudo-random permutation of the windows for each epoch (a keyed Feistel network with cycle walking: no table), so every
/// run of a sweep sees the same batches whatever its stack, its device count or how often it was resumed.
class Batches {
 public:
  /// batch_tokens must be a multiple of seq_len. Throws UsageError if not, or if the corpus has less than one batch.
  Batches(Corpus corpus, std::int64_t seq_len, std::int64_t batch_tokens, std::uint64_t seed,
          std::int64_t target_offset = 1);

  /// The batch of update `step` (from 1).
  Batch train(std::int64_t step) const;

  /// Number of validation batches that cover `eval_tokens` (rounded up to whole batches, capped at what there is; at least
  /// 1).
  std::int64_t val_batches(std::int64_t eval_tokens) const;

  /// Validation batch i: the first windows of the validation tokens in order. The same for every run.
  Batch val(std::int64_t i) const;

  std::int64_t windows() const;     ///< training windows in an epoch
  std::int64_t batch_size() const;  ///< B
  const CorpusInfo& corpus() const { return corpus_.info; }

 private:
  Corpus corpus_;
  std::int64_t seq_len_, batch_, target_offset_, windows_;
  std::uint64_t seed_;
};

}  // namespace equisweep
