// Compiled for machines with AVX-512 alone; see avx512.inc. Keys and values are packed once for all queries.
#include "models/kernels/tile_attention.h"

#if defined(__AVX512F__) && defined(__AVX512BW__)

#include "models/kernels/attention_blocks.inc"

namespace equisweep {
namespace {

/// X^T [C, depth] in pieces of 32 columns, X [T, C].
void pack_columns(const Sizes& z, const HeadRows<const float>& x, float* panels) {
  for (Int t = 0; t < z.depth; t += 16)
    for (Int c = 0; c < z.C; c += 16)
      transpose_16(x.data + t * x.time + c, x.time, z.T - t, panels + t / 32 * 32 * z.C + 32 * c + t % 32, 32);
}
/// X [depth, C] in pieces of 32 columns.
void pack_rows(const Sizes& z, const HeadRows<const float>& x, float* panels) {
  for (Int c = 0; c < z.C; c += 16)
    for (Int t = 0; t < z.depth; ++t)
      _mm512_storeu_ps(panels + c / 32 * 32 * z.depth + 32 * t + c % 32,
                       t < z.T ? _mm512_loadu_ps(x.data + t * x.time + c) : _mm512_setzero_ps());
}

/// out [32, C] <- the rows of a block, zero where there are fewer.
void copy_rows(const Rows<const float>& x, Int rows, Int C, float* out) {
  for (Int i = 0; i < 32; ++i)
    for (Int c = 0; c < C; c += 16)
      _mm512_store_ps(out + i * C + c, i < rows ? _mm512_loadu_ps(x.data + i * x.stride + c) : _mm512_setzero_ps());
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
void weighted_rows(const Block& block, const float* p, const Sizes& z, const float* panels, const float* share,
                   const Rows<float>& y) {
  for (Int n = 0; n < z.C; n += kColumns) {
    const float* const b = panels + n * z.depth + 32 * block.key;
    for (Int m = 0; m < block.rows; m += kRows) {
      Sums sums = zero_sums();
      add_terms(sums, p + m * z.stride(), z.stride(), 1, b, b + 16, 32, block.columns);
#pragma GCC unroll 8
      for (Int i = 0; i < kRows; ++i) {
        if (m + i >= block.rows) break;
        const __m512 by = _mm512_set1_ps(share ? share[m + i] : 1.0F);
        _mm512_storeu_ps(y.data + (m + i) * y.stride + n, _mm512_mul_ps(sums.low[i], by));
        _mm512_storeu_ps(y.data + (m + i) * y.stride + n + 16, _mm512_mul_ps(sums.high[i], by));
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

struct Forward {
  Sizes z;
  float *keys, *values, *rows, *s;

  Forward(const TileAttention<float>& a, Memory memory)
      : z(a.length, a.C),
        keys(memory.take<float>(z.depth * z.C)),
        values(memory.take<float>(z.depth * z.C)),
        rows(memory.take<float>(32 * z.C)),
        s(memory.take<float>(z.score_elements())) {
    pack_columns(z, a.k, keys);
    pack_rows(z, a.v, values);
  }
  void scores(const Block& block, const Rows<const float>& q) {
    copy_rows(q, block.rows, z.C, rows);
    score_block(block, rows, keys, z.C, s, z.stride());
  }
  void put(Int i, Int j, __m512 low, __m512 high) {
    _mm512_store_ps(s + i * z.stride() + j, low);
    _mm512_store_ps(s + i * z.stride() + j + 16, high);
  }
  void write(const Block& block, const float* share, const Rows<float>& y) { weighted_rows(block, s, z, values, share, y); }
};

struct Backward {
  static constexpr Int kApart = 0;
  Sizes z;
  float *key_columns, *value_columns, *key_rows, *dk_sums, *dv_sums, *query, *dout, *s, *dp;

  Backward(const TileAttention<float>& a, Memory memory)
      : z(a.length, a.C),
        key_columns(memory.take<float>(z.depth * z.C)),
        value_columns(memory.take<float>(z.depth * z.C)),
        key_rows(memory.take<float>(z.depth * z.C)),
        dk_sums(memory.take<float>(z.depth * z.C)),
        dv_sums(memory.take<float>(z.depth * z.C)),
        query(memory.take<float>(32 * z.C)),
        dout(memory.take<float>(32 * z.C)),
        s(memory.take<float>(z.score_elements())),
        dp(memory.take<float>(z.score_elements())) {
    pack_columns(z, a.k, key_columns);
    pack_columns(z, a.v, value_columns);
    pack_rows(z, a.k, key_rows);
    fill_zero(dk_sums, z.depth * z.C);
    fill_zero(dv_sums, z.depth * z.C);
  }
  void scores(const Block& block, const Rows<const float>& q, const Rows<const float>& dy) {
    copy_rows(q, block.rows, z.C, query);
    copy_rows(dy, block.rows, z.C, dout);
    score_block(block, query, key_columns, z.C, s, z.stride());
    score_block(block, dout, value_columns, z.C, dp, z.stride());
  }
  void put_p(Int, Int, const Columns32<0>&) {}  // s holds it
  void put_ds(Int i, Int j, const Columns32<0>& ds) {
    _mm512_store_ps(dp + i * z.stride() + j, ds.half[0][0]);
    _mm512_store_ps(dp + i * z.stride() + j + 16, ds.half[0][1]);
  }
  void add(const Block& block, const Rows<const float>&, const Rows<const float>&) {
    add_to_keys(block, s, z, dout, dv_sums);
    add_to_keys(block, dp, z, query, dk_sums);
  }
  void write(const Block& block, const Rows<float>& dq) { weighted_rows(block, dp, z, key_rows, nullptr, dq); }
  void finish(const HeadRows<float>& dk, const HeadRows<float>& dv) {
    write_keys(z, dk_sums, dk);
    write_keys(z, dv_sums, dv);
  }
};

Int scratch_bytes(Int length, Int C) {
  const Sizes z(length, C);
  return 4 * (5 * z.depth * C + 64 * C + 2 * z.score_elements());
}

constexpr TileAttentionKernels<float> kAttentionKernels = {scratch_bytes, attention_forward<Forward, float>,
                                                           attention_backward<Backward, float>};

}  // namespace

const TileAttentionKernels<float>* avx512_attention_kernels() { return &kAttentionKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const TileAttentionKernels<float>* avx512_attention_kernels() { return nullptr; }

}  // namespace equisweep

#endif
