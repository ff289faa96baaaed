// The example of docs/audit.md is the file that this program compiles and runs.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace test_audit_docs {

std::string read(const std::string& path) {
  std::ifstream file(std::string(EQUISWEEP_SOURCE_DIR) + "/" + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(AuditDocs, TheExampleIsTheOneThatIsTested) {
  const std::string example = read("tests/analysis/audit_example.cpp");
  ASSERT_FALSE(example.empty());
  EXPECT_NE(read("docs/audit.md").find("```cpp\n" + example + "```"), std::string::npos);
}

}  // namespace test_audit_docs
