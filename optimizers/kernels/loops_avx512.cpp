#define EQUISWEEP_LOOPS step_loops_avx512
#include "optimizers/kernels/loops.inc"
