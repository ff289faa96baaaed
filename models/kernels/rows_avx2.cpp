#define EQUISWEEP_ROWS row_kernels_avx2
#include "models/kernels/rows.inc"
