#include "sweeps/file/settings.h"

#include <fmt/format.h>

#include <algorithm>

#include "sweeps/file/grammar.h"

namespace equisweep {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxTags = 32, kMaxTagBytes = 60, kMaxTitleBytes = 200;

class SettingsReader {
 public:
  SettingsReader(const Node& root, SweepSpec& spec, Problems& problems) : root_(root), spec_(spec), problems_(problems) {}

  void read() {
    read_tags();
    read_tune();
    if (const json retry = key("retry"); has(retry, {"max", "on"})) {
      spec_.retry.max = retry["max"];
      for (const json& state : retry["on"]) spec_.retry.on.insert(*run_state_from_name(state.get<std::string>()));
    }
    if (const json saved = key("checkpoint"); has(saved, {"minutes", "keep"})) {
      spec_.checkpoint = {.every = {}, .minutes = saved["minutes"], .keep = saved["keep"]};
      if (saved.contains("every")) spec_.checkpoint.every = saved["every"].get<std::int64_t>();
    }
    if (const json given = key("resources"); has(given, {"slots_per_gpu"})) {
      spec_.resources.slots_per_gpu = given["slots_per_gpu"];
      if (given.contains("gpus")) spec_.resources.gpus = given["gpus"].get<int>();
      if (given.contains("threads")) spec_.resources.threads = given["threads"].get<int>();
      if (given.contains("minutes")) spec_.resources.minutes = given["minutes"].get<double>();
    }
    spec_.report = key("report");
    if (spec_.report.is_object() && spec_.report.contains("title"))
      if (const auto title = spec_.report["title"].get<std::string>(); title.empty() || title.size() > kMaxTitleBytes)
        problems_.add(root_.find("report")->value.find("title")->value.where, "report.title: an empty or endless title",
                      fmt::format("1 to {} characters", kMaxTitleBytes));
  }

 private:
  json key(std::string_view name) { return read_member(root_, *find_field(sweep_fields(), name), "", problems_); }

  /// Whether all of them could be read; where one could not, a problem has been reported.
  static bool has(const json& map, std::initializer_list<const char*> names) {
    return map.is_object() && std::all_of(names.begin(), names.end(), [&](const char* name) { return map.contains(name); });
  }

  void read_tags() {
    const json tags = key("tags");
    if (!tags.is_array()) return;
    const Member* member = root_.find("tags");
    for (const json& tag : tags) {
      spec_.tags.push_back(tag.get<std::string>());
      if (spec_.tags.back().empty() || spec_.tags.back().size() > kMaxTagBytes ||
          spec_.tags.back() != printable(spec_.tags.back(), kMaxTagBytes))
        problems_.add(member->value.where, fmt::format("tags: '{}' is no tag", printable(spec_.tags.back(), kMaxTagBytes)),
                      fmt::format("1 to {} printable characters", kMaxTagBytes));
    }
    if (spec_.tags.size() > kMaxTags)
      problems_.add(member->value.where, fmt::format("tags: {} of them", spec_.tags.size()),
                    fmt::format("at most {}", kMaxTags));
  }

  void read_tune() {
    const json tune = key("tune");
    const Member* member = root_.find("tune");
    if (!member || member->value.kind != NodeKind::map) return;
    refuse_other_seeds();
    if (root_.find("init_from"))
      problems_.add(member->where,
                    "tune: init_from gives the initial weights, so that a run with another seed is the same run",
                    "no key 'tune'");
    if (!has(tune, {"seeds", "confirm_seeds", "extend"})) return;
    spec_.tune = {.seeds = tune["seeds"], .confirm_seeds = tune["confirm_seeds"], .extend = tune["extend"]};
    for (const std::int64_t seed : spec_.tune->confirm_seeds)
      if (std::count(spec_.tune->seeds.begin(), spec_.tune->seeds.end(), seed) > 0)
        problems_.add(member->value.find("confirm_seeds")->where,
                      fmt::format("tune.confirm_seeds: {} is one of tune.seeds, so a choice has seen it", seed),
                      "seeds that are not among tune.seeds");
    spec_.grid.seeds = spec_.tune->seeds;
  }

  /// Every point runs on the same seeds: else the choice would not be the same rule for every stack.
  void refuse_other_seeds() {
    const auto refuse = [&](std::string_view name, const Node& map) {
      if (const Member* seed = map.find("seed"))
        problems_.add(seed->where, fmt::format("{}.seed: tune says the seeds, the same for every point", name),
                      "no seed here: tune.seeds and tune.confirm_seeds");
    };
    for (const std::string_view name : {"grid", "zip", "exclude", "include"})
      if (const Member* m = root_.find(name)) {
        refuse(name, m->value);
        for (const Node& item : m->value.items) refuse(name, item);
      }
  }

  const Node& root_;
  SweepSpec& spec_;
  Problems& problems_;
};

}  // namespace

void read_settings(const Node& root, SweepSpec& spec, Problems& problems) { SettingsReader(root, spec, problems).read(); }

}  // namespace equisweep
