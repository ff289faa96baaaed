// The loops of rows.h on bf16 that take the most time, for machines with AVX512-BF16, which round with one instruction what
// the loops of rows.inc round with eight; the others are those of AVX-512. Denormal numbers count as zero where they are
// rounded or squared, as in products.
#include "models/kernels/rows.h"

#if defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/avx512_bf16.inc"
#include "models/kernels/gate_forms.inc"

namespace equisweep {
namespace {

/// 16 elements of which all exist, or the first `count`.
struct Whole {};
struct Part {
  Int count;
  __mmask16 mask() const { return first_of_16(count); }
};

/// f(i, which) for every 16 elements of n.
template <class F>
__attribute__((always_inline)) inline void over_16(Int n, const F& f) {
  Int i = 0;
  for (; i + 16 <= n; i += 16) f(i, Whole{});
  if (i < n) f(i, Part{n - i});
}

inline __m512 load(const Bf16* x, Whole) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x))); }
inline __m512 load(const Bf16* x, Part p) { return widened(_mm256_maskz_loadu_epi16(p.mask(), x)); }
inline __m512 load(const float* x, Whole) { return _mm512_loadu_ps(x); }
inline __m512 load(const float* x, Part p) { return _mm512_maskz_loadu_ps(p.mask(), x); }
inline void store(Bf16* y, __m512 x, Whole) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), __m256i(_mm512_cvtneps_pbh(x)));
}
inline void store(Bf16* y, __m512 x, Part p) { _mm256_mask_storeu_epi16(y, p.mask(), __m256i(_mm512_cvtneps_pbh(x))); }
inline void store(float* y, __m512 x, Whole) { _mm512_storeu_ps(y, x); }
inline void store(float* y, __m512 x, Part p) { _mm512_mask_storeu_ps(y, p.mask(), x); }

inline __m512 all(float x) { return _mm512_set1_ps(x); }

/// 1 / (1 + 2^x) to about one unit in the last place, 2^-126 at least; NaN stays one.
inline __m512 sigmoid_of_power(__m512 x) {
  const __m512 d = all(1) + exp2_of(_mm512_min_ps(all(126), x));
  const __m512 r = _mm512_rcp14_ps(d);
  return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(d, r, all(1)), r);
}

struct VectorRows {
  static float mean_square(const Bf16* x, Int width) {
    __m512 first = _mm512_setzero_ps(), second = first;
    Int i = 0;
    for (; i + 64 <= width; i += 64) {
      const auto a = __m512bh(_mm512_loadu_si512(x + i)), b = __m512bh(_mm512_loadu_si512(x + i + 32));
      first = _mm512_dpbf16_ps(first, a, a);
      second = _mm512_dpbf16_ps(second, b, b);
    }
    for (; i < width; i += 32) {
      const auto a = __m512bh(_mm512_maskz_loadu_epi16(first_of_32(width - i), x + i));
      first = _mm512_dpbf16_ps(first, a, a);
    }
    return _mm512_reduce_add_ps(first + second) / static_cast<float>(width);
  }
  static float norm_factor(const Bf16* x, Int width, float eps) { return 1 / __builtin_sqrtf(mean_square(x, width) + eps); }

  static void norm(const Bf16* x, Int stride, const float* gain, float eps, Bf16* y, float* r, Int rows, Int width) {
    for (Int n = 0; n < rows; ++n, x += stride, y += width) {
      r[n] = norm_factor(x, width, eps);
      const __m512 q = all(r[n]);
      over_16(width, [&](Int i, auto which) { store(y + i, load(x + i, which) * q * load(gain + i, which), which); });
    }
  }

  template <class D>
  static void norm_row_backward(const Bf16* x, float r, const float* gain, const D* dy, Bf16* dx, float* dgain, Int width) {
    const __m512 q = all(r);
    __m512 sum = _mm512_setzero_ps();
    over_16(width, [&](Int i, auto which) {
      const __m512 dz = load(dy + i, which) * load(x + i, which) * q;
      store(dgain + i, load(dgain + i, which) + dz, which);
      sum = _mm512_fmadd_ps(dz, load(gain + i, which), sum);
    });
    const __m512 by = all(r * _mm512_reduce_add_ps(sum) / static_cast<float>(width));
    over_16(width, [&](Int i, auto which) {
      store(dx + i, q * (load(dy + i, which) * load(gain + i, which) - load(x + i, which) * by), which);
    });
  }

  static void norm_backward(const Bf16* x, Int stride, const float* r, const float* gain, const Bf16* dy, Bf16* dx,
                            float* dgain, Int rows, Int width) {
    for (Int n = 0; n < rows; ++n)
      norm_row_backward(x + n * stride, r[n], gain, dy + n * width, dx + n * width, dgain, width);
  }

  static void rotate(const Bf16* x, Int stride, const float* gain, Int width, float eps, const Rotation<float>& rotation,
                     Bf16* y, float* r, Int first, Int rows) {
    const Int heads = rotation.heads, C = rotation.C, half = C / 2;
    const bool of_row = width == heads * C;  // rather than of each head
    for (Int n = first; n < first + rows; ++n) {
      const float* const c = rotation.cos + n % rotation.T * half;
      const float* const s = rotation.sin + n % rotation.T * half;
      if (width > 0 && of_row) r[n] = norm_factor(x + n * stride, width, eps);
      for (Int h = 0; h < heads; ++h) {
        const Bf16* const in = x + n * stride + h * C;
        Bf16* const out = y + (n * heads + h) * C;
        if (width > 0 && !of_row) r[n * heads + h] = norm_factor(in, C, eps);
        const __m512 q = all(width > 0 ? r[of_row ? n : n * heads + h] : 1);
        const float* const g = gain + (of_row ? h * C : 0);
        over_16(half, [&](Int i, auto which) {
          __m512 a = load(in + i, which), b = load(in + i + half, which);
          if (width > 0) a = a * q * load(g + i, which), b = b * q * load(g + i + half, which);
          const __m512 cosine = load(c + i, which), sine = load(s + i, which);
          store(out + i, a * cosine - b * sine, which);
          store(out + i + half, b * cosine + a * sine, which);
        });
      }
    }
  }

  static void rotate_backward(const Bf16* x, Int stride, const float* gain, Int width, const float* r,
                              const Rotation<float>& rotation, const Bf16* dy, Bf16* dx, float* dgain, float* scratch,
                              Int first, Int rows) {
    const Int heads = rotation.heads, C = rotation.C, half = C / 2;
    for (Int n = first; n < first + rows; ++n) {
      const float* const c = rotation.cos + n % rotation.T * half;
      const float* const s = rotation.sin + n % rotation.T * half;
      Bf16* const out = dx + n * heads * C;
      for (Int h = 0; h < heads; ++h) {
        const Bf16* const in = dy + (n * heads + h) * C;
        const auto turn = [&](auto* turned) {
          over_16(half, [&](Int i, auto which) {
            const __m512 a = load(in + i, which), b = load(in + i + half, which);
            const __m512 cosine = load(c + i, which), sine = load(s + i, which);
            store(turned + i, a * cosine + b * sine, which);
            store(turned + i + half, b * cosine - a * sine, which);
          });
        };
        width == 0 ? turn(out + h * C) : turn(scratch + h * C);
      }
      if (width == heads * C) {
        norm_row_backward(x + n * stride, r[n], gain, scratch, out, dgain, width);
      } else if (width > 0) {
        for (Int h = 0; h < heads; ++h)
          norm_row_backward(x + n * stride + h * C, r[n * heads + h], gain, scratch + h * C, out + h * C, dgain, C);
      }
    }
  }

  /// Gate and up of 16 elements.
  struct Both {
    __m512 gate, up;
  };
  template <Int step, class Which>
  static Both load_both(const Bf16* gate, const Bf16* up, Int i, Which which) {
    if constexpr (step == 1) return {load(gate + i, which), load(up + i, which)};
    const __m512i pairs = load_pairs(gate + 2 * i, which);
    return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000U))))};
  }
  static __m512i load_pairs(const Bf16* x, Whole) { return _mm512_loadu_si512(x); }
  static __m512i load_pairs(const Bf16* x, Part p) { return _mm512_maskz_loadu_epi32(p.mask(), x); }
  static void store_pairs(Bf16* y, __m512i x, Whole) { _mm512_storeu_si512(y, x); }
  static void store_pairs(Bf16* y, __m512i x, Part p) { _mm512_mask_storeu_epi32(y, p.mask(), x); }
  template <Int step, class Which>
  static void store_both(Bf16* gate, Bf16* up, Int i, const Both& x, Which which) {
    if constexpr (step == 1)
      store(gate + i, x.gate, which), store(up + i, x.up, which);
    else
      store_pairs(gate + 2 * i, round_pairs(x.gate, x.up), which);
  }
  template <Int step, class Which>
  static Both load_both(const float* gate, const float* up, Int i, Which which) {
    if constexpr (step == 1) return {load(gate + i, which), load(up + i, which)};
    const __m512 low = load_turns(gate + 2 * i, 0, which), high = load_turns(gate + 2 * i, 16, which);
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return {_mm512_permutex2var_ps(low, even, high),
            _mm512_permutex2var_ps(low, _mm512_or_si512(even, _mm512_set1_epi32(1)), high)};
  }
  static __m512 load_turns(const float* x, Int from, Whole) { return _mm512_loadu_ps(x + from); }
  static __m512 load_turns(const float* x, Int from, Part p) {
    return _mm512_maskz_loadu_ps(first_of_16(2 * p.count - from), x + from);
  }

  /// As Rows::Gated of rows.inc.
  struct Gated {
    __m512 activation, slope, factor, factor_slope;
  };
  template <Gate kind>
  static Gated gated(const Both& x, __m512 alpha, __m512 limit) {
    const __m512 one = all(1), g = x.gate, u = x.up;
    if constexpr (kind == Gate::silu) {
      const __m512 s = sigmoid_of_power(g * all(-kLog2E));
      return {g * s, s * (one + g * (one - s)), u, one};
    } else if constexpr (kind == Gate::gelu_tanh) {
      // (1 + tanh v) / 2 is the sigmoid of 2 v, v = k / 2 (g + cubic g^3).
      constexpr float k = 2 * 0.79788456080286535588F, cubic = 0.044715F;
      const __m512 square = g * g, kg = g * all(k);
      const __m512 s = sigmoid_of_power(kg * all(-kLog2E) * (one + all(cubic) * square));
      return {g * s, s + s * (one - s) * kg * (one + all(3 * cubic) * square), u, one};
    } else {
      const __m512 low = _mm512_min_ps(limit, g), zero = _mm512_setzero_ps();
      const __m512 s = sigmoid_of_power(low * alpha * all(-kLog2E));
      const __m512 bounded = _mm512_max_ps(zero - limit, _mm512_min_ps(limit, u));
      const __mmask16 inside = _mm512_cmp_ps_mask(g, limit, _CMP_NGT_UQ),
                      between = _mm512_cmp_ps_mask(bounded, u, _CMP_EQ_OQ);
      return {low * s, _mm512_maskz_mov_ps(inside, s + alpha * low * s * (one - s)), bounded + one,
              _mm512_maskz_mov_ps(between, one)};
    }
  }

  template <Gate kind, Int step, bool biased, class Which>
  static Gated gated_at(const GateRows<const Bf16>& in, Int row, const float* bias_gate, const float* bias_up, Int i,
                        Which which, __m512 alpha, __m512 limit) {
    Both x = load_both<step>(in.gate + row * in.stride, in.up + row * in.stride, i, which);
    if constexpr (biased) {
      const Both bias = load_both<step>(bias_gate, bias_up, i, which);
      x.gate += bias.gate, x.up += bias.up;
    }
    return gated<kind>(x, alpha, limit);
  }

  template <Gate kind, Int step, bool biased>
  static void gate_rows(const GateForm& form, const GateRows<const Bf16>& in, const float* bias_gate, const float* bias_up,
                        Bf16* h, Int rows) {
    const __m512 alpha = all(static_cast<float>(form.alpha)), limit = all(static_cast<float>(form.limit));
    for (Int n = 0; n < rows; ++n, h += in.width) {
      over_16(
          in.width, [&](Int i, auto which) __attribute__((always_inline)) {
            const Gated a = gated_at<kind, step, biased>(in, n, bias_gate, bias_up, i, which, alpha, limit);
            store(h + i, a.activation * a.factor, which);
          });
    }
  }

  template <Gate kind, Int step, bool biased>
  static void gate_rows_backward(const GateForm& form, const GateRows<const Bf16>& in, const float* bias_gate,
                                 const float* bias_up, const Bf16* dh, const float* scale, const GateRows<Bf16>& out,
                                 Bf16* h, float* share, Int rows) {
    const __m512 alpha = all(static_cast<float>(form.alpha)), limit = all(static_cast<float>(form.limit));
    for (Int n = 0; n < rows; ++n, dh += in.width) {
      const __m512 by = all(scale ? scale[n] : 1);
      __m512 sum = _mm512_setzero_ps();
      over_16(
          in.width, [&](Int i, auto which) __attribute__((always_inline)) {
            const Gated a = gated_at<kind, step, biased>(in, n, bias_gate, bias_up, i, which, alpha, limit);
            const __m512 d = load(dh + i, which), scaled = by * d;
            if (h) {  // `share` comes with it
              const __m512 value = a.activation * a.factor;
              store(h + n * in.width + i, value, which);
              sum = _mm512_fmadd_ps(d, value, sum);
            }
            store_both<step>(out.gate + n * out.stride, out.up + n * out.stride, i,
                             {scaled * a.factor * a.slope, scaled * a.activation * a.factor_slope}, which);
          });
      if (share) share[n] = _mm512_reduce_add_ps(sum);
    }
  }

  static void gate(const GateForm& form, const GateRows<const Bf16>& in, const float* bias_gate, const float* bias_up,
                   Bf16* h, Int rows) {
    with_form(form.kind, in.step, bias_gate != nullptr, [&]<Gate kind, Int step, bool biased>() {
      gate_rows<kind, step, biased>(form, in, bias_gate, bias_up, h, rows);
    });
  }
  static void gate_backward(const GateForm& form, const GateRows<const Bf16>& in, const float* bias_gate,
                            const float* bias_up, const Bf16* dh, const float* scale, const GateRows<Bf16>& out, Bf16* h,
                            float* share, Int rows) {
    with_form(form.kind, in.step, bias_gate != nullptr, [&]<Gate kind, Int step, bool biased>() {
      gate_rows_backward<kind, step, biased>(form, in, bias_gate, bias_up, dh, scale, out, h, share, rows);
    });
  }

  static void cross_entropy(Bf16* z, Int width, const Int* target, bool gradient, float factor, float* loss, Int rows) {
    for (Int n = 0; n < rows; ++n, z += width) {
      const float right = _mm512_cvtss_f32(load(z + target[n], Part{1}));
      const __m512 lowest = all(-__builtin_inff());
      __m512 top = lowest;
      over_16(width, [&](Int i, auto which) { top = _mm512_max_ps(top, filled(load(z + i, which), lowest, which)); });
      const float largest = _mm512_reduce_max_ps(top);
      const __m512 shift = all(largest), by = all(kLog2E);
      const auto power = [&](Int i, auto which) { return exp2_of((load(z + i, which) - shift) * by); };
      __m512 total = _mm512_setzero_ps();
      over_16(width, [&](Int i, auto which) { total += filled(power(i, which), _mm512_setzero_ps(), which); });
      const float sum = _mm512_reduce_add_ps(total);
      loss[n] = largest + __builtin_logf(sum) - right;
      if (!gradient) continue;
      const __m512 share = all(factor / sum), own = power(target[n], Part{1}) * share - all(factor);
      over_16(width, [&](Int i, auto which) { store(z + i, power(i, which) * share, which); });
      store(z + target[n], own, Part{1});
    }
  }
  static __m512 filled(__m512 x, __m512, Whole) { return x; }
  static __m512 filled(__m512 x, __m512 rest, Part p) { return _mm512_mask_mov_ps(rest, p.mask(), x); }

  static void sum(const Bf16* a, const Bf16* b, Bf16* y, Int count) {
    over_16(count, [&](Int i, auto which) { store(y + i, load(a + i, which) + load(b + i, which), which); });
  }
};

}  // namespace

const RowKernels<Bf16>* row_kernels_avx512_bf16() {
  static const RowKernels<Bf16> table = [] {
    using V = VectorRows;
    RowKernels<Bf16> t = *row_kernels_avx512<Bf16>();
    t.norm = V::norm, t.norm_backward = V::norm_backward;
    t.rotate = V::rotate, t.rotate_backward = V::rotate_backward;
    t.gate = V::gate, t.gate_backward = V::gate_backward;
    t.cross_entropy = V::cross_entropy, t.sum = V::sum;
    return t;
  }();
  return &table;
}

}  // namespace equisweep

#else

namespace equisweep {

const RowKernels<Bf16>* row_kernels_avx512_bf16() { return nullptr; }

}  // namespace equisweep

#endif
