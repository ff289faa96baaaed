#pragma once
// Ctrl-C and its like, as a flag that the supervisor looks at.

#include <signal.h>

#include <array>

namespace equisweep {

/// How much has been asked for: each Ctrl-C asks for the next stage, SIGTERM and SIGHUP ask for `stop`.
enum class Interrupt {
  none,
  drain,  ///< start no more, let the running finish
  stop,   ///< the running stop at the end of their step
  kill,
};

class Interrupts {
 public:
  virtual ~Interrupts() = default;
  virtual Interrupt stage() const = 0;
  virtual int signal() const = 0;  ///< the first signal that asked, 0 before; the exit code is 128 + this
};

/// Catches SIGINT, SIGTERM and SIGHUP while it lives (one at a time), ignores SIGPIPE, and has the system keep the ends of
/// children for who waits for them (SIGCHLD); then everything is as before. SIGINT and SIGHUP that were ignored stay so:
/// that is what `nohup` is for, and how a shell starts what runs in its background.
class CaughtSignals : public Interrupts {
 public:
  CaughtSignals();
  ~CaughtSignals() override;
  CaughtSignals(const CaughtSignals&) = delete;
  CaughtSignals& operator=(const CaughtSignals&) = delete;
  Interrupt stage() const override;
  int signal() const override;

 private:
  static constexpr std::array kCaught = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD};
  std::array<struct sigaction, kCaught.size()> before_{};
};

}  // namespace equisweep
