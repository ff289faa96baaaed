#include "core/data/tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <unordered_map>
#include <utility>

#include "core/data/file_io.h"
#include "core/error.h"

namespace equisweep {
namespace {

constexpr std::string_view kSpaceMark = "\xe2\x96\x81";  // U+2581, SentencePiece's sign for a space
constexpr std::int64_t kLargestModel = 256 << 20;        // bytes

// Lines of a text, without their newline characters: no piece crosses a line.
class Lines final : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(std::string_view text) : rest_(text) { Next(); }
  bool done() const override { return done_; }
  void Next() override {
    done_ = rest_.empty();
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    line_ = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
  }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::string_view rest_;
  std::string line_;
  bool done_ = false;
};

}  // namespace

struct Tokenizer::Impl {
  sentencepiece::SentencePieceProcessor processor;
  std::array<std::int64_t, 256> byte_ids{};
  std::vector<std::string> bytes;  // of each piece
};

Tokenizer Tokenizer::train(std::string_view text, std::int64_t vocabulary) {
  Lines lines(text);
  std::string model;
  const sentencepiece::util::Status status = sentencepiece::SentencePieceTrainer::Train(
      std::unordered_map<std::string, std::string>{{"model_type", "bpe"},
                                                   {"vocab_size", fmt::format("{}", vocabulary)},
                                                   {"byte_fallback", "true"},
                                                   {"character_coverage", "1"},
                                                   {"normalization_rule_name", "identity"},
                                                   {"remove_extra_whitespaces", "false"},
                                                   {"add_dummy_prefix", "false"},
                                                   {"allow_whitespace_only_pieces", "true"},
                                                   {"max_sentence_length", "1073741824"},
                                                   {"unk_id", fmt::format("{}", kUnknown)},
                                                   {"eos_id", fmt::format("{}", kDelimiter)},
                                                   {"bos_id", "-1"},
                                                   {"pad_id", "-1"},
                                                   {"num_threads", "1"},
                                                   {"minloglevel", "3"}},
      &lines, &model);
  if (!status.ok()) {
    throw UsageError(fmt::format("no tokenizer of {} pieces can be made from this text of {} bytes: {}", vocabulary,
                                 text.size(), printable(status.ToString(), 400)));
  }
  return Tokenizer(std::move(model), "the trained tokenizer");
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  return Tokenizer(read_text_file(path, kLargestModel), path.string());
}

Tokenizer::Tokenizer(std::string model, const std::string& name)
    : model_(std::move(model)), impl_(std::make_unique<Impl>()) {
  auto& sp = impl_->processor;
  if (const auto status = sp.LoadFromSerializedProto(model_); !status.ok()) {
    throw DataError(name, fmt::format("is not a SentencePiece model: {}", printable(status.ToString())));
  }
  for (int byte = 0; byte < 256; ++byte) {
    const int id = sp.PieceToId(fmt::format("<0x{:02X}>", byte));
    if (!sp.IsByte(id))
      throw DataError(name, fmt::format("has no piece for byte 0x{:02X}, so it cannot encode every text", byte));
    impl_->byte_ids[static_cast<std::size_t>(byte)] = id;
  }
  impl_->bytes.resize(static_cast<std::size_t>(sp.GetPieceSize()));
  for (int id = 0; id < sp.GetPieceSize(); ++id) {
    if (!is_text(id)) continue;
    std::string text = sp.IdToPiece(id);
    for (std::size_t at; (at = text.find(kSpaceMark)) != std::string::npos;) text.replace(at, kSpaceMark.size(), 1, ' ');
    impl_->bytes[static_cast<std::size_t>(id)] = std::move(text);
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    impl_->bytes[static_cast<std::size_t>(impl_->byte_ids[byte])] = std::string(1, static_cast<char>(byte));
  }
}

Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::int64_t Tokenizer::vocabulary() const { return impl_->processor.GetPieceSize(); }

std::string Tokenizer::piece(std::int64_t id) const { return impl_->processor.IdToPiece(static_cast<int>(id)); }

bool Tokenizer::is_text(std::int64_t id) const {
  const auto& sp = impl_->processor;
  const int i = static_cast<int>(id);
  return !sp.IsByte(i) && !sp.IsControl(i) && !sp.IsUnknown(i);
}

// Cut at newlines, which no piece crosses (so a long text takes linear time), and at the sign that SentencePiece would turn
// into a space; both are encoded as bytes.
void Tokenizer::encode(std::string_view text, std::vector<std::int64_t>& ids) const {
  const auto add_bytes = [&](std::string_view bytes) {
    for (const char c : bytes) ids.push_back(impl_->byte_ids[static_cast<unsigned char>(c)]);
  };
  std::vector<int> part_ids;
  const auto add_pieces = [&](std::string_view part) {
    if (part.empty()) return;
    const auto status = impl_->processor.Encode(part, &part_ids);
    if (!status.ok()) throw Error(fmt::format("the text cannot be tokenized: {}", printable(status.ToString())));
    ids.insert(ids.end(), part_ids.begin(), part_ids.end());
  };
  while (!text.empty()) {
    const std::size_t newline = text.find('\n');
    std::string_view line = text.substr(0, newline);
    for (std::size_t mark; (mark = line.find(kSpaceMark)) != std::string_view::npos;
         line.remove_prefix(mark + kSpaceMark.size())) {
      add_pieces(line.substr(0, mark));
      add_bytes(kSpaceMark);
    }
    add_pieces(line);
    if (newline == std::string_view::npos) return;
    add_bytes("\n");
    text.remove_prefix(newline + 1);
  }
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int64_t> ids;
  encode(text, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int64_t> ids) const {
  std::string text;
  for (const std::int64_t id : ids) {
    assert(id >= 0 && id < vocabulary());
    text += impl_->bytes[static_cast<std::size_t>(id)];
  }
  return text;
}

}  // namespace equisweep
