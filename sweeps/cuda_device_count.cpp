#include <ATen/ATen.h>

#include "sweeps/device.h"

namespace equisweep {

int cuda_device_count() { return at::hasCUDA() ? static_cast<int>(at::getNumGPUs()) : 0; }

}  // namespace equisweep
