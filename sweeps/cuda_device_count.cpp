#include <ATen/ATen.h>

#include "sweeps/device.h"

namespace equisweep {

int cuda_device_count() { return at::hasCUDA() ? static_cast<int>(at::getNumGPUs()) : 0; }

std::string checked_device(const std::string& name) { return checked_device(name, name == "cpu" ? 0 : cuda_device_count()); }

}  // namespace equisweep
