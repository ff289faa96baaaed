// Compiled for machines with AMX alone; see amx_tiles.inc. Keys and values are packed once for all queries.
#include "models/kernels/tile_attention.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/amx_tiles.inc"
#include "models/kernels/attention_blocks.inc"

namespace equisweep {
namespace {

struct Sizes {
  Int T, C, depth;  ///< depth: T rounded up to 32

  explicit Sizes(const TileAttention<Bf16>& a) : T(a.length), C(a.C), depth(round_up(a.length, 32)) {}
  // No power of two, so that the rows of a tile do not share one place in the cache.
  Int score_stride() const { return depth + 16; }
  Int narrow_stride() const { return depth + 32; }

  /// Panels of the columns of X^T: [C, depth], X [T, C].
  void pack_columns(const HeadRows<const Bf16>& x, Bf16* panels) const {
    for (Int t = 0; t < depth; t += 16)
      pack_panel(x.data + t * x.time, x.time, true, C, C, T - t < 16 ? (T - t > 0 ? T - t : 0) : 16, panels + t * C);
  }
  /// Panels of X [depth, C].
  void pack_rows(const HeadRows<const Bf16>& x, Bf16* panels) const {
    for (Int c = 0; c < C; c += 16) pack_panel(x.data + c, x.time, false, depth, T, 16, panels + c * depth);
  }
};

struct Rows32 {
  const Bf16* data;
  Int stride;
};
/// 32 rows, the last of them zero in `spare` where fewer exist.
inline Rows32 whole_rows(const Bf16* x, Int stride, Int rows, Int C, Bf16* spare) {
  if (rows == 32) return {x, stride};
  for (Int i = 0; i < 32; ++i)
    for (Int c = 0; c < C; c += 32) _mm512_storeu_si512(spare + i * C + c, load_row(x + c, stride, i, rows));
  return {spare, C};
}

/// scores [32, columns] <- X Y^T for the keys of a block; panels of pack_columns().
inline void score_tiles(const Block& block, const Rows32& x, const Bf16* panels, Int C, float* scores, Int stride) {
  for (Int n = 0; n < block.columns; n += 32) {
    zero_tiles();
    add_tiles(x.data, x.stride, 16 * x.stride, 32, panels + (block.key + n) * C, 16 * C, C);
    store_tiles(scores + n, stride, 16, 16 * stride);
  }
}

/// y [rows, C] <- share_i (P X)_i; P [32, columns], panels of pack_rows().
inline void weighted_rows(const Block& block, const Bf16* p, const Sizes& z, const Bf16* panels, const float* share, Bf16* y,
                          Int stride) {
  alignas(64) float c[32 * 32];
  for (Int n = 0; n < z.C; n += 32) {
    zero_tiles();
    add_tiles(p, z.narrow_stride(), 16 * z.narrow_stride(), 32, panels + n * z.depth + 16 * block.key, 16 * z.depth,
              block.columns);
    store_tiles(c, 32, 16, 512);
    for (Int i = 0; i < block.rows; ++i) {
      const __m512 by = _mm512_set1_ps(share ? share[i] : 1.0F);
      const __m512 low = _mm512_mul_ps(_mm512_load_ps(c + 32 * i), by),
                   high = _mm512_mul_ps(_mm512_load_ps(c + 32 * i + 16), by);
      _mm512_storeu_si512(y + i * stride + n, round_both(low, high));
    }
  }
}

void forward(const TileAttention<Bf16>& a, const HeadRows<Bf16>& y, void* scratch) {
  const Sizes z(a);
  Memory memory{static_cast<char*>(scratch)};
  Bf16 *const keys = memory.take<Bf16>(z.depth * z.C), *const values = memory.take<Bf16>(z.depth * z.C),
              *const p = memory.take<Bf16>(32 * z.narrow_stride()), *const spare = memory.take<Bf16>(32 * z.C);
  float* const scores = memory.take<float>(32 * z.score_stride());
  z.pack_columns(a.k, keys);
  z.pack_rows(a.v, values);
  const TileRegisters in_use;
  const float factor = a.scale * kLog2E;
  for (Int h = 0; h < a.heads; ++h) {
    const float sink = a.sinks ? a.sinks[h] * kLog2E : 0.0F;
    over_query_blocks(z.T, a.window, [&](const Block& block) {
      float *const peak = a.peak + h * z.T + block.query, *const share = a.share + h * z.T + block.query;
      const Bf16* const query = a.q.data + h * a.q.head + block.query * a.q.time;
      const Rows32 rows = whole_rows(query, a.q.time, block.rows, z.C, spare);
      finish_writes();
      score_tiles(block, rows, keys, z.C, scores, z.score_stride());
      for (Int i = 0; i < block.rows; ++i)
        softmax_row(scores + i * z.score_stride(), block.columns, block.seen(i), factor, a.sinks ? &sink : nullptr, peak[i],
                    share[i], [&](Int j, __m512 e) {
                      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + i * z.narrow_stride() + j),
                                          __m256i(_mm512_cvtneps_pbh(e)));
                    });
      for (Int i = block.rows; i < 32; ++i)
        for (Int j = 0; j < block.columns; j += 32)
          _mm512_storeu_si512(p + i * z.narrow_stride() + j, _mm512_setzero_si512());
      finish_writes();
      weighted_rows(block, p, z, values, share, y.data + h * y.head + block.query * y.time, y.time);
    });
  }
}

/// Two rows of scores and of dp become p and the gradient of the scores; both also as pairs of the two rows, in panels.
struct TwoRows {
  float *s, *dp;  ///< the second row `stride` elements further
  Int stride, columns;
  Bf16* ds;  ///< and `narrow_stride`
  Int narrow_stride;
  Bf16 *p_pairs, *ds_pairs;  ///< the pairs of the next 16 columns 512 elements further

  /// Returns sum(p dp) of both rows.
  void run(const Block::Seen seen[2], const float peak[2], const float share[2], float factor, float scale,
           float inner[2]) const {
    const __m512 by = _mm512_set1_ps(factor);
    const __m512 peak0 = _mm512_set1_ps(peak[0]), peak1 = _mm512_set1_ps(peak[1]);
    const __m512 share0 = _mm512_set1_ps(share[0]), share1 = _mm512_set1_ps(share[1]);
    __m512 sum0 = _mm512_setzero_ps(), sum1 = _mm512_setzero_ps();
    for (Int j = 0; j < columns; j += 16) {
      float *const s0 = s + j, *const s1 = s0 + stride;
      const __m512 p0 = _mm512_maskz_mul_ps(seen[0].at(j), exp2_of(_mm512_fmsub_ps(_mm512_load_ps(s0), by, peak0)), share0);
      const __m512 p1 = _mm512_maskz_mul_ps(seen[1].at(j), exp2_of(_mm512_fmsub_ps(_mm512_load_ps(s1), by, peak1)), share1);
      sum0 = _mm512_fmadd_ps(p0, _mm512_load_ps(dp + j), sum0);
      sum1 = _mm512_fmadd_ps(p1, _mm512_load_ps(dp + stride + j), sum1);
      _mm512_store_ps(s0, p0);
      _mm512_store_ps(s1, p1);
      _mm512_storeu_si512(p_pairs + j * 32, round_pairs(p0, p1));
    }
    inner[0] = _mm512_reduce_add_ps(sum0), inner[1] = _mm512_reduce_add_ps(sum1);
    const __m512 inner0 = _mm512_set1_ps(inner[0]), inner1 = _mm512_set1_ps(inner[1]), scaled = _mm512_set1_ps(scale);
    for (Int j = 0; j < columns; j += 16) {
      const __m512 d0 = _mm512_sub_ps(_mm512_load_ps(dp + j), inner0),
                   d1 = _mm512_sub_ps(_mm512_load_ps(dp + stride + j), inner1);
      const __m256i ds0 = __m256i(_mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_mul_ps(_mm512_load_ps(s + j), d0), scaled)));
      const __m256i ds1 =
          __m256i(_mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_mul_ps(_mm512_load_ps(s + stride + j), d1), scaled)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(ds + j), ds0);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(ds + narrow_stride + j), ds1);
      _mm512_storeu_si512(ds_pairs + j * 32,
                          _mm512_or_si512(_mm512_cvtepu16_epi32(ds0), _mm512_slli_epi32(_mm512_cvtepu16_epi32(ds1), 16)));
    }
  }
};

/// Z^T += X^T P for the keys of a block: X [rows, C], P [32, columns] in panels; Z^T in blocks of 32 x 32 elements.
inline void add_to_keys(const Block& block, const Bf16* x, Int stride, const Sizes& z, const Bf16* panels, Bf16* spare,
                        float* sums) {
  for (Int m = 0; m < z.C; m += 32) {
    transpose_32_columns(x + m, stride, block.rows, spare, spare + 512);
    finish_writes();
    for (Int n = 0; n < block.columns; n += 32) {
      float* const c = sums + (m / 32 * (z.depth / 32) + (block.key + n) / 32) * 1024;
      load_tiles(c, 16, 256, 512);
      add_tiles(spare, 32, 512, 512, panels + n * 32, 512, 32);
      store_tiles(c, 16, 256, 512);
    }
  }
}

/// z [T, C] <- the sums of add_to_keys(), whose tiles hold even columns of Z and odd ones.
void write_keys(const Sizes& z, const float* sums, const HeadRows<Bf16>& out) {
  for (Int m = 0; m < z.C; m += 32) {
    for (Int t = 0; t < z.T; t += 16) {
      const float* const c = sums + (m / 32 * (z.depth / 32) + t / 32) * 1024 + t % 32 / 16 * 256;
      __m512i even[16], odd[16];
      for (Int i = 0; i < 16; ++i) even[i] = _mm512_load_si512(c + 16 * i), odd[i] = _mm512_load_si512(c + 512 + 16 * i);
      transpose(even);
      transpose(odd);
      for (Int i = 0; i < 16 && t + i < z.T; ++i)
        _mm512_storeu_si512(out.data + (t + i) * out.time + m,
                            round_pairs(_mm512_castsi512_ps(even[i]), _mm512_castsi512_ps(odd[i])));
    }
  }
}

void backward(const TileAttention<Bf16>& a, const HeadRows<const Bf16>& dy, const HeadRows<Bf16>& dq,
              const HeadRows<Bf16>& dk, const HeadRows<Bf16>& dv, float* dsinks, void* scratch) {
  const Sizes z(a);
  const Int all = z.depth * z.C, stride = z.score_stride(), narrow = z.narrow_stride();
  Memory memory{static_cast<char*>(scratch)};
  Bf16 *const key_columns = memory.take<Bf16>(all), *const value_columns = memory.take<Bf16>(all),
              *const key_rows = memory.take<Bf16>(all), *const ds = memory.take<Bf16>(32 * narrow),
              *const p_pairs = memory.take<Bf16>(32 * z.depth), *const ds_pairs = memory.take<Bf16>(32 * z.depth),
              *const spare = memory.take<Bf16>(32 * z.C), *const spare_dy = memory.take<Bf16>(32 * z.C),
              *const turned = memory.take<Bf16>(1024);
  float *const s = memory.take<float>(32 * stride), *const dp = memory.take<float>(32 * stride),
               *const dk_sums = memory.take<float>(all), *const dv_sums = memory.take<float>(all);
  z.pack_columns(a.k, key_columns);
  z.pack_columns(a.v, value_columns);
  z.pack_rows(a.k, key_rows);
  for (Int i = 0; i < all; i += 16) {
    _mm512_store_ps(dk_sums + i, _mm512_setzero_ps());
    _mm512_store_ps(dv_sums + i, _mm512_setzero_ps());
  }
  const TileRegisters in_use;
  const float factor = a.scale * kLog2E;
  for (Int h = 0; h < a.heads; ++h) {
    const float sink = a.sinks ? a.sinks[h] * kLog2E : 0.0F;
    float dsink = 0;
    over_query_blocks(z.T, a.window, [&](const Block& block) {
      const float *const peak = a.peak + h * z.T + block.query, *const share = a.share + h * z.T + block.query;
      const Bf16 *const query = a.q.data + h * a.q.head + block.query * a.q.time, *const dout = dy.data + h * dy.head +
                                                                                                block.query * dy.time;
      const Rows32 query_rows = whole_rows(query, a.q.time, block.rows, z.C, spare),
                   dout_rows = whole_rows(dout, dy.time, block.rows, z.C, spare_dy);
      finish_writes();
      score_tiles(block, query_rows, key_columns, z.C, s, stride);
      score_tiles(block, dout_rows, value_columns, z.C, dp, stride);
      for (Int i = 0; i < 32; i += 2) {
        const Block::Seen seen[2] = {block.seen(i), block.seen(i + 1)};
        const bool first = i < block.rows, second = i + 1 < block.rows;
        const float peaks[2] = {first ? peak[i] : 0.0F, second ? peak[i + 1] : 0.0F},
                    shares[2] = {first ? share[i] : 0.0F, second ? share[i + 1] : 0.0F};
        float inner[2];
        TwoRows{s + i * stride,  dp + i * stride, stride,           block.columns,
                ds + i * narrow, narrow,          p_pairs + i * 16, ds_pairs + i * 16}
            .run(seen, peaks, shares, factor, a.scale, inner);
        if (!a.sinks) continue;
        for (int row = 0; row < 2; ++row)
          if (i + row < block.rows) dsink -= __builtin_exp2f(sink - peaks[row]) * shares[row] * inner[row];
      }
      add_to_keys(block, dout, dy.time, z, p_pairs, turned, dv_sums);
      add_to_keys(block, query, a.q.time, z, ds_pairs, turned, dk_sums);
      weighted_rows(block, ds, z, key_rows, nullptr, dq.data + h * dq.head + block.query * dq.time, dq.time);
    });
    if (a.sinks) dsinks[h] = dsink;
  }
  write_keys(z, dk_sums, dk);
  write_keys(z, dv_sums, dv);
}

Int attention_scratch_bytes(Int T, Int C) {
  const Int depth = round_up(T, 32);
  return 2 * (3 * depth * C + 32 * (depth + 32) + 64 * depth + 64 * C + 1024) + 4 * (64 * (depth + 16) + 2 * depth * C) +
         1024;
}

constexpr TileAttentionKernels<Bf16> kAttentionKernels = {attention_scratch_bytes, forward, backward};

}  // namespace

const TileAttentionKernels<Bf16>* amx_attention_kernels() { return &kAttentionKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const TileAttentionKernels<Bf16>* amx_attention_kernels() { return nullptr; }

}  // namespace equisweep

#endif
