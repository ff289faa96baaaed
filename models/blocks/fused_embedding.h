#pragma once
// Rows of an embedding table on the CPU, in one pass each way.

#include <ATen/core/Tensor.h>

namespace equisweep {

/// Whether fused_embedding() can compute this: on the CPU, the table in fp32 for fp32 and bf16 rows, in fp64 for fp64 ones.
bool fused_embedding_serves(const at::Tensor& table_VD, const at::Tensor& tokens, at::ScalarType dtype);

/// y_n = scale table[token_n], each factor rounded to `dtype`, and so is y: tokens [..] -> [.., D]. A row's gradient is the
/// sum over its tokens in their order, in the dtype of the table. Throws c10::IndexError for a token beyond the table.
at::Tensor fused_embedding(const at::Tensor& table_VD, const at::Tensor& tokens, at::ScalarType dtype, double scale);

}  // namespace equisweep
