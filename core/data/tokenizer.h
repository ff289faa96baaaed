#pragma once
// Byte-pair encoding by SentencePiece, set up so that every text can be encoded and decoding gives back its exact bytes:
// no normalisation, no added spaces, characters that were not seen in training become their UTF-8 bytes.
// T. Kudo, J. Richardson, "SentencePiece", EMNLP 2018.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace equisweep {

class Tokenizer {
 public:
  /// Ids that every tokenizer of ours has; then follow 256 pieces for bytes, merged pieces and single characters.
  static constexpr std::int32_t kUnknown = 0;    ///< SentencePiece insists on one; encode() never returns it
  static constexpr std::int32_t kDelimiter = 1;  ///< put after each document; encode() never returns it

  /// Trains `vocabulary` pieces on `text` (valid UTF-8), a line being a sentence; on one thread, so that the result is a
  /// function of the arguments. Throws UsageError if the text has too many distinct characters for the vocabulary, or too
  /// little variety to fill it.
  static Tokenizer train(std::string_view text, std::int64_t vocabulary);

  /// Reads a SentencePiece model file; throws DataError if it is none, or not one that train() could have made.
  static Tokenizer load(const std::filesystem::path& path);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  std::int64_t vocabulary() const;
  /// The piece as SentencePiece names it: U+2581 for a space, <0x0A> for a byte, <unk>, </s>.
  std::string piece(std::int64_t id) const;
  /// Whether the piece stands for its own text, not for a byte and not for something special.
  bool is_text(std::int64_t id) const;

  const std::string& model() const { return model_; }  ///< content of tokenizer.model

  /// Appends the ids of `text` (any UTF-8) to `ids`.
  void encode(std::string_view text, std::vector<std::int64_t>& ids) const;
  std::vector<std::int64_t> encode(std::string_view text) const;

  /// The bytes that the ids stand for; delimiters give none. A window may begin within a character, so this need not be
  /// valid UTF-8. Asserts that ids are below the vocabulary.
  std::string decode(std::span<const std::int64_t> ids) const;

 private:
  struct Impl;
  Tokenizer(std::string model, const std::string& name);
  std::string model_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace equisweep
