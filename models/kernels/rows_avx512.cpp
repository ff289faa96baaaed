#define EQUISWEEP_ROWS row_kernels_avx512
#include "models/kernels/rows.inc"
