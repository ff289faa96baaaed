// Every rule against the plain formulas of reference.h: each option, shape and spectrum in fp64, well-conditioned blocks in
// fp32, random combinations of options, and each view of each layout through the Optimizer.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hand_blocks.h"
#include "optimizers/optimizer.h"
#include "reference.h"
#include "variants.h"

namespace equisweep {
namespace test_closed_form {

using namespace testing;
using nlohmann::json;
using Shape = std::vector<std::int64_t>;

constexpr BlockInfo kFans{6, 4};

struct Input {
  std::string name;
  std::vector<at::Tensor> gradients;  ///< three steps
  double condition;                   ///< of the kept singular values; fp64 errors grow with it
};

/// The same matrices in each step, at another scale: momentum keeps their spectrum.
std::vector<at::Tensor> repeated(const at::Tensor& x) { return {x, 0.25 * x, -2 * x}; }

at::Tensor batch_of(const Shape& shape, const std::function<at::Tensor(std::uint64_t)>& matrix) {
  std::int64_t count = 1;
  for (std::size_t i = 0; i + 2 < shape.size(); ++i) count *= shape[i];
  std::vector<at::Tensor> matrices;
  for (std::int64_t i = 0; i < count; ++i) matrices.push_back(matrix(1000 * static_cast<std::uint64_t>(i) + 3));
  return at::stack(matrices).reshape(shape);
}

std::vector<at::Tensor> gaussians(const Shape& shape, std::uint64_t seed) {
  return {gaussian(shape, seed), gaussian(shape, seed + 1), gaussian(shape, seed + 2)};
}

std::vector<Input> inputs(const Shape& shape) {
  const std::int64_t m = shape.end()[-2], n = shape.end()[-1], k = std::min(m, n), half = std::max<std::int64_t>(1, k / 2);
  const auto spectrum = [&](std::uint64_t seed) { return with_spectrum(m, n, log_spectrum(k, 1e-6), seed); };
  const auto low_rank = [&](std::uint64_t seed) {
    return at::matmul(gaussian({m, half}, seed).mul_(4).round_(), gaussian({half, n}, seed + 1).mul_(4).round_());
  };
  std::vector<at::Tensor> zero_row = gaussians(shape, 21), huge_row = gaussians(shape, 31), tiny = gaussians(shape, 41);
  for (int t = 0; t < 3; ++t) {
    zero_row[t].select(-2, m / 2).zero_();
    huge_row[t].select(-2, m / 2).mul_(1e6);
    tiny[t].mul_(1e-6 / norm_of(tiny[t]));
  }
  return {{"gaussian", gaussians(shape, 11), 1e3},
          {"log spectrum 1..1e-6", repeated(batch_of(shape, spectrum)), 1e6},
          {"exact low rank", repeated(batch_of(shape, low_rank)), 1e3},
          {"one zero row", zero_row, 1e3},
          {"one huge row", huge_row, 1e8},
          {"norm 1e-6", tiny, 1e3},
          {"all zero", repeated(at::zeros(shape, at::kDouble)), 1}};
}

/// What fp64 (or fp32) leaves of a direction: a Gram matrix squares the condition.
double tolerance(const json& entry, double condition, double unit = 1e-13) {
  const std::string method = entry.contains("polar") ? entry.at("polar").at("method").get<std::string>() : "";
  const bool squares = method == "gram" || method == "inv_sqrt";
  return std::min(0.3, unit * condition * (squares ? condition : 1));
}

/// Largest distance from the reference over three steps, relative to the larger of the two directions.
double distance(const json& entry, const std::vector<at::Tensor>& gradients) {
  const auto rule = make_rule(entry);
  RuleState state = make_state(*rule, gradients[0].sizes(), gradients[0].options());
  Reference reference(entry);
  double worst = 0;
  for (const at::Tensor& gradient : gradients) {
    const at::Tensor u = rule->direction(gradient, state, kFans), expected = reference.direction(gradient, kFans);
    const double difference = norm_of(u.to(at::kDouble) - expected);
    if (difference != 0) worst = std::max(worst, difference / std::max(norm_of(u), norm_of(expected)));
    if (!std::isfinite(difference)) return HUGE_VAL;
  }
  return worst;
}

class ClosedForm : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Table, ClosedForm, ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const RuleInfo& rule : rules()) names.emplace_back(rule.name);
                           return names;
                         }()),
                         [](const auto& row) { return row.param; });

// A new rule brings a second implementation, as plain as it can be, in reference.cpp.
TEST_P(ClosedForm, IsKnown) { EXPECT_TRUE(Reference::knows(GetParam())); }

TEST_P(ClosedForm, IsReachedInDoubleForEveryOptionShapeAndSpectrum) {
  if (!Reference::knows(GetParam())) return;  // IsKnown has failed
  for (const Shape& shape : {Shape{12, 7}, {7, 12}, {8, 8}, {1, 9}, {9, 1}, {2, 2, 6, 4}})
    for (const Input& input : inputs(shape))
      for (const json& variant : variants_of(GetParam()))
        if (narrowest(variant) == at::kDouble) {
          EXPECT_LT(distance(variant, input.gradients), tolerance(variant, input.condition))
              << variant << ' ' << at::IntArrayRef(shape) << ' ' << input.name;
        }
}

TEST_P(ClosedForm, IsReachedInSinglePrecisionWhereBlocksAreWellConditioned) {
  if (!Reference::knows(GetParam())) return;
  for (const Shape& shape : {Shape{16, 5}, {5, 16}, {3, 12, 4}}) {
    std::vector<at::Tensor> narrow;
    for (const at::Tensor& gradient : gaussians(shape, 51)) narrow.push_back(gradient.to(at::kFloat));
    for (const json& variant : variants_of(GetParam()))
      if (narrowest(variant) != at::kBFloat16) {
        // The Gram matrix of the longer side, which a one-sided rule may be asked for, is singular; what fp32 leaves of its
        // zeros is raised by the slope of the polynomial, about 800.
        const bool longer = GetParam() == (shape.end()[-2] > shape.end()[-1] ? "left_polar" : "right_polar");
        EXPECT_LT(distance(variant, narrow), longer ? 1e-2 : tolerance(variant, 10, 5e-6))
            << variant << ' ' << at::IntArrayRef(shape);
      }
  }
}

// Options meet each other here: each is drawn at random from what variants_of() tries alone.
TEST_P(ClosedForm, IsReachedForRandomCombinationsOfOptions) {
  if (!Reference::knows(GetParam())) return;
  SplitMix64 random(derive_seed(7, GetParam()));
  int tried = 0;
  for (int attempt = 0; attempt < 400 && tried < 40; ++attempt) {
    json given = {{"rule", GetParam()}, {"lr", 0.1}};
    for (const Field& field : find_rule(GetParam()).fields) {
      const std::vector<json> values = other_values(field);
      const std::size_t choice = random.below(2 * values.size() + 1);
      if (choice < values.size()) given[field.name] = values[choice];
    }
    const auto entry = accepted(given);
    if (!entry || narrowest(*entry) != at::kDouble) continue;
    ++tried;
    Shape shape;
    for (std::size_t axes = random.below(3); axes > 0; --axes)
      shape.push_back(1 + static_cast<std::int64_t>(random.below(3)));
    for (int axis = 0; axis < 2; ++axis) shape.push_back(1 + static_cast<std::int64_t>(random.below(14)));
    EXPECT_LT(distance(*entry, gaussians(shape, random.below(1000))), tolerance(*entry, 1e3))
        << *entry << at::IntArrayRef(shape);
  }
  EXPECT_GE(tried, 20);
}

// Row by row of optimizers.md section 1, with blocks cut by hand.
TEST_P(ClosedForm, IsThatOfTheBlocksOfEveryViewOfEveryLayout) {
  const std::vector<std::tuple<Layout, std::string, Shape>> weights = {
      {{LayoutKind::matrix}, "matrix", {6, 5}},
      {{LayoutKind::matrix}, "matrix", {3, 6, 5}},
      {{LayoutKind::heads_rows, 3}, "heads_qkv", {12, 5}},
      {{LayoutKind::heads_columns, 3}, "heads_o", {5, 12}},
      {{LayoutKind::gate_up_stacked}, "olmoe_gate_up", {3, 8, 5}},
      {{LayoutKind::gate_up_interleaved}, "gptoss_gate_up", {3, 5, 8}},
      {{LayoutKind::experts_down}, "olmoe_down", {3, 5, 4}},
      {{LayoutKind::experts_down_in_out}, "gptoss_down", {3, 4, 5}}};
  for (const auto& [layout, name, shape] : weights)
    for (const ViewKind view : views_of(layout))
      for (const bool centered : {false, true}) {
        json given = {{"rule", GetParam()}, {"lr", 0.5}, {"weight_decay", 0.5}, {"view", std::string(name_of(view))}};
        if (centered) given["centered"] = true;
        const auto entry = accepted(given);
        if (!entry) continue;
        // heads: [d, H*h] whole is itself; the unit of the others is what hand_blocks.h says
        const HandBlocks blocks{name, std::string(name_of(view)), layout.heads};
        std::vector<Param> params = {make_param("a", Role::lm_head, layout, gaussian(shape, 61)),
                                     make_param("b", Role::lm_head, layout, gaussian(shape, 62))};
        std::vector<at::Tensor> expected = {params[0].tensor.detach().clone(), params[1].tensor.detach().clone()};
        Optimizer optimizer(params, {{"default", *entry}});
        const auto rule = make_rule(*entry);
        std::vector<RuleState> states;
        for (std::uint64_t step = 1; step <= 2; ++step) {
          for (std::size_t i = 0; i < params.size(); ++i) {
            const at::Tensor gradient = gaussian(shape, 70 + 2 * step + i), g = blocks.of(gradient).contiguous();
            if (states.size() == i) states.push_back(make_state(*rule, g.sizes(), g.options()));
            params[i].tensor.grad().copy_(gradient);
            expected[i] = 0.75 * expected[i] - 0.5 * blocks.stored(rule->direction(g, states[i], blocks.fans(g)));
          }
          optimizer.step(1.0);
          for (std::size_t i = 0; i < params.size(); ++i)
            EXPECT_LT(relative_error(params[i].tensor.detach(), expected[i]), 1e-12) << *entry << ' ' << name << i;
        }
      }
}

}  // namespace test_closed_form
}  // namespace equisweep
