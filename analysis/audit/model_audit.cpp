#include "analysis/audit/model_audit.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "analysis/audit/model_breaks.h"
#include "analysis/audit/parallel.h"
#include "core/rng.h"

namespace equisweep {
namespace {

/// Rules that an action must find out (audit.md, section 4). up_scale: every rule.
constexpr std::pair<std::string_view, std::string_view> kMustFail[] = {
    {"head_shift", "adamw"},
    {"head_shift", "row_norm"},
    {"router_shift", "adamw"},
    {"router_shift", "row_norm"},
    {"value_rotation", "adamw"},
    {"value_rotation", "row_norm"},
    {"torus", "adamw"},
    {"torus", "row_norm"},
    {"residual", "adamw"},
    {"residual", "row_norm, rows of o and down"},
    {"residual", "row_norm, wrong layout"},
};

bool must_fail(std::string_view action, std::string_view subject) {
  if (action == "up_scale") return true;
  return std::find(std::begin(kMustFail), std::end(kMustFail), std::pair{action, subject}) != std::end(kMustFail);
}

/// The larger and the smaller number, or NaN if one of them is: std::max(x, NaN) is x.
double largest(double a, double b) { return std::isnan(a) || a > b ? a : b; }
double least(double a, double b) { return std::isnan(a) || a < b ? a : b; }

double norm_of(const at::Tensor& x) { return x.square().sum().sqrt().item<double>(); }

/// What the columns of one architecture draw: several elements, composed in order, and how they are judged.
struct DrawnColumn {
  std::string_view name;
  std::vector<ModelElement> parts;
  bool frozen_gains = false, shift = false;
};

std::vector<DrawnColumn> draw_columns(const ModelShape& shape, std::uint64_t seed) {
  std::vector<DrawnColumn> columns;
  for (const ModelAction& action : model_actions())
    if (auto g = action.draw(shape, derive_seed(seed, action.name)))
      columns.push_back({action.name, {*std::move(g)}, action.frozen_gains, action.shift});
  for (const std::string_view product : {kProductOfSigns, kProductOfAll}) {
    DrawnColumn all{.name = product, .parts = {}, .frozen_gains = product == kProductOfAll, .shift = false};
    for (const ModelAction& action : model_actions()) {
      auto g = action.draw(shape, derive_seed(derive_seed(seed, product), action.name));
      if (!g || action.name == "up_scale" || action.shift) continue;
      const bool only_signs = std::all_of(g->on.begin(), g->on.end(),
                                          [](const auto& entry) { return entry.second.group <= Group::signed_permutation; });
      if (only_signs || product == kProductOfAll) all.parts.push_back(*std::move(g));
    }
    SplitMix64 random(derive_seed(seed, product));
    for (std::size_t i = all.parts.size(); i > 1; --i) std::swap(all.parts[i - 1], all.parts[random.below(i)]);
    columns.push_back(std::move(all));
  }
  return columns;
}

/// A run from theta with what its rounding does to it.
struct Base {
  std::vector<double> lrs;
  Weights64 last;
  std::vector<double> moved, floor;  ///< ||W_T - W_0||, and the floor relative to it
};

class SubjectAudit {
 public:
  SubjectAudit(const AuditedModel& model, const ModelSubject& subject, const ModelAuditOptions& options)
      : loop_(model, nlohmann::json::object(), options.steps, derive_seed(options.seed, model.name), options.device),
        subject_(subject),
        options_(options),
        architecture_(model.name) {}

  bool applies() const { return loop_.shape().interleaved || !subject_.interleaved_only; }

  std::vector<ModelFinding> run() {
    std::map<std::string_view, ModelFinding> found;
    std::map<std::string_view, Tally> tallies;
    std::vector<std::string_view> order;
    for (std::int64_t k = 0; k < options_.elements; ++k)
      for (const DrawnColumn& column :
           draw_columns(loop_.shape(), derive_seed(options_.seed, "element", static_cast<std::uint64_t>(k)))) {
        if (!found.contains(column.name)) order.push_back(column.name);
        judge(column, k, found[column.name], tallies[column.name]);
      }
    std::vector<ModelFinding> findings;
    for (const std::string_view name : order) {
      found[name].cell = tallies[name].judge(options_.elements);
      findings.push_back(std::move(found[name]));
    }
    return findings;
  }

 private:
  const Base& base(const LoopMode& mode) {
    if (const auto known = bases_.find(mode); known != bases_.end()) return known->second;
    Base b;
    b.lrs = loop_.learning_rates(subject_, mode);
    b.last = loop_.train(subject_, loop_.first(), {}, mode, b.lrs);
    b.floor.assign(b.last.size(), 0);
    for (std::size_t i = 0; i < b.last.size(); ++i) b.moved.push_back(norm_of(b.last[i] - loop_.first()[i]));
    // The largest error of several elements has to be held against as many draws, and more.
    for (std::uint64_t draw = 0; draw < static_cast<std::uint64_t>(options_.elements) + 2; ++draw) {
      const Weights64 rounded = loop_.train(subject_, loop_.first(), {}, mode, b.lrs,
                                            derive_seed(derive_seed(options_.seed, architecture_), "floor", draw));
      for (std::size_t i = 0; i < b.last.size(); ++i)
        b.floor[i] = largest(b.floor[i], norm_of(rounded[i] - b.last[i]) / b.moved[i]);
    }
    return bases_.emplace(mode, std::move(b)).first->second;
  }

  bool commutes_everywhere(const DrawnColumn& column) {
    for (std::size_t i = 0; i < loop_.params().size(); ++i) {
      const Param& param = loop_.params()[i];
      if (column.frozen_gains && loop_.is_gain(i)) continue;
      const RuleUse& use = subject_.uses.at(param.role);
      const MatrixView view = loop_.view_of_use(use, param);
      for (const ModelElement& g : column.parts)
        if (!commutes(g, param, loop_.shape(), view, *use.rule)) return false;
    }
    return true;
  }

  void judge(const DrawnColumn& column, std::int64_t element, ModelFinding& finding, Tally& tally) {
    const LoopMode mode{.frozen_gains = column.frozen_gains};
    const Base& b = base(mode);
    // Several elements are one after the other; the tokens go through all of them.
    Weights64 start = loop_.first(), expected = b.last;
    for (const ModelElement& g : column.parts) start = loop_.moved(g, start), expected = loop_.moved(g, expected);
    const ModelElement tokens = renaming(column.parts);
    const double plain_loss = loop_.loss(loop_.first(), {}, mode), moved_loss = loop_.loss(start, tokens, mode);
    const Weights64 last = loop_.train(subject_, start, tokens, mode, b.lrs);

    double error = 0, size = 0, drift = 0;
    for (std::size_t i = 0; i < last.size(); ++i) {
      const std::string& name = loop_.params()[i].name;
      if (b.moved[i] == 0) {
        // A rule that leaves its weight where it was keeps nothing.
        const bool frozen = column.frozen_gains && loop_.is_gain(i);
        if (!frozen) add(tally, std::numeric_limits<double>::infinity(), 0, name + " stays", element);
        continue;
      }
      const double difference = norm_of(last[i] - expected[i]);
      if (!at::equal(start[i], loop_.first()[i])) {
        error += difference * difference;
        size += b.moved[i] * b.moved[i];
      }
      add(tally, difference / b.moved[i], b.floor[i], name, element);
      if (!column.shift || !column.parts[0].shift.contains(loop_.params()[i].role)) continue;
      const at::Tensor change = b.last[i] - loop_.first()[i];
      const double h = norm_of(change.sum(0)) / (std::sqrt(static_cast<double>(change.size(0))) * b.moved[i]);
      drift = largest(drift, h);
      add(tally, h, b.floor[i], name + " drifts", element);
    }
    finding.architecture = architecture_;
    finding.subject = subject_.name;
    finding.action = column.name;
    finding.claimed = commutes_everywhere(column);
    finding.must_fail = must_fail(column.name, subject_.name);
    finding.loss_change = largest(finding.loss_change, std::abs(moved_loss - plain_loss) / std::abs(plain_loss));
    // Of several elements the one that shows least: a control must fail for each.
    const double found = largest(size == 0 ? 0 : std::sqrt(error / size), drift);
    finding.error = element == 0 ? found : least(finding.error, found);
  }

  /// NaN of a weight that has no numbers any more is no missing sample, as it is in a Tally, but an error without bounds.
  static void add(Tally& tally, double error, double floor, const std::string& what, std::int64_t element) {
    const auto scalar = [](double x) { return at::full({1}, x, at::kDouble); };
    tally.add(scalar(std::isnan(error) ? std::numeric_limits<double>::infinity() : error), scalar(largest(floor, 0x1p-54)),
              [&](std::int64_t) { return element == 0 ? what : what + ", element " + std::to_string(element); });
  }

  /// The part of the elements that acts on tokens: at most one of them does.
  static ModelElement renaming(const std::vector<ModelElement>& parts) {
    ModelElement tokens;
    for (const ModelElement& g : parts)
      if (const auto found = g.on.find({-1, Space::vocabulary}); found != g.on.end()) tokens.on.insert(*found);
    return tokens;
  }

  ClosedLoop loop_;
  const ModelSubject& subject_;
  const ModelAuditOptions& options_;
  std::string architecture_;
  std::map<LoopMode, Base> bases_;
};

}  // namespace

bool ModelFinding::failed() const {
  if (judged) return *judged;
  if (!(loss_change <= kSameLoss)) return true;
  if (must_fail) return !(error > kModelControlError);
  return claimed && cell.verdict != Verdict::exact && cell.verdict != Verdict::holds;
}

bool ModelReport::passed() const {
  return std::none_of(findings.begin(), findings.end(), [](const ModelFinding& f) { return f.failed(); }) &&
         std::all_of(breaks.begin(), breaks.end(), [](const ModelBreak& b) { return b.as_it_must; });
}

std::vector<std::pair<std::string_view, std::string_view>> model_columns() {
  std::vector<std::pair<std::string_view, std::string_view>> columns;
  for (const ModelAction& action : model_actions()) columns.emplace_back(action.name, action.heading);
  columns.emplace_back(kProductOfSigns, "signs*");
  columns.emplace_back(kProductOfAll, "all*");
  return columns;
}

ModelReport audit_models(const std::vector<AuditedModel>& models, const std::vector<ModelSubject>& subjects,
                         const ModelAuditOptions& options) {
  // A task is a subject on an architecture, or the breaks of an architecture, which come first.
  const std::size_t per_model = subjects.size() + 1;
  std::vector<std::vector<ModelFinding>> found(models.size() * per_model);
  std::vector<std::vector<ModelBreak>> breaks(models.size());
  parallel_for_each(found.size(), options.threads, [&](std::size_t i) {
    const AuditedModel& model = models[i / per_model];
    if (i % per_model == 0) {
      breaks[i / per_model] = demonstrate_breaks(model, subjects, options);
    } else {
      SubjectAudit audit(model, subjects[i % per_model - 1], options);
      if (audit.applies()) found[i] = audit.run();
    }
  });
  ModelReport report;
  for (auto& part : found) std::move(part.begin(), part.end(), std::back_inserter(report.findings));
  for (auto& part : breaks) std::move(part.begin(), part.end(), std::back_inserter(report.breaks));
  return report;
}

}  // namespace equisweep
