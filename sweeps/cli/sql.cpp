#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "analysis/report/escape.h"
#include "sweeps/cli/command.h"
#include "sweeps/cli/text_table.h"
#include "sweeps/query.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct SqlOptions {
  std::string sweep, statement, format;
  std::filesystem::path results;
};

std::string plain(const QueryValue& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&value)) return fmt::format("{}", *real);
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return "";
}

nlohmann::json json_value(const QueryValue& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  if (const auto* real = std::get_if<double>(&value)) {
    if (std::isfinite(*real)) return *real;
    return fmt::format("{}", *real);  // JSON has no infinity
  }
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return nullptr;
}

void print_csv(const QueryResult& result) {
  const auto line = [](const auto& cells, const auto& text) {
    std::string out;
    for (const auto& cell : cells) out.append(out.empty() && &cell == &cells.front() ? "" : ",").append(text(cell));
    fmt::print("{}\n", out);
  };
  line(result.columns, [](const std::string& name) { return csv_text(name); });
  for (const auto& row : result.rows)
    line(row, [](const QueryValue& v) { return std::holds_alternative<std::string>(v) ? csv_text(plain(v)) : plain(v); });
}

ExitCode run_sql(const SqlOptions& options) {
  std::string statement = options.statement;
  if (statement == "-") statement.assign(std::istreambuf_iterator<char>(std::cin), {});
  const QueryResult result = query(find_sweep(options.results, options.sweep) / "sweep.db", statement);
  if (options.format == "csv") {
    print_csv(result);
  } else if (options.format == "json") {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const auto& row : result.rows) {
      nlohmann::ordered_json object;
      for (std::size_t c = 0; c < row.size(); ++c) object[result.columns[c]] = json_value(row[c]);
      rows.push_back(object);
    }
    fmt::print("{}\n", rows.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& row : result.rows) {
      auto& cells = rows.emplace_back();
      for (const QueryValue& value : row) cells.push_back(plain(value));
    }
    fmt::print("{}", text_table(result.columns, rows));
  }
  return ExitCode::ok;
}

}  // namespace

void add_sql(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "sql",
      "Asks the database of a sweep; docs/database.md has its tables and examples. Nothing can be "
      "changed by asking.\n\n"
      "  equisweep sql demo \"SELECT stack, lr_scale, avg(val_loss) FROM final_losses GROUP BY 1, 2\"\n"
      "  equisweep sql demo --format csv - < question.sql > answer.csv\n");
  auto options = std::make_shared<SqlOptions>();
  add_sweep_argument(*command, options->sweep);
  command->add_option("statement", options->statement, "one SELECT; - reads it from stdin")->required();
  command->add_option("--format", options->format, "table, csv or json")
      ->check(CLI::IsMember({"table", "csv", "json"}))
      ->default_val("table");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return run_sql(*options); }; });
}

}  // namespace equisweep
