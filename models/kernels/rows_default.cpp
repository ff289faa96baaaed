#define EQUISWEEP_ROWS row_kernels_default
#include "models/kernels/rows.inc"
