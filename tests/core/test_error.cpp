#include "core/error.h"

#include <gtest/gtest.h>

namespace equisweep {
namespace test_error {

using namespace std::string_literals;

TEST(Error, PositionsShowWhatIsKnown) {
  EXPECT_EQ(to_string(SourcePosition{"a.yaml", 3, 7}), "a.yaml:3:7");
  EXPECT_EQ(to_string(SourcePosition{"a.yaml", 3, 0}), "a.yaml:3");
  EXPECT_EQ(to_string(SourcePosition{"a.yaml", 0, 7}), "a.yaml");
  EXPECT_EQ(to_string(SourcePosition{"", 3, 7}), "3:7");
  EXPECT_EQ(to_string(SourcePosition{}), "");
}

TEST(Error, ProblemsAreOneLine) {
  EXPECT_EQ(to_string(Problem({"file", 3, 7}, "unknown key 'sede'", "seed, steps", "seed")),
            "file:3:7: unknown key 'sede'; allowed: seed, steps; did you mean 'seed'?");
  EXPECT_EQ(to_string(Problem({}, "lr is missing", "a number > 0")), "lr is missing; allowed: a number > 0");
  EXPECT_EQ(to_string(Problem({"f", 1, 1}, "is empty")), "f:1:1: is empty");
}

TEST(Error, EachKindHasItsExitCode) {
  EXPECT_EQ(Error("x").code(), ExitCode::some_failed);
  EXPECT_EQ(Error("x", ExitCode::preempted).code(), ExitCode::preempted);
  EXPECT_EQ(UsageError("x").code(), ExitCode::usage);
  EXPECT_EQ(DatabaseError("f", "x").code(), ExitCode::database);
  EXPECT_STREQ(DatabaseError("sweep.db", "is damaged").what(), "sweep.db: is damaged");
  EXPECT_EQ(DataError("f", "x").code(), ExitCode::some_failed);
  EXPECT_STREQ(DataError("a.bin", "byte 8: wrong magic").what(), "a.bin: byte 8: wrong magic");
}

TEST(Error, UsageErrorListsEveryProblem) {
  const UsageError error({Problem({"f", 1, 2}, "one"), Problem({"f", 3, 4}, "two", "a", "b")});
  EXPECT_STREQ(error.what(), "f:1:2: one\nf:3:4: two; allowed: a; did you mean 'b'?");
  ASSERT_EQ(error.problems().size(), 2U);
  EXPECT_EQ(error.problems()[1].where.line, 3);
  EXPECT_EQ(error.code(), ExitCode::usage);
}

struct NearestCase {
  std::string found;
  std::vector<std::string> candidates;
  std::string nearest;
};

TEST(Error, NearestName) {
  const std::vector<NearestCase> cases = {
      {"adamv", {"adamw", "sgd", "muon"}, "adamw"},        // replaced
      {"adam", {"adamw", "sgd"}, "adamw"},                 // left out
      {"muoon", {"muon"}, "muon"},                         // one too many
      {"moun", {"muon"}, "muon"},                          // swapped: one slip, not two
      {"weight_dceya", {"weight_decay"}, "weight_decay"},  // 3 slips in 12 letters, at most 4
      {"wxxxxx_decay", {"weight_decay"}, ""},              // 5 in 12
      {"lamb", {"adamw", "sgd"}, ""},                      // nothing near
      {"lr", {"lt", "rl"}, "lt"},                          // a tie goes to the first
      {"lrs", {"lr_", "lrs"}, "lrs"},                      // exact before near
      {"a", {"b"}, "b"},                                   // one slip is always allowed
      {"ab", {"ba"}, "ba"},
      {"ab", {"cd"}, ""},
      {"abcde", {"bcdea"}, ""},  // 2 slips in 5 letters, at most 1
      {"x", {}, ""},
      {"", {"lr"}, ""},
      {std::string(1 << 20, 'x'), {"adamw"}, ""},
  };
  for (const auto& c : cases) EXPECT_EQ(nearest_name(c.found, c.candidates), c.nearest) << c.found.substr(0, 20);
}

TEST(Error, Join) {
  const std::vector<std::string> parts = {"a", "b", "c"};
  EXPECT_EQ(join(parts), "a, b, c");
  EXPECT_EQ(join(parts, " | "), "a | b | c");
  EXPECT_EQ(join(std::vector<std::string>{}), "");
}

struct PrintableCase {
  std::string text, shown;
};

TEST(Error, PrintableLeavesTextAndEscapesWhatATerminalObeys) {
  const std::vector<PrintableCase> cases = {
      {"plain text, 'quotes' and \\", "plain text, 'quotes' and \\"},
      {"Zürich, 数, 😀", "Zürich, 数, 😀"},
      {"\x1b[31mred", "\\x1b[31mred"},
      {"a\nb\tc\rd", "a\\x0ab\\x09c\\x0dd"},
      {"nul\0!"s, "nul\\x00!"},
      {"\x7f", "\\x7f"},
      {"\xc2\x9b"s + "31m", "\\xc2\\x9b31m"},  // CSI as one character
      {"\xc2\xa0", "\xc2\xa0"},                // the first character above the controls
      {"\xff\xfe", "\\xff\\xfe"},              // never in UTF-8
      {"\xe2\x82", "\\xe2\\x82"},              // cut short
      {"\xc0\xaf", "\\xc0\\xaf"},              // overlong
      {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},           // surrogate
      {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},  // beyond U+10FFFF
      {"\xe2\x80\xae", "\\xe2\\x80\\xae"},           // right-to-left override
      {"", ""},
  };
  for (const auto& c : cases) EXPECT_EQ(printable(c.text), c.shown);
}

TEST(Error, PrintableIsCutAtACharacter) {
  EXPECT_EQ(printable("abcdefghij", 10), "abcdefghij");
  EXPECT_EQ(printable("abcdefghijk", 10), "abcdefg...");
  EXPECT_EQ(printable("abcdef\nabcdef", 10), "abcdef...");  // no half escape
  EXPECT_EQ(printable("abcdeüxxxxxx", 9), "abcde...");      // no half character
  EXPECT_EQ(printable("abcd", 2), "");
  EXPECT_EQ(printable(std::string(1000, 'x')), std::string(197, 'x') + "...");
}

}  // namespace test_error
}  // namespace equisweep
