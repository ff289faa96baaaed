#pragma once
// The devices that jobs are given to: GPUs where there are any, else slots of the CPU.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace equisweep {

/// A device with room for `slots` jobs at a time, each with `threads` CPU threads.
struct Device {
  std::string name;     ///< for people: cpu, cuda:0 (counted among the devices that this process sees)
  std::string visible;  ///< CUDA_VISIBLE_DEVICES of its jobs: an index, a UUID or a MIG name; empty for the CPU
  int slots = 1;
  int threads = 1;
  bool operator==(const Device&) const = default;
};

/// What there is, as the seam of the tests: machine() asks this machine.
struct Machine {
  int cores = 1;                            ///< that this process may use
  int cuda_devices = 0;                     ///< that this process sees
  std::optional<std::string> visible = {};  ///< CUDA_VISIBLE_DEVICES as set outside
};

/// This machine; `cuda_devices` comes from the caller (cuda_device_count(), or 0).
Machine machine(int cuda_devices);

/// The number of CUDA devices that LibTorch can use; 0 in a build for the CPU or without a driver.
int cuda_device_count();

/// What --device takes, as LibTorch writes it: "cpu", "cuda:N", or "cuda" for the first GPU. Throws UsageError for another
/// name, and for a GPU that is not among the `cuda_devices` that this process sees.
std::string checked_device(const std::string& name, int cuda_devices);
/// The same on this machine, which is asked about GPUs only if `name` is not the CPU.
std::string checked_device(const std::string& name);

struct DeviceOptions {
  std::optional<int> jobs = {};  ///< --jobs: how many at a time, in all
  std::string gpus =
      {};  ///< --gpus: "0,2-3" counts the visible devices, names (GPU-..., MIG-...) are matched; "none": the CPU
  int slots_per_gpu = 1;
};

/// The devices for `jobs` jobs. GPUs: `slots_per_gpu` each, or `--jobs` dealt round. CPU: one slot a core, or `--jobs`, but
/// not more than there are jobs. The cores are divided evenly among the slots (at least one thread each). Throws UsageError
/// for a GPU that is not there or named twice, and for numbers below 1.
std::vector<Device> find_devices(const Machine& machine, const DeviceOptions& options, std::size_t jobs);

}  // namespace equisweep
