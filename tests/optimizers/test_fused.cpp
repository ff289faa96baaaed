// Steps in one pass over memory against the definition of each rule, over the table of rules and their options: every
// layout of a bank, sizes that fill no vector, all dtypes, one thread and two; and with the weights or with U as the result.

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/kernels.h"
#include "core/role.h"
#include "core/step_observer.h"
#include "optimizers/kernels/loops.h"
#include "optimizers/optimizer.h"
#include "variants.h"

namespace equisweep {
namespace test_fused {

using namespace testing;
using nlohmann::json;

class WithKernels {
 public:
  explicit WithKernels(Kernels k) : before_(kernels()) { set_kernels(k); }
  ~WithKernels() { set_kernels(before_); }

 private:
  Kernels before_;
};

class WithThreads {
 public:
  explicit WithThreads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~WithThreads() { at::set_num_threads(before_); }

 private:
  int before_;
};

/// Banks [K, ..., m, n] as weights lie in memory: rows; columns; heads of an output projection; gate and up in turns; rows
/// of a matrix that is large enough for several pieces.
struct BankLayout {
  const char* name;
  std::vector<std::int64_t> stored, order;  ///< blocks = stored permuted
};

const std::vector<BankLayout> kLayouts = {{"rows", {2, 33, 7}, {0, 1, 2}},
                                          {"one_row", {3, 1, 7}, {0, 1, 2}},
                                          {"one_column", {3, 7, 1}, {0, 1, 2}},
                                          {"one_number", {2, 1, 1}, {0, 1, 2}},
                                          {"columns", {2, 7, 33}, {0, 2, 1}},
                                          {"heads", {2, 9, 3, 5}, {0, 2, 1, 3}},
                                          {"in_turns", {2, 2, 7, 9, 2}, {0, 1, 4, 3, 2}},
                                          {"large", {1, 2100, 40}, {0, 1, 2}},
                                          {"large_columns", {1, 33, 2100}, {0, 2, 1}}};

at::Tensor laid_out(const BankLayout& layout, const at::Tensor& stored) { return stored.permute(layout.order); }

struct Result {
  std::vector<at::Tensor> directions, weights, state;
};

constexpr int kSteps = 3;

/// `kSteps` directions and weights, the latter by update() if `whole`, else by U and the line that follows it.
Result run(const json& options, const BankLayout& layout, at::ScalarType dtype, bool whole) {
  const auto rule = make_rule(options);
  const auto blocks = [&](std::uint64_t seed) { return laid_out(layout, gaussian(layout.stored, seed, dtype)); };
  const at::Tensor weight = blocks(1);
  RuleState state;
  for (std::size_t slot = 0; slot < rule->slots().size(); ++slot) state.slots.push_back(at::zeros_like(weight));
  const BlockInfo block{weight.size(-2), weight.size(-1)};
  Result result;
  for (std::uint64_t step = 1; step <= kSteps; ++step) {
    const at::Tensor gradient = blocks(10 + step), given = gradient.clone();
    const bool zeroed = step == 2;
    if (whole) {
      const bool done = rule->update({.weight = weight,
                                      .gradient = gradient,
                                      .gradient_factor = 0.75,
                                      .zero_gradient = zeroed,
                                      .retained = 0.875,
                                      .lr = 0.1},
                                     state, block);
      if (!done) return {};
      if (zeroed)
        EXPECT_EQ(norm_of(gradient), 0);
      else
        EXPECT_TRUE(same_bits(gradient, given));
    } else {
      result.directions.push_back(rule->direction(gradient * 0.75, state, block));
      weight.copy_(0.875 * weight - result.directions.back() * 0.1);
    }
    result.weights.push_back(weight.clone());
  }
  EXPECT_EQ(state.step, kSteps);
  result.state = state.slots;
  return result;
}

double distance(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) worst = std::max(worst, relative_error(a[i], b[i]));
  return worst;
}

/// How far roundings in another order may lead. Five quintics raise what lies in the small singular directions some hundred
/// times, in fp32 on Gram matrices that square the condition; and a number that is rounded to bf16 the other way moves by
/// 2^-8, which the polynomials raise too.
double bound(const json& options, at::ScalarType dtype) {
  const bool polar = options.contains("polar");
  const at::ScalarType narrow = narrowest(options);
  if (narrow == at::kBFloat16) return 5e-2;
  const bool inverse_root = polar && options.at("polar").at("method") == "inv_sqrt";  // of a matrix that may have rank one
  if (dtype == at::kFloat || narrow == at::kFloat) return inverse_root ? 2e-2 : polar ? 2e-3 : 2e-6;
  return polar ? 1e-10 : 1e-14;
}

/// What the large banks are for lies before and after the products: one variant, and centring, show it.
bool too_slow(const json& options, const BankLayout& layout) {
  return std::string(layout.name).starts_with("large") && options != variants_of(options.at("rule"))[0] &&
         !(options.value("centered", false) && !options.contains("polar"));
}

class FusedSteps : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Table, FusedSteps, ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const RuleInfo& rule : rules()) names.emplace_back(rule.name);
                           return names;
                         }()),
                         [](const auto& row) { return row.param; });

TEST_P(FusedSteps, AreTheDefinitionUpToTheOrderOfRoundings) {
  for (const json& options : variants_of(GetParam()))
    for (const BankLayout& layout : kLayouts) {
      if (too_slow(options, layout)) continue;
      for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
        SCOPED_TRACE(::testing::Message() << options << layout.name << dtype);
        const Result ours = run(options, layout, dtype, false), whole = run(options, layout, dtype, true);
        const WithKernels reference(Kernels::reference);
        const Result defined = run(options, layout, dtype, false);
        EXPECT_TRUE(run(options, layout, dtype, true).weights.empty()) << "the definition has no step in one pass";
        EXPECT_LE(distance(ours.directions, defined.directions), bound(options, dtype));
        const bool averages_factors = options.value("polar_first", false);
        EXPECT_LE(distance(ours.state, defined.state), averages_factors       ? bound(options, dtype)
                                                       : dtype == at::kDouble ? 1e-15
                                                                              : 1e-6);
        if (whole.weights.empty()) continue;  // the rule has its definition alone
        EXPECT_LE(distance(whole.weights, defined.weights), bound(options, dtype));
      }
    }
}

TEST_P(FusedSteps, AreOneStepOnEveryNumberOfThreads) {
  for (const json& options : variants_of(GetParam()))
    for (const BankLayout& layout : kLayouts) {
      if (too_slow(options, layout)) continue;
      if (options.contains("polar") && options.at("polar").at("method") == "inv_sqrt") continue;  // ATen's products
      SCOPED_TRACE(::testing::Message() << options << layout.name);
      std::vector<Result> results;
      for (const int count : {1, 2, 3}) {  // three, for a BLAS that would cut at places that no vector fills
        const WithThreads threads(count);
        results.push_back(run(options, layout, at::kFloat, true));
      }
      EXPECT_EQ(distance(results[0].weights, results[1].weights), 0);
      EXPECT_EQ(distance(results[0].weights, results[2].weights), 0);
    }
}

/// Weights of every layout, and a stack with one rule on all matrices.
std::vector<Param> zoo(at::ScalarType dtype) {
  std::vector<Param> params;
  const auto add = [&](const char* name, Role role, Layout layout, std::vector<std::int64_t> shape) {
    params.push_back(make_param(name, role, layout, gaussian(shape, 100 + params.size(), dtype)));
  };
  add("embedding", Role::embedding, {}, {70, 12});
  add("lm_head", Role::lm_head, {}, {70, 12});
  add("router", Role::router, {}, {5, 12});
  add("gate.0", Role::mlp_gate, {}, {18, 12});
  add("gate.1", Role::mlp_gate, {}, {18, 12});
  add("down.0", Role::mlp_down, {}, {12, 18});
  add("o", Role::attention_o, {LayoutKind::heads_columns, 3}, {12, 15});
  add("experts.gate_up", Role::experts_gate_up, {LayoutKind::gate_up_interleaved}, {2, 12, 14});
  add("experts.down", Role::experts_down, {LayoutKind::experts_down}, {2, 12, 7});
  add("norm", Role::vector, {LayoutKind::vector}, {12});
  return params;
}

class Onlooker : public StepObserver {
 public:
  bool wants(std::int64_t) const override { return true; }
  void observe(const BankStep& bank) override { seen += norm_of(bank.direction); }
  double seen = 0;
};

// Diagnostics change nothing: U that is shown and U that goes into the weights at once are the same bits.
TEST_P(FusedSteps, EndInTheSameBitsWhetherSomeoneLooksOrNot) {
  for (const json& variant : variants_of(GetParam()))
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      json options = variant;
      if (!options.value("constrained", false)) options["weight_decay"] = 0.1;
      const json variant_with_decay = options;
      if (options.contains("centered")) options["centered"] = false;  // which only logits allow
      const json stack = {{"default", entry("adamw", {{"weight_decay", 0.1}})},
                          {"matrix", options},
                          {"embedding", options},
                          {"lm_head", variant_with_decay},
                          {"router", variant_with_decay},
                          {"experts", options}};
      std::vector<Param> plain = zoo(dtype), watched = zoo(dtype);
      Optimizer alone(plain, stack), observed(watched, stack);
      Onlooker onlooker;
      observed.add_observer(&onlooker);
      for (std::uint64_t step = 1; step <= kSteps; ++step) {
        for (auto* side : {&plain, &watched})
          for (std::size_t i = 0; i < side->size(); ++i)
            (*side)[i].tensor.grad().copy_(gaussian((*side)[i].tensor.sizes(), 1000 * step + i));
        for (Optimizer* optimizer : {&alone, &observed}) {
          optimizer->clip(optimizer->gradient_norm(), 1.0);
          optimizer->step(0.5, step == 2 ? Optimizer::Gradients::keep : Optimizer::Gradients::zero);
        }
        for (std::size_t i = 0; i < plain.size(); ++i) {
          EXPECT_TRUE(same_bits(plain[i].tensor.detach(), watched[i].tensor.detach()))
              << options << plain[i].name << ' ' << dtype << " step " << step;
          if (step != 2) {
            EXPECT_EQ(norm_of(plain[i].tensor.grad()) + norm_of(watched[i].tensor.grad()), 0);
          }
        }
      }
      EXPECT_GT(onlooker.seen, 0);
    }
}

// Written out for one line of each function: sums and products in the order of loops.h on every set.
template <class T>
void expect_same_on_every_set() {
  const std::int64_t n = 77;
  const auto dtype = sizeof(T) == 8 ? at::kDouble : at::kFloat;
  std::vector<const StepLoops<T>*> sets = {step_loops_default<T>()};
  if (instruction_set() != InstructionSet::any) sets.push_back(step_loops_avx2<T>());
  if (instruction_set() == InstructionSet::avx512) sets.push_back(step_loops_avx512<T>());
  std::vector<at::Tensor> results;
  for (const auto* set : sets) {
    const at::Tensor g = gaussian({n}, 1, dtype), m = gaussian({n}, 2, dtype), v = gaussian({n}, 3, dtype).square(),
                     w = gaussian({n}, 4, dtype), u = at::zeros_like(g), s = at::zeros_like(g);
    const auto data = [](const at::Tensor& x) { return x.data_ptr<T>(); };
    set->adam({T(0.9), T(0.1), T(0.95), T(0.05), T(10), T(20), T(1e-8), T(0.7)}, data(g), data(m), data(v), data(u), n);
    const MomentumLoop<T> momentum{T(0.95), T(0.05), T(0.3), true};
    set->fold(momentum, data(g), data(m), n);
    set->ahead(momentum, data(g), data(m), data(s), n);
    set->apply(data(w), data(u), T(0.99), T(0.01), n);
    const at::Tensor narrow = at::zeros({n}, at::kBFloat16), sums = at::ones({n}, at::kDouble), d = at::zeros_like(g);
    set->narrow(data(s), T(3), static_cast<Bf16*>(narrow.data_ptr()), n);
    EXPECT_TRUE(same_bits(narrow, (s / 3).to(at::kBFloat16)));
    set->add_squares(data(s), sums.data_ptr<double>(), n);
    set->divide(data(s), T(7), T(0.3), data(d), n);
    const at::Tensor scalars = at::tensor({set->squares(data(s), n), set->dot(data(s), data(w), n)}, at::kDouble);
    EXPECT_LT(relative_error(scalars[0], s.to(at::kDouble).square().sum()), 1e-15);
    results.push_back(at::cat({g.to(at::kDouble), m.to(at::kDouble), v.to(at::kDouble), w.to(at::kDouble), s.to(at::kDouble),
                               d.to(at::kDouble), sums, scalars, narrow.to(at::kDouble)}));
  }
  for (std::size_t i = 1; i < results.size(); ++i) EXPECT_TRUE(same_bits(results[i], results[0])) << i;
}

TEST(StepLoops, GiveTheSameBitsOnEveryInstructionSet) {
  expect_same_on_every_set<float>();
  expect_same_on_every_set<double>();
}

// The Gram form of the five quintics in fp32, on spectra that it squares: against the same polynomial in fp64, no further
// away than a few times what the products on X itself are.
TEST(GramForm, IsAsAccurateInFp32AsTheProductsOnXNeed) {
  const auto polar = make_polar(json{{"method", "polar_express"}, {"precision", "fp32"}});
  const auto exact = make_polar(json{{"method", "polar_express"}, {"precision", "fp64"}});
  for (const double last : {1.0, 1e-2, 1e-4, 1e-7}) {
    const at::Tensor x = with_spectrum(96, 32, log_spectrum(32, last), 5);
    const at::Tensor wanted = exact->factor(x);
    EXPECT_LT(relative_error(polar->factor(x.to(at::kFloat)), wanted), 2e-4) << last;
    EXPECT_LT(relative_error(polar->factor(x.mT().to(at::kFloat)), wanted.mT()), 2e-4) << last;
  }
  at::Tensor gaps = gaussian({40, 12}, 6, at::kFloat);
  gaps[3].zero_();
  gaps.select(1, 5).zero_();
  const at::Tensor u = polar->factor(gaps);
  EXPECT_EQ(norm_of(u[3]) + norm_of(u.select(1, 5)), 0);
}

}  // namespace test_fused
}  // namespace equisweep
