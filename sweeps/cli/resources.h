#pragma once
// `resources` of a sweep file, and the options of the command line that go before it.

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "sweeps/device.h"
#include "sweeps/file/spec.h"
#include "sweeps/packing.h"
#include "sweeps/plan.h"
#include "sweeps/provenance.h"

namespace equisweep {

/// Jobs at a time that `doctor --tune` has found fastest on this machine's cores, for the largest model of the sweep.
inline std::optional<int> measured_jobs(const SweepSpec& spec, const std::filesystem::path& results) {
  const auto known = read_packings(packing_file(results));
  if (!known) return std::nullopt;
  std::int64_t parameters = 1;
  for (const ModelSpec& model : spec.models) parameters = std::max(parameters, model.parameters);
  return jobs_at_a_time(known, provenance().at("cpu"), machine(0).cores, parameters);
}

struct ChosenDevices {
  std::vector<Device> devices;
  bool measured = false;  ///< `doctor --tune` has found how many jobs run at a time
};

/// How many jobs the cores are divided among: those of the whole file as they stand before any result, those that will
/// confirm included. `plan` is the plan of `spec`, whatever results it was made with. A number of the file alone: a run that
/// is continued, or a part of it that --only selects, has the threads of the whole, and so bitwise its losses.
inline std::size_t jobs_of_file(const SweepSpec& spec, const SweepPlan& plan) {
  const PlanSummary all = summarize(spec, spec.tune ? make_plan(spec) : plan);
  return static_cast<std::size_t>(all.unique + all.to_confirm);
}

/// The devices for `jobs` jobs of `spec`, see jobs_of_file(). `at_a_time` and `gpus` are --jobs and --gpus; what they say
/// goes before the file, and the file before what was measured.
inline ChosenDevices devices_for(const SweepSpec& spec, std::optional<int> at_a_time, const std::string& gpus,
                                 std::size_t jobs, const std::filesystem::path& results) {
  const ResourcesSpec& resources = spec.resources;
  const Machine here = machine(cuda_device_count());
  DeviceOptions options{.jobs = at_a_time, .gpus = gpus, .slots_per_gpu = resources.slots_per_gpu};
  if (gpus.empty() && resources.gpus == 0) options.gpus = "none";
  ChosenDevices chosen{.devices = find_devices(here, options, jobs)};
  if (chosen.devices[0].visible.empty() && !at_a_time && !resources.threads) {
    options.jobs = measured_jobs(spec, results);
    chosen.measured = options.jobs.has_value();
    if (chosen.measured) chosen.devices = find_devices(here, options, jobs);
  }
  if (resources.threads)
    for (Device& device : chosen.devices) device.threads = *resources.threads;
  return chosen;
}

/// Throws Error (engine missing) where the file needs a GPU and there is none, unless the command line chose the CPU.
inline void require_gpu(const SweepSpec& spec, const std::string& gpus, const std::vector<Device>& devices) {
  if (spec.resources.gpus == 1 && gpus.empty() && devices[0].visible.empty())
    throw Error("the sweep file says resources.gpus: 1, but no GPU was found; --gpus none runs it on the CPU",
                ExitCode::engine_missing);
}

}  // namespace equisweep
