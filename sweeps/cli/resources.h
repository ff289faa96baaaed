#pragma once
// `resources` of a sweep file, and the options of the command line that go before it.

#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "sweeps/device.h"
#include "sweeps/file/spec.h"

namespace equisweep {

/// The devices for `jobs` jobs of `spec`. `at_a_time` and `gpus` are --jobs and --gpus; what they say goes before the file.
inline std::vector<Device> devices_for(const SweepSpec& spec, std::optional<int> at_a_time, const std::string& gpus,
                                       std::size_t jobs) {
  const ResourcesSpec& resources = spec.resources;
  DeviceOptions options{.jobs = at_a_time, .gpus = gpus, .slots_per_gpu = resources.slots_per_gpu};
  if (gpus.empty() && resources.gpus == 0) options.gpus = "none";
  std::vector<Device> devices = find_devices(machine(cuda_device_count()), options, jobs);
  if (resources.threads)
    for (Device& device : devices) device.threads = *resources.threads;
  return devices;
}

/// Throws Error (engine missing) where the file needs a GPU and there is none, unless the command line chose the CPU.
inline void require_gpu(const SweepSpec& spec, const std::string& gpus, const std::vector<Device>& devices) {
  if (spec.resources.gpus == 1 && gpus.empty() && devices[0].visible.empty())
    throw Error("the sweep file says resources.gpus: 1, but no GPU was found; --gpus none runs it on the CPU",
                ExitCode::engine_missing);
}

}  // namespace equisweep
