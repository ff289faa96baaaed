#pragma once
// Independent tasks on several threads.

#include <cstddef>
#include <cstdint>
#include <functional>

namespace equisweep {

/// Calls task(i) once for each i in [0, count), on `threads` threads of which the caller is one. Inside a task tensor
/// operations have a single thread, so that their bits do not depend on `threads`. Returns when all have ended; the first
/// exception of a task is thrown then, and keeps tasks that have not begun from beginning.
void parallel_for_each(std::size_t count, std::int64_t threads, const std::function<void(std::size_t)>& task);

}  // namespace equisweep
