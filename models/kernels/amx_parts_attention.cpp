// Compiled for machines with AMX alone; see amx_parts.inc. Keys and values are split and packed once for all queries. The
// sums of the gradients of keys and values are kept transposed, [C, T], in blocks of 16 x 32: then P and dS, which change
// with every block of queries, need no transposition, and Q and dY, which are narrower, do.
#include "models/kernels/tile_attention.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/amx_parts.inc"
#include "models/kernels/attention_blocks.inc"

namespace equisweep {
namespace {

/// Elements of strips of `columns` columns of B, or rows of A, over `depth` numbers k; the two can change places.
constexpr Int in_parts(Int depth, Int columns) { return 3 * depth * columns; }

/// Strips of the columns of X^T: [C, depth], X [T, C].
void pack_columns(const Sizes& z, const HeadRows<const float>& x, Bf16* strips) {
  for (Int t = 0; t < z.depth; t += 16)
    strip_of_rows<true>(x.data + t * x.time, x.time, z.T - t, z.C, strips + in_parts(z.C, t));
}
/// Strips of the columns of X [depth, C].
void pack_rows(const Sizes& z, const HeadRows<const float>& x, Bf16* strips) {
  for (Int c = 0; c < z.C; c += 32)
    strip_of_columns<false, 2>(x.data + c, x.time, z.T, strips + in_parts(z.depth, c), in_parts(z.depth, 16));
}
/// Two strips of A, of 32 rows of which `rows` exist.
void split_rows(const Rows<const float>& x, Int rows, Int C, Bf16* strips) {
  for (Int m = 0; m < 32; m += 16) strip_of_rows(x.data + m * x.stride, x.stride, rows - m, C, strips + in_parts(C, m));
}

/// 32 columns of rows i and i + 16 of a matrix.
struct Square {
  __m512 first[2], second[2];  ///< the halves of row i and of row i + 16

  /// To row i of the two tiles of A.
  __attribute__((always_inline)) void put_rows(Bf16* low, Bf16* high, Int i) const {
    put_parts(first[0], first[1], low, i);
    put_parts(second[0], second[1], high, i);
  }
  /// To row i of the two tiles of B.
  __attribute__((always_inline)) void put_columns(Bf16* left, Bf16* right, Int i) const {
    put_parts(first[0], second[0], left, i);
    put_parts(first[1], second[1], right, i);
  }
};

/// Strips of A of X [32, C], of which `rows` rows exist, and those of X^T.
void split_both(const Rows<const float>& x, Int rows, Int C, Bf16* strips, Bf16* turned) {
  for (Int c = 0; c < C; c += 32) {
    Bf16 *const tiles = strips + in_parts(c, 16), *const left = turned + in_parts(32, c), *const right = left + kParts;
    for (Int i = 0; i < 16; ++i) {
      const float *const a = x.data + i * x.stride + c, *const b = a + 16 * x.stride;
      const Square square = {{load_or_zero(a, i < rows), load_or_zero(a + 16, i < rows)},
                             {load_or_zero(b, i + 16 < rows), load_or_zero(b + 16, i + 16 < rows)}};
      square.put_rows(tiles, tiles + in_parts(C, 16), i);
      square.put_columns(left, right, i);
    }
    turn_parts(left);
    turn_parts(right);
  }
}

/// scores [32, columns] <- X Y^T for the keys of a block, rows that do not exist zero; strips of split_rows() and
/// pack_columns().
void score_block(const Block& block, const Bf16* x, const Bf16* strips, Int C, float* scores, Int stride) {
  for (Int n = 0; n < block.columns; n += 32) {
    for (Int m = 0; m < 32; m += 16) {
      multiply_parts(x + in_parts(C, m), strips + in_parts(C, block.key + n), in_parts(C, 16), C, scores + m * stride + n,
                     stride, false);
    }
  }
}

/// y [rows, C] <- share_i (P X)_i; two strips of P [32, depth], strips of pack_rows(); share null: 1.
void weighted_rows(const Block& block, const Bf16* p, const Sizes& z, const Bf16* strips, const float* share,
                   const Rows<float>& y) {
  alignas(64) float sums[32 * 32];
  for (Int n = 0; n < z.C; n += 32) {
    for (Int k = 0; k < block.columns; k += kPartsDepth) {
      const Int K = block.columns - k < kPartsDepth ? block.columns - k : kPartsDepth;
      for (Int m = 0; m < block.rows; m += 16) {
        multiply_parts(p + in_parts(z.depth, m) + in_parts(k, 16),
                       strips + in_parts(z.depth, n) + in_parts(block.key + k, 16), in_parts(z.depth, 16), K, sums + 32 * m,
                       32, k > 0);
      }
    }
    for (Int i = 0; i < block.rows; ++i) {
      const __m512 by = _mm512_set1_ps(share ? share[i] : 1.0F);
      _mm512_storeu_ps(y.data + i * y.stride + n, _mm512_mul_ps(_mm512_load_ps(sums + 32 * i), by));
      _mm512_storeu_ps(y.data + i * y.stride + n + 16, _mm512_mul_ps(_mm512_load_ps(sums + 32 * i + 16), by));
    }
  }
}

/// Z^T += X^T P for the keys of a block: strips of X^T [C, 32] and of P [32, columns].
void add_to_keys(const Block& block, const Bf16* p, const Sizes& z, const Bf16* turned, float* sums_of_keys) {
  for (Int n = 0; n < block.columns; n += 32) {
    for (Int m = 0; m < z.C; m += 16) {
      float* const c = sums_of_keys + m * z.depth + 16 * (block.key + n);
      multiply_parts(turned + in_parts(32, m), p + in_parts(32, n), in_parts(32, 16), 32, c, 32, true);
    }
  }
}

void write_keys(const Sizes& z, const float* sums_of_keys, const HeadRows<float>& out) {
  for (Int m = 0; m < z.C; m += 16)
    for (Int t = 0; t < z.T; t += 16) {
      __m512i r[16];
      for (Int i = 0; i < 16; ++i)
        r[i] = _mm512_load_si512(sums_of_keys + m * z.depth + 16 * (t / 32 * 32) + 32 * i + t % 32);
      transpose(r);
      for (Int i = 0; i < 16 && t + i < z.T; ++i) _mm512_storeu_si512(out.data + (t + i) * out.time + m, r[i]);
    }
}

struct Forward {
  Sizes z;
  Bf16 *keys, *values, *query, *p;
  float* s;
  TileRegisters in_use;

  Forward(const TileAttention<float>& a, Memory memory)
      : z(a.length, a.C),
        keys(memory.take<Bf16>(in_parts(z.depth, z.C))),
        values(memory.take<Bf16>(in_parts(z.depth, z.C))),
        query(memory.take<Bf16>(in_parts(32, z.C))),
        p(memory.take<Bf16>(in_parts(32, z.depth))),
        s(memory.take<float>(z.score_elements())) {
    pack_columns(z, a.k, keys);
    pack_rows(z, a.v, values);
  }
  void scores(const Block& block, const Rows<const float>& q) {
    split_rows(q, block.rows, z.C, query);
    finish_writes();
    score_block(block, query, keys, z.C, s, z.stride());
  }
  void put(Int i, Int j, __m512 low, __m512 high) {
    put_parts(low, high, p + in_parts(z.depth, i / 16 * 16) + in_parts(j, 16), i % 16);
  }
  void write(const Block& block, const float* share, const Rows<float>& y) {
    finish_writes();
    weighted_rows(block, p, z, values, share, y);
  }
};

struct Backward {
  static constexpr Int kApart = 16;  // a tile of B holds pairs of such rows
  Sizes z;
  Bf16 *key_columns, *value_columns, *key_rows, *query, *dout, *query_turned, *dout_turned, *p, *ds, *ds_rows;
  float *dk_sums, *dv_sums, *s, *dp;
  TileRegisters in_use;

  Backward(const TileAttention<float>& a, Memory memory)
      : z(a.length, a.C),
        key_columns(memory.take<Bf16>(in_parts(z.depth, z.C))),
        value_columns(memory.take<Bf16>(in_parts(z.depth, z.C))),
        key_rows(memory.take<Bf16>(in_parts(z.depth, z.C))),
        query(memory.take<Bf16>(in_parts(32, z.C))),
        dout(memory.take<Bf16>(in_parts(32, z.C))),
        query_turned(memory.take<Bf16>(in_parts(32, z.C))),
        dout_turned(memory.take<Bf16>(in_parts(32, z.C))),
        p(memory.take<Bf16>(in_parts(32, z.depth))),
        ds(memory.take<Bf16>(in_parts(32, z.depth))),
        ds_rows(memory.take<Bf16>(in_parts(32, z.depth))),
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
  void scores(const Block& block, const Rows<const float>& q, const Rows<const float>& dy) {
    split_both(q, block.rows, z.C, query, query_turned);
    split_both(dy, block.rows, z.C, dout, dout_turned);
    finish_writes();
    score_block(block, query, key_columns, z.C, s, z.stride());
    score_block(block, dout, value_columns, z.C, dp, z.stride());
  }
  void put_p(Int i, Int j, const Columns32<kApart>& x) {
    const Square square = {{x.half[0][0], x.half[0][1]}, {x.half[1][0], x.half[1][1]}};
    square.put_columns(p + in_parts(32, j), p + in_parts(32, j + 16), i);
  }
  void put_ds(Int i, Int j, const Columns32<kApart>& x) {
    const Square square = {{x.half[0][0], x.half[0][1]}, {x.half[1][0], x.half[1][1]}};
    square.put_columns(ds + in_parts(32, j), ds + in_parts(32, j + 16), i);
    square.put_rows(ds_rows + in_parts(j, 16), ds_rows + in_parts(z.depth, 16) + in_parts(j, 16), i);
  }
  void add(const Block& block, const Rows<const float>&, const Rows<const float>&) {
    finish_writes();
    add_to_keys(block, p, z, dout_turned, dv_sums);
    add_to_keys(block, ds, z, query_turned, dk_sums);
  }
  void write(const Block& block, const Rows<float>& dq) { weighted_rows(block, ds_rows, z, key_rows, nullptr, dq); }
  void finish(const HeadRows<float>& dk, const HeadRows<float>& dv) {
    write_keys(z, dk_sums, dk);
    write_keys(z, dv_sums, dv);
  }
};

Int scratch_bytes(Int length, Int C) {
  const Sizes z(length, C);
  return 2 * (3 * in_parts(z.depth, C) + 4 * in_parts(32, C) + 3 * in_parts(32, z.depth)) +
         4 * (2 * z.depth * C + 2 * z.score_elements());
}

constexpr TileAttentionKernels<float> kAttentionKernels = {scratch_bytes, attention_forward<Forward, float>,
                                                           attention_backward<Backward, float>};

}  // namespace

const TileAttentionKernels<float>* amx_parts_attention_kernels() { return &kAttentionKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const TileAttentionKernels<float>* amx_parts_attention_kernels() { return nullptr; }

}  // namespace equisweep

#endif
