#include "core/kernels.h"

#include <ATen/Version.h>
#include <ATen/cpu/Utils.h>

#include <atomic>
#include <string>

namespace equisweep {
namespace {

std::atomic<Kernels> chosen_kernels = Kernels::fused;

}  // namespace

void set_kernels(Kernels kernels) { chosen_kernels = kernels; }
Kernels kernels() { return chosen_kernels; }

InstructionSet instruction_set() {
  static const InstructionSet best = [] {
    const std::string capability = at::get_cpu_capability();
    return capability == "AVX512" ? InstructionSet::avx512
           : capability == "AVX2" ? InstructionSet::avx2
                                  : InstructionSet::any;
  }();
  return best;
}

bool has_tile_registers() {
  static const bool there = instruction_set() == InstructionSet::avx512 && at::cpu::init_amx();
  return there;
}

bool has_bf16_vectors() {
  static const bool there = [] {
    if (instruction_set() != InstructionSet::avx512) return false;
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") != 0;
#else
    return false;
#endif
  }();
  return there;
}

}  // namespace equisweep
