#include "sweeps/file/reader.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <unordered_map>

#include "sweeps/file/text.h"

namespace equisweep {

namespace {

/// Thrown out of the parser when a problem makes the rest worthless.
struct GiveUp {};

/// Where the lines of a text begin, to turn yaml-cpp's marks (bytes from 0) into positions and offsets.
class Places {
 public:
  Places(std::string_view text, const std::string& file) : text_(text), file_(file) {
    lines_.push_back(0);
    for (std::size_t i = 0; i < text.size(); ++i)
      if (text[i] == '\n') lines_.push_back(i + 1);
  }

  std::size_t offset(const YAML::Mark& mark) const {
    if (mark.line < 0) return text_.size();
    const auto line = std::min(static_cast<std::size_t>(mark.line), lines_.size() - 1);
    return std::min(lines_[line] + static_cast<std::size_t>(std::max(mark.column, 0)), text_.size());
  }

  SourcePosition position(const YAML::Mark& mark) const {
    const std::size_t end = offset(mark);
    const auto line = static_cast<std::size_t>(std::upper_bound(lines_.begin(), lines_.end(), end) - lines_.begin());
    // Marks mostly move forward: counting on from the last one keeps a file of one long line linear.
    if (const std::size_t begin = lines_[line - 1]; counted_ < begin || counted_ > end) {
      counted_ = begin;
      column_ = 1;
    }
    for (; counted_ < end; ++counted_)
      if ((static_cast<unsigned char>(text_[counted_]) & 0xC0) != 0x80) ++column_;
    return {file_, static_cast<int>(line), column_};
  }

  char at(const YAML::Mark& mark) const {
    const std::size_t i = offset(mark);
    return i < text_.size() ? text_[i] : '\0';
  }
  /// Whether the quoted text that begins at `mark` has its second quote; yaml-cpp takes the end of the file for one.
  bool quote_ends(const YAML::Mark& mark) const {
    const char quote = at(mark);
    for (std::size_t i = offset(mark) + 1; i < text_.size(); ++i) {
      if (text_[i] == quote && quote == '\'' && i + 1 < text_.size() && text_[i + 1] == quote) {
        ++i;
      } else if (text_[i] == quote) {
        return true;
      } else if (text_[i] == '\\' && quote == '"') {
        ++i;
      }
    }
    return false;
  }
  bool stands_at(const YAML::Mark& mark, std::string_view s) const { return text_.substr(offset(mark), s.size()) == s; }

 private:
  std::string_view text_;
  const std::string& file_;
  std::vector<std::size_t> lines_;
  mutable std::size_t counted_ = 0;  ///< offset up to which columns of its line were counted
  mutable int column_ = 1;           ///< of that offset
};

/// Builds the tree from the parser's events. Marks are of the first character of a node with its properties, so that the
/// text itself tells quotes, tags and anchors apart.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const Places& places, Problems& problems) : places_(places), problems_(problems) {}

  Node root;
  Problems artefacts;  ///< problems that a syntax error further on may have caused

  /// Where the innermost open list or map began.
  std::optional<SourcePosition> open_collection() const {
    return frames_.empty() ? std::nullopt : std::optional(frames_.back().node.where);
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    Node node = make(NodeKind::broken, mark);
    if (!frames_.empty() && frames_.back().node.kind == NodeKind::map && !frames_.back().key)
      return key(node, false, mark, "a key without a name");
    if (!properties(mark)) {
      const bool has_key = !frames_.empty() && frames_.back().key;
      const SourcePosition where = has_key ? frames_.back().key->where : node.where;
      artefacts.add(where,
                    has_key ? fmt::format("'{}' has no value", printable(frames_.back().key->key, 60)) : "an empty value",
                    "a value; leave the key out for its default");
    }
    add(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    problems_.add(places_.position(mark), "an alias (*)", "values written out, or extends");
    scalar_or_key(make(NodeKind::broken, mark), false, mark);
  }

  void OnAnchor(const YAML::Mark& mark, const std::string&) override {
    problems_.add(places_.position(mark), "an anchor (&)", "values written out, or extends");
  }

  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t, const std::string& value) override {
    Node node = make(NodeKind::text, mark);
    node.scalar = value;
    const char first = places_.at(mark);
    const bool plain = first != '"' && first != '\'' && first != '|' && first != '>';
    if (properties(mark)) {
      node.kind = NodeKind::broken;
    } else if ((first == '"' || first == '\'') && !places_.quote_ends(mark)) {
      problems_.add(node.where, "a quote that is never closed", fmt::format("{0} at both ends", first));
      node.kind = NodeKind::broken;
    } else if (plain && !places_.stands_at(mark, value)) {
      artefacts.add(node.where, "a value over several lines", "one line, or text in quotes or after |");
      node.kind = NodeKind::broken;
    }
    scalar_or_key(std::move(node), plain, mark);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(NodeKind::sequence, mark);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(NodeKind::map, mark);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    Node node;
    std::optional<Member> key;                   ///< of a map: the key whose value comes next
    bool is_key = false;                         ///< this collection itself stands where a key should
    std::unordered_map<std::string, int> lines;  ///< keys seen
  };

  Node make(NodeKind kind, const YAML::Mark& mark) const {
    Node node;
    node.kind = kind;
    node.where = places_.position(mark);
    return node;
  }

  /// Reports a tag; true if the node has a tag or an anchor (reported by OnAnchor).
  bool properties(const YAML::Mark& mark) {
    const char first = places_.at(mark);
    if (first == '!') problems_.add(places_.position(mark), "a tag (!)", "plain values");
    return first == '!' || first == '&';
  }

  void scalar_or_key(Node node, bool plain, const YAML::Mark& mark) {
    if (!frames_.empty() && frames_.back().node.kind == NodeKind::map && !frames_.back().key)
      return key(node, plain, mark, nullptr);
    if (plain && node.kind == NodeKind::text) node.kind = classify_plain(node.scalar, node.where, problems_);
    add(std::move(node));
  }

  void key(const Node& node, bool plain, const YAML::Mark& mark, const char* why) {
    Frame& frame = frames_.back();
    frame.key = Member{node.scalar, places_.position(mark), {}};
    frame.key->value.kind = NodeKind::broken;  // until a good value comes
    if (node.kind == NodeKind::broken && !why) {
      frame.key->key.clear();
    } else if (why || node.scalar.empty()) {
      artefacts.add(node.where, why ? why : "a key without a name", "a name before the colon");
      frame.key->key.clear();
    } else if (plain && node.scalar == "<<") {
      problems_.add(node.where, "a merge key (<<)", "extends, in a stack");
      frame.key->key.clear();
    } else if (const auto [seen, fresh] = frame.lines.emplace(node.scalar, node.where.line); !fresh) {
      problems_.add(node.where,
                    fmt::format("'{}' stands here twice, first in line {}", printable(node.scalar, 60), seen->second),
                    "each key once");
      frame.key->key.clear();
    }
  }

  void open(NodeKind kind, const YAML::Mark& mark) {
    if (frames_.size() >= kMaxSweepDepth) {
      problems_.add(places_.position(mark), "nested too deep", fmt::format("{} levels", kMaxSweepDepth));
      throw GiveUp();
    }
    Frame frame;
    frame.node = make(kind, mark);
    if (!frames_.empty() && frames_.back().node.kind == NodeKind::map && !frames_.back().key) {
      key(frame.node, false, mark, "a list or map as a key");
      frame.is_key = true;
    }
    properties(mark);
    frames_.push_back(std::move(frame));
  }

  void close() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    if (!frame.is_key) add(std::move(frame.node));
  }

  void add(Node node) {
    if (frames_.empty()) {
      root = std::move(node);
      return;
    }
    Frame& frame = frames_.back();
    if (frame.node.kind == NodeKind::sequence) {
      frame.node.items.push_back(std::move(node));
      return;
    }
    if (!frame.key->key.empty()) {
      frame.key->value = std::move(node);
      frame.node.members.push_back(std::move(*frame.key));
    }
    frame.key.reset();
  }

  const Places& places_;
  Problems& problems_;
  std::vector<Frame> frames_;
};

/// Where a second document begins, or what follows the first.
class SecondDocument : public YAML::EventHandler {
 public:
  SecondDocument(const Places& places, Problems& problems) : places_(places), problems_(problems) {}
  void OnDocumentStart(const YAML::Mark& mark) override {
    if (places_.stands_at(mark, "---")) {
      problems_.add(places_.position(mark), "a second document", "one document a file");
    } else {
      problems_.add(places_.position(mark), "not valid YAML: text after the end of the document", "one map of keys");
    }
    throw GiveUp();  // nothing of it is wanted, and yaml-cpp may never come to its end
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  const Places& places_;
  Problems& problems_;
};

}  // namespace

Node read_yaml(std::string_view text, const std::string& file, Problems& problems) {
  if (text.size() > kMaxSweepBytes) {
    problems.add({file, 0, 0}, fmt::format("{} bytes", text.size()), fmt::format("at most {} bytes", kMaxSweepBytes));
    return {};
  }
  const auto clean = clean_text(text, file, problems);
  if (!clean) return {};
  const Places places(*clean, file);
  for (std::size_t i = 0, line = 1; i != clean->npos && i < clean->size(); ++line) {
    if ((*clean)[i] == '%') {
      problems.add({file, static_cast<int>(line), 1}, "a directive (%)", "no directives");
      return {};
    }
    i = clean->find('\n', i);
    if (i != clean->npos) ++i;
  }
  std::istringstream in(*clean);
  TreeBuilder builder(places, problems);
  try {
    YAML::Parser parser(in);
    if (!parser.HandleNextDocument(builder)) {
      problems.add({file, 1, 1}, "an empty file", "a sweep; see docs/sweep-file.md");
      return {};
    }
    SecondDocument second(places, problems);
    parser.HandleNextDocument(second);
    problems.take(builder.artefacts);
  } catch (const GiveUp&) {
  } catch (const YAML::Exception& e) {
    const bool open = e.msg.find("flow not found") != std::string::npos && builder.open_collection();
    const SourcePosition where = open ? *builder.open_collection() : places.position(e.mark);
    problems.add(where, open ? "a bracket that is never closed" : "not valid YAML: " + e.msg);
    return {};
  }
  return std::move(builder.root);
}

}  // namespace equisweep
