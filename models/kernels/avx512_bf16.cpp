// Compiled for machines with AVX512-BF16 alone; see bf16_products.inc.
#include "models/kernels/bf16_products.h"
#include "models/kernels/tiles.h"

#if defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/vector_tiles.inc"
#include "models/kernels/bf16_products.inc"

namespace equisweep {

const Bf16Products* avx512_bf16_products() { return &kBf16Products; }
const TileKernels<Bf16>* avx512_bf16_tile_kernels() { return &kBf16TileKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const Bf16Products* avx512_bf16_products() { return nullptr; }
const TileKernels<Bf16>* avx512_bf16_tile_kernels() { return nullptr; }

}  // namespace equisweep

#endif
