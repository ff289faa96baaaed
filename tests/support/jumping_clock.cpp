// Preloaded into a program (LD_PRELOAD): the clock of the wall is ten years slow and jumps days back and forth each time
// that it is read; the steady clock is left alone.
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace {

time_t jump() {
  static std::atomic<unsigned> calls = 0;
  constexpr time_t kDay = 86400;
  return -3650 * kDay - static_cast<time_t>(++calls % 7) * kDay;
}

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* at) {
  const long result = ::syscall(SYS_clock_gettime, clock, at);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += jump();
  return static_cast<int>(result);
}

extern "C" time_t time(time_t* at) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (at != nullptr) *at = now.tv_sec;
  return now.tv_sec;
}

extern "C" int gettimeofday(timeval* at, void*) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  *at = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}
