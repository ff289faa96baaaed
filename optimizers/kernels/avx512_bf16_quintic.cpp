// Compiled for machines with AVX512-BF16 alone; see bf16_quintic.inc.
#include "optimizers/kernels/bf16_quintic.h"

#if defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/vector_tiles.inc"
#include "optimizers/kernels/bf16_quintic.inc"

namespace equisweep {

const Bf16Quintic* avx512_bf16_quintic() { return &kBf16Quintic; }

}  // namespace equisweep

#else

namespace equisweep {

const Bf16Quintic* avx512_bf16_quintic() { return nullptr; }

}  // namespace equisweep

#endif
