#include "core/fault_point.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "core/error.h"

namespace equisweep {
namespace {

struct ArmedFault {
  std::string point;
  std::int64_t pass = 1, passed = 0;
  Fault fault = Fault::kill;
};

// Armed before threads start and by tests; passes are counted by the one thread that trains.
std::vector<ArmedFault>& armed_faults() {
  static std::vector<ArmedFault> faults;
  return faults;
}

constexpr std::array<std::pair<std::string_view, Fault>, 8> kFaultKinds = {{{"kill", Fault::kill},
                                                                            {"term", Fault::term},
                                                                            {"usr2", Fault::usr2},
                                                                            {"raise", Fault::raise},
                                                                            {"enospc", Fault::enospc},
                                                                            {"eio", Fault::eio},
                                                                            {"nan", Fault::nan},
                                                                            {"inf", Fault::inf}}};

// In the order in which a worker passes them.
constexpr auto kFaultPoints =
    std::to_array<std::string_view>({"worker.start", "worker.setup", "worker.resume", "train.eval", "train.step",
                                     "train.loss", "train.gradient", "checkpoint.open", "checkpoint.write",
                                     "checkpoint.sync", "checkpoint.rename", "checkpoint.renamed", "checkpoint.prune"});

ArmedFault parse_fault(std::string_view entry) {
  const auto refuse = [&](const std::string& allowed) {
    throw UsageError(
        fmt::format("EQUISWEEP_FAULT: '{}' is not POINT:PASS or POINT:PASS=KIND; {}", printable(entry), allowed));
  };
  ArmedFault result;
  const std::size_t colon = entry.find(':'), equals = entry.find('=');
  result.point = entry.substr(0, colon);
  bool known = false;
  std::string names;
  for (const std::string_view point : kFaultPoints) {
    known = known || point == result.point;
    names += (names.empty() ? "" : ", ") + std::string(point);
  }
  if (!known || colon == std::string_view::npos) refuse("points: " + names);
  const std::string_view pass = entry.substr(colon + 1, equals == std::string_view::npos ? equals : equals - colon - 1);
  const auto [end, error] = std::from_chars(pass.data(), pass.data() + pass.size(), result.pass);
  if (error != std::errc() || end != pass.data() + pass.size() || result.pass < 1) refuse("PASS counts from 1");
  if (equals == std::string_view::npos) return result;
  names.clear();
  for (const auto& [name, fault] : kFaultKinds) {
    if (name == entry.substr(equals + 1)) {
      result.fault = fault;
      return result;
    }
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  refuse("kinds: " + names);
  return result;
}

}  // namespace

bool detail::faults_armed = false;

Fault detail::next_fault(std::string_view point) {
  Fault now = Fault::none;
  for (ArmedFault& fault : armed_faults())
    if (fault.point == point && ++fault.passed == fault.pass) {
      now = fault.fault;
      if (now == Fault::kill) {
        ::kill(::getpid(), SIGKILL);
        ::pause();
      }
      if (now == Fault::term) ::kill(::getpid(), SIGTERM);
      if (now == Fault::usr2) ::kill(::getpid(), SIGUSR2);
    }
  if (now == Fault::raise) throw Error(fmt::format("fault injected at {}", point));
  return now;
}

int fault_errno(std::string_view point) {
  const Fault fault = fault_point(point);
  return fault == Fault::enospc ? ENOSPC : fault == Fault::eio ? EIO : 0;
}

void arm_faults(std::string_view text) {
  armed_faults().clear();
  detail::faults_armed = false;
  std::vector<ArmedFault> faults;
  for (std::size_t begin = 0; !text.empty() && begin != std::string_view::npos;) {
    const std::size_t comma = text.find(',', begin);
    faults.push_back(parse_fault(text.substr(begin, comma == std::string_view::npos ? comma : comma - begin)));
    begin = comma == std::string_view::npos ? comma : comma + 1;
  }
  armed_faults() = std::move(faults);
  detail::faults_armed = !armed_faults().empty();
}

std::string arm_faults_of_environment() {
  const char* const text = std::getenv("EQUISWEEP_FAULT");
  arm_faults(text == nullptr ? "" : text);
  return text == nullptr ? "" : text;
}

}  // namespace equisweep
