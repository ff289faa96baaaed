// A report in a real browser: no complaint on its console, nothing wider than a phone, everything with a name for those who
// do not see it. Skipped where Chromium is not installed.
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "analysis/report/report.h"
#include "tests/analysis/report_tables.h"
#include "tests/support/process.h"

namespace equisweep {
namespace test_report_page {

namespace fs = std::filesystem;

/// The program in the folders of PATH; empty if there is none.
std::string find_browser() {
  if (const char* named = std::getenv("CHROMIUM"); named != nullptr) return named;
  const char* path = std::getenv("PATH");
  std::stringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    for (const char* name : {"chromium", "chromium-browser", "google-chrome"}) {
      const std::string file = folder + "/" + name;
      if (::access(file.c_str(), X_OK) == 0) return file;
    }
  }
  return "";
}

// The page itself runs no script, so a page around it looks into two frames: one as wide as a phone, one as a desk.
constexpr const char* kProbe = R"html(<!DOCTYPE html><meta charset="utf-8">
<iframe src="report/index.html" style="width:390px;height:800px;border:0"></iframe>
<iframe src="report/index.html" style="width:1280px;height:800px;border:0"></iframe>
<pre id="found"></pre>
<script>
onload = () => {
  const found = {objections: [], svg: 0, tables: 0, figures: 0};
  const object = (what, e) => found.objections.push(what + ": " + e.tagName + " " + (e.id || e.parentElement.id));
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, width = frame.clientWidth, name = e => (e ? e.textContent.trim() : "");
    if (page.documentElement.scrollWidth > width) object("wider than " + width, page.body);
    for (const e of page.querySelectorAll("body *"))
      if (e.getBoundingClientRect().right > width + 1 && !e.closest(".scroll, pre")) object("beyond " + width, e);
    for (const e of page.querySelectorAll("svg")) {
      if (e.getAttribute("aria-hidden") === "true") continue;
      ++found.svg;
      const ids = (e.getAttribute("aria-labelledby") || "").split(" ").filter(id => id);
      if (e.getAttribute("role") !== "img" || ids.length < 2 || !ids.every(id => name(page.getElementById(id))))
        object("no name or description", e);
    }
    for (const e of page.querySelectorAll("img")) if (!e.alt) object("no alternative", e);
    for (const e of page.querySelectorAll("table")) {
      ++found.tables;
      if (!name(e.caption)) object("no caption", e);
      for (const cell of e.querySelectorAll("th")) if (!cell.scope) object("no scope", e);
    }
    for (const e of page.querySelectorAll("figure.plot")) {
      ++found.figures;
      if (!name(e.querySelector("figcaption"))) object("no caption", e);
    }
    for (const e of page.querySelectorAll(".scroll, pre")) {
      if (e.scrollWidth > e.clientWidth && e.tabIndex < 0) object("scrolls, but not by keyboard", e);
      if (e.classList.contains("scroll") && !e.getAttribute("aria-labelledby")) object("a region without a name", e);
    }
    for (const e of page.querySelectorAll("a")) {
      if (!name(e)) object("a link without words", e);
      const target = e.getAttribute("href");
      if (target[0] === "#" && !page.getElementById(target.slice(1))) object("leads nowhere: " + target, e);
    }
    const ids = [...page.querySelectorAll("[id]")].map(e => e.id);
    for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) object("the same id twice", page.getElementById(id));
    if (!page.documentElement.lang || !page.title || page.querySelectorAll("h1").length !== 1) object("no title", page.body);
  }
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>
)html";

/// A sweep with something in every section.
constexpr const char* kEverything =
    "INSERT INTO equivariance (run, attempt, step, block, \"group\", claimed, verdict, error, floor, ratio, horizontality) "
    "SELECT run, 1, 10 * block, block, 'rows.permutation', 1, 'holds', 1e-7 * (1 + block), 1e-7, 1 + block, 0 FROM blocks;"
    "INSERT INTO router_stats (run, attempt, step, layer, load_cv, load_entropy, dead_fraction, z_loss, balance_loss, "
    "logit_norm) SELECT run, 1, step, 0, 0.1, 0.9, 0, 5, 1, step FROM evals WHERE step > 0;"
    "INSERT INTO expert_load SELECT run, 1, step, 0, step % 3, step FROM evals WHERE step > 0;"
    "UPDATE runs SET state = 'failed', message = 'a message as long as messages of failures are, and then some more of it' "
    "WHERE run = 2";

class ReportPage : public SweepFolder {
 protected:
  /// What the probe found, and what Chromium had to say.
  std::pair<nlohmann::json, std::string> look(const testing::FixtureSweep& sweep) {
    write_report(database(sweep, kEverything), folder_ / "report", {.formats = {ReportFormat::html}});
    testing::write_text(folder_ / "probe.html", kProbe);
    const auto result =
        testing::run_process({browser_, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
                              "--enable-logging=stderr", "--user-data-dir=" + (folder_ / "profile").string(), "--dump-dom",
                              "file://" + (folder_ / "probe.html").string()},
                             folder_.path());
    const std::string mark = "<pre id=\"found\">";
    const std::size_t begin = result.out.find(mark);
    const std::size_t end = result.out.find("</pre>", begin);
    if (begin == std::string::npos || end == std::string::npos) return {nlohmann::json(), result.err};
    return {nlohmann::json::parse(result.out.substr(begin + mark.size(), end - begin - mark.size()), nullptr, false),
            result.err};
  }

  std::string browser_ = find_browser();
};

TEST_F(ReportPage, FitsAPhoneNamesItsPicturesAndLeavesTheConsoleSilent) {
  if (browser_.empty()) GTEST_SKIP() << "Chromium is not installed";
  const auto [found, log] = look(testing::realistic_sweep(2));
  ASSERT_TRUE(found.is_object()) << log;
  EXPECT_EQ(found["objections"], nlohmann::json::array());
  EXPECT_GE(found["svg"], 2 * 8) << "the probe looked at the page";
  EXPECT_GE(found["tables"], 2 * 10);
  EXPECT_EQ(found["svg"], found["figures"]);
  EXPECT_THAT(log, ::testing::Not(::testing::HasSubstr("CONSOLE")));
}

TEST_F(ReportPage, LongNamesDoNotPushItWider) {
  if (browser_.empty()) GTEST_SKIP() << "Chromium is not installed";
  testing::FixtureSweep sweep = testing::realistic_sweep(1);
  sweep.meta["name"] = std::string(200, 'n');
  sweep.meta["notes"] = std::string(110, 'w');
  for (testing::FixtureRun& run : sweep.runs) run.model = std::string(90, 'm'), run.stack += std::string(90, 's');
  const auto [found, log] = look(sweep);
  ASSERT_TRUE(found.is_object()) << log;
  EXPECT_EQ(found["objections"], nlohmann::json::array());
}

}  // namespace test_report_page
}  // namespace equisweep
