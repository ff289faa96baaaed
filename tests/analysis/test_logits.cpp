// The logit and attention diagnostics against sums by hand.
#include <ATen/ATen.h>
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "analysis/diagnostics/diagnostics.h"
#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_logits {

class NoRule final : public UpdateRule {
 public:
  std::vector<std::string> slots() const override { return {}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState&, const BlockInfo&) const override { return gradient; }
  Symmetry symmetry() const override { return {}; }
};

std::unique_ptr<Diagnostic> make(const char* name, const nlohmann::json& given, RunStore& store) {
  const DiagnosticInfo& info = find_diagnostic(name);
  return info.make(complete(info.fields, given, name), {.store = store, .blocks = {}});
}

class Stats : public ::testing::Test {
 protected:
  TempFolder folder_;
  std::unique_ptr<RunStore> store_ = std::make_unique<RunStore>(folder_ / "run.db", "0123456789abcdef", "{}",
                                                                AttemptRow{.started_at = utc_now(), .device = "cpu"});

  std::vector<std::vector<double>> rows(const std::string& sql, int columns) {
    store_->flush();
    const auto db = open_read_only(folder_ / "run.db");
    SQLite::Statement query(*db, sql);
    std::vector<std::vector<double>> result;
    while (query.executeStep()) {
      result.emplace_back();
      for (int i = 0; i < columns; ++i) result.back().push_back(query.getColumn(i).getDouble());
    }
    return result;
  }
};

constexpr const char* kLogitColumns =
    "SELECT step, logit_mean, logit_std, logit_max, logsumexp, shift_share, growth FROM logit_stats";

TEST_F(Stats, LogitsEqualTheSumsOfTheirDefinition) {
  at::Generator generator = at::detail::createCPUGenerator(5);
  const auto random = [&](at::IntArrayRef shape) { return at::randn(shape, generator, at::TensorOptions(at::kDouble)); };
  // Two weights in the bank of the head's shape: the other one is no head.
  const at::Tensor hidden = random({2, 6, 4}), weight = random({2, 5, 4}) + 0.5, direction = random({2, 5, 4});
  Param other{.name = "x", .role = Role::router, .tensor = {}}, head{.name = "lm_head", .role = Role::lm_head, .tensor = {}};
  Param embedding{.name = "embed", .role = Role::embedding, .tensor = {}};
  Param *pair[] = {&other, &head}, *only[] = {&embedding};
  const MatrixView view;
  const RuleState state;
  const NoRule rule;
  const at::Tensor embedding_weight = random({1, 5, 4}), embedding_direction = random({1, 5, 4});
  const auto logits = make("logits", {{"every", 3}, {"tokens", 3}}, *store_);
  logits->observe_forward(1, Forward{.hidden_BTD = hidden, .router_logits_NE = {}});
  // The bank of the embedding comes first; the head counts.
  logits->observe({.step = 1,
                   .params = only,
                   .view = view,
                   .weight = embedding_weight,
                   .gradient = embedding_weight,
                   .direction = embedding_direction,
                   .state = state,
                   .rule = rule,
                   .lr = 1});
  logits->observe({.step = 1,
                   .params = pair,
                   .view = view,
                   .weight = weight,
                   .gradient = weight,
                   .direction = direction,
                   .state = state,
                   .rule = rule,
                   .lr = 0.5});
  logits->flush();
  logits->flush();

  // Tokens 0, 4 and 8 of 12.
  double sum = 0, squares = 0, most = -1e9, logsumexp = 0, share = 0, growth = 0;
  for (const std::int64_t n : {0, 4, 8}) {
    const at::Tensor h = hidden.view({12, 4})[n];
    double exponentials = 0, own = 0, own_squares = 0;
    for (std::int64_t v = 0; v < 5; ++v) {
      const double z = (h * weight[1][v]).sum().item<double>(), dz = 0.5 * (h * direction[1][v]).sum().item<double>();
      own += z;
      own_squares += z * z;
      exponentials += std::exp(z);
      most = std::max(most, z);
      growth = std::max(growth, std::abs(dz));
    }
    sum += own;
    squares += own_squares;
    logsumexp += std::log(exponentials) / 3;
    share += std::abs(own / 5) * std::sqrt(5.0) / std::sqrt(own_squares) / 3;
  }
  const double expected[] = {1, sum / 15, std::sqrt(squares / 15 - sum * sum / 225), most, logsumexp, share, growth};
  const auto found = rows(kLogitColumns, 7);
  ASSERT_EQ(found.size(), 1u);
  for (std::size_t i = 0; i < 7; ++i) EXPECT_NEAR(found[0][i], expected[i], 1e-12) << i;
}

TEST_F(Stats, ATiedEmbeddingIsTheHead) {
  const at::Tensor hidden = at::ones({1, 2, 3}, at::kDouble), weight = at::ones({1, 4, 3}, at::kDouble);
  Param embedding{.name = "embed", .role = Role::embedding, .tensor = {}}, *params[] = {&embedding};
  const MatrixView view;
  const RuleState state;
  const NoRule rule;
  const auto logits = make("logits", {{"every", 1}}, *store_);
  for (const std::int64_t step : {1, 2}) {
    logits->observe_forward(step, Forward{.hidden_BTD = hidden * step, .router_logits_NE = {}});
    logits->observe({.step = step,
                     .params = params,
                     .view = view,
                     .weight = weight,
                     .gradient = weight,
                     .direction = weight,
                     .state = state,
                     .rule = rule,
                     .lr = 1});
  }
  logits->flush();
  const auto found = rows(kLogitColumns, 7);
  ASSERT_EQ(found.size(), 2u);  // the first was written when the second came
  EXPECT_NEAR(found[1][1], 6, 1e-12);
  EXPECT_NEAR(found[1][5], 1, 1e-12);  // all logits are equal: nothing but a shared shift
}

TEST_F(Stats, AttentionPeaksAreWrittenAnIntervalLate) {
  std::int64_t asked = 0;
  const auto forward = [&](double peak) {
    Forward f;
    f.attention_peaks = [&asked, peak](std::int64_t n) {
      asked = n;
      return std::vector<at::Tensor>{at::tensor({peak, peak + 1}), at::tensor({-peak, 0.5})};
    };
    return f;
  };
  const auto attention = make("attention", {{"every", 5}, {"sequences", 3}}, *store_);
  attention->observe_forward(1, forward(2));
  EXPECT_EQ(asked, 3);
  EXPECT_TRUE(rows("SELECT step FROM attention_stats", 1).empty());
  attention->observe_forward(5, forward(4));
  attention->flush();
  const auto found = rows("SELECT step, layer, head, max_logit FROM attention_stats ORDER BY step, layer, head", 4);
  const std::vector<std::vector<double>> expected = {{1, 0, 0, 2}, {1, 0, 1, 3}, {1, 1, 0, -2}, {1, 1, 1, 0.5},
                                                     {5, 0, 0, 4}, {5, 0, 1, 5}, {5, 1, 0, -4}, {5, 1, 1, 0.5}};
  EXPECT_EQ(found, expected);
}

}  // namespace test_logits
}  // namespace equisweep
