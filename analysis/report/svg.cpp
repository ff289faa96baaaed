#include "analysis/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

namespace equisweep {
namespace {

constexpr std::string_view kSvgSpace = " \t\r\n";

void skip(std::string_view& text, std::string_view what) {
  text.remove_prefix(std::min(text.find_first_not_of(what), text.size()));
}

/// Takes a coordinate in tenths from the front.
bool take_tenths(std::string_view& text, std::int64_t& tenths) {
  skip(text, " \t\r\n,");
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(std::abs(value) < 1e9)) return false;
  tenths = std::llround(10 * value);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

/// "12.3", "-.4", "5".
void add_tenths(std::string& out, std::int64_t tenths) {
  if (tenths < 0) out += '-';
  const std::int64_t size = std::abs(tenths);
  if (size >= 10 || size == 0) out += fmt::format("{}", size / 10);
  if (size % 10 != 0) out.append(1, '.').append(1, static_cast<char>('0' + size % 10));
}

class PathWriter {
 public:
  void move(std::int64_t x, std::int64_t y) { next_x_ = x, next_y_ = y, moves_ = true; }

  void line(std::int64_t x, std::int64_t y) {
    if (moves_) begin();
    const std::int64_t dx = x - x_, dy = y - y_;
    if (dx == 0 && dy == 0) return;
    x_ = x, y_ = y;
    if (dy == 0) return add('h', dx);
    if (dx == 0) return add('v', dy);
    add('l', dx);
    if (dy >= 0) out_ += ' ';
    add_tenths(out_, dy);
  }

  void close() {
    out_ += 'z', last_ = 'z';
    x_ = start_x_, y_ = start_y_;
  }
  std::string take() { return std::move(out_); }

 private:
  void begin() {
    const bool first = out_.empty();
    add(first ? 'M' : 'm', next_x_ - (first ? 0 : x_));
    const std::int64_t y = next_y_ - (first ? 0 : y_);
    if (y >= 0) out_ += ' ';
    add_tenths(out_, y);
    x_ = start_x_ = next_x_, y_ = start_y_ = next_y_, moves_ = false;
  }

  // A command is written once for all that follow it; a move never, for what follows it is a line.
  void add(char command, std::int64_t first) {
    if (command != last_ || command == 'm') {
      out_ += command;
    } else if (first >= 0) {
      out_ += ' ';
    }
    last_ = command;
    add_tenths(out_, first);
  }

  std::string out_;
  std::int64_t x_ = 0, y_ = 0, start_x_ = 0, start_y_ = 0, next_x_ = 0, next_y_ = 0;
  bool moves_ = false;
  char last_ = ' ';
};

std::string polygon_path(std::string_view points) {
  PathWriter path;
  bool first = true;
  for (skip(points, kSvgSpace); !points.empty(); skip(points, kSvgSpace)) {
    std::int64_t x = 0, y = 0;
    if (!take_tenths(points, x) || !take_tenths(points, y)) return "";
    first ? path.move(x, y) : path.line(x, y);
    first = false;
  }
  path.close();
  return path.take();
}

struct Attribute {
  std::string name, value;
};

struct Tag {
  std::string name;  // "g", "/g", "?xml"
  std::vector<Attribute> attributes;
  bool ends = false;  // "/>"
};

/// The tag at the front of `text`, which is taken away; nothing if it is none.
std::optional<Tag> take_tag(std::string_view& text) {
  text.remove_prefix(1);
  const std::size_t end_of_name = text.find_first_of(" \t\r\n>", text.starts_with('/') ? 1 : 0);
  if (end_of_name == std::string_view::npos) return std::nullopt;
  Tag tag{.name = std::string(text.substr(0, end_of_name)), .attributes = {}};
  if (tag.name.size() > 1 && tag.name.ends_with('/')) tag.name.pop_back(), tag.ends = true;
  text.remove_prefix(end_of_name);
  while (true) {
    skip(text, kSvgSpace);
    if (text.starts_with('>')) return text.remove_prefix(1), tag;
    if (text.starts_with('/') || text.starts_with('?')) {
      tag.ends = true;
      text.remove_prefix(1);
      continue;
    }
    const std::size_t end = text.find_first_of(" \t\r\n=>");
    if (end == std::string_view::npos || end == 0) return std::nullopt;
    Attribute attribute{.name = std::string(text.substr(0, end)), .value = {}};
    text.remove_prefix(end);
    skip(text, kSvgSpace);
    if (!text.starts_with('=')) return std::nullopt;
    text.remove_prefix(1);
    skip(text, kSvgSpace);
    if (!text.starts_with('"') && !text.starts_with('\'')) return std::nullopt;
    const std::size_t close = text.find(text.front(), 1);
    if (close == std::string_view::npos) return std::nullopt;
    attribute.value = text.substr(1, close - 1);
    text.remove_prefix(close + 1);
    tag.attributes.push_back(std::move(attribute));
  }
}

/// "#0072b2" for "rgb(  0, 114, 178)", currentColor for black.
std::string short_colour(const std::string& colour) {
  if (colour == "black") return "currentColor";
  if (!colour.starts_with("rgb(")) return colour;
  std::string_view rest = std::string_view(colour).substr(4);
  std::array<int, 3> parts = {};
  for (int& part : parts) {
    skip(rest, ", ");
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), part);
    if (error != std::errc() || part < 0 || part > 255) return colour;
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  }
  if (parts == std::array<int, 3>{}) return "currentColor";
  return fmt::format("#{:02x}{:02x}{:02x}", parts[0], parts[1], parts[2]);
}

/// What every element has without saying so, or what a page must not say.
bool is_idle(const Attribute& a) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 5> idle = {{{"stroke-linecap", "butt"},
                                                                                         {"stroke-linejoin", "miter"},
                                                                                         {"font-family", "sans-serif"},
                                                                                         {"color", "currentColor"},
                                                                                         {"color", "white"}}};
  return a.name == "xmlns:xlink" || (a.name == "id" && a.value.starts_with("gnuplot_")) ||
         std::any_of(idle.begin(), idle.end(), [&](const auto& i) { return i.first == a.name && i.second == a.value; });
}

void shorten(Tag& tag, std::string_view prefix, bool in_definitions) {
  for (Attribute& a : tag.attributes) {
    if (a.name == "xlink:href") a.name = "href";
    if (a.name == "id" && a.value.starts_with("gp")) a.value.replace(0, 2, fmt::format("{}-", prefix));
    if (const std::size_t at = a.value.find("#gp"); at != std::string::npos)
      a.value.replace(at, 3, fmt::format("#{}-", prefix));
    if (a.name == "fill" || a.name == "stroke" || a.name == "color") a.value = short_colour(a.value);
    if (a.name == "d" && !in_definitions) a.value = short_path(a.value);
    if (a.name == "points" && tag.name == "polygon") {
      const std::string path = polygon_path(a.value);
      if (path.empty()) continue;
      tag.name = "path";
      a = {.name = "d", .value = path};
    }
  }
  std::erase_if(tag.attributes, is_idle);
}

std::string written(const Tag& tag) {
  std::string out = "<" + tag.name;
  for (const Attribute& a : tag.attributes) {
    const char quote = a.value.find('"') == std::string::npos ? '"' : '\'';
    out.append(" ").append(a.name).append("=").append(1, quote).append(a.value).append(1, quote);
  }
  return out + (tag.ends ? "/>" : ">");
}

}  // namespace

std::string short_path(std::string_view path) {
  const std::string_view whole = path;
  PathWriter writer;
  char command = ' ';
  for (skip(path, kSvgSpace); !path.empty(); skip(path, kSvgSpace)) {
    if (path.front() == 'M' || path.front() == 'L') {
      command = path.front();
      path.remove_prefix(1);
    } else if (path.front() == 'Z' || path.front() == 'z') {
      writer.close();
      path.remove_prefix(1);
      continue;
    }
    std::int64_t x = 0, y = 0;
    if (command == ' ' || !take_tenths(path, x) || !take_tenths(path, y)) return std::string(whole);
    command == 'M' ? writer.move(x, y) : writer.line(x, y);
    command = 'L';  // pairs after that of an M are lines
  }
  return writer.take();
}

std::string short_svg(std::string_view svg, std::string_view prefix) {
  svg.remove_prefix(std::min(svg.find("<svg"), svg.size()));
  std::string out;
  struct OpenGroup {
    std::size_t start = 0, content = 0;  // positions in `out`: of its tag, and behind it
    bool kept = true;
  };
  std::vector<OpenGroup> groups;
  bool in_definitions = false;
  while (!svg.empty()) {
    if (svg.front() != '<') {
      const std::string_view text = svg.substr(0, svg.find('<'));
      if (text.find_first_not_of(kSvgSpace) != std::string_view::npos) out += text;
      svg.remove_prefix(text.size());
      continue;
    }
    if (svg.starts_with("<!--")) {
      svg.remove_prefix(std::min(svg.find("-->"), svg.size() - 3) + 3);
      continue;
    }
    const std::string_view from_here = svg;
    std::optional<Tag> tag = take_tag(svg);
    if (!tag) return out.append(from_here);
    if (tag->name == "title" || tag->name == "desc" || tag->name == "filter") {
      const std::string end = fmt::format("</{}>", tag->name);
      const std::size_t at = tag->ends ? 0 : svg.find(end);
      if (!tag->ends) svg.remove_prefix(at == std::string_view::npos ? svg.size() : at + end.size());
      continue;
    }
    if (tag->name == "defs" || tag->name == "/defs") in_definitions = tag->name == "defs";
    if (tag->name == "/g") {
      if (groups.empty()) continue;
      if (out.size() == groups.back().content) {
        out.resize(groups.back().start);
      } else if (groups.back().kept) {
        out += "</g>";
      }
      groups.pop_back();
      continue;
    }
    shorten(*tag, prefix, in_definitions);
    if (tag->name == "path" && std::any_of(tag->attributes.begin(), tag->attributes.end(),
                                           [](const Attribute& a) { return a.name == "d" && a.value.empty(); }))
      continue;
    const bool closing = tag->name.starts_with('/'), group = tag->name == "g" && !tag->ends;
    const std::size_t start = out.size();
    const bool kept = !group || !tag->attributes.empty();
    if (kept) {
      if (!out.empty() && !closing && tag->name != "text" && tag->name != "tspan") out += '\n';
      out += written(*tag);
    }
    if (group) groups.push_back({start, out.size(), kept});
  }
  return out + "\n";
}

}  // namespace equisweep
