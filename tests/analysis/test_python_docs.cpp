// The examples of docs/python.md run on a made-up sweep: with pandas where python3 has it, else their questions alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/process.h"
#include "tests/support/sweep_fixture.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_python_docs {

using ::testing::HasSubstr;

testing::ProcessResult run_examples(const std::filesystem::path& page, const std::filesystem::path& sweep_db) {
  const std::string script = std::string(EQUISWEEP_SOURCE_DIR) + "/scripts/check_python_docs.py";
  return testing::run_process({"/usr/bin/env", "python3", script, page.string(), sweep_db.string()}, sweep_db.parent_path());
}

TEST(PythonDocs, TheExamplesRun) {
  const TempFolder folder;
  testing::write_sweep(folder / "sweep.db", testing::realistic_sweep(2));
  testing::change_sweep(folder / "sweep.db",
                        "INSERT INTO steps (run, attempt, step, tokens, seconds, loss, step_seconds, optimizer_seconds) "
                        "SELECT run, 1, 1, 100, 0.1, 5.0, 0.1, 0.02 FROM runs");
  const auto result = run_examples(std::string(EQUISWEEP_SOURCE_DIR) + "/docs/python.md", folder / "sweep.db");
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out, ::testing::AnyOf(HasSubstr("examples run"), HasSubstr("6 questions answered")));
}

TEST(PythonDocs, AWrongExampleIsFound) {
  const TempFolder folder;
  testing::write_sweep(folder / "sweep.db", testing::realistic_sweep(1));
  for (const std::string question : {"SELECT * FROM no_such_view", "SELECT * FROM final_losses WHERE run < 0"}) {
    testing::write_text(folder / "page.md",
                        "```python\nimport sqlite3, pandas as pd\ndb = sqlite3.connect('results/demo/sweep.db')\n"
                        "runs = pd.read_sql(\"" +
                            question + "\", db)\n```\n");
    EXPECT_NE(run_examples(folder / "page.md", folder / "sweep.db").exit_code, 0) << question;
  }
}

}  // namespace test_python_docs
}  // namespace equisweep
