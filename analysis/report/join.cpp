#include "analysis/report/join.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <tuple>

#include "analysis/report/escape.h"
#include "analysis/report/facts.h"
#include "analysis/report/format.h"
#include "core/document.h"
#include "core/error.h"

namespace equisweep {
namespace {

// A loss does not depend on these.
constexpr std::array kHarmless = {"train.eval.every", "train.recompute", "train.deterministic"};
constexpr const char* kDigest = "corpus content";  // known once a run has begun

// What must be equal for losses to compare.
ValuesByPath conditions_of(const RunRecord& run) {
  ValuesByPath facts;
  for (const auto& [key, value] : run.config.items()) {
    if (key != "model" && key != "stack" && key != "seed" && key != "log") gather(value, key, facts);
  }
  if (run.corpus.contains("digest")) gather(run.corpus["digest"], kDigest, facts);
  return facts;
}

// The options of a stack as its sweep has them: learning rates before lr_scale (rounded to what was written: 0.003 * 2 / 2
// may be off in the last digit), and no value where the stack has an axis.
nlohmann::json definition_of(const LoadedCell& cell, const RunRecord& run) {
  nlohmann::json stack = run.config.contains("stack") ? run.config["stack"] : nlohmann::json::object();
  const nlohmann::json axes = object_of(cell.axes);
  for (auto& [entry, options] : stack.items()) {
    if (!options.is_object()) continue;
    for (auto& [key, value] : options.items()) {
      if (axes.contains(entry + "." + key)) {
        value = "one of its own axes";
      } else if (key == "lr" && value.is_number() && cell.lr_scale > 0) {
        value = nlohmann::json::parse(fmt::format("{:.12e}", value.get<double>() / cell.lr_scale));
      }
    }
  }
  return stack;
}

std::string values_text(const ValueSet& values) {
  std::string out;
  for (const std::string& value : values) out.append(out.empty() ? "" : " and ").append(visible(value, 60));
  return out.empty() ? "none" : out;
}

/// What one sweep says about everything that a name may stand for.
struct Meaning {
  std::map<std::string, ValuesByPath> models;                         // dimensions by name of the model
  std::map<std::string, std::map<std::string, ValuesByPath>> stacks;  // options by stack and (joined) model
  std::map<std::string, ValuesByPath> conditions;                     // by (joined) model
  std::map<std::string, std::map<std::string, ValueSet>> points;      // that were confirmed, by stack and (joined) model
};

class Join {
 public:
  Join(std::vector<LoadedSweep> sweeps, bool mix) : sweeps_(std::move(sweeps)), mix_(mix), meanings_(sweeps_.size()) {}

  Joined make(const std::string& baseline) {
    if (sweeps_.size() > 1) {
      require_one_kind();
      name_models();
      read_meanings();
      compare_conditions();
      name_stacks();
    }
    fill_cells();
    choose_baseline(baseline);
    return std::move(out_);
  }

 private:
  using Names = std::map<std::pair<std::size_t, std::string>, std::string>;  // of (sweep, name), where it is another one

  std::string joined(const Names& names, std::size_t sweep, const std::string& name) const {
    const auto found = names.find({sweep, name});
    return found == names.end() ? name : found->second;
  }

  std::string name_of(std::size_t sweep) const { return visible(sweeps_[sweep].name); }

  void require_one_kind() const {
    const LoadedSweep *tunes = nullptr, *does_not = nullptr;
    for (const LoadedSweep& sweep : sweeps_) {
      for (const LoadedCell& cell : sweep.cells) (cell.phase.empty() ? does_not : tunes) = &sweep;
    }
    if (tunes == nullptr || does_not == nullptr) return;
    throw Error(fmt::format("{} tunes, so its claims rest on fresh seeds, and {} does not: they do not compare. Report them "
                            "apart, or give the second a `tune` and run it again",
                            visible(tunes->name), visible(does_not->name)),
                ExitCode::report_refused);
  }

  /// Groups of the sweeps that have a name: those that mean the same by it. Where there is more than one group, each gets a
  /// name of its own; these are returned.
  template <typename Same>
  std::vector<std::string> tell_apart(const std::string& name, const std::vector<std::size_t>& having, Names& names,
                                      Same&& same, std::set<std::string>& taken) {
    std::vector<std::vector<std::size_t>> groups;
    for (const std::size_t sweep : having) {
      const auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& members) {
        return std::all_of(members.begin(), members.end(), [&](std::size_t other) { return same(other, sweep); });
      });
      if (group == groups.end())
        groups.push_back({sweep});
      else
        group->push_back(sweep);
    }
    std::vector<std::string> shown;
    if (groups.size() < 2) return shown;
    for (const auto& group : groups) {
      std::string own;
      for (const std::size_t sweep : group) own.append(own.empty() ? "" : ", ").append(sweeps_[sweep].name);
      own = fmt::format("{} [{}]", name, own);
      while (!taken.insert(own).second) own += "*";
      for (const std::size_t sweep : group) names[{sweep, name}] = own;
      shown.push_back(visible(own));
    }
    return shown;
  }

  void name_models() {
    std::map<std::string, std::vector<std::size_t>> having;
    std::set<std::string> taken;
    for (std::size_t s = 0; s < sweeps_.size(); ++s) {
      for (const LoadedCell& cell : sweeps_[s].cells) {
        const auto [known, fresh] = meanings_[s].models.try_emplace(cell.model);
        if (fresh) having[cell.model].push_back(s);
        taken.insert(cell.model);
        const nlohmann::json& config = sweeps_[s].runs[cell.run]->config;
        gather(config.contains("model") ? config["model"] : nlohmann::json(), "", known->second);
      }
    }
    for (const auto& entry : having) {
      const auto& name = entry.first;
      const auto same = [&](std::size_t a, std::size_t b) {
        return meanings_[a].models.at(name) == meanings_[b].models.at(name);
      };
      if (const auto shown = tell_apart(name, entry.second, models_, same, taken); !shown.empty())
        out_.notes.push_back(
            fmt::format("{} has other dimensions in other sweeps and stands here as {}.", visible(name), and_list(shown)));
    }
  }

  void read_meanings() {
    for (std::size_t s = 0; s < sweeps_.size(); ++s) {
      for (const LoadedCell& cell : sweeps_[s].cells) {
        const RunRecord& run = *sweeps_[s].runs[cell.run];
        const std::string model = joined(models_, s, cell.model);
        gather(definition_of(cell, run), "", meanings_[s].stacks[cell.stack][model]);
        for (const auto& [path, values] : conditions_of(run))
          meanings_[s].conditions[model][path].insert(values.begin(), values.end());
        if (cell.phase == "confirm")
          meanings_[s].points[cell.stack][model].insert(fmt::format("{} {}", cell.lr_scale, cell.axes));
      }
    }
  }

  /// Paths at which two sweeps differ on the models that both have; where they share none, of the paths that both have.
  std::set<std::string> differing(std::size_t a, std::size_t b) const {
    std::set<std::string> paths;
    bool common = false;
    ValuesByPath all_a, all_b;
    for (auto [meaning, all] : {std::pair(&meanings_[a], &all_a), std::pair(&meanings_[b], &all_b)}) {
      for (const auto& [model, facts] : meaning->conditions)
        for (const auto& [path, values] : facts) (*all)[path].insert(values.begin(), values.end());
    }
    for (const auto& [model, facts] : meanings_[a].conditions) {
      const auto other = meanings_[b].conditions.find(model);
      if (other == meanings_[b].conditions.end()) continue;
      common = true;
      for (const ValuesByPath* side : {&facts, &other->second}) {
        for (const auto& [path, values] : *side) {
          const ValueSet first = values_at(facts, path), second = values_at(other->second, path);
          if (path == kDigest && (first.empty() || second.empty())) continue;
          if (first != second) paths.insert(path);
        }
      }
    }
    for (const auto& [path, values] : all_a) {
      if (!common && all_b.contains(path) && all_b[path] != values) paths.insert(path);
    }
    return paths;
  }

  static bool harmless(const std::string& path) {
    return std::find(kHarmless.begin(), kHarmless.end(), path) != kHarmless.end();
  }

  void compare_conditions() {
    std::set<std::string> paths;
    for (std::size_t a = 0; a < sweeps_.size(); ++a) {
      for (std::size_t b = a + 1; b < sweeps_.size(); ++b) {
        for (const std::string& path : differing(a, b)) {
          paths.insert(path);
          if (!harmless(path)) apart_.insert({a, b});
        }
      }
    }
    std::vector<std::string> lines;
    for (const std::string& path : paths) {
      std::vector<std::string> each;
      for (std::size_t s = 0; s < sweeps_.size(); ++s) {
        ValueSet values;
        for (const auto& [model, facts] : meanings_[s].conditions) values.merge(values_at(facts, path));
        each.push_back(fmt::format("{} in {}", values_text(values), name_of(s)));
      }
      const std::string line = fmt::format("{}: {}", visible(path), and_list(each));
      if (harmless(path))
        out_.notes.push_back(line + ". No loss depends on it.");
      else
        lines.push_back(line);
    }
    if (!lines.empty() && !mix_) {
      std::string all;
      for (const std::string& line : lines) all += "\n  " + line;
      throw Error(fmt::format("these sweeps do not compare, because they differ in more than models, stacks and seeds:{}\n"
                              "Report them apart, or with --mix in one report that says so",
                              all),
                  ExitCode::report_refused);
    }
    for (std::string& line : lines) out_.mixed.push_back(std::move(line) + ".");
  }

  /// The first of what keeps a stack of two sweeps from being one; empty if nothing does.
  std::string obstacle(const std::string& stack, std::size_t a, std::size_t b) const {
    const Meaning &one = meanings_[a], &two = meanings_[b];
    if (apart_.contains({std::min(a, b), std::max(a, b)}))
      return fmt::format("was trained under other settings in {} than in {}", name_of(a), name_of(b));
    for (const auto& [model, facts] : one.stacks.at(stack)) {
      const auto other = two.stacks.at(stack).find(model);
      if (other == two.stacks.at(stack).end()) continue;
      std::vector<std::string> changes;
      ValueSet paths;
      for (const ValuesByPath* side : {&facts, &other->second})
        for (const auto& [path, values] : *side) paths.insert(path);
      for (const std::string& path : paths) {
        const ValueSet first = values_at(facts, path), second = values_at(other->second, path);
        if (first != second)
          changes.push_back(fmt::format("{} {} → {}", visible(path), values_text(first), values_text(second)));
      }
      if (!changes.empty()) {
        const std::size_t more = changes.size() > 4 ? changes.size() - 4 : 0;
        changes.resize(changes.size() - more);
        return fmt::format("is another stack in {} than in {} ({}{})", name_of(a), name_of(b), fmt::join(changes, ", "),
                           more == 0 ? "" : fmt::format(", and {} more", more));
      }
    }
    const auto confirmed = one.points.find(stack), again = two.points.find(stack);
    if (confirmed == one.points.end() || again == two.points.end()) return "";
    for (const auto& [model, points] : confirmed->second) {
      const auto other = again->second.find(model);
      if (other != again->second.end() && other->second != points)
        return fmt::format("was tuned in {} and in {} and came out at other points", name_of(a), name_of(b));
    }
    return "";
  }

  void name_stacks() {
    std::map<std::string, std::vector<std::size_t>> having;
    std::set<std::string> taken;
    for (std::size_t s = 0; s < sweeps_.size(); ++s) {
      for (const auto& [name, meaning] : meanings_[s].stacks) having[name].push_back(s), taken.insert(name);
    }
    for (const auto& entry : having) {
      const auto& name = entry.first;
      const auto& some = entry.second;
      const auto same = [&](std::size_t a, std::size_t b) { return obstacle(name, a, b).empty(); };
      const auto shown = tell_apart(name, some, stacks_, same, taken);
      if (shown.empty()) continue;
      std::string why;
      for (std::size_t i = 1; i < some.size() && why.empty(); ++i) why = obstacle(name, some[0], some[i]);
      out_.notes.push_back(fmt::format("{} {}; it stands here as {}.", visible(name), why, and_list(shown)));
    }
  }

  void fill_cells() {
    using Key = std::tuple<std::size_t, std::size_t, double, std::string, std::int64_t, std::string>;
    struct Filled {
      std::size_t cell = 0, sweep = 0;
    };
    std::map<Key, Filled> filled;
    std::size_t twice = 0, unlike = 0;
    const auto has_result = [](const RunRecord& run) { return is_result(run.state); };
    for (std::size_t s = 0; s < sweeps_.size(); ++s) {
      for (const LoadedCell& cell : sweeps_[s].cells) {
        const RunRecord* run = sweeps_[s].runs[cell.run].get();
        const CellRecord record{.model = index_of(out_.models, joined(models_, s, cell.model)),
                                .stack = index_of(out_.stacks, joined(stacks_, s, cell.stack)),
                                .lr_scale = cell.lr_scale,
                                .seed = cell.seed,
                                .axes = cell.axes,
                                .phase = cell.phase,
                                .run = run};
        if (cell.baseline && !marked_.contains(s)) marked_[s] = record.stack;
        const auto [place, fresh] = filled.try_emplace(
            Key{record.model, record.stack, cell.lr_scale, cell.axes, cell.seed, cell.phase}, Filled{out_.cells.size(), s});
        if (fresh || place->second.sweep == s) {
          out_.cells.push_back(record);
          continue;
        }
        CellRecord& first = out_.cells[place->second.cell];
        ++twice;
        if (has_result(*first.run) && has_result(*run) && first.run->final_loss() != run->final_loss()) ++unlike;
        if (!has_result(*first.run) && has_result(*run)) first.run = run;
      }
    }
    if (twice > 0)
      out_.notes.push_back(fmt::format(
          "{} in more than one sweep; each counts once, by its first run that has a result.{}",
          twice == 1 ? "1 cell stands" : fmt::format("{} cells stand", twice),
          unlike == 0 ? ""
                      : fmt::format(" The runs of {} of them ended at different losses, as on other hardware.", unlike)));
    std::set<const RunRecord*> used;
    for (const CellRecord& cell : out_.cells) used.insert(cell.run);
    for (LoadedSweep& sweep : sweeps_) {
      for (auto& run : sweep.runs)
        if (used.contains(run.get())) out_.runs.push_back(std::move(run));
    }
  }

  void choose_baseline(const std::string& wanted) {
    if (!wanted.empty()) {
      const auto found = std::find(out_.stacks.begin(), out_.stacks.end(), wanted);
      if (found == out_.stacks.end()) {
        std::vector<std::string> names;
        for (const std::string& name : out_.stacks) names.push_back(visible(name));
        const std::string nearest = nearest_name(wanted, names);
        throw UsageError(fmt::format("--baseline: no stack '{}'; there are: {}{}", visible(wanted), fmt::join(names, ", "),
                                     nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
      }
      out_.baseline = static_cast<std::size_t>(found - out_.stacks.begin());
      return;
    }
    std::vector<std::string> found;
    for (const auto& [sweep, stack] : marked_) {
      if (!out_.baseline) out_.baseline = stack;
      const std::string line = fmt::format("'{}' in {}", visible(out_.stacks[stack]), name_of(sweep));
      if (found.empty() || stack != *out_.baseline) found.push_back(line);
    }
    if (found.size() < 2) return;
    std::string reasons;
    for (const std::string& note : out_.notes) reasons += "\n  " + note;
    throw Error(
        fmt::format("the sweeps mark different baselines: {}; say which one all stacks are compared with: --baseline "
                    "'{}'{}{}",
                    and_list(found), visible(out_.stacks[*out_.baseline]),
                    reasons.empty() ? "" : "\nWhat was found when they were joined:", reasons),
        ExitCode::report_refused);
  }

  static std::size_t index_of(std::vector<std::string>& names, const std::string& name) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
    names.push_back(name);
    return names.size() - 1;
  }

  std::vector<LoadedSweep> sweeps_;
  bool mix_;
  std::vector<Meaning> meanings_;
  Names models_, stacks_;
  std::set<std::pair<std::size_t, std::size_t>> apart_;  // sweeps whose settings differ, the smaller number first
  std::map<std::size_t, std::size_t> marked_;            // the baseline of each sweep that marks one
  Joined out_;
};

}  // namespace

Joined join_sweeps(std::vector<LoadedSweep> sweeps, bool mix, const std::string& baseline) {
  return Join(std::move(sweeps), mix).make(baseline);
}

}  // namespace equisweep
