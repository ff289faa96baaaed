// cancel and retry: with and without a supervisor, and what is believed of files that anybody may have left.
#include "sweeps/requests.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "sweeps/sweep_folder.h"
#include "tests/support/fake_launcher.h"

namespace equisweep {
namespace test_requests {

using fake::fake_job;
using fake::Script;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;
using ::testing::UnorderedElementsAre;

constexpr auto kCancel = Request::What::cancel, kRetry = Request::What::retry;

class Requests : public fake::SupervisorTest {
 protected:
  std::filesystem::path sweep() const { return folder_ / "s"; }
  std::filesystem::path box() const { return sweep() / "requests"; }
  void leave(const std::string& name, const std::string& text) {
    std::filesystem::create_directories(box());
    std::ofstream(box() / name) << text;
  }
  std::size_t files() { return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(box()), {})); }
};

TEST_F(Requests, AreTakenOnceAndInOrder) {
  const Request first{kCancel, {"00000000000000aa", "00000000000000bb"}}, second{kRetry, {"00000000000000aa"}};
  std::filesystem::create_directories(sweep());
  leave_request(sweep(), first);
  leave_request(sweep(), second);
  RequestBox requests(sweep());
  EXPECT_THAT(requests.take().requests, ElementsAre(first, second));
  const RequestBox::Taken again = requests.take();
  EXPECT_THAT(again.requests, IsEmpty());
  EXPECT_THAT(again.complaints, IsEmpty());
  EXPECT_EQ(files(), 0u);
}

TEST_F(Requests, AnythingElseIsRefusedAndRemoved) {
  const std::string ok = R"({"request":"cancel","jobs":["0123456789abcdef"]})";
  const std::map<std::string, std::string> hostile = {
      {"00.json", ""},
      {"01.json", "x"},
      {"02.json", "[]"},
      {"03.json", R"({"request":"cancel"})"},
      {"04.json", R"({"request":"rm -rf /","jobs":[]})"},
      {"05.json", R"({"request":"cancel","jobs":"0123456789abcdef"})"},
      {"06.json", R"({"request":"cancel","jobs":["../../etc/passwd"]})"},
      {"07.json", R"({"request":"cancel","jobs":["0123456789ABCDEF"]})"},
      {"08.json", R"({"request":"cancel","jobs":[1]})"},
      {"09.json", R"({"request":"cancel","jobs":[],"more":1})"},
      {"10.json", R"({"request":"cancel","jobs":[[[[[]]]]]})"},
      {"11.json", std::string(100'000, '[')},
      {"12.json", "{\"request\":\"cancel\",\"jobs\":[\"\xff\"]}"},
      {"13.json", ok.substr(0, ok.size() - 1)},
      {"a\x1b[2J.json", "x"},
  };
  for (const auto& [name, text] : hostile) leave(name, text);
  leave("large.json", "");
  std::filesystem::resize_file(box() / "large.json", std::uintmax_t{1} << 40);  // sparse: costs nothing
  leave("not-asked.txt", ok);
  leave(".unfinished.json", ok);
  const TempFolder elsewhere;
  std::ofstream(elsewhere / "target") << ok;
  std::filesystem::create_symlink(elsewhere / "target", box() / "link.json");
  ASSERT_EQ(::mkfifo((box() / "pipe.json").c_str(), 0600), 0);
  std::filesystem::create_directory(box() / "folder.json");
  RequestBox requests(sweep());
  const RequestBox::Taken taken = requests.take();
  EXPECT_THAT(taken.requests, IsEmpty());
  EXPECT_EQ(taken.complaints.size(), hostile.size() + 4);
  for (const std::string& complaint : taken.complaints) {
    EXPECT_EQ(complaint.find('\x1b'), std::string::npos) << complaint;
    EXPECT_THAT(complaint, HasSubstr("is refused: "));
  }
  EXPECT_THAT(requests.take().complaints, IsEmpty());  // also of the folder, which stays
  EXPECT_TRUE(std::filesystem::exists(elsewhere / "target"));
  EXPECT_EQ(files(), 3u);  // the folder, and the two that are no requests
}

TEST_F(Requests, AFolderOfRequestsThatIsALinkIsNotFollowed) {
  const TempFolder elsewhere;
  std::filesystem::create_directories(sweep());
  std::filesystem::create_directory_symlink(elsewhere.path(), box());
  std::ofstream(elsewhere / "a.json") << R"({"request":"cancel","jobs":[]})";
  RequestBox requests(sweep());
  EXPECT_THAT(requests.take().requests, IsEmpty());
  EXPECT_TRUE(std::filesystem::exists(elsewhere / "a.json"));
  EXPECT_THROW(leave_request(sweep(), {}), Error);
}

TEST_F(Requests, CancelAndRetryWhileTheSweepRuns) {
  const Job running = fake_job("running", 0), other = fake_job("other", 0), waiting = fake_job("waiting", 0),
            fails = fake_job("fails", 0), last = fake_job("last", 0);
  launcher_.attempts["fails"] = {{.seconds = 1, .final_row = std::nullopt, .exit = {.code = 1}}, {.seconds = 1}};
  launcher_.scripts["running"].seconds = 30;
  launcher_.scripts["other"].seconds = 60;
  options_.grace_seconds = 5;
  int stage = 0;
  launcher_.on_wait = [&] {
    if (stage == 0 && launcher_.now > 5) {
      leave_request(sweep(), {kCancel, {running.id, waiting.id, "feedfacefeedface"}});
      stage = 1;
    } else if (stage == 1 && launcher_.now > 20) {
      leave_request(sweep(), {kRetry, {fails.id, waiting.id, other.id}});
      leave("x.json", "no");
      stage = 2;
    }
  };
  launcher_.scripts["last"].seconds = 3;
  // Two slots: `running` and `other` take them; the rest waits.
  EXPECT_EQ(run({running, other, fails, waiting, last}), ExitCode::ok);
  EXPECT_EQ(states(), "running cancelled;other done;fails done;waiting done;last done;");
  EXPECT_THAT(said_, HasSubstr("2 of 3 jobs: cancelled on request"));
  EXPECT_THAT(said_, HasSubstr("2 of 3 jobs: put back into the queue on request"));
  EXPECT_THAT(said_, HasSubstr("x.json is refused"));
  EXPECT_THAT(said_, HasSubstr("next: equisweep retry s --state cancelled puts back what is cancelled"));
  EXPECT_THAT(launcher_.aborts, ElementsAre("ask", "kill"));
  launcher_.on_wait = [] {};
  launcher_.starts.clear();
  EXPECT_EQ(run({running, other, fails, waiting, last}), ExitCode::ok);  // what is cancelled is not started
  EXPECT_THAT(launcher_.starts, IsEmpty());
}

TEST_F(Requests, WithoutASupervisorTheyAreCarriedOutAtOnce) {
  const std::vector<Job> jobs = {fake_job("done", 0), fake_job("fails", 0), fake_job("oom", 0), fake_job("late", 0)};
  launcher_.scripts["fails"] = {.final_row = std::nullopt, .exit = {.code = 1}};
  launcher_.scripts["oom"] = {.final_row = RunState::oom, .exit = {.code = 1}};
  EXPECT_EQ(run({jobs[0], jobs[1], jobs[2]}), ExitCode::some_failed);
  EXPECT_THAT(choose_jobs(sweep(), kRetry, {}, kRetried), UnorderedElementsAre(jobs[1].id, jobs[2].id));
  EXPECT_THAT(choose_jobs(sweep(), kRetry, {}, {RunState::oom}), ElementsAre(jobs[2].id));
  EXPECT_THAT(choose_jobs(sweep(), kCancel, {jobs[1].id.substr(0, 8)}, {}), ElementsAre(jobs[1].id));
  EXPECT_EQ(carry_out(sweep(), {kCancel, {jobs[0].id, jobs[1].id, jobs[2].id}}), std::nullopt);
  EXPECT_EQ(states(), "done done;fails cancelled;oom cancelled;");
  EXPECT_EQ(carry_out(sweep(), {kRetry, {jobs[2].id}}), std::nullopt);
  EXPECT_EQ(states(), "done done;fails cancelled;oom queued;");
  EXPECT_EQ(run({jobs[0], jobs[1], jobs[2]}), ExitCode::some_failed);  // takes the same run.db in again
  EXPECT_EQ(states(), "done done;fails cancelled;oom oom;");

  const auto refuses = [&](Request::What what, const std::vector<std::string>& names, const std::set<RunState>& states,
                           const char* message) {
    EXPECT_THAT([&] { choose_jobs(sweep(), what, names, states); }, ThrowsMessage<Error>(HasSubstr(message)));
    try {
      choose_jobs(sweep(), what, names, states);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::nothing_matches);
    }
  };
  refuses(kCancel, {"zz"}, {}, "no job 'zz'");
  refuses(kCancel, {""}, {}, "no job ''");
  refuses(kCancel, {jobs[0].id}, {}, "is done: nothing to cancel");
  refuses(kCancel, {jobs[1].id}, {}, "is cancelled: nothing to cancel");
  refuses(kRetry, {}, {RunState::lost}, "nothing to retry: 1 done, 1 oom, 1 cancelled");
}

TEST_F(Requests, WithOneTheyAreLeftForItAndAnOldOneIsTakenAtTheStart) {
  const Job a = fake_job("a", 0), b = fake_job("b", 0);
  launcher_.scripts["a"] = {.final_row = std::nullopt, .exit = {.code = 1}};
  EXPECT_EQ(run({a}), ExitCode::some_failed);
  {
    const ProcessLock lock = lock_sweep(sweep());
    EXPECT_EQ(carry_out(sweep(), {kCancel, {a.id}}), std::to_string(::getpid()));
    EXPECT_EQ(files(), 1u);
  }
  launcher_.starts.clear();
  EXPECT_EQ(run({a, b}), ExitCode::ok);
  EXPECT_THAT(launcher_.starts, ElementsAre("b/0@#1"));
  EXPECT_EQ(states(), "a cancelled;b done;");
  EXPECT_EQ(files(), 0u);
}

TEST_F(Requests, AResultThatComesAfterAllBeatsTheCancellation) {
  const Job a = fake_job("a", 0);
  launcher_.scripts["a"] = {.final_row = std::nullopt, .exit = {.code = 1}};
  EXPECT_EQ(run({a}), ExitCode::some_failed);
  carry_out(sweep(), {kCancel, {a.id}});
  {  // run by hand
    RunStore store(run_path(a) / "run.db", a.id, canonical(a.config), {.attempt = 2, .started_at = "S"});
    store.finish({.state = RunState::done});
  }
  EXPECT_EQ(run({a}), ExitCode::ok);
  EXPECT_EQ(states(), "a done;");
}

}  // namespace test_requests
}  // namespace equisweep
