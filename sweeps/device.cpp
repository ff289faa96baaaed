#include "sweeps/device.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "core/error.h"

namespace equisweep {
namespace {

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t comma = text.find(',');
    parts.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

std::optional<int> whole_number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

/// The values for CUDA_VISIBLE_DEVICES of the devices that this process sees, in its own order.
std::vector<std::string> visible_gpus(const Machine& machine) {
  std::vector<std::string> names;
  if (machine.visible) names = split(*machine.visible);
  const std::size_t count = static_cast<std::size_t>(std::max(machine.cuda_devices, 0));
  while (!machine.visible && names.size() < count) names.push_back(std::to_string(names.size()));
  if (names.size() > count) names.resize(count);  // CUDA ignores all from the first that does not exist
  return names;
}

[[noreturn]] void no_such_gpu(std::string_view found, const std::vector<std::string>& names) {
  std::string allowed = "none: LibTorch finds no CUDA device here (`equisweep doctor` says why)";
  if (!names.empty()) allowed = fmt::format("0 to {}, or one of: {}", names.size() - 1, join(names));
  throw UsageError(std::vector<Problem>{
      {{}, fmt::format("--gpus: no device '{}'", printable(found)), allowed, nearest_name(found, names)}});
}

/// Positions in `names` that `list` selects, in its order.
std::vector<std::size_t> select_gpus(const std::string& list, const std::vector<std::string>& names) {
  std::vector<std::size_t> chosen;
  const auto add = [&](std::size_t position, std::string_view text) {
    if (position >= names.size()) no_such_gpu(text, names);
    if (std::find(chosen.begin(), chosen.end(), position) != chosen.end()) {
      throw UsageError(fmt::format("--gpus: device '{}' is named twice", printable(text)));
    }
    chosen.push_back(position);
  };
  for (const std::string& part : split(list)) {
    const std::size_t dash = part.find('-');
    const auto first = whole_number(std::string_view(part).substr(0, dash));
    const auto last = dash == std::string::npos ? first : whole_number(std::string_view(part).substr(dash + 1));
    if (first && last) {
      if (*first > *last) throw UsageError(fmt::format("--gpus: the range '{}' runs backwards", part));
      if (static_cast<std::size_t>(*last) >= names.size()) no_such_gpu(part, names);
      for (int i = *first; i <= *last; ++i) add(static_cast<std::size_t>(i), part);
    } else {
      const auto found = std::find(names.begin(), names.end(), part);
      add(static_cast<std::size_t>(found - names.begin()), part);
    }
  }
  return chosen;
}

}  // namespace

Machine machine(int cuda_devices) {
  Machine m;
  cpu_set_t set;
  CPU_ZERO(&set);
  // Fails on machines with more than 1024 processors.
  m.cores = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                          : static_cast<int>(std::thread::hardware_concurrency());
  m.cores = std::max(m.cores, 1);
  m.cuda_devices = cuda_devices;
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) m.visible = visible;
  return m;
}

std::string checked_device(const std::string& name, int cuda_devices) {
  if (name == "cpu") return name;
  std::string allowed = "cpu";
  if (cuda_devices == 1) allowed = "cpu, cuda or cuda:0";
  if (cuda_devices > 1) allowed = fmt::format("cpu, cuda (the first), or cuda:0 to cuda:{}", cuda_devices - 1);
  const auto refuse = [&](const std::string& what) { throw UsageError(std::vector<Problem>{{{}, what, allowed, ""}}); };
  constexpr std::string_view kCuda = "cuda";
  const bool numbered = name.starts_with("cuda:");
  const auto number = numbered ? whole_number(std::string_view(name).substr(kCuda.size() + 1)) : std::optional<int>(0);
  if (!number || (!numbered && name != kCuda)) refuse(fmt::format("--device: unknown device '{}'", printable(name)));
  if (cuda_devices <= 0)
    refuse(fmt::format("--device: no '{}': LibTorch finds no CUDA device here (`equisweep doctor` says why)", name));
  if (*number >= cuda_devices) refuse(fmt::format("--device: no device '{}'", name));
  return fmt::format("cuda:{}", *number);
}

std::vector<Device> find_devices(const Machine& machine, const DeviceOptions& options, std::size_t jobs) {
  if (options.jobs && *options.jobs < 1) throw UsageError(fmt::format("--jobs {}: must be at least 1", *options.jobs));
  if (options.slots_per_gpu < 1)
    throw UsageError(fmt::format("slots_per_gpu {}: must be at least 1", options.slots_per_gpu));
  const int wanted = static_cast<int>(std::clamp<std::size_t>(jobs, 1, 1 << 20));
  std::vector<Device> devices;
  const std::vector<std::string> names = visible_gpus(machine);
  if (options.gpus != "none" && (!names.empty() || !options.gpus.empty())) {
    std::vector<std::size_t> chosen(names.size());
    for (std::size_t i = 0; i < chosen.size(); ++i) chosen[i] = i;
    if (!options.gpus.empty()) chosen = select_gpus(options.gpus, names);
    const int count = static_cast<int>(chosen.size());
    for (int i = 0; i < count; ++i) {
      const std::size_t position = chosen[static_cast<std::size_t>(i)];
      int slots = options.slots_per_gpu;
      if (options.jobs) slots = *options.jobs / count + (i < *options.jobs % count ? 1 : 0);
      if (slots > 0)
        devices.push_back({.name = fmt::format("cuda:{}", position), .visible = names[position], .slots = slots});
    }
  } else {
    devices.push_back({.name = "cpu", .visible = "", .slots = std::min(options.jobs.value_or(machine.cores), wanted)});
  }
  std::int64_t slots = 0;
  for (const Device& d : devices) slots += d.slots;
  const int threads = static_cast<int>(std::max<std::int64_t>(1, machine.cores / std::min<std::int64_t>(slots, wanted)));
  for (Device& d : devices) d.threads = threads;
  return devices;
}

}  // namespace equisweep
