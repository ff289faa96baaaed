#include "core/document.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace equisweep {
namespace test_document {

std::string repeated(const std::string& piece, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += piece;
  return out;
}

std::string arrays(int deep) { return repeated("[", deep) + repeated("]", deep); }
std::string objects(int deep) { return repeated(R"({"a":)", deep) + "1" + repeated("}", deep); }

TEST(Document, IsWhatTheTextSays) {
  EXPECT_EQ(document_of(R"({"a": [1, "b", null]})"), nlohmann::json({{"a", {1, "b", nullptr}}}));
  EXPECT_EQ(document_of("null"), nlohmann::json());
  EXPECT_EQ(object_of(R"({"a": 1})"), nlohmann::json({{"a", 1}}));
}

TEST(Document, IsNothingWhereTheTextIsNone) {
  for (const char* text : {"", "{", "{} {}", R"({"a": nan})", "\xff", "[1e999]"}) {
    EXPECT_FALSE(document_of(text)) << text;
    EXPECT_EQ(object_of(text), nlohmann::json::object()) << text;
  }
  for (const char* text : {"[1]", "1", "null", "\"a\""}) EXPECT_EQ(object_of(text), nlohmann::json::object()) << text;
}

TEST(Document, IsAtMost64Deep) {
  for (const auto& nested : {arrays, objects}) {
    ASSERT_TRUE(document_of(nested(64)));
    EXPECT_EQ(document_of(nested(64))->dump(), nested(64)) << "nothing is cut away";
    for (const int deep : {65, 66, 200'000}) EXPECT_FALSE(document_of(nested(deep))) << deep;
  }
  EXPECT_EQ(object_of(R"({"here":1,"deep":)" + arrays(200'000) + "}"), nlohmann::json::object());
}

}  // namespace test_document
}  // namespace equisweep
