#include "sweeps/signals.h"

#include <atomic>

namespace equisweep {
namespace {

std::atomic<int> g_stage = 0, g_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may touch it");

extern "C" void on_signal(int signal) {
  int none = 0;
  g_signal.compare_exchange_strong(none, signal);
  int stage = g_stage.load();
  int next = stage;
  do {
    constexpr int kStop = static_cast<int>(Interrupt::stop), kKill = static_cast<int>(Interrupt::kill);
    next = signal == SIGINT ? (stage < kKill ? stage + 1 : kKill) : (stage < kStop ? kStop : stage);
  } while (!g_stage.compare_exchange_weak(stage, next));
}

}  // namespace

CaughtSignals::CaughtSignals() {
  g_stage = 0;
  g_signal = 0;
  for (std::size_t i = 0; i < kCaught.size(); ++i) {
    const int number = kCaught[i];
    ::sigaction(number, nullptr, &before_[i]);
    if ((number == SIGINT || number == SIGHUP) && before_[i].sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    ::sigemptyset(&action.sa_mask);
    action.sa_handler = number == SIGPIPE   ? SIG_IGN
                        : number == SIGCHLD ? SIG_DFL
                                            : on_signal;  // without SA_RESTART: a waiting poll() returns at once
    ::sigaction(number, &action, nullptr);
  }
}

CaughtSignals::~CaughtSignals() {
  for (std::size_t i = 0; i < kCaught.size(); ++i) ::sigaction(kCaught[i], &before_[i], nullptr);
}

Interrupt CaughtSignals::stage() const { return static_cast<Interrupt>(g_stage.load()); }
int CaughtSignals::signal() const { return g_signal.load(); }

}  // namespace equisweep
