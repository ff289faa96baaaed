#include "core/process_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <optional>
#include <string>

#include "core/error.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_process_lock {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(ProcessLock, IsHeldByOneProcessAndLetGoWhenItIsKilled) {
  const TempFolder folder;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const ProcessLock lock(folder / "lock", "works");
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_THAT([&] { ProcessLock(folder / "lock", "is training this job"); },
              ThrowsMessage<DatabaseError>(HasSubstr("process " + std::to_string(child) +
                                                     " is training this job; wait for it, or end it with `kill " +
                                                     std::to_string(child) + "`")));
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  std::optional<ProcessLock> ours(std::in_place, folder / "lock", "works");
  EXPECT_THROW(ProcessLock(folder / "lock", "works"), DatabaseError);  // also within a process
  ours.reset();
  ProcessLock(folder / "lock", "works");
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(ProcessLock, DoesNotFollowALink) {
  const TempFolder folder, elsewhere;
  std::ofstream(elsewhere / "file") << "precious";
  std::filesystem::create_symlink(elsewhere / "file", folder / "lock");
  EXPECT_THAT([&] { ProcessLock(folder / "lock", "works"); }, ThrowsMessage<DatabaseError>(HasSubstr("is a link")));
  std::string content;
  std::ifstream(elsewhere / "file") >> content;
  EXPECT_EQ(content, "precious");
  EXPECT_THROW(ProcessLock(folder / "none" / "lock", "works"), DatabaseError);
}

}  // namespace test_process_lock
}  // namespace equisweep
