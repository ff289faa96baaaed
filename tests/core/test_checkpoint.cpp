// Checkpoints: what goes in comes out; killed at any point an older one is there; damaged or foreign ones are refused.
#include "core/checkpoint.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <limits>

#include "core/error.h"
#include "core/fault_point.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_checkpoint {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kCheckpointJob = "0123456789abcdef";

std::vector<NamedTensor> tensors_of(std::int64_t step) {
  const auto value = static_cast<double>(step);
  return {{"weight/w", at::arange(12, at::kFloat).view({3, 4}).t() * value},  // strided
          {"state/w/m", at::full({4, 3}, value, at::kDouble)},
          {"weight/none", at::empty({0, 2})}};
}

Checkpoint checkpoint_of(std::int64_t step) {
  return {.job = kCheckpointJob,
          .step = step,
          .tokens = 128 * step,
          .seconds = 0.1 * static_cast<double>(step),
          .evaluated = step % 2 == 0,
          .corpus = "digest",
          .environment = "cpu, 2 threads",
          .tensors = tensors_of(step)};
}

FoundCheckpoint find(const fs::path& folder) { return find_checkpoint(folder, kCheckpointJob, tensors_of(1)); }

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string content_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void set_content(const fs::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
}

void expect_equal(const Checkpoint& a, const Checkpoint& b) {
  EXPECT_EQ(std::tie(a.job, a.step, a.tokens, a.seconds, a.evaluated, a.corpus, a.environment),
            std::tie(b.job, b.step, b.tokens, b.seconds, b.evaluated, b.corpus, b.environment));
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (std::size_t i = 0; i < a.tensors.size(); ++i) {
    EXPECT_EQ(a.tensors[i].first, b.tensors[i].first);
    EXPECT_EQ(a.tensors[i].second.scalar_type(), b.tensors[i].second.scalar_type());
    EXPECT_TRUE(at::equal(a.tensors[i].second, b.tensors[i].second)) << a.tensors[i].first;
  }
}

TEST(Checkpoint, ComesBackAndTheNewestCounts) {
  const TempFolder folder;
  const fs::path ckpt = folder / "ckpt";
  EXPECT_FALSE(find(ckpt).checkpoint);
  for (const std::int64_t step : {1, 2, 7, 10}) {
    const auto bytes = write_checkpoint(ckpt, checkpoint_of(step), 2);
    EXPECT_EQ(bytes, fs::file_size(checkpoint_file(ckpt, step)));
    const FoundCheckpoint found = find(ckpt);
    ASSERT_TRUE(found.checkpoint);
    EXPECT_THAT(found.refused, IsEmpty());
    expect_equal(*found.checkpoint, checkpoint_of(step));
  }
  EXPECT_THAT(names_in(ckpt), ElementsAre("step-000000007.ckpt", "step-000000010.ckpt"));
  EXPECT_EQ(find_checkpoint(ckpt, kCheckpointJob, tensors_of(1), 9).checkpoint->step, 7);
  EXPECT_THAT(find_checkpoint(ckpt, kCheckpointJob, tensors_of(1), 6).refused,
              ElementsAre("step-000000010.ckpt: run.db has whole rows only up to step 6",
                          "step-000000007.ckpt: run.db has whole rows only up to step 6"));
  // One of an earlier step: those after it are of a past that is trained again.
  set_content(ckpt / ".step-000000003.ckpt.1-1.tmp", "what a killed writer left");
  write_checkpoint(ckpt, checkpoint_of(8), 3);
  EXPECT_THAT(names_in(ckpt), ElementsAre("step-000000007.ckpt", "step-000000008.ckpt"));
  set_content(ckpt / "notes.txt", "of a person");
  remove_checkpoints(ckpt);
  EXPECT_THAT(names_in(ckpt), ElementsAre("notes.txt"));
  fs::remove(ckpt / "notes.txt");
  remove_checkpoints(ckpt);
  EXPECT_FALSE(fs::exists(ckpt));
  const Checkpoint far = checkpoint_of(12345678901);
  write_checkpoint(ckpt, far, 1);
  expect_equal(*find(ckpt).checkpoint, far);
}

TEST(Checkpoint, AnyChangedByteIsNoticed) {
  const TempFolder folder;
  write_checkpoint(folder.path(), checkpoint_of(2), 1);
  const fs::path file = checkpoint_file(folder.path(), 2);
  const std::string whole = content_of(file);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int bit : {0, 5}) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      set_content(file, damaged);
      EXPECT_THROW(read_checkpoint(file, kCheckpointJob, tensors_of(2)), DataError) << "byte " << i;
    }
    set_content(file, whole.substr(0, i));
    EXPECT_THROW(read_checkpoint(file, kCheckpointJob, tensors_of(2)), DataError) << "cut to " << i;
  }
  set_content(file, whole + "x");
  EXPECT_THROW(read_checkpoint(file, kCheckpointJob, tensors_of(2)), DataError);
  set_content(file, whole);
  expect_equal(read_checkpoint(file, kCheckpointJob, tensors_of(2)), checkpoint_of(2));
}

TEST(Checkpoint, TheOlderOneIsUsedAndTheReasonsAreGiven) {
  const TempFolder folder;
  for (const std::int64_t step : {1, 2, 3}) write_checkpoint(folder.path(), checkpoint_of(step), 3);
  std::string bytes = content_of(checkpoint_file(folder.path(), 3));
  bytes[bytes.size() - 30] = static_cast<char>(bytes[bytes.size() - 30] ^ 1);  // in the tensors
  set_content(checkpoint_file(folder.path(), 3), bytes);
  set_content(checkpoint_file(folder.path(), 2), "");
  const FoundCheckpoint found = find(folder.path());
  ASSERT_TRUE(found.checkpoint);
  expect_equal(*found.checkpoint, checkpoint_of(1));
  EXPECT_THAT(found.refused, ElementsAre("step-000000003.ckpt: is damaged: its content is not that of its checksum",
                                         HasSubstr("step-000000002.ckpt: is 0 bytes long")));
}

/// A checkpoint that somebody else might have made: whole, and with the right checksum.
struct Foreign {
  const char* name;
  std::function<void(Checkpoint&)> change;
  const char* message;
};
void PrintTo(const Foreign& f, std::ostream* out) { *out << f.name; }

class ForeignCheckpoint : public ::testing::TestWithParam<Foreign> {};

TEST_P(ForeignCheckpoint, IsRefused) {
  const TempFolder folder;
  Checkpoint checkpoint = checkpoint_of(3);
  GetParam().change(checkpoint);
  write_checkpoint(folder.path(), checkpoint, 1);
  fs::rename(checkpoint_file(folder.path(), checkpoint.step), checkpoint_file(folder.path(), 3));
  EXPECT_THAT(find(folder.path()).refused, ElementsAre(HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Checkpoint, ForeignCheckpoint,
    ::testing::Values(
        Foreign{"OtherJob", [](Checkpoint& c) { c.job = "fedcba9876543210"; }, "is of job fedcba9876543210"},
        Foreign{"OtherName", [](Checkpoint& c) { c.step = 4; }, "is of step 4; its name says another"},
        Foreign{"NegativeTokens", [](Checkpoint& c) { c.tokens = -1; }, "'tokens' is '-1'"},
        Foreign{"NegativeTime", [](Checkpoint& c) { c.seconds = -0.5; }, "'seconds' is '-0.5'"},
        Foreign{"EndlessTime", [](Checkpoint& c) { c.seconds = std::numeric_limits<double>::infinity(); }, "'seconds'"},
        Foreign{"NoTime", [](Checkpoint& c) { c.seconds = std::numeric_limits<double>::quiet_NaN(); }, "'seconds'"},
        Foreign{"MissingWeight", [](Checkpoint& c) { c.tensors.erase(c.tensors.begin()); }, "lacks 'weight/w'"},
        Foreign{"MissingState", [](Checkpoint& c) { c.tensors.erase(c.tensors.begin() + 1); }, "lacks 'state/w/m'"},
        Foreign{"OtherArchitecture", [](Checkpoint& c) { c.tensors.emplace_back("weight/x", at::ones({1})); },
                "holds 'weight/x', which this model"},
        Foreign{"OtherShape",
                [](Checkpoint& c) {
                  c.tensors[0].second = at::ones({3, 4});
                },
                "'weight/w' is Float [3, 4] there and Float [4, 3] here"},
        Foreign{"OtherDtype",
                [](Checkpoint& c) {
                  c.tensors[1].second = at::ones({4, 3});
                },
                "'state/w/m' is Float [4, 3] there and Double [4, 3] here"}),
    [](const ::testing::TestParamInfo<Foreign>& p) { return p.param.name; });

// The metadata as somebody might write them: each left out, and one too many.
TEST(Checkpoint, EveryFactIsNeededAndNoOther) {
  const TempFolder folder;
  const fs::path file = checkpoint_file(folder.path(), 3);
  const std::map<std::string, std::string> facts = {{"format", "equisweep-checkpoint-1"},
                                                    {"job", kCheckpointJob},
                                                    {"step", "3"},
                                                    {"tokens", "5"},
                                                    {"seconds", "0.5"},
                                                    {"evaluated", "1"},
                                                    {"corpus", "digest"},
                                                    {"environment", "here"}};
  const auto refusal = [&](const std::map<std::string, std::string>& given, bool checksum = true) {
    write_safetensors(file, tensors_of(3), given, {.checksum = checksum});
    const FoundCheckpoint found = find(folder.path());
    return found.checkpoint ? "" : found.refused.at(0);
  };
  EXPECT_EQ(refusal(facts), "");
  EXPECT_THAT(refusal(facts, false), HasSubstr("does not end in a checksum"));
  for (const auto& [key, value] : facts) {
    auto fewer = facts;
    fewer.erase(key);
    EXPECT_THAT(refusal(fewer), HasSubstr("its metadata lack '" + key + "'"));
  }
  auto changed = facts;
  changed["rank"] = "0";
  EXPECT_THAT(refusal(changed), HasSubstr("unknown metadata 'rank'"));
  changed = facts;
  changed["format"] = "equisweep-checkpoint-2";
  EXPECT_THAT(refusal(changed), HasSubstr("its format is 'equisweep-checkpoint-2'"));
  for (const char* step : {"0", "-3", "3.0", "03 ", "", "99999999999999999999"}) {
    changed = facts;
    changed["step"] = step;
    EXPECT_THAT(refusal(changed), HasSubstr("'step' is"));
  }
}

TEST(Checkpoint, LinksAreNotFollowed) {
  const TempFolder folder, elsewhere;
  write_checkpoint(elsewhere / "real", checkpoint_of(2), 1);
  fs::create_directory_symlink(elsewhere / "real", folder / "ckpt");
  EXPECT_THAT(find(folder / "ckpt").refused, ElementsAre("ckpt: is a link; its files are not used"));
  EXPECT_THAT([&] { write_checkpoint(folder / "ckpt", checkpoint_of(4), 1); },
              ::testing::ThrowsMessage<Error>(HasSubstr("is no folder of this run but a link")));
  remove_checkpoints(folder / "ckpt");
  EXPECT_THAT(names_in(elsewhere / "real"), ElementsAre("step-000000002.ckpt"));

  // A link in the place of a file is replaced, not written through.
  set_content(elsewhere / "precious", "precious");
  fs::create_directory(folder / "own");
  fs::create_symlink(elsewhere / "precious", checkpoint_file(folder / "own", 4));
  EXPECT_THAT(find(folder / "own").refused, ElementsAre(HasSubstr("step-000000004.ckpt: is a link")));
  write_checkpoint(folder / "own", checkpoint_of(4), 1);
  EXPECT_EQ(content_of(elsewhere / "precious"), "precious");
  expect_equal(*find(folder / "own").checkpoint, checkpoint_of(4));
}

const char* const kCheckpointPoints[] = {"checkpoint.open",   "checkpoint.write",   "checkpoint.sync",
                                         "checkpoint.rename", "checkpoint.renamed", "checkpoint.prune"};

// Three checkpoints are written by a process that is killed at the k-th pass of a point, for every k until it passes clean;
// then the next process goes on, and is killed in the same way itself.
TEST(Checkpoint, KilledAnywhereLeavesTheOneBeforeOrTheNewOne) {
  int kills = 0;
  for (const std::string point : kCheckpointPoints) {
    bool killed = true;
    for (int k = 1; killed; ++k) {
      const TempFolder folder;
      const fs::path ckpt = folder / "ckpt";
      std::int64_t previous = 0;
      for (int round = 0; round < 2; ++round) {
        int fds[2];
        ASSERT_EQ(::pipe(fds), 0);
        const pid_t child = ::fork();
        if (child == 0) {
          arm_faults(point + ":" + std::to_string(k));
          for (std::int64_t step = previous + 1; step <= previous + 3; ++step) {
            write_checkpoint(ckpt, checkpoint_of(step), 2);
            if (::write(fds[1], &step, sizeof step) != sizeof step) ::_exit(1);
          }
          ::_exit(0);
        }
        ::close(fds[1]);
        std::int64_t acknowledged = previous;
        while (::read(fds[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged) {
        }
        ::close(fds[0]);
        int status = 0;
        ::waitpid(child, &status, 0);
        killed = WIFSIGNALED(status);
        kills += killed ? 1 : 0;
        ASSERT_TRUE(killed || status == 0);
        const FoundCheckpoint found = find(ckpt);
        EXPECT_THAT(found.refused, IsEmpty());
        const std::int64_t step = found.checkpoint ? found.checkpoint->step : 0;
        EXPECT_GE(step, acknowledged);
        EXPECT_LE(step, acknowledged + (killed ? 1 : 0));
        if (found.checkpoint) expect_equal(*found.checkpoint, checkpoint_of(step));
        previous = step;
      }
      write_checkpoint(ckpt, checkpoint_of(previous + 1), 2);
      EXPECT_LE(names_in(ckpt).size(), 2u) << "something was left behind";
      if (HasFailure()) FAIL() << point << " " << k;
    }
  }
  EXPECT_GT(kills, 30);
}

TEST(Checkpoint, AFullDiskAnywhereKeepsTheOneBefore) {
  int errors = 0;
  for (const std::string point : {"checkpoint.open", "checkpoint.write", "checkpoint.sync", "checkpoint.rename"}) {
    for (const char* kind : {"enospc", "eio"}) {
      bool failed = true;
      for (int k = 1; failed; ++k) {
        const TempFolder folder;
        write_checkpoint(folder.path(), checkpoint_of(1), 2);
        arm_faults(point + ":" + std::to_string(k) + "=" + kind);
        failed = false;
        try {
          write_checkpoint(folder.path(), checkpoint_of(2), 2);
        } catch (const Error& error) {
          failed = true;
          ++errors;
          EXPECT_THAT(error.what(), HasSubstr("step-000000002.ckpt: cannot be written: "));
        }
        arm_faults("");
        EXPECT_EQ(names_in(folder.path()).size(), failed ? 1u : 2u);
        expect_equal(*find(folder.path()).checkpoint, checkpoint_of(failed ? 1 : 2));
      }
    }
  }
  EXPECT_GT(errors, 10);
}

}  // namespace test_checkpoint
}  // namespace equisweep
