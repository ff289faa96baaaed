// Keys and values of sweep files: what is refused, in which words, and what is read.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "sweeps/file/grammar.h"
#include "sweeps/plan.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_sweep_file {

using nlohmann::json;

struct Case {
  const char* name;
  std::string text;
  std::string message;
};

class MalformedSweep : public ::testing::TestWithParam<Case> {};

TEST_P(MalformedSweep, IsRefusedWithItsPlace) { expect_message(errors_of(GetParam().text), GetParam().message); }

INSTANTIATE_TEST_SUITE_P(
    Table, MalformedSweep,
    ::testing::Values(
        Case{"a_list", "- a\n", "f:1:1: a list is not a sweep; allowed: a map of keys"},
        Case{"a_word", "sweep\n", "f:1:1: 'sweep' is not a sweep; allowed: a map of keys"},
        Case{"future_version", changed("version: 1", "version: 2"),
             "f:1:10: version: 2 is not known to this program; allowed: 1"},
        Case{"no_version", changed("version: 1\n", ""), "f:1:1: key 'version' is missing; allowed: an integer >= 1"},
        Case{"version_as_text", changed("version: 1", "version: '1'"),
             "f:1:10: version: '1' is not an integer; allowed: an integer >= 1"},
        Case{"no_name", changed("name: small\n", ""), "f:1:1: key 'name' is missing; allowed: a string"},
        Case{"name_is_a_path", changed("small", "../x"),
             "f:2:7: name: '../x' cannot be the name of a folder; allowed: a letter or digit, then letters, digits and . _ "
             "-, at most 80 in all"},
        Case{"name_too_long", changed("small", std::string(81, 'a')),
             "f:2:7: name: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...' cannot be the name of a folder; "
             "allowed: a letter or digit, then letters, digits and . _ -, at most 80 in all"},
        Case{"name_as_number", changed("small", "12"),
             "f:2:7: name: 12 is not a string; allowed: a string; in quotes, '12' is one"},
        Case{"name_with_escape", changed("small", "\"a\\e[31m\""),
             "f:2:7: name: 'a\\x1b[31m' cannot be the name of a folder; allowed: a letter or digit, then letters, digits "
             "and . _ -, at most 80 in all"},
        Case{"unknown_key", changed("train:", "trian:"),
             "f:1:1: key 'train' is missing; allowed: a map with the keys: steps, precision, grad_clip, eval, router, "
             "deterministic, recompute, kernels\nf:4:1: unknown key 'trian'; allowed: version, name, tags, notes, data, "
             "train, "
             "schedule, "
             "grid, zip, exclude, include, stacks, init_from, model, log, stop, tune, retry, checkpoint, resources, report; "
             "did you mean 'train'?"},
        Case{"unknown_nested_key", changed("every: 5", "evry: 5"),
             "f:4:27: train.eval: unknown key 'evry'; allowed: every, tokens; did you mean 'every'?"},
        Case{"steps_zero", changed("steps: 10", "steps: 0"),
             "f:4:16: train.steps: 0 is out of range; allowed: an integer >= 1 and <= 1000000000000000"},
        Case{"steps_fraction", changed("steps: 10", "steps: 2.5"),
             "f:4:16: train.steps: 2.5 is not an integer; allowed: an integer >= 1 and <= 1000000000000000"},
        Case{"steps_as_text", changed("steps: 10", "steps: ten"),
             "f:4:16: train.steps: 'ten' is not an integer; allowed: an integer >= 1 and <= 1000000000000000"},
        Case{"steps_as_list", changed("steps: 10", "steps: [10]"),
             "f:4:16: train.steps: a list is not an integer; allowed: an integer >= 1 and <= 1000000000000000"},
        Case{"map_for_number", changed("every: 5", "every: {a: 1}"),
             "f:4:34: train.eval.every: a map is not an integer; allowed: an integer >= 1 and <= 1000000000000000"},
        Case{"number_for_map", changed("{every: 5, tokens: 64}", "5"),
             "f:4:26: train.eval: 5 is not a map; allowed: a map with the keys: every, tokens"},
        Case{"precision", changed("steps: 10", "steps: 10, precision: bf61"),
             "f:4:31: train.precision: 'bf61' is unknown; allowed: one of: fp32, bf16, fp64; did you mean 'bf16'?"},
        Case{"clip_negative", changed("steps: 10", "steps: 10, grad_clip: -1"),
             "f:4:31: train.grad_clip: -1 is out of range; allowed: a number >= 0"},
        Case{"batch_of_broken_sequences", changed("batch_tokens: 64", "batch_tokens: 65"),
             "f:3:40: data.batch_tokens: 65 is no multiple of data.seq_len, 16; allowed: e.g. 80"},
        Case{"corpus_empty", changed("corpus: synthetic", "corpus: ''"),
             "f:3:8: data.corpus: an empty or endless name; allowed: kjv, synthetic, or a folder"},
        Case{"schedule_does_not_fit", kSmallSweep + "schedule: {type: wsd, warmup: 8, decay: 0.4}\n",
             "f:11:1: schedule: warm-up of 8 and decay of 4 steps do not fit the horizon of 10 steps; allowed: warmup + "
             "decay * horizon <= horizon"},
        Case{"schedule_type", kSmallSweep + "schedule: {type: cosin}\n",
             "f:11:18: schedule.type: 'cosin' is unknown; allowed: one of: constant, linear, cosine, wsd; did you mean "
             "'cosine'?"},
        Case{"tokens_overflow",
             changed("batch_tokens: 64}", "batch_tokens: 1048576}\n")
                 .replace(changed("batch_tokens: 64}", "batch_tokens: 1048576}\n").find("steps: 10"), 9,
                          "steps: 900000000000000"),
             "f:5:9: train.steps: 900000000000000 steps of 1048576 tokens do not fit in 64 bits"},
        Case{"unknown_model", changed("qwen3-nano", "qwen3-nanp"),
             "f:5:15: grid.model: 'qwen3-nanp' is unknown; allowed: one of: qwen3-nano, ...; did you mean 'qwen3-nano'?"},
        Case{"model_twice", changed("qwen3-nano", "[qwen3-nano, qwen3-nano]"),
             "f:5:28: grid.model: 'qwen3-nano' stands in the list twice; allowed: each value once"},
        Case{"unknown_stack", changed("[adamw, muon]", "[adamw, muno]"),
             "f:5:27: grid.stack: 'muno' is no stack of this file; allowed: one of: adamw, muon; did you mean 'muon'?"},
        Case{"seed_negative", changed("[0, 1]", "[0, -1]"),
             "f:5:77: grid.seed: -1 is out of range; allowed: an integer >= 0 and <= 9007199254740991"},
        Case{"seed_twice", changed("[0, 1]", "[1, 1.0]"),
             "f:5:77: grid.seed: 1.0 stands in the list twice; allowed: each value once"},
        Case{"lr_scale_zero", changed("[1, 2]", "0"), "f:5:59: grid.lr_scale: 0 is out of range; allowed: a number > 0"},
        Case{"empty_axis", changed("[0, 1]", "[]"), "f:5:73: grid.seed: an empty list; allowed: one value or more"},
        Case{"grid_key", changed("seed: [0, 1]", "seeds: [0, 1]"),
             "f:5:67: grid: unknown key 'seeds'; allowed: model, stack, lr_scale, seed; did you mean 'seed'?"},
        Case{"no_grid", changed("grid: {model: qwen3-nano, stack: [adamw, muon], lr_scale: [1, 2], seed: [0, 1]}\n", ""),
             "f:1:1: key 'grid' is missing; allowed: a map with the keys: model, stack, lr_scale, seed"},
        Case{"diagnostic", kSmallSweep + "log: {spectra: {every: 10}}\n",
             "f:11:7: log: unknown key 'spectra'; allowed: spectral...; did you mean 'spectral'?"},
        Case{"diagnostic_pace", kSmallSweep + "log: {spectral: {every: 0}}\n",
             "f:11:25: log.spectral.every: 0 is out of range; allowed: an integer >= 1"},
        Case{"limit_without_value", kSmallSweep + "stop: {loss_above: {after: 3}}\n",
             "f:11:20: key 'stop.loss_above.value' is missing; allowed: a number > 0"},
        Case{"boolean_as_text", kSmallSweep + "stop: {nonfinite: 'true'}\n",
             "f:11:19: stop.nonfinite: 'true' is not true or false; allowed: true or false"},
        Case{"dimension", kSmallSweep + "model: {layer: 3}\n",
             "f:11:9: model (qwen3): unknown key 'layer'; allowed: vocab, d, layers, ...; did you mean 'layers'?"},
        Case{"dimension_zero", kSmallSweep + "model: {layers: 0}\n",
             "f:11:17: model.layers: 0 is out of range; allowed: an integer >= 1 and <= 4096"},
        // Each layer is an object of its own before any job runs.
        Case{"layers_without_end", kSmallSweep + "model: {layers: 4097}\n",
             "f:11:17: model.layers: 4097 is out of range; allowed: an integer >= 1 and <= 4096"},
        Case{"experts_without_end", changed("qwen3-nano", "olmoe-nano") + "model: {experts: 4097}\n",
             "f:11:18: model.experts: 4097 is out of range; allowed: an integer >= 1 and <= 4096"},
        Case{"layer_that_is_not_there", changed("qwen3-nano", "gemma3-nano") + "model: {global_layers: [0, 2]}\n",
             "f:11:1: gemma3-nano: model gemma3: global_layers names layer 2, which there is not; allowed: each once, of 0 "
             "to 1"},
        Case{"half_a_layer", changed("qwen3-nano", "gemma3-nano") + "model: {global_layers: [0.5]}\n",
             "f:11:1: gemma3-nano: model gemma3: global_layers names layer 0.5, which there is not; allowed: each once, of "
             "0 to 1"},
        Case{"layer_twice", changed("qwen3-nano", "gpt_oss-nano") + "model: {global_layers: [1, 1]}\n",
             "f:11:1: gpt_oss-nano: model gpt_oss: global_layers names layer 1 twice; allowed: each once, of 0 to 1"},
        Case{"dimensions_no_map", kSmallSweep + "model: 3\n",
             "f:11:8: model: 3 is not a map; allowed: a map of dimensions, e.g. {layers: 3}"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(SweepFile, TenMistakesAreTenProblems) {
  std::string text = kSmallSweep;
  const auto change = [&](const std::string& from, const std::string& to) {
    text.replace(text.find(from), from.size(), to);
  };
  change("version: 1", "version: 7");
  change("name: small", "name: a/b");
  change("corpus:", "corpsu:");
  change("steps: 10", "steps: none");
  change("every: 5", "every: 05");
  change("qwen3-nano", "qwen3");
  change("[1, 2]", "[1, .nan]");
  change("[0, 1]", "[0, 0]");
  change("rule: adamw", "rule: adamm");
  change("lr: 0.02", "lr: 0");
  const std::string message = errors_of(text);
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 9) << message;
  std::vector<int> lines;
  std::istringstream each(message);
  for (std::string line; std::getline(each, line);) lines.push_back(std::stoi(line.substr(2)));
  EXPECT_EQ(lines, (std::vector<int>{1, 2, 3, 4, 4, 5, 5, 5, 7, 10})) << message;
}

TEST(SweepFile, TheGuideHasTheTableOfTheProgram) {
  std::ifstream file(std::string(EQUISWEEP_SOURCE_DIR) + "/docs/sweep-file.md");
  const std::string guide((std::istreambuf_iterator<char>(file)), {});
  const std::string table = sweep_file_reference();
  EXPECT_NE(guide.find("\n\n" + table + "\n"), std::string::npos) << "docs/sweep-file.md should hold this table:\n" << table;
}

TEST(SweepFile, FillsInDefaults) {
  const SweepSpec spec = read_sweep(
      "version: 1\nname: x\ntrain: {steps: 7}\ngrid: {model: qwen3-nano}\nstacks: {a: {default: {rule: adamw, lr: 1}}}\n",
      "f");
  EXPECT_EQ(spec.data,
            json::parse(R"({"corpus": "kjv", "seq_len": 128, "batch_tokens": 4096, "seed": 1, "target_offset": 1})"));
  EXPECT_EQ(spec.train,
            json::parse(R"({"steps": 7, "precision": "fp32", "grad_clip": 1.0, "eval": {"every": 50, "tokens": 32768}})"));
  EXPECT_EQ(spec.schedule, json::parse(R"({"type": "constant", "warmup": 0})"));
  EXPECT_EQ(spec.log, json::object());
  EXPECT_EQ(spec.stop, json::parse(R"({"nonfinite": true})"));
  EXPECT_EQ(spec.grid.seeds, std::vector<std::int64_t>{0});
  EXPECT_EQ(spec.grid.lr_scales, std::vector<double>{1});
  ASSERT_EQ(spec.stacks.size(), 1U);
  EXPECT_EQ(spec.notes, "");
}

TEST(SweepFile, OverridesDimensionsOfTheModel) {
  const SweepSpec plain = read_sweep(kSmallSweep, "f"),
                  deeper = read_sweep(kSmallSweep + "model: {layers: 3, tied: true}\n", "f");
  EXPECT_EQ(plain.models[0].config.at("layers"), 2);
  EXPECT_EQ(deeper.models[0].config.at("layers"), 3);
  EXPECT_EQ(plain.models[0].parameters, 188864);  // as counted on transformers' model
  // One more layer: q, k, v, o of 64 x 128 and 64 x 64, gate, up, down of 64 x 192, two norms of 64, two of 32; no LM head
  // of 512 x 64.
  EXPECT_EQ(deeper.models[0].parameters, 188864 + 2 * 64 * 128 + 2 * 64 * 64 + 3 * 64 * 192 + 2 * 64 + 2 * 32 - 512 * 64);
}

TEST(SweepFile, SetReplacesAnyValueBeforeItIsChecked) {
  const SweepSpec spec =
      read_sweep(kSmallSweep, "f",
                 std::vector<std::string>{"train.steps=3", "stacks.muon.matrix.lr=[0.01, 0.02]", "stop.loss_above.value=12",
                                          "grid.seed=5", "notes='a=b'", "train.eval={every: 9}"});
  EXPECT_EQ(spec.train.at("steps"), 3);
  EXPECT_EQ(spec.train.at("eval"), json::parse(R"({"every": 9, "tokens": 32768})"));
  EXPECT_EQ(spec.stop.at("loss_above"), json::parse(R"({"value": 12.0, "after": 0})"));
  EXPECT_EQ(spec.grid.seeds, std::vector<std::int64_t>{5});
  EXPECT_EQ(spec.notes, "a=b");
  EXPECT_EQ(expand(spec).size(), 2U + 4U);
  EXPECT_EQ(errors_of(kSmallSweep, {"train.stesp=3", "grid.seed=01", "oops", "train.steps.x=1"}),
            "--set grid.seed: '01' has a leading zero; allowed: numbers like 10, 0.5, 1e-3, or text in quotes\n"
            "--set oops: no path=value; allowed: e.g. --set train.steps=100\n"
            "--set train.steps.x: 'train.steps' is no map; allowed: the path of a key, e.g. train.steps=100\n"
            "--set train.stesp: train: unknown key 'stesp'; allowed: steps, precision, grad_clip, eval, router, "
            "deterministic, recompute, kernels; did you mean 'steps'?");
}

}  // namespace test_sweep_file
}  // namespace equisweep
