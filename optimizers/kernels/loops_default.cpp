#define EQUISWEEP_LOOPS step_loops_default
#include "optimizers/kernels/loops.inc"
