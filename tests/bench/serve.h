#pragma once
// A benchmark as a contestant of a race with programs in other languages, which take turns on one machine.

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

namespace equisweep {

/// Speaks the protocol of race.py on stdin and stdout: prints {"cells": [...], "info": {...}} when it is ready, then answers
/// each line "<cell> <count>" with {"seconds": [...], "cpu": s, "rss": bytes, "faults": [...]}, the wall time and the page
/// faults of every run, CPU time of all and peak memory so far, until stdin ends. Returns the program's exit code: 2 after a
/// cell that does not exist.
int serve(const std::vector<std::pair<std::string, std::function<void()>>>& cells, const nlohmann::json& info);

/// Lets glibc keep freed memory: what is freed and allocated anew in every step would be faulted in again.
void keep_freed_pages();

}  // namespace equisweep
