#include "tests/bench/serve.h"

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

namespace equisweep {

using nlohmann::json;

namespace {

/// Bytes of the most memory that this program has held. Not ru_maxrss, which begins with what the program that started this
/// one held.
std::int64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  std::int64_t kilobytes = 0;
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) {
      const std::size_t digits = line.find_first_of("0123456789");
      if (digits != std::string::npos) std::from_chars(line.data() + digits, line.data() + line.size(), kilobytes);
    }
  return 1024 * kilobytes;
}

/// Pages that were first touched, or read from disk, so far.
std::int64_t page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt + usage.ru_majflt;
}

}  // namespace

int serve(const std::vector<std::pair<std::string, std::function<void()>>>& cells, const json& info) {
  using Clock = std::chrono::steady_clock;
  json names = json::array();
  for (const auto& [name, run] : cells) names.push_back(name);
  std::cout << json{{"cells", names}, {"info", info}}.dump() << std::endl;
  std::string name;
  for (int count = 0; std::cin >> name >> count;) {
    const auto cell = std::find_if(cells.begin(), cells.end(), [&](const auto& c) { return c.first == name; });
    if (cell == cells.end()) return 2;
    json seconds = json::array(), faults = json::array();
    const std::clock_t cpu = std::clock();
    for (int i = 0; i < count; ++i) {
      const std::int64_t before = page_faults();
      const auto start = Clock::now();
      cell->second();
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
      faults.push_back(page_faults() - before);
    }
    std::cout << json{{"seconds", seconds},
                      {"cpu", static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC},
                      {"rss", peak_memory()},
                      {"faults", faults}}
                     .dump()
              << std::endl;
  }
  return 0;
}

void keep_freed_pages() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

}  // namespace equisweep
