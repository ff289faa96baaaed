#pragma once
// The keys of a sweep file that are no part of a job: tags, tune, retry, checkpoint, resources, report.

#include "sweeps/file/reader.h"
#include "sweeps/file/spec.h"

namespace equisweep {

/// Reads them into `spec`. Where there is `tune`, its seeds become those of the grid, and seeds elsewhere are problems. Call
/// it when spec.grid has been read.
void read_settings(const Node& root, SweepSpec& spec, Problems& problems);

}  // namespace equisweep
