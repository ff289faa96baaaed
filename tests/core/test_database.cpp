// Files that are not ours, newer, damaged or planted are refused, and left as they are.
#include "core/database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <utility>

#include "core/error.h"
#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep::test_database {
long fake_file_system = 0;  // 0: the true one
}

// In the place of the C library's, so that a test can say what a folder lies on.
extern "C" int statfs(const char* path, struct statfs* disk) noexcept {
  const auto failed = static_cast<int>(::syscall(SYS_statfs, path, disk));
  if (equisweep::test_database::fake_file_system != 0) disk->f_type = equisweep::test_database::fake_file_system;
  return failed;
}

namespace equisweep {
namespace test_database {

namespace fs = std::filesystem;

std::string bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_bytes(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

void make_run(const fs::path& path) {
  RunStore store(path, "0123456789abcdef", "{}", {.attempt = 1, .started_at = "S"});
  for (int step = 1; step <= 500; ++step) store.add(StepRow{.step = step});
  store.finish({.state = RunState::done, .message = "", .ended_at = "E"});
}

struct Refused {
  const char* name;
  std::function<void(const fs::path&)> make;
  const char* message;
};

void PrintTo(const Refused& r, std::ostream* out) { *out << r.name; }

class RefusedFile : public ::testing::TestWithParam<Refused> {};

TEST_P(RefusedFile, ByEveryOpener) {
  const TempFolder folder;
  const fs::path path = folder / "x.db";
  GetParam().make(path);
  const std::string before = bytes(path);
  const auto expect_refused = [&](const std::function<void()>& open) {
    try {
      open();
      ADD_FAILURE() << "opened";
    } catch (const DatabaseError& e) {
      EXPECT_THAT(e.what(), ::testing::StartsWith(path.string()));
      EXPECT_THAT(e.what(), ::testing::HasSubstr(GetParam().message));
    }
  };
  expect_refused([&] { open_read_only(path); });
  expect_refused([&] { RunStore(path, "0123456789abcdef", "{}", {.attempt = 2, .started_at = "S"}); });
  expect_refused([&] { SweepStore{path}; });
  SweepStore sweep(folder / "sweep.db");
  expect_refused([&] { sweep.ingest(path); });
  EXPECT_EQ(bytes(path), before);
}

void with_sql(const fs::path& path, const char* sql) {
  SQLite::Database db(path.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  db.exec(sql);
}

const Refused kRefused[] = {
    {"Newer",
     [](const fs::path& p) {
       make_run(p);
       with_sql(p, "PRAGMA user_version = 3");
     },
     "newer equisweep"},
    {"VersionZero",
     [](const fs::path& p) {
       make_run(p);
       with_sql(p, "PRAGMA user_version = 0");
     },
     "has schema 0"},
    {"NegativeVersion",
     [](const fs::path& p) {
       make_run(p);
       with_sql(p, "PRAGMA user_version = -1");
     },
     "has schema -1"},
    {"OtherProgram", [](const fs::path& p) { with_sql(p, "CREATE TABLE notes (text)"); }, "another program"},
    {"OtherApplication", [](const fs::path& p) { with_sql(p, "PRAGMA application_id = 7"); }, "application_id 0x7"},
    {"Triggers",
     [](const fs::path& p) {
       make_run(p);
       with_sql(p, "CREATE TRIGGER t AFTER INSERT ON steps BEGIN DELETE FROM steps; END");
     },
     "triggers"},
    {"Garbage", [](const fs::path& p) { write_bytes(p, std::string(5000, 'x')); }, "is not a database"},
    {"Text", [](const fs::path& p) { write_bytes(p, "version: 1\n"); }, "is not a database"},
    {"Truncated",
     [](const fs::path& p) {
       make_run(p);
       fs::resize_file(p, fs::file_size(p) / 2 / 4096 * 4096);
     },
     "is damaged"},
    {"TruncatedInsideAPage",
     [](const fs::path& p) {
       make_run(p);
       fs::resize_file(p, fs::file_size(p) - 1000);
     },
     "is damaged"},
    {"HeaderOnly",
     [](const fs::path& p) {
       make_run(p);
       fs::resize_file(p, 100);
     },
     "damaged"},
    {"PageOfZeros",
     [](const fs::path& p) {
       make_run(p);
       std::string all = bytes(p);
       all.replace(all.size() - 4096, 4096, std::string(4096, '\0'));
       write_bytes(p, all);
     },
     "is damaged"},
};

INSTANTIATE_TEST_SUITE_P(Database, RefusedFile, ::testing::ValuesIn(kRefused),
                         [](const ::testing::TestParamInfo<Refused>& p) { return p.param.name; });

TEST(Database, LinkInPlaceOfTheFileIsRefused) {
  const TempFolder folder, elsewhere;
  make_run(elsewhere / "run.db");
  const std::string before = bytes(elsewhere / "run.db");
  fs::create_symlink(elsewhere / "run.db", folder / "run.db");
  fs::create_symlink(elsewhere / "new.db", folder / "new.db");
  EXPECT_THROW(RunStore(folder / "run.db", "0123456789abcdef", "{}", {.attempt = 2, .started_at = "S"}), DatabaseError);
  EXPECT_THROW(SweepStore(folder / "new.db"), DatabaseError);
  EXPECT_THROW(open_read_only(folder / "run.db"), DatabaseError);
  EXPECT_EQ(bytes(elsewhere / "run.db"), before);
  EXPECT_FALSE(fs::exists(elsewhere / "new.db"));
}

TEST(Database, LinkedFolderAndUnusualNamesAreFine) {
  const TempFolder folder, elsewhere;
  fs::create_directory_symlink(elsewhere.path(), folder / "results");
  const fs::path odd = folder / "results" / "50% of? #it 'and' \"more\" \xc3\xa4.db";
  make_run(odd);
  EXPECT_EQ(open_read_only(odd)->execAndGet("SELECT count(*) FROM steps").getInt(), 500);
  SweepStore sweep(folder / "sweep.db");
  sweep.set_plan({{.job = "0123456789abcdef", .model = "m", .stack = "s", .config = "{}"}});
  EXPECT_EQ(sweep.ingest(odd), 501);  // the steps and the attempt
}

TEST(Database, MissingAndEmptyFilesHaveTheirOwnMessage) {
  const TempFolder folder;
  EXPECT_THAT([&] { open_read_only(folder / "no.db"); },
              ::testing::ThrowsMessage<DatabaseError>(::testing::HasSubstr("does not exist")));
  write_bytes(folder / "empty.db", "");
  EXPECT_THAT([&] { open_read_only(folder / "empty.db"); },
              ::testing::ThrowsMessage<DatabaseError>(::testing::HasSubstr("is empty")));
  EXPECT_THROW(SweepStore(folder / "none" / "sweep.db"), DatabaseError);
  make_run(folder / "empty.db");  // a writer completes it
  EXPECT_EQ(open_read_only(folder / "empty.db")->execAndGet("SELECT count(*) FROM steps").getInt(), 500);
}

TEST(Database, ReaderCannotWrite) {
  const TempFolder folder;
  make_run(folder / "run.db");
  const auto db = open_read_only(folder / "run.db");
  EXPECT_THROW(db->exec("DELETE FROM steps"), SQLite::Exception);
}

// Its locks are advice there, and its shared memory is not shared. What somebody has put there can be read.
TEST(Database, IsNotWrittenOnANetworkFileSystem) {
  const TempFolder folder;
  make_run(folder / "old.db");
  for (const auto& [number, name] :
       {std::pair{0x6969L, "NFS"}, {0xFF534D42L, "SMB"}, {0xFE534D42L, "SMB"}, {0x5346414FL, "AFS"}}) {
    fake_file_system = number;
    for (const char* file : {"old.db", "new.db"})
      EXPECT_THAT([&] { open_writable(folder / file); },
                  ::testing::ThrowsMessage<DatabaseError>(
                      ::testing::AllOf(::testing::StartsWith((folder / file).string()), ::testing::HasSubstr(name),
                                       ::testing::HasSubstr("put the results on a local disk"))));
    EXPECT_FALSE(fs::exists(folder / "new.db"));
    EXPECT_NO_THROW(open_read_only(folder / "old.db"));
  }
  for (const long local : {0xEF53L, 0x01021994L, 0x58465342L, 0x9123683EL}) {  // ext4, tmpfs, xfs, btrfs
    fake_file_system = local;
    EXPECT_NO_THROW(open_writable(folder / "new.db"));
  }
  fake_file_system = 0;
}

}  // namespace test_database
}  // namespace equisweep
