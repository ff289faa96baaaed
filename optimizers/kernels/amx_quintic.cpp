// Compiled for machines with AMX alone; see bf16_quintic.inc.
#include "optimizers/kernels/bf16_quintic.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/amx_tiles.inc"
#include "optimizers/kernels/bf16_quintic.inc"

namespace equisweep {

const Bf16Quintic* amx_quintic() { return &kBf16Quintic; }

}  // namespace equisweep

#else

namespace equisweep {

const Bf16Quintic* amx_quintic() { return nullptr; }

}  // namespace equisweep

#endif
