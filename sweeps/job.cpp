#include "sweeps/job.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "core/error.h"

namespace equisweep {

namespace {

void write_number(std::string& out, double value) {
  if (!std::isfinite(value)) throw UsageError("a number of the config is not finite");
  std::array<char, 40> buffer{};
  std::to_chars_result end{};
  // Integral values are written as integers, so that 1e18 and 1000000000000000000 are one number.
  if (value != std::floor(value)) {
    end = std::to_chars(buffer.begin(), buffer.end(), value);
  } else if (std::fabs(value) < 0x1p63) {
    end = std::to_chars(buffer.begin(), buffer.end(), static_cast<std::int64_t>(value));
  } else if (value > 0 && value < 0x1p64) {
    end = std::to_chars(buffer.begin(), buffer.end(), static_cast<std::uint64_t>(value));
  } else {
    end = std::to_chars(buffer.begin(), buffer.end(), value);
  }
  out.append(buffer.data(), end.ptr);
}

void write_string(std::string& out, const std::string& text) {
  const auto plain = [](char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; };
  if (std::all_of(text.begin(), text.end(), plain)) {
    out += '"';
    out += text;
    out += '"';
  } else {
    out += nlohmann::json(text).dump();
  }
}

void write(std::string& out, const nlohmann::json& value) {
  if (value.is_object()) {
    out += '{';
    bool first = true;
    for (const auto& [key, item] : value.items()) {  // nlohmann::json keeps objects sorted by the bytes of their keys
      if (!first) out += ',';
      first = false;
      write_string(out, key);
      out += ':';
      write(out, item);
    }
    out += '}';
  } else if (value.is_array()) {
    out += '[';
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (i > 0) out += ',';
      write(out, value[i]);
    }
    out += ']';
  } else if (value.is_string()) {
    write_string(out, value.get_ref<const std::string&>());
  } else if (value.is_number_float()) {
    write_number(out, value.get<double>());
  } else {
    out += value.dump();
  }
}

}  // namespace

std::string canonical(const nlohmann::json& value) {
  std::string out;
  write(out, value);
  return out;
}

std::string hash_of(std::string_view canonical_text) {
  return fmt::format("{:016x}", XXH3_128bits(canonical_text.data(), canonical_text.size()).high64);
}

std::string job_id(const nlohmann::json& config) { return hash_of(canonical(config)); }

std::vector<std::string> difference(const nlohmann::json& before, const nlohmann::json& after) {
  if (!before.is_object() || !after.is_object())
    return canonical(before) == canonical(after) ? std::vector<std::string>{} : std::vector<std::string>{""};
  std::vector<std::string> paths;
  nlohmann::json keys = before;
  keys.update(after);
  for (const auto& [key, value] : keys.items()) {
    if (!before.contains(key) || !after.contains(key)) {
      paths.push_back(key);
      continue;
    }
    for (const std::string& inner : difference(before[key], after[key]))
      paths.push_back(inner.empty() ? key : fmt::format("{}.{}", key, inner));
  }
  return paths;
}

}  // namespace equisweep
