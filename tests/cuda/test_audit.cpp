// Claims of symmetry on a GPU: they hold there, and what must fail fails there, on blocks and in the training of models.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "analysis/audit/check.h"
#include "analysis/audit/controls.h"
#include "analysis/audit/model_audit.h"
#include "core/role.h"
#include "models/models.h"
#include "optimizers/polar/polar.h"
#include "optimizers/rules.h"
#include "tests/cuda/gpu.h"

namespace equisweep::testing {
namespace test_audit {

using nlohmann::json;

json entry_of(const std::string& rule, const std::string& method = "") {
  json given = {{"rule", rule}, {"lr", 1}};
  if (!method.empty()) given["polar"] = {{"method", method}};
  return complete_entry(given);
}

std::shared_ptr<const UpdateRule> rule(const std::string& name) { return make_rule(entry_of(name)); }

AuditSubject subject(const json& entry) {
  AuditSubject result;
  result.name = entry.at("rule");
  result.rule = make_rule(entry);
  const RuleInfo& row = find_rule(result.name);
  if (row.degree != nullptr) result.degree = row.degree(entry);
  result.inner_roundoff = roundoff_inside(entry);
  result.through_views = true;
  return result;
}

/// fp64 and fp32: in bf16 so few elements see too little of the rounding to judge by.
AuditOptions on_gpu() {
  AuditOptions options = default_check_options();
  options.elements = 4;
  options.device = kGpu;
  return options;
}

/// Every rule with its defaults, and muon with every polar method.
std::vector<json> entries() {
  std::vector<json> result;
  for (const RuleInfo& row : rules()) result.push_back(entry_of(std::string(row.name)));
  for (const PolarMethod& method : polar_methods())
    if (const json entry = entry_of("muon", std::string(method.name)); entry != entry_of("muon")) result.push_back(entry);
  return result;
}

std::string name_of_entry(const json& entry) {
  const json method = entry.contains("polar") ? entry.at("polar").at("method") : json("");
  return entry.at("rule").get<std::string>() + (method == "" ? "" : "_" + method.get<std::string>());
}

using Claims = OnGpuWithParam<json>;

TEST_P(Claims, Hold) {
  const AuditCheck check = check_claims(subject(GetParam()), on_gpu());
  EXPECT_TRUE(check.holds) << check.message;
}

INSTANTIATE_TEST_SUITE_P(Rules, Claims, ::testing::ValuesIn(entries()),
                         [](const auto& instance) { return name_of_entry(instance.param); });

class Audit : public OnGpu {};

TEST_F(Audit, SeesWhatIsNoSymmetry) {
  const Symmetry rotations{Group::orthogonal, Group::orthogonal, false};
  EXPECT_FALSE(check_equivariance(*rule("adamw"), rotations, on_gpu()).holds);
  EXPECT_FALSE(check_equivariance(*rule("row_norm"), rotations, on_gpu()).holds);
}

TEST_F(Audit, ControlsAreAsTheyMustBe) {
  AuditOptions options = on_gpu();
  options.elements = 2;
  options.precisions.push_back(at::kBFloat16);
  const std::vector<AuditSubject> subjects = {subject(entry_of("sgd")), subject(entry_of("muon"))};
  for (const Control& control :
       run_controls({rule("adamw"), rule("sgd"), rule("muon"), rule("row_norm")}, subjects, options))
    EXPECT_TRUE(control.as_it_must) << control.precision << " " << control.name << ": error " << control.cell.error
                                    << ", ratio " << control.cell.ratio << ", " << control.cell.worst;
}

// The same claims and the same drawn elements as on the CPU: only the arithmetic is another.
TEST_F(Audit, HasTheSamplesOfTheCpu) {
  AuditOptions there = on_gpu();
  there.precisions.push_back(at::kBFloat16);
  AuditOptions here = there;
  here.device = at::kCPU;
  const std::vector<AuditSubject> subjects = {subject(entry_of("row_norm"))};
  const std::vector<Finding> a = audit(subjects, there), b = audit(subjects, here);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    const std::string where = fmt::format("{} {} {}", a[i].precision, a[i].column, a[i].view);
    EXPECT_EQ(a[i].claimed, b[i].claimed) << where;
    EXPECT_EQ(a[i].cell.samples, b[i].cell.samples) << where;
    EXPECT_EQ(a[i].cell.verdict == Verdict::broken, b[i].cell.verdict == Verdict::broken) << where;
    if (b[i].cell.verdict == Verdict::broken) {
      EXPECT_NEAR(a[i].cell.error, b[i].cell.error, 0.05 * b[i].cell.error) << where;
    }
  }
}

AuditedModel audited(const std::string& architecture) {
  static const json small = {{"vocab", 20},       {"d", 12},       {"layers", 2}, {"heads", 4},
                             {"kv_heads", 2},     {"head_dim", 4}, {"ff", 10},    {"window", 5},
                             {"global_every", 2}, {"experts", 4},  {"top_k", 2},  {"expert_ff", 6}};
  AuditedModel model;
  model.name = architecture;
  json config = {{"architecture", architecture}};
  for (const Architecture& row : architectures())
    if (row.name == architecture)
      for (const Field& field : row.fields) {
        model.fields.insert(field.name);
        if (small.contains(field.name)) config[field.name] = small.at(field.name);
      }
  model.make = [config](const json& overrides) {
    json full = config;
    full.update(overrides);
    return make_model(complete_config(full));
  };
  return model;
}

ModelSubject model_subject(const std::string& name) {
  ModelSubject result;
  result.name = name;
  const auto own = rule(name), of_vectors = own->coordinatewise() ? own : rule("sgd");
  for (const Role role : kRoles) result.uses[role] = {.rule = role == Role::vector ? of_vectors : own};
  return result;
}

using Models = OnGpuWithParam<std::string>;

TEST_P(Models, KeepTheirSymmetriesInTraining) {
  const ModelAuditOptions options{.seed = 1, .steps = 4, .elements = 1, .threads = 1, .device = kGpu};
  const ModelReport report =
      audit_models({audited(GetParam())}, {model_subject("sgd"), model_subject("adamw"), model_subject("muon")}, options);
  ASSERT_FALSE(report.findings.empty());
  ASSERT_FALSE(report.breaks.empty());
  std::size_t claimed = 0, controls = 0;
  for (const ModelFinding& f : report.findings) {
    EXPECT_FALSE(f.failed()) << f.subject << " " << f.action << ": loss change " << f.loss_change << ", error " << f.error
                             << ", ratio " << f.cell.ratio << ", " << f.cell.worst;
    claimed += f.claimed;
    controls += f.must_fail;
  }
  EXPECT_GT(claimed, 0U);
  EXPECT_GT(controls, 0U);
  for (const ModelBreak& b : report.breaks) EXPECT_TRUE(b.as_it_must) << b.action << " " << b.condition << " " << b.change;
}

INSTANTIATE_TEST_SUITE_P(Architectures, Models, ::testing::Values("qwen3", "gemma3", "olmoe", "gpt_oss"));

}  // namespace test_audit
}  // namespace equisweep::testing
