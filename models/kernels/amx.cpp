// Compiled for machines with AMX alone; see bf16_products.inc.
#include "models/kernels/bf16_products.h"
#include "models/kernels/tiles.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/amx_tiles.inc"
#include "models/kernels/bf16_products.inc"

namespace equisweep {

const Bf16Products* amx_products() { return &kBf16Products; }
const TileKernels<Bf16>* amx_tile_kernels() { return &kBf16TileKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const Bf16Products* amx_products() { return nullptr; }
const TileKernels<Bf16>* amx_tile_kernels() { return nullptr; }

}  // namespace equisweep

#endif
