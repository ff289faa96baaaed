#include "sweeps/recorded_corpora.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>

#include "core/data/corpus.h"
#include "core/database.h"
#include "core/error.h"
#include "core/run_store.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

/// By job: the digest of the corpus that each result was trained on.
std::map<std::string, std::string> recorded_digests(const fs::path& database) {
  std::map<std::string, std::string> digests;
  const auto db = open_read_only(database);
  in_database(database, [&] {
    SQLite::Statement query(*db, "SELECT job, corpus FROM runs WHERE state IN ('done', 'diverged')");
    while (query.executeStep()) {
      try {
        digests[query.getColumn(0).getString()] = corpus_info_from_json(query.getColumn(1).getString()).digest;
      } catch (const Error&) {  // of a result that says nothing about its data nothing can be said
      }
    }
  });
  return digests;
}

}  // namespace

void check_recorded_corpora(const fs::path& folder, const std::vector<Job>& jobs, const fs::path& corpora) {
  std::error_code none;
  if (!fs::exists(folder / "sweep.db", none)) return;
  const auto digests = recorded_digests(folder / "sweep.db");
  std::map<std::tuple<std::string, std::int64_t, std::uint64_t>, std::optional<CorpusInfo>> opened;
  std::map<std::string, std::vector<std::string>> stale;  // jobs by the name of their corpus
  for (const Job& job : jobs) {
    const auto recorded = digests.find(job.id);
    if (recorded == digests.end() || recorded->second.empty()) continue;
    const auto& data = job.config.at("data");
    const std::string corpus = data.at("corpus");
    const std::int64_t vocabulary = job.config.at("model").at("vocab");
    const std::uint64_t seed = data.at("seed");
    const auto [it, fresh] = opened.try_emplace(std::tuple(corpus, vocabulary, seed));
    if (fresh) {
      try {
        it->second = open_corpus(corpus, vocabulary, seed, corpora).info;
      } catch (const Error&) {  // who prepares the corpora says so
      }
    }
    if (it->second && it->second->digest != recorded->second) stale[it->second->name].push_back(job.id);
  }
  for (const auto& [name, ids] : stale) {
    constexpr std::size_t kNamed = 5;
    const std::vector<std::string> first(ids.begin(),
                                         ids.begin() + static_cast<std::ptrdiff_t>(std::min(kNamed, ids.size())));
    throw Error(
        fmt::format("corpus {} has changed since {} of the jobs of this sweep {} trained on it: {}{}; their results "
                    "are not of the text that it holds now. Give the sweep another name (--set name=NAME), put the "
                    "corpus back, or move {} away",
                    printable(name), ids.size(), ids.size() == 1 ? "was" : "were", join(first),
                    ids.size() > kNamed ? ", ..." : "", printable(folder.string(), 4096)));
  }
}

}  // namespace equisweep
