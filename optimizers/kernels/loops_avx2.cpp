#define EQUISWEEP_LOOPS step_loops_avx2
#include "optimizers/kernels/loops.inc"
