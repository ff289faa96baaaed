// Compiled for machines with AVX-512 alone; see avx512.inc. Keys and values are packed once for all queries.
#include "models/kernels/tile_attention.h"

#if defined(__AVX512F__) && defined(__AVX512BW__)

#include "models/kernels/attention_blocks.inc"

namespace equisweep {
namespace {

struct Sizes {
  Int T, C, depth;  ///< depth: T rounded up to 32

  explicit Sizes(const TileAttention<float>& a) : T(a.length), C(a.C), depth(round_up(a.length, 32)) {}
  // No power of two, so that the rows of a block do not share one place in the cache.
  Int stride() const { return depth + 16; }

  /// X^T [C, depth] in pieces of 32 columns, X [T, C].
  void pack_columns(const HeadRows<const float>& x, float* panels) const {
    for (Int t = 0; t < depth; t += 16)
      for (Int c = 0; c < C; c += 16)
        transpose_16(x.data + t * x.time + c, x.time, T - t, panels + t / 32 * 32 * C + 32 * c + t % 32, 32);
  }
  /// X [depth, C] in pieces of 32 columns.
  void pack_rows(const HeadRows<const float>& x, float* panels) const {
    for (Int c = 0; c < C; c += 16)
      for (Int t = 0; t < depth; ++t)
        _mm512_storeu_ps(panels + c / 32 * 32 * depth + 32 * t + c % 32,
                         t < T ? _mm512_loadu_ps(x.data + t * x.time + c) : _mm512_setzero_ps());
  }
};

/// out [32, C] <- the rows of a block, zero where there are fewer.
void copy_rows(const float* x, Int stride, Int rows, Int C, float* out) {
  for (Int i = 0; i < 32; ++i)
    for (Int c = 0; c < C; c += 16)
      _mm512_store_ps(out + i * C + c, i < rows ? _mm512_loadu_ps(x + i * stride + c) : _mm512_setzero_ps());
}

/// scores [32, columns] <- X Y^T for the keys of a block, X [32, C]; panels of pack_columns().
void score_block(const Block& block, const float* x, const float* panels, Int C, float* scores, Int stride) {
  for (Int n = 0; n < block.columns; n += kColumns) {
    const float* const b = panels + (block.key + n) * C;
    for (Int m = 0; m < block.rows; m += kRows) {
      Sums sums = zero_sums();
      add_terms(sums, x + m * C, C, 1, b, b + 16, 32, C);
      store_sums(sums, scores + m * stride + n, stride);
    }
  }
}

/// y [rows, C] <- share_i (P X)_i; P [32, columns], panels of pack_rows(); share null: 1.
void weighted_rows(const Block& block, const float* p, const Sizes& z, const float* panels, const float* share, float* y,
                   Int stride) {
  for (Int n = 0; n < z.C; n += kColumns) {
    const float* const b = panels + n * z.depth + 32 * block.key;
    for (Int m = 0; m < block.rows; m += kRows) {
      Sums sums = zero_sums();
      add_terms(sums, p + m * z.stride(), z.stride(), 1, b, b + 16, 32, block.columns);
#pragma GCC unroll 8
      for (Int i = 0; i < kRows; ++i) {
        if (m + i >= block.rows) break;
        const __m512 by = _mm512_set1_ps(share ? share[m + i] : 1.0F);
        _mm512_storeu_ps(y + (m + i) * stride + n, _mm512_mul_ps(sums.low[i], by));
        _mm512_storeu_ps(y + (m + i) * stride + n + 16, _mm512_mul_ps(sums.high[i], by));
      }
    }
  }
}

/// Z += P^T X for the keys of a block: P [rows, columns], X [rows, C]; Z [depth, C] in pieces of 32 columns.
void add_to_keys(const Block& block, const float* p, const Sizes& z, const float* x, float* sums_of_keys) {
  for (Int n = 0; n < z.C; n += kColumns) {
    for (Int j = 0; j < block.columns; j += kRows) {
      float* const c = sums_of_keys + n * z.depth + 32 * (block.key + j);
      Sums sums = load_sums(c, 32);
      add_terms(sums, p + j, 1, z.stride(), x + n, x + n + 16, z.C, block.rows);
      store_sums(sums, c, 32);
    }
  }
}

void write_keys(const Sizes& z, const float* sums_of_keys, const HeadRows<float>& out) {
  for (Int c = 0; c < z.C; c += 16)
    for (Int t = 0; t < z.T; ++t)
      _mm512_storeu_ps(out.data + t * out.time + c, _mm512_load_ps(sums_of_keys + c / 32 * 32 * z.depth + 32 * t + c % 32));
}

void forward(const TileAttention<float>& a, const HeadRows<float>& y, void* scratch) {
  const Sizes z(a);
  Memory memory{static_cast<char*>(scratch)};
  float *const keys = memory.take<float>(z.depth * z.C), *const values = memory.take<float>(z.depth * z.C),
               *const rows = memory.take<float>(32 * z.C), *const scores = memory.take<float>(32 * z.stride());
  z.pack_columns(a.k, keys);
  z.pack_rows(a.v, values);
  const float factor = a.scale * kLog2E;
  for (Int h = 0; h < a.heads; ++h) {
    const float sink = a.sinks ? a.sinks[h] * kLog2E : 0.0F;
    over_query_blocks(z.T, a.window, [&](const Block& block) {
      float *const peak = a.peak + h * z.T + block.query, *const share = a.share + h * z.T + block.query;
      copy_rows(a.q.data + h * a.q.head + block.query * a.q.time, a.q.time, block.rows, z.C, rows);
      score_block(block, rows, keys, z.C, scores, z.stride());
      for (Int i = 0; i < block.rows; ++i) {
        float* const s = scores + i * z.stride();
        softmax_row(s, block.columns, block.seen(i), factor, a.sinks ? &sink : nullptr, peak[i], share[i],
                    [s](Int j, __m512 e) { _mm512_store_ps(s + j, e); });
      }
      weighted_rows(block, scores, z, values, share, y.data + h * y.head + block.query * y.time, y.time);
    });
  }
}

/// A row of scores and of dp becomes p and the gradient of the scores. Returns sum(p dp).
float gradient_row(float* s, float* dp, Int columns, const Block::Seen& seen, float peak, float share, float factor,
                   float scale) {
  const __m512 by = _mm512_set1_ps(factor), shift = _mm512_set1_ps(peak), part = _mm512_set1_ps(share);
  __m512 sum = _mm512_setzero_ps();
  for (Int j = 0; j < columns; j += 16) {
    const __m512 p = _mm512_maskz_mul_ps(seen.at(j), exp2_of(_mm512_fmsub_ps(_mm512_load_ps(s + j), by, shift)), part);
    sum = _mm512_fmadd_ps(p, _mm512_load_ps(dp + j), sum);
    _mm512_store_ps(s + j, p);
  }
  const float inner = _mm512_reduce_add_ps(sum);
  const __m512 mean = _mm512_set1_ps(inner), scaled = _mm512_set1_ps(scale);
  for (Int j = 0; j < columns; j += 16) {
    const __m512 d = _mm512_sub_ps(_mm512_load_ps(dp + j), mean);
    _mm512_store_ps(dp + j, _mm512_mul_ps(_mm512_mul_ps(_mm512_load_ps(s + j), d), scaled));
  }
  return inner;
}

void backward(const TileAttention<float>& a, const HeadRows<const float>& dy, const HeadRows<float>& dq,
              const HeadRows<float>& dk, const HeadRows<float>& dv, float* dsinks, void* scratch) {
  const Sizes z(a);
  const Int all = z.depth * z.C;
  Memory memory{static_cast<char*>(scratch)};
  float *const key_columns = memory.take<float>(all), *const value_columns = memory.take<float>(all),
               *const key_rows = memory.take<float>(all), *const dk_sums = memory.take<float>(all),
               *const dv_sums = memory.take<float>(all), *const query = memory.take<float>(32 * z.C),
               *const dout = memory.take<float>(32 * z.C), *const s = memory.take<float>(32 * z.stride()),
               *const dp = memory.take<float>(32 * z.stride());
  z.pack_columns(a.k, key_columns);
  z.pack_columns(a.v, value_columns);
  z.pack_rows(a.k, key_rows);
  for (Int i = 0; i < all; i += 16) {
    _mm512_store_ps(dk_sums + i, _mm512_setzero_ps());
    _mm512_store_ps(dv_sums + i, _mm512_setzero_ps());
  }
  const float factor = a.scale * kLog2E;
  for (Int h = 0; h < a.heads; ++h) {
    const float sink = a.sinks ? a.sinks[h] * kLog2E : 0.0F;
    float dsink = 0;
    over_query_blocks(z.T, a.window, [&](const Block& block) {
      const float *const peak = a.peak + h * z.T + block.query, *const share = a.share + h * z.T + block.query;
      copy_rows(a.q.data + h * a.q.head + block.query * a.q.time, a.q.time, block.rows, z.C, query);
      copy_rows(dy.data + h * dy.head + block.query * dy.time, dy.time, block.rows, z.C, dout);
      score_block(block, query, key_columns, z.C, s, z.stride());
      score_block(block, dout, value_columns, z.C, dp, z.stride());
      for (Int i = 0; i < block.rows; ++i) {
        const float inner = gradient_row(s + i * z.stride(), dp + i * z.stride(), block.columns, block.seen(i), peak[i],
                                         share[i], factor, a.scale);
        if (a.sinks) dsink -= __builtin_exp2f(sink - peak[i]) * share[i] * inner;
      }
      add_to_keys(block, s, z, dout, dv_sums);
      add_to_keys(block, dp, z, query, dk_sums);
      weighted_rows(block, dp, z, key_rows, nullptr, dq.data + h * dq.head + block.query * dq.time, dq.time);
    });
    if (a.sinks) dsinks[h] = dsink;
  }
  write_keys(z, dk_sums, dk);
  write_keys(z, dv_sums, dv);
}

Int scratch_bytes(Int length, Int C) {
  const Int depth = round_up(length, 32);
  return 4 * (5 * depth * C + 64 * C + 64 * (depth + 16));
}

constexpr TileAttentionKernels<float> kAttentionKernels = {scratch_bytes, forward, backward};

}  // namespace

const TileAttentionKernels<float>* avx512_attention_kernels() { return &kAttentionKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const TileAttentionKernels<float>* avx512_attention_kernels() { return nullptr; }

}  // namespace equisweep

#endif
