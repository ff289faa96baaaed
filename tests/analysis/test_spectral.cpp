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
  const fs::path path = fs::temp_directory_path() / ("equisweep-spectral-" + std::to_string(getpid()) + ".db");
  fs::remove(path);
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
    const auto spectral =
        find_diagnostic("spectral").make({{"every", 10}}, {.store = store, .blocks = {{"a", 4}, {"b", 5}}});
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
    double norm = 0, rank = 0, update = 0, ratio = 0, size = 0;
    for (const std::int64_t head : {0, 1}) {
      const at::Tensor w = weight[k][head], u = direction[k][head];
      norm = std::max(norm, exact_norm(w));
      rank = std::max(rank, std::pow(frobenius(w) / exact_norm(w), 2));
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
  fs::remove(path);
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
