#include "core/field.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/error.h"

namespace equisweep {
namespace test_field {

using nlohmann::json;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One field of every kind, with every sort of bound and default.
const std::vector<Field>& fields() {
  static const std::vector<Field> kFields = {
      {.name = "lr", .kind = FieldKind::number, .default_json = "", .doc = "required", .min = 0, .above_min = true},
      {.name = "momentum", .kind = FieldKind::number, .default_json = "0.95", .doc = "", .min = 0, .max = 1},
      {.name = "steps", .kind = FieldKind::integer, .default_json = "5", .doc = "", .min = 1, .max = 100},
      {.name = "nesterov", .kind = FieldKind::boolean, .default_json = "true", .doc = ""},
      {.name = "note", .kind = FieldKind::string, .default_json = "\"\"", .doc = ""},
      {.name = "scale",
       .kind = FieldKind::choice,
       .default_json = "\"spectral\"",
       .doc = "",
       .choices = {"spectral", "match_rms"}},
      {.name = "betas",
       .kind = FieldKind::number_list,
       .default_json = "[0.9, 0.95]",
       .doc = "",
       .min = 0,
       .max = 1,
       .length = 2},
      {.name = "alpha", .kind = FieldKind::number, .default_json = "null", .doc = "off unless given"},
      {.name = "polar",
       .kind = FieldKind::map,
       .default_json = "{}",
       .doc = "",
       .fields =
           {{.name = "backend",
             .kind = FieldKind::choice,
             .default_json = "\"svd\"",
             .doc = "",
             .choices = {"svd", "polar_express"}},
            {.name = "inner",
             .kind = FieldKind::map,
             .default_json = "null",
             .doc = "",
             .fields = {{.name = "iterations", .kind = FieldKind::integer, .default_json = "", .doc = "", .min = 1}}}}},
  };
  return kFields;
}

std::string complaint(const json& given, std::string_view context = "rule muon") {
  try {
    complete(fields(), given, context);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

json with(const std::string& key, const json& value) {
  json given = {{"lr", 0.02}};
  given[key] = value;
  return given;
}

TEST(Field, DefaultsFillWhatIsLeftOut) {
  const auto expected =
      json::parse(R"({"lr": 0.02, "momentum": 0.95, "steps": 5, "nesterov": true, "note": "", "scale": "spectral",
                                        "betas": [0.9, 0.95], "polar": {"backend": "svd"}})");
  EXPECT_EQ(complete(fields(), {{"lr", 0.02}}, "").dump(), expected.dump());
}

TEST(Field, GivenValuesStay) {
  const auto given =
      json::parse(R"({"lr": 0.5, "momentum": 0.0, "steps": 100, "nesterov": false, "note": "\u001b", "scale": "match_rms",
      "betas": [0.0, 1.0], "alpha": -3.5, "polar": {"backend": "polar_express", "inner": {"iterations": 8}}})");
  EXPECT_EQ(complete(fields(), given, "").dump(), given.dump());
}

TEST(Field, CompletingTwiceChangesNothing) {
  const auto once = complete(fields(), with("alpha", 2), "");
  EXPECT_EQ(complete(fields(), once, "").dump(), once.dump());
}

TEST(Field, AnOptionalFieldMayBeNull) {
  EXPECT_FALSE(complete(fields(), with("alpha", nullptr), "").contains("alpha"));
  EXPECT_FALSE(complete(fields(), with("polar", json::parse(R"({"inner": null})")), "")["polar"].contains("inner"));
}

// Equal configurations must have equal JSON, since a job's id is a hash of it.
TEST(Field, EqualNumbersHaveOneSpelling) {
  const auto spelling = [](const std::string& key, const json& value) {
    return complete(fields(), with(key, value), "")[key].dump();
  };
  EXPECT_EQ(spelling("steps", 7), "7");
  EXPECT_EQ(spelling("steps", 7.0), "7");
  EXPECT_EQ(spelling("steps", 7U), "7");
  EXPECT_EQ(spelling("momentum", 1), "1.0");
  EXPECT_EQ(spelling("momentum", 1.0), "1.0");
  EXPECT_EQ(spelling("momentum", -0.0), "0.0");
  EXPECT_EQ(spelling("alpha", -2), "-2.0");
  EXPECT_EQ(spelling("betas", json::array({0, 1.0})), "[0.0,1.0]");
}

struct Refusal {
  json given;
  std::string message;
};

TEST(Field, Refusals) {
  const std::vector<Refusal> refusals = {
      {json::object(), "rule muon: key 'lr' is missing; allowed: a number > 0"},
      {json::array({1}), "rule muon: a list is not a map"},
      {nullptr, "rule muon: null is not a map"},
      {with("momentun", 0.9),
       "rule muon: unknown key 'momentun'; allowed: lr, momentum, steps, nesterov, note, scale, betas, alpha, polar; did "
       "you mean 'momentum'?"},
      {with("x\x1b[2J", 0.9),
       "rule muon: unknown key 'x\\x1b[2J'; allowed: lr, momentum, steps, nesterov, note, scale, betas, alpha, polar"},
      {with("lr", 0), "rule muon: lr: 0 is out of range; allowed: a number > 0"},
      {with("lr", -1e-5), "rule muon: lr: -1e-05 is out of range; allowed: a number > 0"},
      {with("lr", kInfinity), "rule muon: lr: inf is not finite; allowed: a number > 0"},
      {with("lr", std::numeric_limits<double>::quiet_NaN()), "rule muon: lr: nan is not finite; allowed: a number > 0"},
      {with("lr", "0.02"), "rule muon: lr: '0.02' is not a number; allowed: a number > 0"},
      {with("lr", true), "rule muon: lr: true is not a number; allowed: a number > 0"},
      {with("lr", nullptr), "rule muon: lr: null is not a number; allowed: a number > 0"},
      {with("momentum", 1.5), "rule muon: momentum: 1.5 is out of range; allowed: a number >= 0 and <= 1"},
      {with("momentum", -1), "rule muon: momentum: -1 is out of range; allowed: a number >= 0 and <= 1"},
      {with("steps", 2.5), "rule muon: steps: 2.5 is not an integer; allowed: an integer >= 1 and <= 100"},
      {with("steps", 0), "rule muon: steps: 0 is out of range; allowed: an integer >= 1 and <= 100"},
      {with("steps", 101), "rule muon: steps: 101 is out of range; allowed: an integer >= 1 and <= 100"},
      {with("steps", false), "rule muon: steps: false is not an integer; allowed: an integer >= 1 and <= 100"},
      {with("steps", kInfinity), "rule muon: steps: inf is not finite; allowed: an integer >= 1 and <= 100"},
      {with("nesterov", 1), "rule muon: nesterov: 1 is not true or false; allowed: true or false"},
      {with("nesterov", "yes"), "rule muon: nesterov: 'yes' is not true or false; allowed: true or false"},
      {with("note", 3), "rule muon: note: 3 is not a string; allowed: a string"},
      {with("scale", "spectal"),
       "rule muon: scale: 'spectal' is unknown; allowed: one of: spectral, match_rms; did you mean 'spectral'?"},
      {with("scale", "none"), "rule muon: scale: 'none' is unknown; allowed: one of: spectral, match_rms"},
      {with("scale", 1), "rule muon: scale: 1 is not a name; allowed: one of: spectral, match_rms"},
      {with("betas", 0.9), "rule muon: betas: 0.9 is not a list of numbers; allowed: a list of 2 numbers >= 0 and <= 1"},
      {with("betas", json::array({0.9})),
       "rule muon: betas: a list of 1 is given where 2 belong; allowed: a list of 2 numbers >= 0 and <= 1"},
      {with("betas", json::array({0.9, "b"})),
       "rule muon: betas: entry 2: 'b' is not a number; allowed: a list of 2 numbers >= 0 and <= 1"},
      {with("betas", json::array({1.5, 0.9})),
       "rule muon: betas: entry 1: 1.5 is out of range; allowed: a list of 2 numbers >= 0 and <= 1"},
      {with("polar", "svd"), "rule muon: polar: 'svd' is not a map; allowed: a map with the keys: backend, inner"},
      {with("polar", json::parse(R"({"backent": "svd"})")),
       "rule muon: polar: unknown key 'backent'; allowed: backend, inner; did you mean 'backend'?"},
      {with("polar", json::parse(R"({"backend": "svdd"})")),
       "rule muon: polar.backend: 'svdd' is unknown; allowed: one of: svd, polar_express; did you mean 'svd'?"},
      {with("polar", json::parse(R"({"inner": {}})")),
       "rule muon: polar.inner: key 'iterations' is missing; allowed: an integer >= 1"},
      {with("polar", json::parse(R"({"inner": {"iterations": 0}})")),
       "rule muon: polar.inner.iterations: 0 is out of range; allowed: an integer >= 1"},
  };
  for (const auto& r : refusals) EXPECT_EQ(complaint(r.given), r.message);
  EXPECT_EQ(complaint(json::object(), ""), "key 'lr' is missing; allowed: a number > 0");
}

TEST(Field, AllProblemsAtOnce) {
  const auto given = json::parse(R"({"moment": 1, "steps": "x", "polar": {"backend": 3, "z": 1}, "nesterov": 0})");
  try {
    complete(fields(), given, "stack a");
    FAIL() << "accepted";
  } catch (const UsageError& error) {
    std::vector<std::string> found;
    for (const auto& problem : error.problems()) found.push_back(problem.what);
    EXPECT_THAT(found,
                ::testing::ElementsAre("stack a: unknown key 'moment'", "stack a: key 'lr' is missing",
                                       "stack a: steps: 'x' is not an integer", "stack a: nesterov: 0 is not true or false",
                                       "stack a: polar: unknown key 'z'", "stack a: polar.backend: 3 is not a name"));
  }
}

TEST(Field, IntegersKeepAll64BitsAndRefuseWhatDoesNotFit) {
  const Field seed{.name = "seed", .kind = FieldKind::integer, .default_json = "", .doc = ""};
  const std::vector<Field> only = {seed};
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max(), kLeast = std::numeric_limits<std::int64_t>::min();
  for (const std::int64_t value : {kMost, kLeast, std::int64_t{0}}) {
    EXPECT_EQ(complete(only, {{"seed", value}}, "")["seed"].get<std::int64_t>(), value);
  }
  EXPECT_EQ(check_value(seed, static_cast<std::uint64_t>(kMost) + 1), "9223372036854775808 does not fit in 64 bits");
  EXPECT_EQ(check_value(seed, 0x1p53), "");
  EXPECT_EQ(check_value(seed, 1e300), "1e+300 is not an exact integer; write it without an exponent or a point");
  EXPECT_EQ(check_value(seed, 0x1p53 + 2),
            "9007199254740994 is not an exact integer; write it without an exponent or a point");
}

TEST(Field, ListsOfAnyLength) {
  const Field list{
      .name = "lr_scale", .kind = FieldKind::number_list, .default_json = "[]", .doc = "", .min = 0, .above_min = true};
  EXPECT_EQ(check_value(list, json::array()), "");
  EXPECT_EQ(check_value(list, json::array({1, 2.5, 3})), "");
  EXPECT_EQ(check_value(list, json::array({1, 0})), "entry 2: 0 is out of range");
  EXPECT_EQ(allowed_values(list), "a list of numbers > 0");
}

TEST(Field, ListsOfNames) {
  const Field list{
      .name = "of", .kind = FieldKind::name_list, .default_json = "[]", .doc = "", .choices = {"weight", "update"}};
  EXPECT_EQ(check_value(list, json::array()), "");
  EXPECT_EQ(check_value(list, json::array({"update", "weight"})), "");
  EXPECT_EQ(check_value(list, json::array({"weight", "weights"})), "entry 2: 'weights' is unknown");
  EXPECT_EQ(check_value(list, json::array({"weight", "weight"})), "entry 2: 'weight' stands in the list twice");
  EXPECT_EQ(check_value(list, json::array({1})), "entry 1: 1 is not a name");
  EXPECT_EQ(check_value(list, "weight"), "'weight' is not a list of names");
  EXPECT_EQ(allowed_values(list), "a list of: weight, update");
}

TEST(Field, LongStringsAreCutInMessages) {
  const auto message = complaint(with("lr", std::string(100000, 'x')));
  EXPECT_LT(message.size(), 300U);
}

TEST(Field, AWrongDefaultIsAProgrammerError) {
  const std::vector<Field> wrong = {{.name = "steps", .kind = FieldKind::integer, .default_json = "0", .doc = "", .min = 1}};
  EXPECT_THROW(complete(wrong, json::object(), ""), std::logic_error);
}

TEST(Field, Lookup) {
  EXPECT_EQ(find_field(fields(), "steps"), &fields()[2]);
  EXPECT_EQ(find_field(fields(), "step"), nullptr);
  EXPECT_THAT(names_of(fields()),
              ::testing::ElementsAre("lr", "momentum", "steps", "nesterov", "note", "scale", "betas", "alpha", "polar"));
  EXPECT_EQ(allowed_values({.name = "x", .kind = FieldKind::number, .default_json = "", .doc = "", .max = 3}),
            "a number <= 3");
  EXPECT_EQ(allowed_values({.name = "x", .kind = FieldKind::number, .default_json = "", .doc = ""}), "a number");
}

}  // namespace test_field
}  // namespace equisweep
