// The router diagnostic against sums by hand.
#include <ATen/ATen.h>
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "analysis/diagnostics/diagnostics.h"
#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_router {

class RouterDiagnostic : public ::testing::Test {
 protected:
  /// The rows that two steps leave, the second flushed at the end.
  void measure(const std::vector<at::Tensor>& first, const std::vector<at::Tensor>& second, std::int64_t top_k) {
    RunStore store(path_, "0123456789abcdef", "{}", AttemptRow{.started_at = utc_now(), .device = "cpu"});
    const auto router =
        find_diagnostic("router").make({{"every", 5}}, {.store = store, .blocks = {}, .experts_per_token = top_k});
    router->observe_forward(1, Forward{.hidden_BTD = {}, .router_logits_NE = first});
    router->observe_forward(5, Forward{.hidden_BTD = {}, .router_logits_NE = second});
    router->flush();
    router->flush();  // nothing twice
    store.flush();
    db_ = open_read_only(path_);
  }

  std::vector<double> row(std::int64_t step, std::int64_t layer) {
    SQLite::Statement query(*db_,
                            "SELECT load_cv, load_entropy, dead_fraction, z_loss, balance_loss, logit_norm "
                            "FROM router_stats WHERE step = ? AND layer = ?");
    query.bind(1, step);
    query.bind(2, layer);
    std::vector<double> values;
    if (query.executeStep())
      for (int i = 0; i < 6; ++i) values.push_back(query.getColumn(i).getDouble());
    return values;
  }

  std::vector<std::int64_t> load(std::int64_t step, std::int64_t layer) {
    SQLite::Statement query(*db_, "SELECT tokens FROM expert_load WHERE step = ? AND layer = ? ORDER BY expert");
    query.bind(1, step);
    query.bind(2, layer);
    std::vector<std::int64_t> values;
    while (query.executeStep()) values.push_back(query.getColumn(0).getInt64());
    return values;
  }

  TempFolder folder_;
  std::filesystem::path path_ = folder_.path() / "run.db";
  std::unique_ptr<SQLite::Database> db_;
};

TEST_F(RouterDiagnostic, EqualsTheSumsOfItsDefinition) {
  // Four tokens, four experts, two each: expert 0 is in every pair, expert 3 in none.
  const at::Tensor z =
      at::tensor({3.0, 1.0, 0.0, -1.0, 2.0, 0.5, 1.0, -2.0, 1.0, 4.0, 0.0, -1.0, 0.5, -1.0, 0.25, -3.0}, at::kDouble)
          .reshape({4, 4});
  const at::Tensor before = z.clone();
  measure({z, z}, {z * 2}, 2);
  EXPECT_TRUE(at::equal(z, before));
  EXPECT_EQ(load(1, 0), (std::vector<std::int64_t>{4, 2, 2, 0}));

  const double n[] = {4, 2, 2, 0};
  double variance = 0, entropy = 0, z_loss = 0, norm = 0, mean_p[4] = {};
  for (const double x : n) {
    variance += (x - 2) * (x - 2) / 4;
    if (x > 0) entropy -= x / 8 * std::log(x / 8);
  }
  const auto value = z.accessor<double, 2>();
  for (int t = 0; t < 4; ++t) {
    double sum = 0, squares = 0;
    for (int e = 0; e < 4; ++e) {
      sum += std::exp(value[t][e]);
      squares += value[t][e] * value[t][e];
    }
    z_loss += std::log(sum) * std::log(sum) / 4;
    norm += std::sqrt(squares) / 4;
    for (int e = 0; e < 4; ++e) mean_p[e] += std::exp(value[t][e]) / sum / 4;
  }
  double balance = 0;
  for (int e = 0; e < 4; ++e) balance += 4 * n[e] / 4 * mean_p[e];
  const double expected[] = {std::sqrt(variance) / 2, entropy / std::log(4.0), 0.25, z_loss, balance, norm};
  for (const std::int64_t layer : {0, 1}) {
    const auto found = row(1, layer);
    ASSERT_EQ(found.size(), 6u);
    for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(found[i], expected[i], 1e-12) << i;
  }
  EXPECT_NEAR(row(5, 0)[5], 2 * norm, 1e-12);
  EXPECT_TRUE(row(5, 1).empty());
}

TEST_F(RouterDiagnostic, KnowsTheExtremes) {
  const at::Tensor even = at::eye(6, at::kDouble) * 1e-9, one_expert = at::zeros({3, 1}, at::kDouble);
  at::Tensor same = at::zeros({5, 6}, at::kDouble);
  same.select(1, 2).fill_(50);
  measure({even, same}, {one_expert}, 1);
  EXPECT_NEAR(row(1, 0)[0], 0, 1e-12);
  EXPECT_NEAR(row(1, 0)[1], 1, 1e-12);
  EXPECT_NEAR(row(1, 0)[4], 1, 1e-8);
  EXPECT_NEAR(row(1, 1)[0], std::sqrt(6.0 - 1), 1e-12);
  EXPECT_NEAR(row(1, 1)[1], 0, 1e-12);
  EXPECT_NEAR(row(1, 1)[2], 5.0 / 6, 1e-12);
  EXPECT_NEAR(row(1, 1)[4], 6, 1e-12);
  EXPECT_EQ(row(5, 0)[1], 1);
}

TEST_F(RouterDiagnostic, MarginsLogitsAndDroppedTokens) {
  // Expert 0 gets three pairs of eight, expert 3 one; the second token is a near tie; the last one's second expert
  // underflows.
  const at::Tensor z =
      at::tensor({3.0, 1.0, 0.0, -1.0, 2.0, 0.5, 0.25, -2.0, 1.0, 4.0, 0.0, -1.0, 0.0, -900.0, -901.0, -800.0}, at::kDouble)
          .reshape({4, 4});
  measure({z}, {at::full({2, 2}, std::nan(""), at::kDouble)}, 2);
  EXPECT_EQ(load(1, 0), (std::vector<std::int64_t>{4, 3, 0, 1}));
  SQLite::Statement query(*db_,
                          "SELECT max_violation, logit_mean, logit_std, logit_max, margin, margin_min, dropped, nonfinite "
                          "FROM router_stats ORDER BY step");
  ASSERT_TRUE(query.executeStep());
  double sum = 0, squares = 0;
  const at::Tensor flat = z.flatten();
  for (std::int64_t i = 0; i < 16; ++i) {
    sum += flat[i].item<double>();
    squares += std::pow(flat[i].item<double>(), 2);
  }
  const double expected[] = {1,    sum / 16, std::sqrt(squares / 16 - sum * sum / 256), 4, (1 + 0.25 + 1 + 100) / 4,
                             0.25, 1.0 / 8};
  for (int i = 0; i < 7; ++i) EXPECT_NEAR(query.getColumn(i).getDouble(), expected[i], 1e-10) << i;
  EXPECT_EQ(query.getColumn(7).getInt(), 0);
  // All experts chosen: there is no margin. Nothing finite passes: every pair is dropped.
  ASSERT_TRUE(query.executeStep());
  EXPECT_TRUE(query.getColumn(4).isNull() && query.getColumn(5).isNull());
  EXPECT_EQ(query.getColumn(6).getDouble(), 1);
}

TEST_F(RouterDiagnostic, DenseModelsLeaveNoRow) {
  measure({}, {}, 0);
  EXPECT_EQ(db_->execAndGet("SELECT (SELECT count(*) FROM router_stats) + (SELECT count(*) FROM expert_load)").getInt(), 0);
}

}  // namespace test_router
}  // namespace equisweep
