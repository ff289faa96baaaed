// Event files read back by a reader of their own: every scalar that counts, its step and wall time, and names of folders.
// scripts/check_tensorboard.py does the same with TensorBoard's reader.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <tuple>

#include "analysis/export/event_file.h"
#include "tests/analysis/export_fixture.h"
#include "tests/support/csv.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_export_tensorboard {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A field of a protocol buffer: a number (wire types 0, 1 and 5) or bytes (2).
struct Field {
  std::uint64_t number = 0;
  std::string bytes = {};
};
using Message = std::multimap<int, Field>;

Message parse(std::string_view in) {
  Message message;
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(in.at(0));
      in.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const auto fixed = [&](std::size_t bytes) {
    std::uint64_t value = 0;
    std::memcpy(&value, in.substr(0, bytes).data(), bytes);
    in.remove_prefix(bytes);
    return value;
  };
  while (!in.empty()) {
    const std::uint64_t key = varint();
    Field field;
    switch (key & 7) {
      case 0:
        field.number = varint();
        break;
      case 1:
        field.number = fixed(8);
        break;
      case 2: {
        const std::uint64_t size = varint();
        field.bytes = in.substr(0, size);
        if (field.bytes.size() != size) throw std::runtime_error("a field is cut");
        in.remove_prefix(size);
        break;
      }
      case 5:
        field.number = fixed(4);
        break;
      default:
        throw std::runtime_error("no such wire type");
    }
    message.emplace(static_cast<int>(key >> 3), field);
  }
  return message;
}

const std::string& bytes_at(const Message& message, int field) { return message.find(field)->second.bytes; }
double double_at(const Message& message, int field) { return std::bit_cast<double>(message.find(field)->second.number); }

struct Events {
  std::map<std::string, std::vector<std::tuple<std::int64_t, float, double>>> scalars;  // (step, value, wall time) by tag
  std::map<std::string, Message> plugins;                                               // values with metadata, by tag
};

/// Checks the frame of every record.
Events read_events(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(in), {}};
  Events events;
  bool first = true;
  for (std::size_t at = 0; at < all.size();) {
    std::uint64_t size = 0;
    std::memcpy(&size, all.data() + at, 8);
    const std::string record = all.substr(at, size + 16), content = record.substr(12, size);
    EXPECT_EQ(record, tfrecord(content));
    at += size + 16;
    const Message event = parse(content);
    if (first) {
      EXPECT_EQ(bytes_at(event, 3), "brain.Event:2");
      first = false;
      continue;
    }
    const auto step = event.contains(2) ? static_cast<std::int64_t>(event.find(2)->second.number) : 0;
    const Message summary = parse(bytes_at(event, 5));
    for (const auto& [field, content_of] : summary) {
      const Message value = parse(content_of.bytes);
      if (value.contains(9))
        events.plugins[bytes_at(value, 1)] = value;
      else
        events.scalars[bytes_at(value, 1)].emplace_back(
            step, std::bit_cast<float>(static_cast<std::uint32_t>(value.find(2)->second.number)), double_at(event, 1));
    }
  }
  return events;
}

class ExportTensorboard : public ::testing::Test {
 protected:
  fs::path database() const { return folder_ / "sweep.db"; }
  void export_events() { export_sweep(database(), folder_ / "out", ExportFormat::tensorboard); }
  std::vector<std::string> folders() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_ / "out"))
      if (entry.is_directory()) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  Events events(const std::string& run) const {
    fs::path file;
    for (const auto& entry : fs::directory_iterator(folder_ / "out" / run)) file = entry.path();
    EXPECT_THAT(file.filename().string(), ::testing::StartsWith("events.out.tfevents."));
    return read_events(file);
  }
  const TempFolder folder_{memory_root()};
};

TEST_F(ExportTensorboard, EveryScalarThatCountsWithItsStepAndTime) {
  write_eventful_sweep(database());
  export_events();
  ASSERT_THAT(folders(), ElementsAre("0001-tiny-base-lr1-seed3", "0002-tiny-new-lr0.1-matrix-lr-0-02-seed0"));
  const Events run = events(folders()[0]);
  constexpr double kMidnight = 1795305600, kHour = 3600;  // 2026-11-22T00:00:00Z
  const auto& loss = run.scalars.at("train/loss");
  ASSERT_EQ(loss.size(), 5U);
  EXPECT_EQ(loss[1], std::tuple(2, 5.9F, kMidnight + 1.0));
  EXPECT_EQ(loss[2], std::tuple(3, 5.8F, kMidnight + kHour + 0.75)) << "0.75 s after the second start";
  EXPECT_TRUE(std::isnan(std::get<1>(loss[3])));
  EXPECT_EQ(std::get<1>(loss[4]), INFINITY);
  EXPECT_THAT(run.scalars.at("eval/loss"), ElementsAre(std::tuple(0, 6.0F, kMidnight), std::tuple(2, 5.5F, kMidnight + 0.02),
                                                       std::tuple(4, 5.25F, kMidnight + kHour + (0.04 - 1.0))));
  EXPECT_EQ(run.scalars.at("train/grad_norm").size(), 4U) << "what was not measured is no scalar";
  EXPECT_THAT(run.scalars.at("spectral_norm/model.embed_tokens.weight"),
              ElementsAre(std::tuple(1, 1.25F, kMidnight + 0.5), std::tuple(3, 1.5F, kMidnight + kHour + 0.75)));
  EXPECT_TRUE(std::isnan(std::get<1>(run.scalars.at("gradient_norm/model.embed_tokens.weight").at(1))));
  for (const auto& [tag, value] :
       std::map<std::string, float>{{"train/lr", 0.003F},
                                    {"time/seconds", 0.5F},
                                    {"time/optimizer_seconds", 0.1F},
                                    {"logits/logsumexp", 4.25F},
                                    {"router_z_loss/layer 0", 2.5F},
                                    {"attention_max_logit/layer 0 head 1", 12.5F},
                                    {"equivariance_error/model.layers.0.mlp.up_proj.weight rows.orthogonal", 1e-7F},
                                    {"update_to_weight/model.layers.0.mlp.up_proj.weight", 0.004F}})
    EXPECT_EQ(std::get<1>(run.scalars.at(tag).at(0)), value) << tag;
  EXPECT_EQ(std::get<1>(events(folders()[1]).scalars.at("train/lr").at(0)), 0.0F) << "below the floats";
}

TEST_F(ExportTensorboard, SettingsAndConfig) {
  write_eventful_sweep(database());
  testing::change_sweep(database(), "UPDATE runs SET message = 'loss is not finite' WHERE run = 2");
  export_events();
  const Events run = events(folders()[1]);
  const std::string text = bytes_at(parse(bytes_at(run.plugins.at("config"), 8)), 8);
  EXPECT_THAT(text, HasSubstr("    state diverged: loss is not finite\n"));
  EXPECT_THAT(text, HasSubstr("        \"batch_tokens\": 100,\n"));
  const auto settings = [&](const char* tag) {
    const Message plugin = parse(bytes_at(parse(bytes_at(run.plugins.at(tag), 9)), 1));
    EXPECT_EQ(bytes_at(plugin, 1), "hparams");
    return parse(bytes_at(plugin, 2));
  };
  std::map<std::string, Message> parameters;
  for (const auto& [field, entry] : parse(bytes_at(settings("_hparams_/session_start_info"), 3))) {
    if (field != 1) continue;
    const Message pair = parse(entry.bytes);
    parameters[bytes_at(pair, 1)] = parse(bytes_at(pair, 2));
  }
  EXPECT_EQ(bytes_at(parameters.at("stack"), 3), "new");
  EXPECT_EQ(double_at(parameters.at("lr_scale"), 2), 0.1);
  EXPECT_EQ(double_at(parameters.at("matrix.lr"), 2), 0.02);
  EXPECT_EQ(parse(bytes_at(settings("_hparams_/session_end_info"), 4)).find(1)->second.number, 2U) << "a failure";
}

TEST_F(ExportTensorboard, HostileNamesStayInTheirPlace) {
  testing::FixtureSweep sweep;
  const std::vector<std::string> names = {"../../x",
                                          "/etc/passwd",
                                          std::string("nul\0nul", 7),
                                          std::string(300, 'x'),
                                          "a\nb",
                                          ".",
                                          "..",
                                          "\xff\xfe",
                                          "CON",
                                          "-rf",
                                          "",
                                          "\xE2\x80\xAE"};
  for (const std::string& name : names)
    sweep.runs.push_back(
        {.model = name, .stack = name, .axes = R"({"../y":"/z"})", .evals = {{0, 6.0}}, .message = name, .phase = "tune"});
  testing::write_sweep(database(), sweep);
  testing::change_sweep(database(),
                        "INSERT INTO blocks SELECT run, 0, message, 'r', 0, '[]', 'e', 'r' FROM runs;"
                        "INSERT INTO block_stats SELECT run, 1, 1, 0, 1.5, 1, 1, 1, 1, 1, 0 FROM runs;"
                        "UPDATE attempts SET started_at = 'yesterday'");
  export_events();
  ASSERT_EQ(folders().size(), names.size());
  for (const std::string& folder : folders()) {
    EXPECT_TRUE(std::all_of(folder.begin(), folder.end(), [](char c) {
      return std::islower(c) || std::isdigit(c) || c == '-' || c == '_' || c == '.';
    })) << folder;
    EXPECT_EQ(folder.find(".."), std::string::npos);
    EXPECT_LE(folder.size(), 250U);
    const Events run = events(folder);
    EXPECT_EQ(std::get<2>(run.scalars.at("eval/loss").at(0)), 0.0) << "no readable time";
    for (const auto& [tag, values] : run.scalars)
      EXPECT_TRUE(std::all_of(tag.begin(), tag.end(), [](char c) { return c < 0 || c >= 0x20; })) << tag;
  }
  EXPECT_EQ(testing::parse_csv([&] {
              std::ifstream in(folder_ / "out/runs.csv", std::ios::binary);
              return std::string{std::istreambuf_iterator<char>(in), {}};
            }())
                .size(),
            names.size() + 1);
  for (const auto& entry : fs::directory_iterator(folder_.path()))
    EXPECT_THAT(entry.path().filename().string(), ::testing::AnyOf("out", ::testing::StartsWith("sweep.db")));
}

TEST_F(ExportTensorboard, OnlyRunsThatHaveStartedAndAreInTheSweep) {
  testing::write_sweep(database(),
                       {.runs = {{.state = "running", .evals = {{0, 6.0}}}, {.state = "queued"}, {.stack = "gone"}}});
  testing::change_sweep(database(), "UPDATE cells SET retired = 1 WHERE stack = 'gone'");
  export_events();
  ASSERT_THAT(folders(), ElementsAre("0001-m-s-lr1-seed0"));
  EXPECT_EQ(events(folders()[0]).scalars.at("eval/loss").size(), 1U);
}

}  // namespace test_export_tensorboard
}  // namespace equisweep
