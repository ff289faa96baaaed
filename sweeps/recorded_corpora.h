#pragma once
// The id of a job has the name of its corpus in it, but not the text: that a corpus is still the one of the results is
// checked here.

#include <filesystem>
#include <vector>

#include "sweeps/job.h"

namespace equisweep {

/// Opens the corpus of each of `jobs` that is a result in the sweep's `folder`, once for each vocabulary and seed; one that
/// cannot be opened is passed over. Throws Error if it is not the one (by its digest) that the result was trained on: which
/// jobs, and what to do.
void check_recorded_corpora(const std::filesystem::path& folder, const std::vector<Job>& jobs,
                            const std::filesystem::path& corpora);

}  // namespace equisweep
