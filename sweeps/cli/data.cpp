#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/data/corpus.h"
#include "core/data/prepare.h"
#include "core/data/tokenizer.h"
#include "sweeps/cli/command.h"
#include "sweeps/cli/text_table.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

/// What is going on, in one line that is overwritten on a terminal and not printed elsewhere.
void show_progress(std::string_view what, std::int64_t bytes, std::int64_t total) {
  if (!isatty(STDERR_FILENO)) return;
  const double mb = static_cast<double>(bytes) / 1e6;
  if (total > 0)
    fmt::print(stderr, "\r\033[K{}: {:.1f} of {:.1f} MB", what, mb, static_cast<double>(total) / 1e6);
  else
    fmt::print(stderr, "\r\033[K{}: {:.1f} MB", what, mb);
  std::fflush(stderr);
}

ExitCode prepare(const PrepareOptions& options) {
  const Manifest manifest = prepare_corpus(options, show_progress);
  if (isatty(STDERR_FILENO)) fmt::print(stderr, "\r\033[K");
  fmt::print("{}: vocabulary {}, {} training and {} validation tokens\n", options.out.string(), manifest.vocabulary,
             manifest.train.tokens, manifest.val.tokens);
  return ExitCode::ok;
}

/// Folders under `corpora` with a manifest; those that cannot be read are listed with the reason.
ExitCode list_corpora(const std::filesystem::path& corpora, bool as_json) {
  std::vector<std::filesystem::path> folders;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(corpora, none))
    if (std::filesystem::exists(entry.path() / kManifestName)) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  nlohmann::json all = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& folder : folders) {
    try {
      const Manifest m = read_manifest(folder);
      all.push_back({{"corpus", folder.string()},
                     {"vocabulary", m.vocabulary},
                     {"train_tokens", m.train.tokens},
                     {"val_tokens", m.val.tokens},
                     {"shards", m.train.shards.size() + m.val.shards.size()},
                     {"bytes_per_token", m.bytes_per_token},
                     {"unigram_entropy", m.unigram_entropy}});
      rows.push_back({folder.string(), std::to_string(m.vocabulary), std::to_string(m.train.tokens),
                      std::to_string(m.val.tokens), std::to_string(m.train.shards.size() + m.val.shards.size()),
                      fmt::format("{:.3f}", m.bytes_per_token), fmt::format("{:.4f}", m.unigram_entropy)});
    } catch (const Error& e) {
      fmt::print(stderr, "{}\n", e.what());
    }
  }
  if (as_json) {
    fmt::print("{}\n", all.dump(2));
    return ExitCode::ok;
  }
  if (rows.empty())
    fmt::print(stderr, "no corpus has been prepared in {} yet\n", corpora.string());
  else
    fmt::print("{}",
               text_table({"corpus", "vocabulary", "train tokens", "val tokens", "shards", "bytes/token", "unigram entropy"},
                          rows));
  fmt::print(stderr, "beside these: kjv and synthetic, for any vocabulary\n");
  return ExitCode::ok;
}

struct ShowOptions {
  std::string corpus;
  std::filesystem::path results;
  std::optional<std::int64_t> vocabulary;
  std::string part = "train";
  std::int64_t window = 0, seq_len = 128, seed = 1;
  bool ids = false, as_json = false;
};

ExitCode show_window(const ShowOptions& options) {
  std::optional<std::int64_t> vocabulary = options.vocabulary;
  if (!vocabulary && std::filesystem::exists(std::filesystem::path(options.corpus) / kManifestName))
    vocabulary = read_manifest(options.corpus).vocabulary;
  if (!vocabulary)
    throw UsageError(fmt::format("corpus '{}' has no manifest that says its vocabulary; give it with --vocab",
                                 printable(options.corpus)));
  const Corpus corpus =
      open_corpus(options.corpus, *vocabulary, static_cast<std::uint64_t>(options.seed), corpora_folder(options.results));
  const TokenSource& source = options.part == "val" ? *corpus.val : *corpus.train;
  const std::int64_t windows = source.size() / options.seq_len;
  if (options.window >= windows)
    throw UsageError(fmt::format("there is no window {}: the {} part of corpus '{}' has {} tokens, {} windows of {}",
                                 options.window, options.part, printable(corpus.info.name), source.size(), windows,
                                 options.seq_len));
  std::vector<std::int64_t> ids(static_cast<std::size_t>(options.seq_len));
  source.read(options.window * options.seq_len, ids);
  const std::filesystem::path model = std::filesystem::path(corpus.info.path) / "tokenizer.model";
  std::optional<std::string> text;
  if (!corpus.info.path.empty() && std::filesystem::exists(model)) text = Tokenizer::load(model).decode(ids);
  if (options.as_json) {
    nlohmann::json out = {{"corpus", nlohmann::json::parse(to_json(corpus.info))},
                          {"part", options.part},
                          {"window", options.window},
                          {"ids", ids}};
    if (text) out["text"] = *text;
    fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return ExitCode::ok;
  }
  fmt::print(stderr, "{}: {} part, window {} of {}, tokens {} to {}\n", corpus.info.name, options.part, options.window,
             windows, options.window * options.seq_len, (options.window + 1) * options.seq_len - 1);
  if (text && !options.ids) {
    // What a terminal could take for a command is made visible; line ends stay.
    for (std::size_t begin = 0; begin <= text->size();) {
      const std::size_t end = std::min(text->find('\n', begin), text->size());
      fmt::print("{}\n", printable(std::string_view(*text).substr(begin, end - begin), text->size() * 4 + 1));
      begin = end + 1;
    }
    return ExitCode::ok;
  }
  if (!text && !options.ids) fmt::print(stderr, "the corpus has no tokenizer of ours, so only ids can be shown\n");
  fmt::print("{}\n", fmt::join(ids, " "));
  return ExitCode::ok;
}

}  // namespace

void add_data(CLI::App& program, Action& action) {
  CLI::App* command =
      program.add_subcommand("data",
                             "Corpora.\n\n"
                             "  equisweep data prepare --text book.txt --vocab 2048 --out results/corpora/book\n"
                             "  equisweep data list\n"
                             "  equisweep data show results/corpora/book --window 7\n");
  command->require_subcommand(1);
  CLI::App* sub = command->add_subcommand(
      "prepare",
      "Trains a SentencePiece BPE tokenizer on text and writes a corpus: shards, tokenizer and a manifest with checksums.\n"
      "In a sweep file: `data: {corpus: DIR}`.\n\n"
      "  equisweep data prepare --text book.txt --vocab 2048 --out results/corpora/book\n"
      "  equisweep data prepare --text a.jsonl.gz b.jsonl.gz --field text --vocab 8192 --out results/corpora/web\n"
      "  zcat dump.gz | equisweep data prepare --text - --vocab 4096 --val-fraction 0.01 --out results/corpora/dump\n");
  auto options = std::make_shared<PrepareOptions>();
  sub->add_option("--text", options->text, "text, JSON lines (.jsonl) or either with .gz; - is the standard input")
      ->required();
  sub->add_option("--vocab", options->vocabulary, "pieces of the tokenizer; at most the model's vocabulary")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, kMaxPreparedVocabulary));
  sub->add_option("--out", options->out, "folder to write; must not exist")->required();
  sub->add_option("--field", options->field, "the field of JSON lines that holds the text");
  CLI::Option* fraction =
      sub->add_option("--val-fraction", options->val_fraction, "share of the text held out for validation")
          ->capture_default_str()
          ->check(CLI::Range(0.0, kMaxValFraction));
  sub->add_option("--val-text", options->val_text, "validation text of its own")->excludes(fraction);
  sub->callback([&action, options] { action = [options] { return prepare(*options); }; });

  CLI::App* list_command = command->add_subcommand("list", "The prepared corpora.\n\n  equisweep data list\n");
  auto results = std::make_shared<std::filesystem::path>();
  auto as_json = std::make_shared<bool>(false);
  add_results_option(*list_command, *results);
  list_command->add_flag("--json", *as_json, "machine-readable");
  list_command->callback([&action, results, as_json] {
    action = [results, as_json] { return list_corpora(corpora_folder(*results), *as_json); };
  });

  CLI::App* show_command = command->add_subcommand("show",
                                                   "A window of a corpus as text: what a sequence of a batch looks like.\n\n"
                                                   "  equisweep data show results/corpora/book --window 7\n"
                                                   "  equisweep data show kjv --vocab 2048 --part val --seq-len 64\n"
                                                   "  equisweep data show synthetic --vocab 512 --ids\n");
  auto show_options = std::make_shared<ShowOptions>();
  show_command->add_option("corpus", show_options->corpus, "kjv, synthetic, or a folder")->required();
  show_command->add_option("--vocab", show_options->vocabulary, "vocabulary; default: that of the manifest")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24));
  show_command->add_option("--part", show_options->part, "train or val")
      ->capture_default_str()
      ->check(CLI::IsMember({"train", "val"}));
  show_command->add_option("--window", show_options->window, "which window, from 0")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  show_command->add_option("--seq-len", show_options->seq_len, "tokens of a window")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24));
  show_command->add_option("--seed", show_options->seed, "data.seed, for synthetic")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  show_command->add_flag("--ids", show_options->ids, "token ids instead of text");
  show_command->add_flag("--json", show_options->as_json, "ids, text and what is known of the corpus");
  add_results_option(*show_command, show_options->results);
  show_command->callback([&action, show_options] { action = [show_options] { return show_window(*show_options); }; });
}

}  // namespace equisweep
