#pragma once
// What a section of a report is made of, independent of the format it is written in. All text is plain: every writer escapes
// it for its own format.

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace equisweep {

enum class TextStyle { normal, lead, note, code };

struct Paragraph {
  std::string text = {};
  TextStyle style = TextStyle::normal;
};

struct List {
  std::vector<std::string> items = {};
};

/// What a CSV file holds of a value, at full precision.
using Datum = std::variant<std::monostate, std::int64_t, double, std::string>;

/// A value of a table: `shown` in documents, `value` at full precision in the CSV file.
struct Value {
  std::string shown = {};
  Datum value = {};
  bool strong = false;
  int key = -1;  ///< index of the stack whose colour stands before the text; -1: none
};

struct Column {
  std::string title = {};
  bool numeric = false;       ///< right-aligned
  std::string csv_name = {};  ///< header in the CSV file with the unit, e.g. "val_loss_nats"; empty: not in the CSV file
  bool hidden = false;        ///< only in the CSV file
  bool prose = false;         ///< sentences and lists, which may take several lines
};

struct Table {
  std::string id = {};  ///< stem of tables/<id>.csv
  std::string caption = {};
  std::vector<Column> columns = {};
  std::vector<std::vector<Value>> rows = {};  ///< the first shown column heads its row
  std::vector<std::string> notes = {};
};

/// Numbers drawn in one way. Points with y = +infinity (diverged) are drawn as triangles along the top of the plot.
struct Series {
  enum class Kind { line, faint, points, band, tiles };
  Kind kind = Kind::line;
  std::string label = {};  ///< direct label at the right end; empty: none
  int stack = -1;          ///< decides the colour; -1: neutral grey
  double strength = 1;     ///< opacity of a line
  double tile_width = 1, tile_height = 1;
  struct Point {
    double x = 0, y = 0, high = 0;  ///< a band spans y to high; a tile around (x, y) is as dark as `high` is large
  };
  std::vector<Point> points = {};
};

struct Plot {
  std::string title = {}, x_label = {}, y_label = {};
  bool log2_x = false, log_y = false;
  struct Tick {
    double at = 0;
    std::string label = {};
  };
  std::vector<Tick> y_ticks = {};  ///< in place of numbers
  std::vector<Series> series = {};
  struct Level {
    double y = 0;
    std::string label = {};
  };
  std::optional<Level> level = {};    ///< a dashed horizontal line
  std::optional<double> y_most = {};  ///< where the axis ends although lines lie above: they leave the plot there
};

/// The numbers behind a figure, as the lines of its CSV file: written at once, because there may be many.
struct Rows {
  std::vector<std::string> columns = {};  ///< headers with units
  std::string lines = {};
  std::size_t size = 0;
  void add(std::initializer_list<Datum> row);  ///< one value a column
};

struct Figure {
  std::string id = {};           ///< stem of figures/<id>.svg, .pdf and tables/<id>.csv
  std::string title = {};        ///< of the figure as a whole, also its accessible name
  std::string caption = {};      ///< says n, what the band is, and what the eye should see
  std::string alternative = {};  ///< what the figure shows, in words
  std::vector<Plot> plots = {};  ///< more than one: a grid of small plots
  std::size_t columns = 1;
  std::size_t row_height = 190;  ///< of a small plot, where its width is 250
  bool show_key = false;         ///< colours explained above the figure, where there are no direct labels
  bool same_ranges = false;      ///< the axes of all plots span the same
  Rows data = {};
  std::string data_of = {};  ///< id of an earlier figure that shows the same data; empty: `data` are its own
};

using Block = std::variant<Paragraph, List, Table, Figure>;

/// What a section hands over.
using Content = std::vector<Block>;

}  // namespace equisweep
