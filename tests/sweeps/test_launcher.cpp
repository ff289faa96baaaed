// What workers are called with, what is believed of what they say, and what is kept of what they write.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "core/error.h"
#include "sweeps/launcher/local.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_launcher {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

TEST(Launcher, Arguments) {
  const WorkerSpec spec{
      .folder = "results/a b/runs/x;rm", .attempt = 3, .device = "cuda:0", .visible = "MIG-1", .threads = 4};
  EXPECT_THAT(worker_arguments(spec), ::testing::ElementsAre("exec", "results/a b/runs/x;rm", "--attempt", "3", "--device",
                                                             "cuda:0", "--threads", "4", "--progress-fd", "3"));
  WorkerSpec saving = spec;
  saving.checkpoint = {.every = 50, .minutes = 2.5, .keep = 3};
  EXPECT_THAT(worker_arguments(saving),
              ::testing::ElementsAre("exec", "results/a b/runs/x;rm", "--attempt", "3", "--device", "cuda:0", "--threads",
                                     "4", "--checkpoint-every", "50", "--checkpoint-minutes", "2.5", "--checkpoint-keep",
                                     "3", "--progress-fd", "3"));
  const char* inherited[] = {"HOME=/h",           "CUDA_VISIBLE_DEVICES=0,1", "OMP_NUM_THREADS=64",
                             "MALLOC_TOP_PAD_=1", "OMP_NUM_THREADS_X=2",      nullptr};
  EXPECT_THAT(worker_environment(spec, inherited),
              UnorderedElementsAre("HOME=/h", "CUDA_VISIBLE_DEVICES=MIG-1", "OMP_NUM_THREADS=4", "MKL_NUM_THREADS=4",
                                   "MALLOC_TOP_PAD_=1", "OMP_NUM_THREADS_X=2", "MALLOC_MMAP_THRESHOLD_=1073741824",
                                   "MALLOC_TRIM_THRESHOLD_=2147483647"));
}

TEST(Launcher, ProgressIsCheckedBeforeItIsBelieved) {
  const auto p = parse_progress(R"({"step":12,"steps":300,"loss":3.25,"tokens_per_second":51000,"phase":"train"})");
  ASSERT_TRUE(p);
  EXPECT_EQ(p->step, 12);
  EXPECT_EQ(p->steps, 300);
  EXPECT_EQ(p->loss, 3.25);
  EXPECT_EQ(p->tokens_per_second, 51000);
  EXPECT_EQ(p->phase, "train");
  for (const char* line : {"", "x", "[]", "3", "null", "{", "{\"step\":1}}", "\"\xff\"", "{\"a\":\xff}"})
    EXPECT_FALSE(parse_progress(line)) << line;
  const auto odd =
      parse_progress(R"({"step":"1","steps":18446744073709551615,"loss":null,"tokens_per_second":-1,"phase":"\u001b[2J"})");
  ASSERT_TRUE(odd);
  EXPECT_EQ(odd->step, 0);
  EXPECT_EQ(odd->steps, 0);
  EXPECT_FALSE(odd->loss);
  EXPECT_EQ(odd->tokens_per_second, 0);
  EXPECT_EQ(odd->phase.find('\x1b'), std::string::npos);
}

/// Runs `script` (a shell script that stands for a worker) to its end.
WorkerExit run(const TempFolder& folder, const std::string& script, std::int64_t log_limit,
               std::vector<WorkerNews>* progress = nullptr) {
  const auto program = folder / "worker";
  std::ofstream(program) << "#!/bin/sh\n" << script;
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  LocalLauncher launcher(program, log_limit);
  launcher.start({.folder = folder.path(), .attempt = 1, .visible = "7"});
  while (true) {
    for (const WorkerNews& n : launcher.wait(std::chrono::milliseconds(1000))) {
      if (progress != nullptr && n.progress) progress->push_back(n);
      if (n.exit) return *n.exit;
    }
  }
}

std::string text(const std::filesystem::path& path) {
  std::stringstream all;
  all << std::ifstream(path).rdbuf();
  return all.str();
}

TEST(Launcher, OutputGoesToTheLogAndProgressDoesNot) {
  const TempFolder folder;
  std::ofstream(folder / "log.txt") << "before\n";
  std::vector<WorkerNews> news;
  const WorkerExit exit =
      run(folder, "echo $CUDA_VISIBLE_DEVICES; echo err >&2; printf '{\"step\":1}\\n{\"step\":2}\\nhalf' >&3; exit 4\n",
          1000, &news);
  EXPECT_EQ(exit, (WorkerExit{.signalled = false, .code = 4}));
  EXPECT_EQ(text(folder / "log.txt"), "before\n7\nerr\n");
  ASSERT_FALSE(news.empty());
  EXPECT_EQ(news.back().progress->step, 2);
}

// A supervisor that is stopped reads nothing: a worker loses an update then, but does not wait. What it says to its log must
// not be lost.
TEST(Launcher, AFullPipeOfProgressStopsNoWorker) {
  const TempFolder folder;
  run(folder, "for fd in 1 2 3; do grep flags /proc/$$/fdinfo/$fd; done\n", 1000);
  std::istringstream lines(text(folder / "log.txt"));
  std::vector<bool> waits;
  for (std::string word; lines >> word;)
    if (word != "flags:") waits.push_back((std::stol(word, nullptr, 8) & O_NONBLOCK) == 0);
  EXPECT_THAT(waits, ::testing::ElementsAre(true, true, false));
}

TEST(Launcher, ALogThatIsTooLongKeepsItsBeginningAndItsEnd) {
  const TempFolder folder;
  // 3000 lines of 11 bytes are 33000; 100 of them are the beginning, 16384 the end.
  EXPECT_EQ(run(folder, "i=0; while [ $i -lt 3000 ]; do echo 0123456789; i=$((i+1)); done\n", 100), WorkerExit{});
  const std::string log = text(folder / "log.txt"), note = "\n[equisweep: the log is full; 16516 bytes are left out here]\n";
  std::string all;
  for (int i = 0; i < 3000; ++i) all += "0123456789\n";
  EXPECT_EQ(log, all.substr(0, 100) + note + all.substr(all.size() - 16384));
}

TEST(Launcher, ALogJustOverItsLimitLosesNothing) {
  const TempFolder folder;
  EXPECT_EQ(run(folder, "printf 0123456789\n", 5), WorkerExit{});
  EXPECT_EQ(text(folder / "log.txt"), "0123456789");
}

TEST(Launcher, LinkInPlaceOfTheLogIsRefused) {
  const TempFolder folder, elsewhere;
  std::filesystem::create_symlink(elsewhere / "target", folder / "log.txt");
  EXPECT_THROW(run(folder, "echo x\n", 100), Error);
  EXPECT_FALSE(std::filesystem::exists(elsewhere / "target"));
}

TEST(Launcher, MissingProgramIsAnError) {
  const TempFolder folder;
  LocalLauncher launcher(folder / "none");
  EXPECT_THAT([&] { launcher.start({.folder = folder.path()}); },
              ::testing::ThrowsMessage<Error>(HasSubstr("cannot start")));
}

TEST(Launcher, NoDescriptorIsLeftOpenOrInherited) {
  const TempFolder folder;
  const auto open_now = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); };
  const auto before = open_now();
  const std::string list = "readlink /proc/self/fd/*\n";
  for (int i = 0; i < 3; ++i) run(folder, list, 10000);
  EXPECT_EQ(open_now(), before);
  // Neither the log, which only the launcher writes, nor the pipes of another worker.
  const TempFolder first, second;
  std::ofstream(first / "worker") << "#!/bin/sh\nsleep 1000\n";
  std::filesystem::permissions(first / "worker", std::filesystem::perms::owner_all);
  LocalLauncher busy(first / "worker");
  busy.start({.folder = first.path()});
  run(second, list, 10000);
  const std::string seen = text(second / "log.txt");
  EXPECT_THAT(seen, ::testing::Not(HasSubstr("log.txt")));
  std::set<std::string> pipes;
  std::istringstream lines(seen);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("pipe:")) pipes.insert(line);
  }
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {  // what this test got from its own parent
    std::error_code gone;
    pipes.erase(std::filesystem::read_symlink(entry, gone).string());
  }
  EXPECT_EQ(pipes.size(), 2u) << seen;  // its output and its progress
}

TEST(Launcher, DryRunSaysWhatItWouldStart) {
  std::ostringstream out;
  DryLauncher launcher(out);
  const WorkerId id = launcher.start({.folder = "runs/x", .attempt = 2, .device = "cuda:0", .visible = "3", .threads = 5});
  EXPECT_EQ(out.str(),
            "CUDA_VISIBLE_DEVICES='3' OMP_NUM_THREADS=5 equisweep exec runs/x --attempt 2 --device cuda:0 --threads 5\n");
  const auto news = launcher.wait({});
  ASSERT_EQ(news.size(), 1u);
  EXPECT_EQ(news[0].worker, id);
  EXPECT_EQ(news[0].exit, WorkerExit{});
  EXPECT_TRUE(launcher.wait({}).empty());
}

}  // namespace test_launcher
}  // namespace equisweep
