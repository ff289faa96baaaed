// equisweep sql: answers, and everything that a statement must not do.

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/error.h"
#include "sweeps/query.h"
#include "tests/support/sweep_fixture.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_query {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Query : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_sweep(database(), {.runs = {{.stack = "adamw", .evals = {{10, 3.5}}}, {.stack = "muon"}}});
  }
  std::filesystem::path database() const { return temp_ / "sweep.db"; }
  std::string complaint(const std::string& sql) const {
    try {
      query(database(), sql);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "none";
  }
  const TempFolder temp_;
};

TEST_F(Query, AnswersWithTheTypesOfSQLite) {
  const QueryResult result = query(database(), "SELECT 1 AS a, 2.5, 'x', NULL, x'0aff', 9e999");
  EXPECT_EQ(result.columns.at(0), "a");
  ASSERT_EQ(result.rows.size(), 1U);
  EXPECT_THAT(result.rows[0], ElementsAre(QueryValue(std::int64_t{1}), QueryValue(2.5), QueryValue("x"), QueryValue(),
                                          QueryValue("0aff"), QueryValue(std::numeric_limits<double>::infinity())));
}

TEST_F(Query, ReadsTheViews) {
  const QueryResult result =
      query(database(), "WITH f AS (SELECT * FROM final_losses) SELECT stack, val_loss FROM f ORDER BY stack;  ");
  ASSERT_EQ(result.rows.size(), 2U);
  EXPECT_EQ(result.rows[0][1], QueryValue(3.5));
  EXPECT_EQ(result.rows[1][1], QueryValue());
}

TEST_F(Query, WhatDoesMoreThanReadIsRefused) {
  const std::string other = (temp_ / "other.db").string();
  for (const std::string& sql :
       {std::string("DELETE FROM runs"), std::string("UPDATE runs SET state = 'done'"), std::string("CREATE TABLE t (x)"),
        std::string("CREATE TEMP TABLE t (x)"), std::string("DROP VIEW final_losses"),
        std::string("PRAGMA user_version = 7"), std::string("PRAGMA journal_mode = DELETE"), std::string("BEGIN"),
        "ATTACH '" + other + "' AS o", "VACUUM INTO '" + other + "'"})
    EXPECT_THAT(complaint(sql), HasSubstr("does more than read")) << sql;
  EXPECT_FALSE(std::filesystem::exists(other));
  EXPECT_EQ(query(database(), "SELECT count(*) FROM runs").rows[0][0], QueryValue(std::int64_t{2}));
}

TEST_F(Query, ExactlyOneStatementWithoutParameters) {
  EXPECT_THAT(complaint(""), HasSubstr("there is none"));
  EXPECT_THAT(complaint("-- nothing"), HasSubstr("there is none"));
  EXPECT_THAT(complaint("SELECT 1; SELECT 2"), HasSubstr("there are several"));
  EXPECT_THAT(complaint("SELECT 1; DELETE FROM runs"), HasSubstr("there are several"));
  EXPECT_THAT(complaint("SELECT ?"), HasSubstr("has a parameter"));
  EXPECT_THAT(complaint("SELEC 1"), HasSubstr("syntax error"));
  EXPECT_THAT(complaint("SELECT load_extension('x')"), HasSubstr("the statement"));
}

}  // namespace test_query
}  // namespace equisweep
