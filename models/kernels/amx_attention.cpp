// Compiled for machines with AMX alone; see bf16_attention.inc.
#include "models/kernels/tile_attention.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/amx_tiles.inc"
#include "models/kernels/bf16_attention.inc"

namespace equisweep {

const TileAttentionKernels<Bf16>* amx_attention_kernels() { return &kAttentionKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const TileAttentionKernels<Bf16>* amx_attention_kernels() { return nullptr; }

}  // namespace equisweep

#endif
