// Each method against its closed form: with X = sum s_i p_i q_i^T an iteration with composite polynomial p and
// normalisation N returns sum p(s_i / N) p_i q_i^T. The SVD of the oracle is Eigen's, in double.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "optimizers/polar/polar.h"
#include "support.h"

namespace equisweep {
namespace test_polar {

using namespace testing;
using nlohmann::json;

json options(const json& given) {
  const Field field = polar_field();
  return complete_polar(complete(field.fields, given, "polar"));
}

at::Tensor apply(const json& given, const at::Tensor& x) { return make_polar(options(given))->factor(x); }

/// sqrt(||X^T X||_F)
double root_of_gram_norm(const at::Tensor& x) { return std::sqrt(norm_of(at::matmul(x.t(), x))); }

/// The closed form for one matrix; singular values below max(m, n) eps s_max are left out.
at::Tensor closed_form(const json& given, const at::Tensor& x) {
  const json complete = options(given);
  const PolarDefaults defaults = polar_defaults(complete);
  const auto larger_side = static_cast<double>(std::max(x.size(0), x.size(1)));
  return map_singular_values(x, [&](double s, double largest, double frobenius) {
    if (s <= largest * larger_side * 0x1p-52) return 0.0;
    if (defaults.coefficients.empty()) return 1.0;
    const double norm =
        defaults.norm == "sqrt_gram_fro" ? std::sqrt(defaults.safety) * root_of_gram_norm(x) : defaults.safety * frobenius;
    double value = s / norm;
    for (const auto& [a, b, c] : defaults.coefficients) value = a * value + b * std::pow(value, 3) + c * std::pow(value, 5);
    return value;
  });
}

struct Input {
  const char* name;
  at::Tensor x;
  double condition;  ///< of the kept singular values: fp64 errors grow with it
};

std::vector<Input> inputs() {
  std::vector<Input> result;
  for (const auto& [m, n] : {std::pair{12, 7}, {7, 12}, {9, 9}, {1, 16}, {16, 1}}) {
    result.push_back({"gaussian", gaussian({m, n}, 3), 50});
    const auto k = std::min(m, n);
    if (k > 1) {
      result.push_back({"log spectrum 1..1e-3", with_spectrum(m, n, log_spectrum(k, 1e-3), 5), 1e3});
      std::vector<double> half = log_spectrum(k, 0.1);
      for (std::size_t i = half.size() / 2; i < half.size(); ++i) half[i] = 0;
      result.push_back({"half the rank", with_spectrum(m, n, half, 7), 10});
    }
    result.push_back({"norm 1e-6", gaussian({m, n}, 9) * 1e-7, 50});
    result.push_back({"norm 1e6", gaussian({m, n}, 9) * 1e5, 50});
  }
  return result;
}

class EveryMethod : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Table, EveryMethod, ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const PolarMethod& method : polar_methods()) names.emplace_back(method.name);
                           return names;
                         }()),
                         [](const auto& row) { return row.param; });

TEST_P(EveryMethod, MatchesItsClosedForm) {
  for (const auto& [name, x, condition] : inputs())
    EXPECT_LT(relative_error(apply({{"method", GetParam()}}, x), closed_form({{"method", GetParam()}}, x)),
              1e-12 * condition)
        << name << ' ' << x.sizes();
}

TEST_P(EveryMethod, TreatsEachMatrixOfABatchAlone) {
  const at::Tensor x = gaussian({2, 3, 5, 4}, 11);
  x[1][2].mul_(1e-4);
  x[0][1].zero_();
  const at::Tensor u = apply({{"method", GetParam()}}, x);
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 3; ++j)
      EXPECT_LT(norm_of(u[i][j] - apply({{"method", GetParam()}}, x[i][j])), 1e-13) << i << ' ' << j;
}

TEST_P(EveryMethod, KeepsZeroRowsAndColumnsExactlyZero) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    for (const auto& [m, n] : {std::pair{8, 5}, {5, 8}}) {
      at::Tensor x = gaussian({m, n}, 13, dtype);
      x[2].zero_();
      x.select(1, 3).zero_();
      const at::Tensor u = apply({{"method", GetParam()}}, x);
      EXPECT_EQ(norm_of(u[2]), 0);
      EXPECT_EQ(norm_of(u.select(1, 3)), 0);
      EXPECT_GT(norm_of(u[1]), 0.1);
      EXPECT_EQ(norm_of(apply({{"method", GetParam()}}, at::zeros({m, n}, dtype))), 0);
    }
  }
}

TEST_P(EveryMethod, DoesNotSeeTheScaleNorTheMemoryLayoutAndLeavesItsInputAlone) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const at::Tensor x = gaussian({3, 6, 9}, 17, dtype), before = x.clone();
    const at::Tensor u = apply({{"method", GetParam()}}, x);
    const double rounding = dtype == at::kDouble ? 1e-11 : 1e-3;
    EXPECT_LT(relative_error(apply({{"method", GetParam()}}, x * 1e-25), u), rounding);  // squares underflow in fp32
    EXPECT_LT(relative_error(apply({{"method", GetParam()}}, x * 1e25), u), rounding);
    EXPECT_LT(relative_error(apply({{"method", GetParam()}}, x.mT().contiguous().mT()), u), rounding);
    EXPECT_LT(relative_error(apply({{"method", GetParam()}}, x.mT()).mT(), u), rounding);
    EXPECT_TRUE(same_bits(x, before));
    EXPECT_EQ(u.scalar_type(), dtype);
  }
}

TEST_P(EveryMethod, MakesAMatrixWithANonFiniteEntryNonFiniteAndNoOther) {
  at::Tensor x = gaussian({2, 4, 4}, 19);
  x[0][1][1] = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor u = apply({{"method", GetParam()}}, x);
  EXPECT_FALSE(at::isfinite(u[0]).any().item<bool>());
  EXPECT_TRUE(at::isfinite(u[1]).all().item<bool>());
}

TEST(Polar, FiveStepsLandInTheirBand) {
  const at::Tensor x = with_spectrum(48, 24, log_spectrum(24, 1e-2), 23);
  const auto values = [&](const char* method) { return at::linalg_svdvals(apply({{"method", method}}, x)); };
  EXPECT_GT(values("polar_express").min().item<double>(), 0.847);
  EXPECT_LT(values("polar_express").max().item<double>(), 1.142);
  EXPECT_GT(values("newton_schulz").min().item<double>(), 0.45);
  EXPECT_LT(values("newton_schulz").max().item<double>(), 1.135);
}

TEST(Polar, MoreStepsOfPolarExpressConverge) {
  const at::Tensor x = with_spectrum(48, 24, log_spectrum(24, 1e-1), 29);
  const at::Tensor exact = apply({{"method", "svd"}}, x);
  EXPECT_GT(relative_error(apply({{"steps", 5}}, x), exact), 1e-2);
  EXPECT_LT(relative_error(apply({{"steps", 8}}, x), exact), 1e-13);
  EXPECT_LT(relative_error(apply({{"steps", 12}}, x), exact), 1e-13);
}

TEST(Polar, CoefficientsAndSafetyReplaceTheDefaults) {
  const at::Tensor x = gaussian({6, 4}, 31);
  const json cubic = {{"method", "newton_schulz"}, {"coefficients", {1.5, -0.5, 0, 1.5, -0.5, 0}}, {"safety", 2}};
  EXPECT_EQ(options(cubic).at("steps"), 2);
  at::Tensor y = x / (2 * at::linalg_vector_norm(x));
  for (int i = 0; i < 2; ++i) y = 1.5 * y - 0.5 * at::matmul(at::matmul(y, y.t()), y);
  EXPECT_LT(relative_error(apply(cubic, x), y), 1e-13);
}

TEST(Polar, HalfPrecisionProductsComeCloseToFullOnes) {
  const at::Tensor x = gaussian({3, 16, 8}, 37, at::kFloat);
  const at::Tensor narrow = apply({{"precision", "bf16"}}, x);
  EXPECT_EQ(narrow.scalar_type(), at::kFloat);
  const double error = relative_error(narrow, apply({{"precision", "fp64"}}, x));
  EXPECT_LT(error, 0.2);
  EXPECT_GT(error, 1e-4);
  EXPECT_LT(relative_error(apply({{"precision", "fp32"}}, x), apply({{"precision", "fp64"}}, x)), 1e-4);
}

// TF32 on a GPU and bf16 on a CPU are allowed for fp32 products elsewhere; a Gram matrix would not survive them.
TEST(Polar, GramMatricesAreFormedInIeeeArithmeticWhateverIsAllowedElsewhere) {
  const at::Tensor x = gaussian({2, 256, 96}, 41, at::kFloat);
  for (const char* method : {"gram", "inv_sqrt", "qdwh", "zolo"}) {
    const at::Tensor expected = apply({{"method", method}}, x);
    for (const auto& [name, precision] :
         {std::pair{"medium", at::Float32MatmulPrecision::MEDIUM}, std::pair{"high", at::Float32MatmulPrecision::HIGH}}) {
      at::globalContext().setFloat32MatmulPrecision(name);
      const at::Tensor u = apply({{"method", method}}, x);
      EXPECT_EQ(at::globalContext().float32MatmulPrecision(), precision) << "not put back after " << method;
      at::globalContext().setFloat32MatmulPrecision("highest");
      EXPECT_TRUE(same_bits(u, expected)) << method << ' ' << name;
    }
  }
}

/// What a method may be asked for in fp32, on blocks whose Gram matrix is singular: of small integers, and centred; left and
/// right. Against the exact factor, since seven steps and more have converged. What is left is not the iteration's: it is
/// what rounding has made of the zeros, raised by the slope of the polynomial, 4849 at eight steps and twice that at nine.
TEST(Polar, EveryNumberOfStepsThatIsAllowedSurvivesSingularGramMatricesInFp32) {
  const auto few = [](std::int64_t m, std::int64_t n, std::int64_t rank) {
    return at::matmul(gaussian({m, rank}, 51).mul_(3).round_(), gaussian({rank, n}, 52).mul_(3).round_());
  };
  const auto centred = [](std::int64_t m, std::int64_t n) {
    const at::Tensor x = gaussian({m, n}, 53);
    return x - x.mean(0, true);
  };
  std::vector<std::pair<at::Tensor, at::Tensor>> blocks;  // X and its factor
  for (const at::Tensor& x : {few(32, 256, 3), few(64, 256, 1), few(150, 48, 3), few(150, 48, 1), few(16, 16, 2),
                              centred(8, 64), centred(32, 256), centred(150, 48)})
    blocks.emplace_back(x.to(at::kFloat), apply({{"method", "svd"}}, x));
  for (const PolarMethod& method : polar_methods())
    if (method.name == "gram" || method.name == "inv_sqrt")
      for (int steps = 5; steps <= method.max_steps; ++steps) {
        const json given = options({{"method", method.name}, {"steps", steps}});
        for (const GramSide side : {GramSide::shorter, GramSide::left, GramSide::right})
          for (const auto& [x, factor] : blocks)
            EXPECT_LT(relative_error(make_polar(given, side)->factor(x), factor), 0.15)
                << given << x.sizes() << static_cast<int>(side);
      }
}

// The Gram matrix that inv_sqrt forms anew includes the damping: the closed form of its header, on more steps than one of
// these takes.
TEST(Polar, DampedInverseRootsFollowTheirFormulaForEveryNumberOfSteps) {
  const double damping = 0.01;
  const at::Tensor x = with_spectrum(9, 6, log_spectrum(6, 1e-2), 55);
  const double gram_norm = norm_of(at::matmul(x.t(), x)), d = damping * gram_norm;
  const at::Tensor a = at::matmul(x.t(), x) + d * at::eye(6, at::kDouble);
  for (int steps = 1; steps <= 12; ++steps) {
    const json given = options({{"method", "inv_sqrt"}, {"steps", steps}, {"damping", damping}});
    const double norm = 1.02 * norm_of(a);
    const at::Tensor expected = map_singular_values(x, [&](double s, double, double) {
      double value = std::sqrt((s * s + d) / norm);
      for (const auto& [a1, b1, c1] : polar_defaults(given).coefficients)
        value = a1 * value + b1 * std::pow(value, 3) + c1 * std::pow(value, 5);
      return value * s / std::sqrt(s * s + d);
    });
    EXPECT_LT(relative_error(make_polar(given)->factor(x), expected), 1e-10) << steps;
  }
}

// Exactly rank-deficient matrices are where QR without an order of its columns fails, in one of a few dozen.
TEST(Polar, QrBasedMethodsAreAccurateOnExactlyRankDeficientMatrices) {
  std::vector<at::Tensor> matrices;
  for (std::uint64_t seed = 0; seed < 400; ++seed)
    matrices.push_back(
        at::matmul(gaussian({6, 2}, 2 * seed).mul_(4).round_(), gaussian({2, 4}, 2 * seed + 1).mul_(4).round_()));
  const at::Tensor x = at::stack(matrices);
  for (const char* method : {"qdwh", "zolo"}) {
    const at::Tensor u = apply({{"method", method}}, x);
    for (std::int64_t i = 0; i < x.size(0); ++i)
      EXPECT_LT(norm_of(u[i] - closed_form({{"method", "svd"}}, x[i])), 1e-12) << method << i;
  }
}

struct Refusal {
  json given;
  const char* message;
};

class PolarRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(PolarRefusal, SaysWhatIsAllowed) {
  EXPECT_THAT(usage_error([&] { options(GetParam().given); }), ::testing::HasSubstr(GetParam().message)) << GetParam().given;
}

INSTANTIATE_TEST_SUITE_P(
    Table, PolarRefusal,
    ::testing::Values(Refusal{{{"method", "polarexpress"}}, "did you mean 'polar_express'"},
                      Refusal{{{"stesp", 5}}, "did you mean 'steps'"},
                      Refusal{{{"method", "svd"}, {"steps", 5}}, "polar: 'steps' has no effect with method svd"},
                      Refusal{{{"method", "svd"}, {"precision", "bf16"}},
                              "polar: precision bf16 is refused for method svd: LAPACK has no half precision"},
                      Refusal{{{"coefficients", {1.5, -0.5}}}, "2 coefficients are not triples a, b, c"},
                      Refusal{{{"coefficients", {1.5, -0.5, 0}}, {"steps", 2}}, "2 steps, but coefficients for 1"},
                      Refusal{
                          {{"method", "gram"}, {"precision", "bf16"}},
                          "precision bf16 is refused for method gram: the Gram matrix squares the condition, and in half "
                          "precision the iteration explodes"},
                      Refusal{{{"method", "inv_sqrt"}, {"steps", 13}},
                              "13 steps of method inv_sqrt diverge on rank-deficient blocks; allowed: at most 12 steps"},
                      Refusal{{{"safety", 0.999}},
                              "safety 0.999 leaves singular values beyond 1, where the coefficients of method "
                              "polar_express do not hold; allowed: at least 1, or coefficients of your own"},
                      Refusal{{{"damping", 0.1}}, "'damping' has no effect with method polar_express"},
                      Refusal{{{"steps", 0}}, "steps"}, Refusal{{{"safety", 0}}, "safety"}));

}  // namespace test_polar
}  // namespace equisweep
