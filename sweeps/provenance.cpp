#include "sweeps/provenance.h"

#include <ATen/Context.h>
#include <sqlite3.h>
#include <sys/utsname.h>
#include <torch/version.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/cuda.h"
#include "core/kernels.h"
#include "equisweep_version.h"
#include "sweeps/device.h"

namespace equisweep {
namespace {

/// The value of the first line of `file` that begins with `key`, after its colon.
std::string value_in(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key)) {
      const auto colon = line.find(':');
      const auto begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
      return begin == std::string::npos ? "" : line.substr(begin);
    }
  return "";
}

/// How this program multiplies bf16 matrices on the CPU: what decides whether precision bf16 is fast.
std::string bf16_support() { return has_tile_registers() ? "amx" : has_bf16_vectors() ? "avx512" : "emulated"; }

std::vector<std::string> command_line() {
  std::ifstream in("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(in, word, '\0');) words.push_back(word);
  return words;
}

}  // namespace

std::string cuda_status() {
  if (!at::Context::hasCUDART()) return "LibTorch was built without CUDA: CPU slots are used";
  const int devices = cuda_device_count();
  if (devices == 0) return "LibTorch was built with CUDA but finds no driver or no device: CPU slots are used";
  std::string text = std::to_string(devices) + (devices == 1 ? " device" : " devices");
  for (const std::string& name : cuda_device_names()) text += (text.find(':') == std::string::npos ? ": " : "; ") + name;
  return text;
}

nlohmann::json provenance() {
  utsname os = {};
  uname(&os);
  const auto pages = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  return {{"equisweep", EQUISWEEP_VERSION},
          {"commit", EQUISWEEP_COMMIT},
          {"modified", EQUISWEEP_MODIFIED},
          {"libtorch", TORCH_VERSION},
          {"compiler", __VERSION__},
          {"sqlite", sqlite3_libversion()},
          {"host", os.nodename},
          {"os", std::string(os.sysname) + " " + os.release + " " + os.machine},
          {"cpu", value_in("/proc/cpuinfo", "model name")},
          {"cores", std::thread::hardware_concurrency()},
          {"memory_bytes", pages},
          {"bf16", bf16_support()},
          {"cuda", cuda_status()},
          {"command", command_line()}};
}

}  // namespace equisweep
