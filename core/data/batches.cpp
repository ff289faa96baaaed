// Shapes: B windows of a batch, T tokens of a window.
#include "core/data/batches.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/data/permutation.h"
#include "core/error.h"
#include "core/rng.h"

namespace equisweep {
namespace {

std::int64_t window_count(const TokenSource& source, std::int64_t seq_len, std::int64_t target_offset) {
  return source.size() < seq_len + target_offset ? 0 : (source.size() - target_offset) / seq_len;
}

// Row b of the batch is window window_of(b): tokens [w T, w T + T), targets `target_offset` later.
template <typename WindowOf>
Batch read_batch(const TokenSource& source, std::int64_t batch, std::int64_t seq_len, std::int64_t target_offset,
                 WindowOf window_of) {
  Batch result{at::empty({batch, seq_len}, at::kLong), at::empty({batch, seq_len}, at::kLong)};
  std::vector<std::int64_t> window(static_cast<std::size_t>(seq_len + target_offset));
  for (std::int64_t b = 0; b < batch; ++b) {
    source.read(window_of(b) * seq_len, window);
    std::copy_n(window.begin(), seq_len, result.tokens_BT.mutable_data_ptr<std::int64_t>() + b * seq_len);
    std::copy_n(window.begin() + target_offset, seq_len, result.targets_BT.mutable_data_ptr<std::int64_t>() + b * seq_len);
  }
  return result;
}

}  // namespace

Batches::Batches(Corpus corpus, std::int64_t seq_len, std::int64_t batch_tokens, std::uint64_t seed,
                 std::int64_t target_offset)
    : corpus_(std::move(corpus)), seq_len_(seq_len), batch_(0), target_offset_(target_offset), windows_(0), seed_(seed) {
  if (seq_len < 1) throw UsageError(fmt::format("data.seq_len is {}; a whole number > 0 is expected", seq_len));
  if (target_offset < 1)
    throw UsageError(fmt::format("data.target_offset is {}; a whole number > 0 is expected", target_offset));
  if (batch_tokens < 1 || batch_tokens % seq_len != 0) {
    throw UsageError(
        fmt::format("a batch of {} tokens is not a whole number of sequences of {} tokens; the nearest batch is {}",
                    batch_tokens, seq_len, std::max<std::int64_t>(1, (batch_tokens + seq_len / 2) / seq_len) * seq_len));
  }
  batch_ = batch_tokens / seq_len;
  windows_ = window_count(*corpus_.train, seq_len, target_offset);
  const auto check = [&](const char* part, const TokenSource& source) {
    if (window_count(source, seq_len, target_offset) >= batch_) return;
    throw UsageError(
        fmt::format("corpus '{}': its {} {} tokens make {} windows of {} tokens, and a batch has {}; "
                    "use a smaller batch, shorter sequences or more text",
                    corpus_.info.name, source.size(), part, window_count(source, seq_len, target_offset), seq_len, batch_));
  };
  check("training", *corpus_.train);
  check("validation", *corpus_.val);
}

Batch Batches::train(std::int64_t step) const {
  TORCH_CHECK(step >= 1, "steps count from 1, not ", step);
  const std::int64_t first = (step - 1) * batch_;
  std::int64_t epoch = first / windows_;
  Permutation order(windows_, derive_seed(seed_, "batches", static_cast<std::uint64_t>(epoch)));
  return read_batch(*corpus_.train, batch_, seq_len_, target_offset_, [&](std::int64_t b) {
    if (const std::int64_t now = (first + b) / windows_; now != epoch) {
      epoch = now;
      order = Permutation(windows_, derive_seed(seed_, "batches", static_cast<std::uint64_t>(epoch)));
    }
    return order((first + b) % windows_);
  });
}

std::int64_t Batches::val_batches(std::int64_t eval_tokens) const {
  const std::int64_t batch_tokens = batch_ * seq_len_;
  const std::int64_t wanted = eval_tokens / batch_tokens + (eval_tokens % batch_tokens > 0 ? 1 : 0);
  return std::clamp<std::int64_t>(wanted, 1, window_count(*corpus_.val, seq_len_, target_offset_) / batch_);
}

Batch Batches::val(std::int64_t i) const {
  TORCH_CHECK(i >= 0 && (i + 1) * batch_ <= window_count(*corpus_.val, seq_len_, target_offset_), "no validation batch ", i);
  return read_batch(*corpus_.val, batch_, seq_len_, target_offset_, [&](std::int64_t b) { return i * batch_ + b; });
}

std::int64_t Batches::windows() const { return windows_; }

std::int64_t Batches::batch_size() const { return batch_; }

}  // namespace equisweep
