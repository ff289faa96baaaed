#include "tests/bench/serve.h"

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>

namespace equisweep {

using nlohmann::json;

int serve(const std::vector<std::pair<std::string, std::function<void()>>>& cells, const json& info) {
  using Clock = std::chrono::steady_clock;
  json names = json::array();
  for (const auto& [name, run] : cells) names.push_back(name);
  std::cout << json{{"cells", names}, {"info", info}}.dump() << std::endl;
  std::string name;
  for (int count = 0; std::cin >> name >> count;) {
    const auto cell = std::find_if(cells.begin(), cells.end(), [&](const auto& c) { return c.first == name; });
    if (cell == cells.end()) return 2;
    json seconds = json::array();
    const std::clock_t cpu = std::clock();
    for (int i = 0; i < count; ++i) {
      const auto start = Clock::now();
      cell->second();
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    std::cout << json{{"seconds", seconds},
                      {"cpu", static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC},
                      {"rss", 1024 * usage.ru_maxrss}}
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
