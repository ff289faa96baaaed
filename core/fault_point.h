#pragma once
// Named places where a test makes the program fail as the world does: killed, disk full, a number that is not finite.
//
//   EQUISWEEP_FAULT="checkpoint.rename:2"              killed at the second pass of that place
//   EQUISWEEP_FAULT="checkpoint.write:1=enospc"        its first write finds the disk full
//   EQUISWEEP_FAULT="train.step:3=term,train.loss:7=nan"
//
// A place that no entry names costs the test of one boolean. A worker writes the variable into the events of its run, so
// that nobody takes such a run for an ordinary one.

#include <string>
#include <string_view>

namespace equisweep {

enum class Fault {
  none,
  kill,   ///< SIGKILL, there and then
  term,   ///< SIGTERM is raised, and the program goes on
  usr2,   ///< SIGUSR2 likewise
  raise,  ///< Error is thrown
  enospc,
  eio,
  nan,
  inf,
};

namespace detail {
extern bool faults_armed;
Fault next_fault(std::string_view point);
}  // namespace detail

/// One pass of `point`: kill, term, usr2 and raise happen here; the others are for the caller to act on.
inline Fault fault_point(std::string_view point) { return detail::faults_armed ? detail::next_fault(point) : Fault::none; }

/// The errno that this pass of `point` is to fail with: ENOSPC, EIO, or 0.
int fault_errno(std::string_view point);

/// Reads "point:pass[=kind],..." ("" disarms) and counts passes from now on. Throws UsageError on anything else, and on a
/// point that the program does not have.
void arm_faults(std::string_view text);

/// Arms what the environment says in EQUISWEEP_FAULT; returns it ("" where it is not set).
std::string arm_faults_of_environment();

}  // namespace equisweep
