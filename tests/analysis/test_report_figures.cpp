// Figures for papers: their size in print, their resolution, fonts that come with the file.
#include <gmock/gmock.h>
#include <zlib.h>

#include <charconv>

#include "analysis/report/figure.h"
#include "analysis/report/report.h"
#include "tests/analysis/report_tables.h"
#include "tests/support/process.h"

namespace equisweep {
namespace test_report_figures {

class ReportFigures : public ::testing::Test {
 protected:
  // One report for all: drawing takes longest.
  static void SetUpTestSuite() {
    shared = std::make_unique<TempFolder>();
    testing::write_sweep(*shared / "sweep.db", testing::realistic_sweep(1));
    write_report(*shared / "sweep.db", *shared / "report", {.gnuplots = 3});
  }
  static void TearDownTestSuite() { shared.reset(); }
  std::string file(const std::string& name) { return testing::read_text(folder_ / "report/figures/" / name); }

  static inline std::unique_ptr<TempFolder> shared;
  const TempFolder& folder_ = *shared;
};

std::uint32_t number(const std::string& bytes, std::size_t at) {
  std::uint32_t x = 0;
  for (std::size_t i = 0; i < 4; ++i) x = x << 8 | static_cast<unsigned char>(bytes.at(at + i));
  return x;
}

/// The data of each chunk by type; the checksum of every chunk is compared.
std::map<std::string, std::string> chunks_of(const std::string& png) {
  std::map<std::string, std::string> chunks;
  EXPECT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1a\n");
  for (std::size_t at = 8; at < png.size();) {
    const std::size_t length = number(png, at);
    const std::string type_and_data = png.substr(at + 4, 4 + length);
    const auto crc = crc32(0, reinterpret_cast<const Bytef*>(type_and_data.data()), static_cast<uInt>(type_and_data.size()));
    EXPECT_EQ(number(png, at + 8 + length), crc) << type_and_data.substr(0, 4);
    chunks[type_and_data.substr(0, 4)] += type_and_data.substr(4);
    at += 12 + length;
  }
  return chunks;
}

std::pair<double, double> y_range(const Content& content) {
  const std::string script = gnuplot_script(std::get<Figure>(content.front()), std::nullopt, ".");
  const std::string head = "set yrange [";
  const std::size_t at = script.find(head) + head.size(), colon = script.find(':', at), end = script.find(']', at);
  std::pair<double, double> range = {kNan, kNan};
  std::from_chars(script.data() + at, script.data() + colon, range.first);
  std::from_chars(script.data() + colon + 1, script.data() + end, range.second);
  return range;
}

class LossFigure : public SweepFolder {};

// From 6 down to 5.5 at step 5 and 4 at step 10, 5% of 200; then in even steps to 3.
TEST_F(LossFigure, EndsAtTheHighestLossAfterTheFirstTwentieth) {
  testing::FixtureRun run{.evals = {{0, 6}, {5, 5.5}}};
  for (int step = 10; step <= 200; step += 19) run.evals.emplace_back(step, 4 - (step - 10) / 190.0);
  const auto content = [&] { return content_of(curves_section, database({.corpus = "{}", .runs = {run}})); };
  EXPECT_NEAR(y_range(content()).first, 2.95, 1e-9);
  EXPECT_NEAR(y_range(content()).second, 4.05, 1e-9) << "a twentieth more than what is shown";
  const std::string cut = "What the first 5% of the axis has above all that follows is cut off.";
  EXPECT_NE(std::get<Figure>(content().front()).caption.find(cut), std::string::npos);
  EXPECT_NE(std::get<Figure>(content().front()).data.lines.find(",6"), std::string::npos) << "the data have all";

  run.evals[4].second = 7;  // a spike later on is shown
  EXPECT_NEAR(y_range(content()).second, 7 + 0.05 * 4, 1e-9);
  EXPECT_EQ(std::get<Figure>(content().front()).caption.find(cut), std::string::npos);

  run.evals = {{0, 6}, {100, 4}, {200, 3}};  // what is left would be hardly anything
  EXPECT_NEAR(y_range(content()).second, 6 + 0.05 * 3, 1e-9);
}

// 8.4 cm at 300 dots per inch are 992 dots, 17.4 cm are 2055; 300 per inch are 11811 per metre.
TEST_F(ReportFigures, PngFilesHave300DotsPerInchAtTheWidthOfAColumnOrOfTheText) {
  for (const auto& [name, width] : {std::pair("lr-qwen3-nano.png", 992U), std::pair("spectra-qwen3-nano.png", 2055U)}) {
    const auto chunks = chunks_of(file(name));
    EXPECT_EQ(number(chunks.at("IHDR"), 0), width) << name;
    EXPECT_EQ(number(chunks.at("pHYs"), 0), 11811U);
    EXPECT_EQ(number(chunks.at("pHYs"), 4), 11811U);
    EXPECT_EQ(chunks.at("pHYs").at(8), 1) << "per metre";
    EXPECT_TRUE(chunks.contains("IDAT") && chunks.contains("IEND"));
  }
}

TEST_F(ReportFigures, PdfFilesAreAsWideAsAColumnOrTheTextAndBringTheirFonts) {
  for (const auto& [name, centimetres] : {std::pair("lr-qwen3-nano.pdf", 8.4), std::pair("spectra-qwen3-nano.pdf", 17.4)}) {
    const std::string pdf = file(name);
    const std::size_t box = pdf.find("/MediaBox");
    ASSERT_NE(box, std::string::npos);
    std::istringstream numbers(pdf.substr(pdf.find('[', box) + 1, 60));
    numbers.imbue(std::locale::classic());
    double left = 0, bottom = 0, right = 0;
    numbers >> left >> bottom >> right;
    EXPECT_NEAR((right - left) / 72 * 2.54, centimetres, 0.02) << name;
    const auto count = [&](const std::string& key) {
      std::size_t n = 0;
      for (std::size_t at = 0; (at = pdf.find(key, at)) != std::string::npos; at += key.size()) ++n;
      return n;
    };
    EXPECT_GT(count("/FontDescriptor "), 0U) << name << ": a reference of each font to its description";
    EXPECT_EQ(count("/Type /FontDescriptor"), count("/FontFile")) << name << ": each description brings its font";
  }
}

TEST_F(ReportFigures, EveryFigureOfThePageIsThereInEachFormatWithItsData) {
  const std::string page = testing::read_text(folder_ / "report/index.html");
  std::size_t figures = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "report/figures")) {
    if (entry.path().extension() != ".svg") continue;
    ++figures;
    const std::string id = entry.path().stem();
    for (const std::string kind : {"pdf", "png", "svg"}) {
      EXPECT_TRUE(std::filesystem::exists(folder_ / "report/figures" / (id + "." + kind))) << id << kind;
      EXPECT_THAT(page, ::testing::HasSubstr("href=\"figures/" + id + "." + kind + "\""));
    }
    // The link before those to the figure itself; figures of the same data share it.
    const std::size_t data = page.rfind("href=\"tables/", page.find("href=\"figures/" + id + ".svg")) + 6;
    const std::string table = page.substr(data, page.find('"', data) - data);
    EXPECT_TRUE(std::filesystem::exists(folder_ / "report" / table)) << id << " has its data in " << table;
    EXPECT_EQ(table, id.starts_with("curves-") ? "tables/curves-steps-qwen3-nano.csv" : "tables/" + id + ".csv");
  }
  EXPECT_GE(figures, 8U);
}

TEST_F(ReportFigures, OneGnuplotDrawsTheSameBytesAsThree) {
  write_report(folder_ / "sweep.db", folder_ / "alone", {.gnuplots = 1});
  const std::string manifest = testing::read_text(folder_ / "report/manifest.json");
  EXPECT_THAT(manifest, ::testing::HasSubstr("figures/lr-qwen3-nano.png"));
  EXPECT_EQ(testing::read_text(folder_ / "alone/manifest.json"), manifest) << "checksums of all files";
}

TEST_F(ReportFigures, ThePageHoldsShortSvg) {
  const std::string svg = file("spectra-map-qwen3-nano.svg");
  EXPECT_THAT(svg, ::testing::Not(::testing::HasSubstr("polygon")));
  EXPECT_THAT(svg, ::testing::Not(::testing::HasSubstr("rgb(")));
  EXPECT_THAT(svg, ::testing::Not(::testing::ContainsRegex("<g[^>]*>\\s*</g>")));
}

TEST(Figures, AResolutionIsNoPartOfWhatIsNoPng) { EXPECT_EQ(with_resolution("no picture", 300), "no picture"); }

}  // namespace test_report_figures
}  // namespace equisweep
