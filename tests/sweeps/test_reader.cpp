// The strict YAML subset of sweep files, without the grammar of sweeps.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "sweeps/file/reader.h"

namespace equisweep {
namespace test_reader {

using nlohmann::json;

json to_json(const Node& node) {
  if (node.kind == NodeKind::broken) return nullptr;
  if (node.kind == NodeKind::sequence) {
    json list = json::array();
    for (const Node& item : node.items) list.push_back(to_json(item));
    return list;
  }
  if (node.kind == NodeKind::map) {
    json map = json::object();
    for (const Member& m : node.members) map[m.key] = to_json(m.value);
    return map;
  }
  return scalar_to_json(node);
}

std::string problems_of(std::string_view text) {
  Problems problems;
  read_yaml(text, "f", problems);
  try {
    problems.throw_if_any();
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

struct Case {
  const char* name;
  std::string text;
  std::string message;
};

class MalformedYaml : public ::testing::TestWithParam<Case> {};

TEST_P(MalformedYaml, IsRefusedWithItsPlace) { EXPECT_EQ(problems_of(GetParam().text), GetParam().message); }

using namespace std::string_literals;

INSTANTIATE_TEST_SUITE_P(
    Table, MalformedYaml,
    ::testing::Values(
        Case{"empty", "", "f:1:1: an empty file; allowed: a sweep; see docs/sweep-file.md"},
        Case{"comment_only", "# nothing\n", "f:1:1: an empty file; allowed: a sweep; see docs/sweep-file.md"},
        Case{"comma", ",", "f:1:1: not valid YAML: text after the end of the document; allowed: one map of keys"},
        Case{"nul", "a: 1\nb: \0"s, "f:2:4: control character U+0000; allowed: printable text"},
        Case{"escape", "a: \x1b[31m", "f:1:4: control character U+001B; allowed: printable text"},
        Case{"not_utf8", "a: caf\xe9\n", "f:1:7: byte 0xE9 is not UTF-8; allowed: UTF-8 text"},
        Case{"utf16",
             "\xff\xfe"
             "a\0"s,
             "f:1:1: byte 0xFF is not UTF-8; allowed: UTF-8 text"},
        Case{"overlong", "a: \xc0\xaf", "f:1:4: byte 0xC0 is not UTF-8; allowed: UTF-8 text"},
        Case{"surrogate", "a: \xed\xa0\x80", "f:1:4: byte 0xED is not UTF-8; allowed: UTF-8 text"},
        Case{"tab", "a:\n\tb: 1\n", "f:2:1: a tab; allowed: spaces"},
        Case{"lone_cr", "a: 1\rb: 2\n", "f:1:5: control character U+000D; allowed: printable text"},
        Case{"duplicate", "seed: 1\nb: 2\nseed: 3\n",
             "f:3:1: 'seed' stands here twice, first in line 1; allowed: each key once"},
        Case{"duplicate_quoted", "{seed: 1, 'seed': 1}",
             "f:1:11: 'seed' stands here twice, first in line 1; allowed: each key once"},
        Case{"no_value", "a: 1\nb:\n", "f:2:1: 'b' has no value; allowed: a value; leave the key out for its default"},
        Case{"null", "a: null", "f:1:1: 'a' has no value; allowed: a value; leave the key out for its default"},
        Case{"tilde", "a: ~", "f:1:1: 'a' has no value; allowed: a value; leave the key out for its default"},
        Case{"null_item", "a: [1, ~]", "f:1:8: an empty value; allowed: a value; leave the key out for its default"},
        Case{"gap_in_list", "a: [1, , 2]", "f:1:8: an empty value; allowed: a value; leave the key out for its default"},
        Case{"leading_zero", "a: 010",
             "f:1:4: '010' has a leading zero; allowed: numbers like 10, 0.5, 1e-3, or text in quotes"},
        Case{"leading_zero_negative", "a: -007.5",
             "f:1:4: '-007.5' has a leading zero; allowed: numbers like 10, 0.5, 1e-3, or text in quotes"},
        Case{"hexadecimal", "a: 0x10",
             "f:1:4: '0x10' is a number in another base; allowed: numbers like 10, 0.5, 1e-3, or text in quotes"},
        Case{"octal", "a: 0o10",
             "f:1:4: '0o10' is a number in another base; allowed: numbers like 10, 0.5, 1e-3, or text in quotes"},
        Case{"underscore", "a: 1_000",
             "f:1:4: '1_000' is a number with underscores; allowed: numbers like 10, 0.5, 1e-3, or text in quotes"},
        Case{"plus", "a: +1", "f:1:4: '+1' has a plus sign; allowed: numbers like 10, 0.5, 1e-3, or text in quotes"},
        Case{"no_whole", "a: .5",
             "f:1:4: '.5' has no digit on one side of the point; allowed: numbers like 10, 0.5, 1e-3, or text in quotes"},
        Case{"no_fraction", "a: 5.e3",
             "f:1:4: '5.e3' has no digit on one side of the point; allowed: numbers like 10, 0.5, 1e-3, or text in quotes"},
        Case{
            "no", "a: no",
            "f:1:4: 'no' is true or false to some YAML readers and text to others; allowed: true, false, or text in quotes"},
        Case{"yes", "a: Yes",
             "f:1:4: 'Yes' is true or false to some YAML readers and text to others; allowed: true, false, or text in "
             "quotes"},
        Case{
            "on", "a: on",
            "f:1:4: 'on' is true or false to some YAML readers and text to others; allowed: true, false, or text in quotes"},
        Case{"capital_true", "a: TRUE",
             "f:1:4: 'TRUE' is true or false to some YAML readers and text to others; allowed: true, false, or text in "
             "quotes"},
        Case{"nan", "a: .nan", "f:1:4: '.nan' is not a finite number; allowed: finite numbers, or text in quotes"},
        Case{"python_nan", "a: nan", "f:1:4: 'nan' is not a finite number; allowed: finite numbers, or text in quotes"},
        Case{"infinity", "a: -.inf", "f:1:4: '-.inf' is not a finite number; allowed: finite numbers, or text in quotes"},
        Case{"overflow", "a: 1e999",
             "f:1:4: 1e999 is outside the range of a double; allowed: numbers up to 1.8e308, and down to 5e-324"},
        Case{"anchor", "a: &x 1", "f:1:4: an anchor (&); allowed: values written out, or extends"},
        Case{"alias", "a: &x 1\nb: *x",
             "f:1:4: an anchor (&); allowed: values written out, or extends\nf:2:4: an alias (*); allowed: values written "
             "out, or extends"},
        Case{"alias_cycle", "a: &x [*x]",
             "f:1:4: an anchor (&); allowed: values written out, or extends\nf:1:8: an alias (*); allowed: values written "
             "out, or extends"},
        Case{"unknown_alias", "a: *x", "f:1:4: not valid YAML: the referenced anchor is not defined"},
        Case{"merge_key", "a: {b: 1}\nc:\n  <<: {b: 2}\n", "f:3:3: a merge key (<<); allowed: extends, in a stack"},
        Case{"tag", "a: !!str 1", "f:1:4: a tag (!); allowed: plain values"},
        Case{"bare_tag", "a: ! 1", "f:1:4: a tag (!); allowed: plain values"},
        Case{"tag_on_map", "a: !x {b: 1}", "f:1:4: a tag (!); allowed: plain values"},
        Case{"directive", "%YAML 1.2\n---\na: 1\n", "f:1:1: a directive (%); allowed: no directives"},
        Case{"second_document", "a: 1\n---\nb: 2\n", "f:2:1: a second document; allowed: one document a file"},
        Case{"after_the_end", "a: 1\n...\nb: 2\n",
             "f:3:1: not valid YAML: text after the end of the document; allowed: one map of keys"},
        Case{"list_as_key", "[a, b]: 1", "f:1:1: a list or map as a key; allowed: a name before the colon"},
        Case{"empty_key", "'': 1", "f:1:1: a key without a name; allowed: a name before the colon"},
        Case{"no_key", ": 1", "f:1:1: a key without a name; allowed: a name before the colon"},
        Case{"several_lines", "a: one\n  two\n",
             "f:1:4: a value over several lines; allowed: one line, or text in quotes or after |"},
        Case{"unclosed_list", "a: [1, 2\n", "f:1:4: a bracket that is never closed"},
        Case{"unclosed_map", "a: {b: 1", "f:1:4: a bracket that is never closed"},
        Case{"unclosed_quote", "a: 'it''s\nb: 1\n", "f:1:4: a quote that is never closed; allowed: ' at both ends"},
        Case{"unclosed_double_quote", "a: \"x\\\"\n", "f:1:4: a quote that is never closed; allowed: \" at both ends"},
        Case{"bracket_after", "a: [1]]\n", "f:1:7: not valid YAML: illegal flow end"},
        Case{"bad_indent", "a: 1\n b: 2\n", "f:2:3: not valid YAML: illegal map value"},
        Case{"bad_dedent", "a:\n   b: 1\n  c: 2\n", "f:3:3: not valid YAML: end of map not found"},
        Case{"no_space", "a: 1\nb:2\n", "f:2:1: 'b:2' has no value; allowed: a value; leave the key out for its default"},
        Case{"columns_count_characters", "{'\xc3\xa9': no}",
             "f:1:7: 'no' is true or false to some YAML readers and text to others; allowed: true, false, or text in "
             "quotes"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Reader, ReadsScalars) {
  Problems problems;
  const Node root = read_yaml(
      "int: 10\nneg: -3\nzero: 0\nfloat: 0.5\nexp: 1e-3\nsame: 1e3\nbig: 9007199254740993\nhuge: 1e300\nyes_: true\nno_: "
      "false\n"
      "text: row_norm\nquoted: '010'\ndouble: \"no\\u0041\"\nblock: |\n  two\n  lines\nlist: [1, a, [2]]\nempty: ''\ndate: "
      "2026-11-22\n"
      "version: 1.2.3\nminus: '-'\n",
      "f", problems);
  problems.throw_if_any();
  EXPECT_EQ(to_json(root), json::parse(R"({"int": 10, "neg": -3, "zero": 0, "float": 0.5, "exp": 0.001, "same": 1000,
    "big": 9007199254740993, "huge": 1e300, "yes_": true, "no_": false, "text": "row_norm", "quoted": "010", "double": "noA",
    "block": "two\nlines\n", "list": [1, "a", [2]], "empty": "", "date": "2026-11-22", "version": "1.2.3", "minus": "-"})"));
  EXPECT_TRUE(to_json(root)["same"].is_number_integer());
}

TEST(Reader, LineEndsAndByteOrderMarkDoNotMatter) {
  const std::string unix_text = "a: 1\nb: [2,\n  3]\nc: \"x\"\n";
  std::string dos = "\xEF\xBB\xBF";
  for (const char c : unix_text) dos += c == '\n' ? "\r\n" : std::string(1, c);
  Problems problems;
  EXPECT_EQ(to_json(read_yaml(unix_text, "f", problems)), to_json(read_yaml(dos, "f", problems)));
  EXPECT_TRUE(problems.empty());
}

TEST(Reader, PositionsAreOfTheFirstCharacter) {
  Problems problems;
  const Node root = read_yaml("a: 1\nmap:\n  key:   value\n  \xC3\xA9t\xC3\xA9: [x, \"y\"]\n", "f", problems);
  const Node& map = root.find("map")->value;
  EXPECT_EQ(to_string(map.find("key")->where), "f:3:3");
  EXPECT_EQ(to_string(map.find("key")->value.where), "f:3:10");
  EXPECT_EQ(to_string(map.members[1].value.items[1].where), "f:4:12");
}

TEST(Reader, RefusesWhatIsTooDeepOrTooLarge) {
  const std::string deep(100'000, '[');
  EXPECT_EQ(problems_of(deep), "f:1:33: nested too deep; allowed: 64 levels");
  std::string block;
  for (int i = 0; i < 100; ++i) block += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  EXPECT_EQ(problems_of(block), "f:65:65: nested too deep; allowed: 64 levels");
  EXPECT_EQ(problems_of(std::string(100'000'000, ' ')), "f: 100000000 bytes; allowed: at most 1048576 bytes");
}

TEST(Reader, AnAliasBombIsRefusedAtItsFirstAnchor) {
  std::string bomb = "a: &a [x, x]\n";
  for (char c = 'b'; c <= 'z'; ++c) {
    const std::string before(1, static_cast<char>(c - 1));
    bomb += std::string(1, c) + ": &" + c + " [*" + before + ", *" + before + "]\n";
  }
  EXPECT_EQ(problems_of(bomb).substr(0, 21), "f:1:4: an anchor (&);");
}

TEST(Reader, ManyProblemsAreCountedNotListed) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text.append("k").append(std::to_string(i)).append(": no\n");
  const std::string message = problems_of(text);
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 100);
  EXPECT_NE(message.find("f: and 900 more problems"), std::string::npos);
}

// 500,000 values in one line: anything quadratic in the length of a line or of a list would take minutes.
TEST(Reader, ReadsTheLargestFileOfOneLine) {
  std::string text = "a: [0";
  while (text.size() < kMaxSweepBytes - 3) text.append(",1");
  text.append("]");
  Problems problems;
  const Node root = read_yaml(text, "f", problems);
  EXPECT_TRUE(problems.empty());
  const std::vector<Node>& items = root.find("a")->value.items;
  ASSERT_EQ(items.size(), (text.size() - 4) / 2);
  EXPECT_EQ(items.back().where.column, static_cast<int>(text.size()) - 1);
}

TEST(Reader, EveryPrefixAndEveryByteChangeOfAFileEnds) {
  const std::string text =
      "a: {b: [1, 2.5e-3], 'c': \"d\"}\ne:\n  - f: |\n      text\n  - >\n    more\n? g\n: &h *h\n--- !t\n";
  for (std::size_t i = 0; i <= text.size(); ++i) problems_of(text.substr(0, i));
  for (std::size_t i = 0; i < text.size(); ++i)
    for (const char c :
         {'\n', ' ', ':', '-', '?', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', '\\'}) {
      std::string changed = text;
      changed[i] = c;
      problems_of(changed);
    }
}

TEST(SetValue, ReplacesAndMakesPaths) {
  Problems problems;
  Node root = read_yaml("train: {steps: 5}\nname: x\n", "f", problems);
  set_value(root, "train.steps", "10", problems);
  set_value(root, "train.eval.every", "3", problems);
  set_value(root, "grid.lr_scale", "[1, 2]", problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(to_json(root),
            json::parse(R"({"train": {"steps": 10, "eval": {"every": 3}}, "name": "x", "grid": {"lr_scale": [1, 2]}})"));
  EXPECT_EQ(to_string(root.find("grid")->value.find("lr_scale")->value.items[1].where), "--set grid.lr_scale");
  set_value(root, "name.first", "a", problems);
  set_value(root, "a..b", "a", problems);
  set_value(root, "a", "no", problems);
  try {
    problems.throw_if_any();
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_STREQ(
        e.what(),
        "--set a: 'no' is true or false to some YAML readers and text to others; allowed: true, false, or text in quotes\n"
        "--set a..b: a path with an empty name; allowed: names joined by points, e.g. train.steps=100\n"
        "--set name.first: 'name' is no map; allowed: the path of a key, e.g. train.steps=100");
  }
}

}  // namespace test_reader
}  // namespace equisweep
