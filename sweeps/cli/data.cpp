#include <unistd.h>

#include <cstdio>

#include "core/data/prepare.h"
#include "sweeps/cli/command.h"

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

}  // namespace

void add_data(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "data", "Corpora.\n\n  equisweep data prepare --text book.txt --vocab 2048 --out results/corpora/book\n");
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
  sub->add_option("--vocab", options->vocabulary, "pieces of the tokenizer; equal to the model's vocabulary")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24));
  sub->add_option("--out", options->out, "folder to write; must not exist")->required();
  sub->add_option("--field", options->field, "the field of JSON lines that holds the text");
  CLI::Option* fraction =
      sub->add_option("--val-fraction", options->val_fraction, "share of the text held out for validation")
          ->capture_default_str()
          ->check(CLI::Range(0.0, 1.0));
  sub->add_option("--val-text", options->val_text, "validation text of its own")->excludes(fraction);
  sub->callback([&action, options] { action = [options] { return prepare(*options); }; });
}

}  // namespace equisweep
