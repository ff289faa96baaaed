// The canonical form of a config, and ids that results on disk depend on.

#include "sweeps/job.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "core/error.h"

namespace equisweep {
namespace test_job {

using nlohmann::json;

// Written by hand, so that the pinned id does not depend on the defaults of any table.
const json& sample() {
  static const json config = json::parse(R"({
    "data": {"corpus": "kjv", "seq_len": 128, "batch_tokens": 2048, "seed": 1, "target_offset": 1},
    "log": {"spectral": {"every": 10}},
    "model": {"architecture": "qwen3", "vocab": 512, "d": 64, "layers": 2, "norm_eps": 1e-6, "rope_base": 1e6},
    "schedule": {"type": "wsd", "warmup": 20, "decay": 0.4},
    "seed": 0,
    "stack": {"default": {"rule": "adamw", "lr": 0.003, "betas": [0.9, 0.95], "weight_decay": 0.0},
              "matrix": {"rule": "muon", "lr": 0.02, "nesterov": true, "polar": {"method": "polar_express", "steps": 5}}},
    "stop": {"nonfinite": true},
    "train": {"steps": 300, "precision": "bf16", "grad_clip": 1.0, "eval": {"every": 50, "tokens": 32768}}})");
  return config;
}

TEST(Canonical, WritesEachValueInOneForm) {
  struct Row {
    const char* json_text;
    const char* canonical_text;
  };
  for (const auto& [text, expected] : {
           Row{"1", "1"},
           Row{"1.0", "1"},
           Row{"-0.0", "0"},
           Row{"1e3", "1000"},
           Row{"0.001", "0.001"},
           Row{"1e-3", "0.001"},
           Row{"0.1", "0.1"},
           Row{"1e-7", "1e-07"},
           Row{"123456789.25", "123456789.25"},
           Row{"9007199254740993", "9007199254740993"},
           Row{"1e18", "1000000000000000000"},
           Row{"1e300", "1e+300"},
           Row{"5e-324", "5e-324"},
           Row{"1e19", "10000000000000000000"},
           Row{"10000000000000000000", "10000000000000000000"},
           Row{"true", "true"},
           Row{"null", "null"},
           Row{"[1.0, \"a\", []]", "[1,\"a\",[]]"},
           Row{"{\"b\": 1, \"a\": {\"d\": {}, \"c\": 2}}", "{\"a\":{\"c\":2,\"d\":{}},\"b\":1}"},
           Row{"\"\xC3\xA9 \\\" \\n\"", "\"\xC3\xA9 \\\" \\n\""},
       })
    EXPECT_EQ(canonical(json::parse(text)), expected) << text;
}

TEST(Canonical, ReadsBackAsTheSameValue) {
  for (const double x : {0.1, 1.0 / 3, 2e-3 * 1.5, 6.02214076e23, std::numeric_limits<double>::denorm_min(),
                         std::numeric_limits<double>::max()})
    EXPECT_EQ(json::parse(canonical(x)).get<double>(), x);
  EXPECT_EQ(json::parse(canonical(sample())), sample());
}

TEST(Canonical, RefusesWhatIsNotFinite) {
  EXPECT_THROW(canonical(json{{"lr", std::numeric_limits<double>::quiet_NaN()}}), UsageError);
  EXPECT_THROW(canonical(json::array({std::numeric_limits<double>::infinity()})), UsageError);
}

TEST(JobId, IsPinned) {
  EXPECT_EQ(job_id(sample()), "567c9e948c8609be");
  EXPECT_EQ(job_id(json::object()), "dc7048f8f8747f56");
}

TEST(JobId, DependsOnNeitherOrderNorSpellingOfNumbers) {
  std::string text = sample().dump();
  const auto replace = [&](const std::string& from, const std::string& to) {
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  };
  replace("\"lr\":0.003", "\"lr\":3e-3");
  replace("\"steps\":300", "\"steps\":3.00e2");
  replace("\"seed\":0", "\"seed\":0.0");
  replace("{\"data\":", "{\"train\":" + sample().at("train").dump() + ",\"data\":");
  EXPECT_EQ(job_id(json::parse(text)), job_id(sample()));
}

// Every leaf counts: changing or dropping any one of them changes the id.
TEST(JobId, DependsOnEveryLeaf) {
  std::set<std::string> ids = {job_id(sample())};
  std::size_t expected = 1;
  const json leaves = sample().flatten();
  for (const auto& [pointer, value] : leaves.items()) {
    json changed = sample();
    json& leaf = changed[json::json_pointer(pointer)];
    if (value.is_string()) leaf = value.get<std::string>() + "x";
    if (value.is_boolean()) leaf = !value.get<bool>();
    if (value.is_number_integer()) leaf = value.get<int>() + 1;
    if (value.is_number_float()) leaf = std::nextafter(value.get<double>(), 1e9);
    ids.insert(job_id(changed));
    expected += 1;
    json dropped = leaves;
    dropped.erase(pointer);
    ids.insert(job_id(dropped.unflatten()));
    expected += 1;
  }
  EXPECT_EQ(ids.size(), expected);
}

TEST(JobId, IsSixteenHexDigits) {
  EXPECT_EQ(job_id(sample()).size(), 16U);
  EXPECT_EQ(job_id(sample()).find_first_not_of("0123456789abcdef"), std::string::npos);
}

}  // namespace test_job
}  // namespace equisweep
