#include "sweeps/slots.h"

#include <algorithm>
#include <utility>

namespace equisweep {

Slots::Slots(const std::vector<Device>& devices) : devices_(devices.begin(), devices.end()) {
  int most = 0;
  for (const Device& device : devices_) most = std::max(most, device.slots);
  for (int i = 0; i < most; ++i) {  // one of each device before the second of any
    for (const Device& device : devices_) {
      if (i < device.slots) free_.push_back(&device);
    }
  }
}

void Slots::give_back(const Device* device) {
  if (!out_.contains(device)) free_.push_back(device);
}

Slots::Blame Slots::failed_at_start(const Device* device, const std::string& job) {
  constexpr std::size_t kTolerated = 3;
  if (device->visible.empty()) return {};
  std::set<const Device*>& on = failed_on_[job];
  on.insert(device);
  if (on.size() > 1) {
    for (auto& [other, jobs] : suspects_) std::erase(jobs, job);
    return {};
  }
  if (out_.contains(device)) return {.taken_out = false, .jobs = {job}};  // it was on another slot meanwhile
  std::vector<std::string>& jobs = suspects_[device];
  if (std::find(jobs.begin(), jobs.end(), job) == jobs.end()) jobs.push_back(job);
  if (jobs.size() < kTolerated) return {};
  out_.insert(device);
  std::erase(free_, device);
  return {.taken_out = true, .jobs = std::exchange(jobs, {})};
}

}  // namespace equisweep
