#pragma once
// Room on the devices: which slot a job gets, and which device has stopped deserving one.

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sweeps/device.h"

namespace equisweep {

/// The slots of some devices. A slot is held by one job at a time.
///
/// A GPU on which three different jobs in a row fail before their first step is taken out: it is more likely that the GPU
/// has fallen off than that three neighbours in the queue are wrong, and it would fail the whole queue within minutes. A job
/// that fails at its start on a second device is itself at fault and says nothing about devices. The CPU is never taken out.
class Slots {
 public:
  explicit Slots(const std::vector<Device>& devices);

  /// The device that has had a slot free for the longest time; nullptr if none is free. take() takes that slot.
  const Device* next() const { return free_.empty() ? nullptr : free_.front(); }
  void take() { free_.pop_front(); }
  void give_back(const Device* device);

  struct Blame {
    bool taken_out = false;              ///< the device, now
    std::vector<std::string> jobs = {};  ///< that may be started again elsewhere: their failure was the device's
  };
  Blame failed_at_start(const Device* device, const std::string& job);
  void worked(const Device* device) { suspects_[device].clear(); }

  /// Whether a device is left.
  bool any() const { return out_.size() < devices_.size(); }

 private:
  std::deque<Device> devices_;  // stay where they are
  std::deque<const Device*> free_;
  std::map<const Device*, std::vector<std::string>> suspects_;  // jobs that failed at their start, in a row
  std::map<std::string, std::set<const Device*>> failed_on_;
  std::set<const Device*> out_;
};

}  // namespace equisweep
