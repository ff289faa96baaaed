#pragma once
// Which form of an operation runs, and for which instruction set its loops were compiled.

#include <string_view>

namespace equisweep {

enum class Kernels {
  fused,      ///< one pass where ATen takes several; hand-written loops on the CPU
  reference,  ///< ATen's operations, one by one
};

constexpr std::string_view name_of(Kernels kernels) { return kernels == Kernels::fused ? "fused" : "reference"; }

/// Of the whole process; fused at the start. A graph keeps the form in which it was built.
void set_kernels(Kernels kernels);
Kernels kernels();

/// Of loops that are compiled more than once.
enum class InstructionSet { any, avx2, avx512 };

/// ATen's choice for this machine, which ATEN_CPU_CAPABILITY can lower.
InstructionSet instruction_set();

/// Whether this machine has AMX tile registers, and instruction_set() does not forbid them; the first call asks the system
/// for their use.
bool has_tile_registers();

/// Whether this machine has the vector instructions for bf16, AVX512-BF16, and instruction_set() does not forbid them.
bool has_bf16_vectors();

/// The best of three tables of loops for this machine; null where this program was built without.
template <class Table>
const Table& best_loops(const Table* any, const Table* avx2, const Table* avx512) {
  const InstructionSet set = instruction_set();
  if (set == InstructionSet::avx512 && avx512) return *avx512;
  return set != InstructionSet::any && avx2 ? *avx2 : *any;
}

/// Of tables of loops in bf16 on tile registers and on vectors, the best that this machine can run; null where there is
/// none, and bf16 runs as fp32.
template <class Table>
const Table* best_bf16(const Table* tiles, const Table* vectors) {
  if (tiles && has_tile_registers()) return tiles;
  return vectors && has_bf16_vectors() ? vectors : nullptr;
}

}  // namespace equisweep
