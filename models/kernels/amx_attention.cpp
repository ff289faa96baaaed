// Compiled for machines with AMX alone; see amx_tiles.inc. Keys and values are packed once for all queries.
#include "models/kernels/tile_attention.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/amx_tiles.inc"
#include "models/kernels/attention_blocks.inc"

namespace equisweep {
namespace {

/// Of the rows of P and dS, as Sizes::stride() is of those of scores.
Int narrow_stride(const Sizes& z) { return z.depth + 32; }

/// Panels of the columns of X^T: [C, depth], X [T, C].
void pack_columns(const Sizes& z, const HeadRows<const Bf16>& x, Bf16* panels) {
  for (Int t = 0; t < z.depth; t += 16)
    pack_panel(x.data + t * x.time, x.time, true, z.C, z.C, z.T - t < 16 ? (z.T - t > 0 ? z.T - t : 0) : 16,
               panels + t * z.C);
}
/// Panels of X [depth, C].
void pack_rows(const Sizes& z, const HeadRows<const Bf16>& x, Bf16* panels) {
  for (Int c = 0; c < z.C; c += 16) pack_panel(x.data + c, x.time, false, z.depth, z.T, 16, panels + c * z.depth);
}

/// 32 rows, the last of them zero in `spare` where fewer exist.
Rows<const Bf16> whole_rows(const Rows<const Bf16>& x, Int rows, Int C, Bf16* spare) {
  if (rows == 32) return x;
  for (Int i = 0; i < 32; ++i)
    for (Int c = 0; c < C; c += 32) _mm512_storeu_si512(spare + i * C + c, load_row(x.data + c, x.stride, i, rows));
  return {spare, C};
}

/// scores [32, columns] <- X Y^T for the keys of a block; panels of pack_columns().
void score_block(const Block& block, const Rows<const Bf16>& x, const Bf16* panels, Int C, float* scores, Int stride) {
  for (Int n = 0; n < block.columns; n += 32) {
    for (Int m = 0; m < 32; m += 16) {
      zero_pair();
      add_pair(x.data + m * x.stride, x.stride, 32, panels + (block.key + n) * C, 16 * C, C);
      store_pair(scores + m * stride + n, stride);
    }
  }
}

/// y [rows, C] <- share_i (P X)_i; P [32, columns], panels of pack_rows(); share null: 1.
void weighted_rows(const Block& block, const Bf16* p, const Sizes& z, const Bf16* panels, const float* share,
                   const Rows<Bf16>& y) {
  alignas(64) float sums[32 * 32];
  const Int stride = narrow_stride(z);
  for (Int n = 0; n < z.C; n += 32) {
    for (Int m = 0; m < block.rows; m += 16) {
      zero_pair();
      add_pair(p + m * stride, stride, 32, panels + n * z.depth + 16 * block.key, 16 * z.depth, block.columns);
      store_pair(sums + 32 * m, 32);
    }
    for (Int i = 0; i < block.rows; ++i) {
      const __m512 by = _mm512_set1_ps(share ? share[i] : 1.0F);
      const __m512 low = _mm512_mul_ps(_mm512_load_ps(sums + 32 * i), by),
                   high = _mm512_mul_ps(_mm512_load_ps(sums + 32 * i + 16), by);
      _mm512_storeu_si512(y.data + i * y.stride + n, round_both(low, high));
    }
  }
}

/// Z^T += X^T P for the keys of a block: X [rows, C], P [32, columns] in panels; Z^T in blocks of 32 x 32 elements.
void add_to_keys(const Block& block, const Bf16* p, const Sizes& z, const Rows<const Bf16>& x, Bf16* turned,
                 float* sums_of_keys) {
  for (Int m = 0; m < z.C; m += 32) {
    transpose_32_columns(x.data + m, x.stride, block.rows, turned, turned + 512);
    finish_writes();
    for (Int n = 0; n < block.columns; n += 32) {
      float* const c = sums_of_keys + m * z.depth + 32 * (block.key + n);
      for (Int part = 0; part < 2; ++part) {
        load_pair(c + 512 * part, 32);
        add_pair(turned + 512 * part, 32, 512, p + n * 32, 512, 32);
        store_pair(c + 512 * part, 32);
      }
    }
  }
}

/// z [T, C] <- the sums of add_to_keys(), whose blocks hold 16 even columns of Z, then the odd ones.
void write_keys(const Sizes& z, const float* sums_of_keys, const HeadRows<Bf16>& out) {
  for (Int m = 0; m < z.C; m += 32) {
    for (Int t = 0; t < z.T; t += 16) {
      const float* const c = sums_of_keys + m * z.depth + t / 32 * 1024 + t % 32;
      __m512i even[16], odd[16];
      for (Int i = 0; i < 16; ++i) even[i] = _mm512_load_si512(c + 32 * i), odd[i] = _mm512_load_si512(c + 512 + 32 * i);
      transpose(even);
      transpose(odd);
      for (Int i = 0; i < 16 && t + i < z.T; ++i)
        _mm512_storeu_si512(out.data + (t + i) * out.time + m,
                            round_pairs(_mm512_castsi512_ps(even[i]), _mm512_castsi512_ps(odd[i])));
    }
  }
}

struct Forward {
  Sizes z;
  Bf16 *keys, *values, *p, *spare;
  float* s;
  TileRegisters in_use;

  Forward(const TileAttention<Bf16>& a, Memory memory)
      : z(a.length, a.C),
        keys(memory.take<Bf16>(z.depth * z.C)),
        values(memory.take<Bf16>(z.depth * z.C)),
        p(memory.take<Bf16>(32 * narrow_stride(z))),
        spare(memory.take<Bf16>(32 * z.C)),
        s(memory.take<float>(z.score_elements())) {
    pack_columns(z, a.k, keys);
    pack_rows(z, a.v, values);
  }
  void scores(const Block& block, const Rows<const Bf16>& q) {
    const Rows<const Bf16> rows = whole_rows(q, block.rows, z.C, spare);
    finish_writes();
    score_block(block, rows, keys, z.C, s, z.stride());
  }
  void put(Int i, Int j, __m512 low, __m512 high) {
    _mm512_storeu_si512(p + i * narrow_stride(z) + j, round_both(low, high));
  }
  void write(const Block& block, const float* share, const Rows<Bf16>& y) {
    finish_writes();
    weighted_rows(block, p, z, values, share, y);
  }
};

struct Backward {
  static constexpr Int kApart = 1;  // a panel holds pairs of such rows
  Sizes z;
  Bf16 *key_columns, *value_columns, *key_rows, *p_pairs, *ds_pairs, *ds, *spare, *spare_dy, *turned;
  float *dk_sums, *dv_sums, *s, *dp;
  TileRegisters in_use;

  Backward(const TileAttention<Bf16>& a, Memory memory)
      : z(a.length, a.C),
        key_columns(memory.take<Bf16>(z.depth * z.C)),
        value_columns(memory.take<Bf16>(z.depth * z.C)),
        key_rows(memory.take<Bf16>(z.depth * z.C)),
        p_pairs(memory.take<Bf16>(32 * z.depth)),
        ds_pairs(memory.take<Bf16>(32 * z.depth)),
        ds(memory.take<Bf16>(32 * narrow_stride(z))),
        spare(memory.take<Bf16>(32 * z.C)),
        spare_dy(memory.take<Bf16>(32 * z.C)),
        turned(memory.take<Bf16>(1024)),
        dk_sums(memory.take<float>(z.depth * z.C)),
        dv_sums(memory.take<float>(z.depth * z.C)),
        s(memory.take<float>(z.score_elements())),
        dp(memory.take<float>(z.score_elements())) {
    pack_columns(z, a.k, key_columns);
    pack_columns(z, a.v, value_columns);
    pack_rows(z, a.k, key_rows);
    fill_zero(dk_sums, z.depth * z.C);
    fill_zero(dv_sums, z.depth * z.C);
  }
  void scores(const Block& block, const Rows<const Bf16>& q, const Rows<const Bf16>& dy) {
    const Rows<const Bf16> queries = whole_rows(q, block.rows, z.C, spare),
                           douts = whole_rows(dy, block.rows, z.C, spare_dy);
    finish_writes();
    score_block(block, queries, key_columns, z.C, s, z.stride());
    score_block(block, douts, value_columns, z.C, dp, z.stride());
  }
  void put_p(Int i, Int j, const Columns32<kApart>& x) {
    for (Int half = 0; half < 2; ++half)
      _mm512_storeu_si512(p_pairs + 32 * (j + 16 * half) + 16 * i, round_pairs(x.half[0][half], x.half[1][half]));
  }
  void put_ds(Int i, Int j, const Columns32<kApart>& x) {
    const __m512i first = round_both(x.half[0][0], x.half[0][1]), second = round_both(x.half[1][0], x.half[1][1]);
    _mm512_storeu_si512(ds + i * narrow_stride(z) + j, first);
    _mm512_storeu_si512(ds + (i + 1) * narrow_stride(z) + j, second);
    const auto pairs_of = [](__m256i a, __m256i b) {
      return _mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
    };
    _mm512_storeu_si512(ds_pairs + 32 * j + 16 * i, pairs_of(_mm512_castsi512_si256(first), _mm512_castsi512_si256(second)));
    _mm512_storeu_si512(ds_pairs + 32 * (j + 16) + 16 * i,
                        pairs_of(_mm512_extracti64x4_epi64(first, 1), _mm512_extracti64x4_epi64(second, 1)));
  }
  void add(const Block& block, const Rows<const Bf16>& q, const Rows<const Bf16>& dy) {
    add_to_keys(block, p_pairs, z, dy, turned, dv_sums);
    add_to_keys(block, ds_pairs, z, q, turned, dk_sums);
  }
  void write(const Block& block, const Rows<Bf16>& dq) { weighted_rows(block, ds, z, key_rows, nullptr, dq); }
  void finish(const HeadRows<Bf16>& dk, const HeadRows<Bf16>& dv) {
    write_keys(z, dk_sums, dk);
    write_keys(z, dv_sums, dv);
  }
};

Int scratch_bytes(Int length, Int C) {
  const Sizes z(length, C);
  return 2 * (3 * z.depth * C + 64 * z.depth + 32 * narrow_stride(z) + 64 * C + 1024) +
         4 * (2 * z.depth * C + 2 * z.score_elements());
}

constexpr TileAttentionKernels<Bf16> kAttentionKernels = {scratch_bytes, attention_forward<Forward, Bf16>,
                                                          attention_backward<Backward, Bf16>};

}  // namespace

const TileAttentionKernels<Bf16>* amx_attention_kernels() { return &kAttentionKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const TileAttentionKernels<Bf16>* amx_attention_kernels() { return nullptr; }

}  // namespace equisweep

#endif
