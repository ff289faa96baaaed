#include "sweeps/file/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

namespace equisweep {

void Problems::add(SourcePosition where, std::string what, std::string allowed, std::string nearest) {
  if (full()) {
    ++dropped_;
    return;
  }
  const auto same = [&](const Problem& p) {
    return p.what == what && p.where.line == where.line && p.where.column == where.column && p.where.file == where.file;
  };
  if (std::none_of(list_.begin(), list_.end(), same))
    list_.emplace_back(std::move(where), std::move(what), std::move(allowed), std::move(nearest));
}

void Problems::take(const Problems& other) {
  for (const Problem& p : other.list_) add(p.where, p.what, p.allowed, p.nearest);
  dropped_ += other.dropped_;
}

void Problems::throw_if_any() const {
  if (list_.empty()) return;
  std::vector<Problem> sorted = list_;
  const auto place = [](const Problem& p) { return std::tie(p.where.file, p.where.line, p.where.column); };
  std::stable_sort(sorted.begin(), sorted.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
  if (dropped_ > 0)
    sorted.push_back({{list_.front().where.file, 0, 0}, fmt::format("and {} more problems", dropped_), "", ""});
  throw UsageError(std::move(sorted));
}

const Member* Node::find(std::string_view key) const {
  const auto it = std::find_if(members.begin(), members.end(), [&](const Member& m) { return m.key == key; });
  return it == members.end() ? nullptr : &*it;
}

namespace {

void relocate(Node& node, const std::string& name) {
  node.where = {name, 0, 0};
  for (Node& item : node.items) relocate(item, name);
  for (Member& member : node.members) {
    member.where = {name, 0, 0};
    relocate(member.value, name);
  }
}

}  // namespace

std::string read_text(const std::filesystem::path& file) {
  const auto refuse = [&](const std::string& what, std::string allowed = "") {
    return UsageError(std::vector<Problem>{{{file.string(), 0, 0}, what, std::move(allowed), ""}});
  };
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) throw refuse("is a folder", "a sweep file");
  std::ifstream in(file, std::ios::binary);
  if (!in) throw refuse("cannot be read", "a sweep file; see sweeps/examples");
  std::string text(kMaxSweepBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) throw refuse("cannot be read", "a sweep file; see sweeps/examples");
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxSweepBytes)
    throw refuse("is too large for a sweep file", fmt::format("at most {} bytes", kMaxSweepBytes));
  return text;
}

void set_value(Node& root, std::string_view path, std::string_view value, Problems& problems) {
  const std::string name = fmt::format("--set {}", printable(path, 80));
  const SourcePosition where{name, 0, 0};
  Problems own;
  Node parsed = read_yaml(value, name, own);
  if (!own.empty()) {
    try {
      own.throw_if_any();
    } catch (const UsageError& e) {
      for (const Problem& p : e.problems()) problems.add(where, p.what, p.allowed, p.nearest);
    }
    return;
  }
  relocate(parsed, name);
  Node* node = &root;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const std::string key(path.substr(begin, end - begin));
    if (key.empty()) return problems.add(where, "a path with an empty name", "names joined by points, e.g. train.steps=100");
    if (node->kind != NodeKind::map)
      return problems.add(where, fmt::format("'{}' is no map", printable(path.substr(0, begin ? begin - 1 : 0), 60)),
                          "the path of a key, e.g. train.steps=100");
    auto it = std::find_if(node->members.begin(), node->members.end(), [&](const Member& m) { return m.key == key; });
    if (it == node->members.end()) {
      Member fresh{key, where, {}};
      fresh.value.kind = NodeKind::map;
      fresh.value.where = where;
      node->members.push_back(std::move(fresh));
      it = node->members.end() - 1;
    }
    node = &it->value;
    begin = end + 1;
  }
  *node = std::move(parsed);
}

nlohmann::json scalar_to_json(const Node& node) {
  if (node.kind == NodeKind::text) return node.scalar;
  if (node.kind == NodeKind::boolean) return node.scalar == "true";
  const char* end = node.scalar.data() + node.scalar.size();
  std::int64_t integer = 0;
  if (const auto [rest, ec] = std::from_chars(node.scalar.data(), end, integer); ec == std::errc() && rest == end)
    return integer;
  double value = 0;
  std::from_chars(node.scalar.data(), end, value);
  if (value == std::floor(value) && std::fabs(value) <= 9007199254740992.0) return static_cast<std::int64_t>(value);
  return value;
}

std::string describe(const Node& node) {
  switch (node.kind) {
    case NodeKind::text:
      return fmt::format("'{}'", printable(node.scalar, 60));
    case NodeKind::number:
    case NodeKind::boolean:
      return printable(node.scalar, 60);
    case NodeKind::sequence:
      return "a list";
    case NodeKind::map:
      return "a map";
    case NodeKind::broken:
      break;
  }
  return "nothing";
}

}  // namespace equisweep
