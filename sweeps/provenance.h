#pragma once
// What made a run: program, libraries, hardware, command. Stored with every attempt and printed by `equisweep doctor`.

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace equisweep {

/// {"equisweep": version, "commit": ..., "modified": bool, "libtorch": ..., "compiler": ..., "sqlite": ..., "host": ...,
/// "os": ...,
///  "cpu": ..., "cores": n, "memory_bytes": n, "bf16": "amx" | "avx512" | "emulated", "cuda": words, "command": [...]}
/// bf16: what products of bf16 matrices run on: tile registers, vectors with AVX512-BF16, or as fp32.
nlohmann::json provenance();

/// Whether LibTorch can use a CUDA device here, and if not, why, in words.
std::string cuda_status();

}  // namespace equisweep
