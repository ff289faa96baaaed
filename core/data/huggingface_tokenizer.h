#pragma once
// Our tokenizer in the format of HuggingFace's tokenizers library (tokenizer.json), which AutoTokenizer loads.

#include <string>

#include "core/data/tokenizer.h"

namespace equisweep {

/// The same pieces under the same ids. SentencePiece merges the neighbours whose union has the best score, and the pieces
/// are numbered by falling score; so the merges here are all pairs of pieces whose union is a piece, in the order of those.
/// Lines are cut as Tokenizer::encode does, what is no piece becomes bytes, and nothing is put before or after the text.
/// Two texts are read differently: the sign U+2581 is taken for a space, and "<unk>" and "</s>" for the special pieces.
std::string huggingface_tokenizer(const Tokenizer& tokenizer);

}  // namespace equisweep
