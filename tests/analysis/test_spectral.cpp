// The spectral diagnostic: what it writes, when, and that it leaves everything alone.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "analysis/diagnostics/diagnostics.h"
#include "core/error.h"
#include "core/run_store.h"
#include "tests/support/oracle.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_spectral {

namespace fs = std::filesystem;

class NoRule final : public UpdateRule {
 public:
  std::vector<std::string> slots() const override { return {}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState&, const BlockInfo&) const override { return gradient; }
  Symmetry symmetry() const override { return {}; }
};

double exact_norm(const at::Tensor& matrix) {
  const at::Tensor x = matrix.to(at::kDouble).contiguous();
  return testing::oracle::largest_singular_value(x.const_data_ptr<double>(), x.size(0), x.size(1));
}

double frobenius(const at::Tensor& x) { return x.to(at::kDouble).square().sum().sqrt().item<double>(); }

TEST(Spectral, WritesTheWorstMatrixOfEachWeightAndChangesNothing) {
  const TempFolder folder;
  const fs::path path = folder / "run.db";
  at::Generator generator = at::detail::createCPUGenerator(3);
  // Two weights of two heads each.
  const auto random = [&] { return at::randn({2, 2, 24, 40}, generator, at::TensorOptions()); };
  at::Tensor weight = random(), gradient = random(), direction = random();
  weight[1][0].mul_(7);
  Param first{.name = "a", .tensor = {}}, second{.name = "b", .tensor = {}}, *params[] = {&first, &second};
  const MatrixView view;
  const RuleState state;
  const NoRule rule;
  const BankStep bank{.step = 1,
                      .params = params,
                      .view = view,
                      .weight = weight,
                      .gradient = gradient,
                      .direction = direction,
                      .state = state,
                      .rule = rule,
                      .lr = 0.25};
  const at::Tensor before = at::stack({weight, gradient, direction}).clone();
  const at::Tensor generator_before = at::detail::getDefaultCPUGenerator().get_state();
  {
    RunStore store(path, "0123456789abcdef", "{}", AttemptRow{.started_at = utc_now(), .device = "cpu"});
    const DiagnosticInfo& info = find_diagnostic("spectral");
    const auto spectral =
        info.make(complete(info.fields, {{"every", 10}}, "spectral"), {.store = store, .blocks = {{"a", 4}, {"b", 5}}});
    EXPECT_TRUE(spectral->wants(1) && spectral->wants(10) && spectral->wants(20));
    EXPECT_FALSE(spectral->wants(2) || spectral->wants(11));
    spectral->observe(bank);
    spectral->flush();
    spectral->flush();  // nothing twice
    store.flush();
  }
  EXPECT_TRUE(at::equal(before, at::stack({weight, gradient, direction})));
  EXPECT_TRUE(at::equal(generator_before, at::detail::getDefaultCPUGenerator().get_state()));

  const auto db = open_read_only(path);
  SQLite::Statement rows(
      *db,
      "SELECT block, spectral_norm, stable_rank, update_spectral_norm, update_to_weight, gradient_norm, lr, step "
      "FROM block_stats ORDER BY block");
  for (const std::int64_t k : {0, 1}) {
    ASSERT_TRUE(rows.executeStep());
    EXPECT_EQ(rows.getColumn(0).getInt64(), 4 + k);
    double norm = 0, rank = 1e9, update = 0, ratio = 0, size = 0;
    for (const std::int64_t head : {0, 1}) {
      const at::Tensor w = weight[k][head], u = direction[k][head];
      norm = std::max(norm, exact_norm(w));
      rank = std::min(rank, std::pow(frobenius(w) / exact_norm(w), 2));
      update = std::max(update, 0.25 * exact_norm(u));
      ratio = std::max(ratio, 0.25 * frobenius(u) / frobenius(w));
      size = std::max(size, frobenius(gradient[k][head]));
    }
    EXPECT_NEAR(rows.getColumn(1).getDouble() / norm, 1, 1e-4);
    EXPECT_NEAR(rows.getColumn(2).getDouble() / rank, 1, 2e-4);
    EXPECT_NEAR(rows.getColumn(3).getDouble() / update, 1, 1e-4);
    EXPECT_NEAR(rows.getColumn(4).getDouble() / ratio, 1, 1e-5);
    EXPECT_NEAR(rows.getColumn(5).getDouble() / size, 1, 1e-5);
    EXPECT_EQ(rows.getColumn(6).getDouble(), 0.25);
    EXPECT_EQ(rows.getColumn(7).getInt64(), 1);
  }
  EXPECT_FALSE(rows.executeStep());
}

/// matrix_stats of one observation.
std::vector<std::vector<double>> matrix_rows(const nlohmann::json& given, const BankStep& bank, const std::string& where) {
  const TempFolder folder;
  {
    RunStore store(folder / "run.db", "0123456789abcdef", "{}", AttemptRow{.started_at = utc_now(), .device = "cpu"});
    const DiagnosticInfo& info = find_diagnostic("spectral");
    const auto spectral =
        info.make(complete(info.fields, given, "spectral"), {.store = store, .blocks = {{"a", 0}, {"b", 1}}});
    spectral->observe(bank);
    spectral->flush();
    store.flush();
  }
  const auto db = open_read_only(folder / "run.db");
  SQLite::Statement query(*db,
                          "SELECT block, matrix, spectral_norm, frobenius_norm, stable_rank, row_min, row_median, row_max, "
                          "dead_rows, exact_norm, nuclear_norm, effective_rank FROM matrix_stats WHERE " +
                              where + " ORDER BY block, matrix");
  std::vector<std::vector<double>> rows;
  while (query.executeStep()) {
    rows.emplace_back();
    for (int i = 0; i < 12; ++i)
      rows.back().push_back(query.getColumn(i).isNull() ? std::nan("") : query.getColumn(i).getDouble());
  }
  return rows;
}

TEST(Spectral, WritesEveryMatrixOfEveryQuantity) {
  at::Generator generator = at::detail::createCPUGenerator(7);
  // Two weights of three experts each; an expert without any row and a dead row elsewhere.
  const auto random = [&] { return at::randn({2, 3, 9, 6}, generator, at::TensorOptions()); };
  std::map<std::string, at::Tensor> x;
  for (const char* quantity : {"weight", "update", "momentum", "gradient"}) x.emplace(quantity, random());
  x.at("gradient")[1][2].zero_();
  x.at("momentum")[0][1][4].zero_();
  Param first{.name = "a", .tensor = {}}, second{.name = "b", .tensor = {}}, *params[] = {&first, &second};
  const MatrixView view;
  RuleState state;
  state.slots = {x.at("momentum")};
  const NoRule rule;
  const auto bank_at = [&](std::int64_t step) {
    return BankStep{.step = step,
                    .params = params,
                    .view = view,
                    .weight = x.at("weight"),
                    .gradient = x.at("gradient"),
                    .direction = x.at("update"),
                    .state = state,
                    .rule = rule,
                    .lr = 0.5};
  };
  const nlohmann::json all = {
      {"of", {"weight", "update", "momentum", "gradient"}}, {"exact_every", 20}, {"exact_all", true}};
  for (const auto& [quantity, tensor] : x) {
    const auto rows = matrix_rows(all, bank_at(20), "quantity = '" + quantity + "'");
    ASSERT_EQ(rows.size(), 6u) << quantity;
    for (std::size_t i = 0; i < 6; ++i) {
      const at::Tensor m = tensor[static_cast<std::int64_t>(i / 3)][static_cast<std::int64_t>(i % 3)].to(at::kDouble) *
                           (quantity == "update" ? 0.5 : 1);
      const auto& row = rows[i];
      EXPECT_EQ(row[0], static_cast<double>(i / 3));
      EXPECT_EQ(row[1], static_cast<double>(i % 3));
      std::vector<double> norms;
      for (std::int64_t r = 0; r < 9; ++r) norms.push_back(frobenius(m[r]));
      std::sort(norms.begin(), norms.end());
      const double top = exact_norm(m);
      EXPECT_NEAR(row[2], top, 1e-4 * top);
      EXPECT_NEAR(row[3], frobenius(m), 1e-5 * top);
      EXPECT_TRUE(top == 0 || std::abs(row[4] / std::pow(frobenius(m) / top, 2) - 1) < 3e-4);
      EXPECT_NEAR(row[5], norms.front(), 1e-5 * top);
      EXPECT_NEAR(row[6], norms[4], 1e-5 * top);
      EXPECT_NEAR(row[7], norms.back(), 1e-5 * top);
      EXPECT_EQ(row[8], top == 0 ? 9 : norms.front() == 0 ? 1 : 0);
      EXPECT_NEAR(row[9], top, 1e-6 * top);
      // The nuclear norm is the largest inner product with a matrix of spectral norm 1: with the polar factor.
      if (top == 0) continue;
      at::Tensor polar = at::empty_like(m), entropy = at::empty_like(m);
      const at::Tensor c = m.contiguous();
      testing::oracle::map_singular_values(
          c.const_data_ptr<double>(), 9, 6, [](double, double, double) { return 1; }, polar.data_ptr<double>());
      const double nuclear = (polar * c).sum().item<double>();
      EXPECT_NEAR(row[10], nuclear, 1e-6 * nuclear);
      testing::oracle::map_singular_values(
          c.const_data_ptr<double>(), 9, 6, [&](double s, double, double) { return -std::log(s / nuclear); },
          entropy.data_ptr<double>());
      EXPECT_NEAR(row[11], std::exp((entropy * c).sum().item<double>() / nuclear), 1e-5);
    }
  }
  // One weight in turn: that of number step / exact_every mod 2, and no decomposition between.
  for (const std::int64_t step : {20, 40, 50}) {
    const auto rows = matrix_rows({{"every", 20}, {"exact_every", 20}}, bank_at(step), "quantity = 'weight'");
    for (const auto& row : rows) {
      const bool decomposed = step % 20 == 0 && row[0] == static_cast<double>(step / 20 % 2);
      EXPECT_EQ(!std::isnan(row[9]), decomposed) << step;
    }
  }
  // Where the two paces meet more seldom, none is left out: they meet at 30, 60, ..., and at 60 the first is in turn again.
  EXPECT_FALSE(std::isnan(matrix_rows({{"every", 15}, {"exact_every", 10}}, bank_at(60), "block = 0")[0][9]));
  EXPECT_FALSE(std::isnan(matrix_rows({{"every", 15}, {"exact_every", 10}}, bank_at(30), "block = 1")[0][9]));
  EXPECT_TRUE(matrix_rows({{"of", nlohmann::json::array()}}, bank_at(20), "1").empty());
}

TEST(Diagnostics, EveryRowHasAPaceAndUnknownNamesAreRefused) {
  for (const DiagnosticInfo& row : diagnostics()) {
    ASSERT_FALSE(row.fields.empty()) << row.name;
    EXPECT_EQ(row.fields.front().name, "every") << row.name;
  }
  try {
    find_diagnostic("spectrl");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("spectral"), std::string::npos);
  }
}

}  // namespace test_spectral
}  // namespace equisweep
