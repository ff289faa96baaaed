#pragma once
// A section of a report: reads the sweep's data, returns text, tables and figures.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/report/compare.h"
#include "analysis/report/content.h"
#include "analysis/report/data.h"

namespace equisweep {

struct SectionInput {
  const ReportData& data;
  const std::vector<StackResult>& results;  ///< compare(data)
};

struct Section {
  std::string_view id;  ///< anchor in index.html
  std::string_view title;
  Content (*make)(const SectionInput& input);
};

/// Every section, in the order of the report; the only place that lists them.
std::span<const Section> sections();

// One function a file in analysis/report/sections.
Content verdict_section(const SectionInput& input);
Content fairness_section(const SectionInput& input);
Content main_table_section(const SectionInput& input);
Content ablation_section(const SectionInput& input);
Content learning_rate_section(const SectionInput& input);
Content curves_section(const SectionInput& input);
Content time_to_target_section(const SectionInput& input);
Content cost_section(const SectionInput& input);
Content spectra_section(const SectionInput& input);
Content equivariance_section(const SectionInput& input);
Content routing_section(const SectionInput& input);
Content failures_section(const SectionInput& input);
Content all_runs_section(const SectionInput& input);
Content method_section(const SectionInput& input);

/// The verdict in words that can be quoted: what all comparisons came to, then a paragraph a model, then what holds for all
/// of them. A single comparison is a single paragraph.
std::vector<std::string> verdict_paragraphs(const SectionInput& input);

/// The same as one text, with an empty line between paragraphs.
std::string verdict_text(const SectionInput& input);

/// A sentence for each model on which the baseline has fewer trials (points of its grid) than another stack, and not because
/// grids grew by the rule of `tune.extend`.
std::vector<std::string> fewer_trials(const ReportData& data);

/// Part of the verdict: the difference of each stack from the baseline with its interval; nothing where there is none.
std::optional<Figure> differences_figure(const SectionInput& input);

// Shared by sections.
/// Matrices of the newest audits in the database (`equisweep audit --db sweep.db`); empty where there are none.
Content audit_tables(const ReportData& data);
/// An empty figure of small plots, three in a row, with its colours explained above.
Figure small_plots(std::string id, std::string title, std::string caption, std::vector<std::string> data_columns);

std::string learning_rates(const RunRecord& run);  ///< "default 0.003, matrix 0.02"
std::string point_name(const LrPoint& point);      ///< "lr_scale 0.5, embedding.lr 0.1"
bool has_plain_id(const RunRecord& run);           ///< 16 hexadecimal digits, as a command or a path may have it
std::string stack_label(const ReportData& data, std::size_t stack);  ///< its name, "(baseline)" added

}  // namespace equisweep
