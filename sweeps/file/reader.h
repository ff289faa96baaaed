#pragma once
// Text of a sweep file -> a tree of values that know where they stand.
//
// A strict subset of YAML 1.2: one document of maps, lists and scalars. Refused, each with its place: aliases, anchors,
// merge keys, tags, directives, a second document, duplicate keys, empty values and null, tabs, control characters, invalid
// UTF-8, plain values over several lines, and every plain value that YAML readers disagree about (yes, on, 010, 0x10, 1_000,
// .5, +1, .nan, True). A number has JSON's grammar: 10, 0.5, 1e-3. Text that looks like one of these needs quotes.

#include <cstddef>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace equisweep {

inline constexpr std::size_t kMaxSweepBytes = std::size_t{1} << 20;
inline constexpr int kMaxSweepDepth = 64;

/// Problems of one input, in the order of the file; the same one is kept once, and past the limit they are only counted.
class Problems {
 public:
  static constexpr std::size_t kLimit = 100;

  void add(SourcePosition where, std::string what, std::string allowed = "", std::string nearest = "");
  void take(const Problems& other);
  bool empty() const { return list_.empty(); }
  bool full() const { return list_.size() >= kLimit; }
  /// Throws UsageError with every problem, sorted by place, if there is one.
  void throw_if_any() const;

 private:
  std::vector<Problem> list_;
  std::size_t dropped_ = 0;
};

enum class NodeKind {
  text,     ///< quoted, or plain and neither number nor boolean
  number,   ///< plain, JSON's grammar, within the range of a double
  boolean,  ///< plain true or false
  sequence,
  map,
  broken,  ///< a problem has been reported; say nothing more about it
};

struct Member;

struct Node {
  NodeKind kind = NodeKind::broken;
  std::string scalar;  ///< text, number and boolean: as written, without quotes
  std::vector<Node> items;
  std::vector<Member> members;  ///< keys are unique
  SourcePosition where;

  const Member* find(std::string_view key) const;
};

struct Member {
  std::string key;
  SourcePosition where;  ///< of the key
  Node value;
};

/// The tree of `text`, adding every problem; `file` names it in positions. Time and memory are bounded by kMaxSweepBytes
/// and kMaxSweepDepth. CRLF counts as one line end; a leading BOM is skipped; columns count characters from 1.
Node read_yaml(std::string_view text, const std::string& file, Problems& problems);

/// The bytes of a sweep file; throws UsageError if it cannot be read or has more than kMaxSweepBytes.
std::string read_text(const std::filesystem::path& file);

/// Replaces the value at `path` ("a.b.c", maps are made where they are missing) by the YAML value `value`. Everything that
/// it brings in stands at the position `--set a.b.c`.
void set_value(Node& root, std::string_view path, std::string_view value, Problems& problems);

/// A scalar as JSON: text, boolean, an integer where the number is integral and below 2^53, else a double.
nlohmann::json scalar_to_json(const Node& node);

/// The node in words, cut to a readable length: 'abc', 12, a list, a map.
std::string describe(const Node& node);

}  // namespace equisweep
