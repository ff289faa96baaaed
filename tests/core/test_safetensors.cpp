#include "core/safetensors.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "core/error.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_safetensors {

using ::testing::ElementsAre;

class Safetensors : public ::testing::Test {
 protected:
  std::filesystem::path path() const { return folder_ / "f.safetensors"; }
  std::string bytes() const {
    std::ifstream file(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  TempFolder folder_;
};

at::Tensor bits(const at::Tensor& t) { return t.contiguous().reshape({-1}).view(at::kByte); }

TEST_F(Safetensors, EveryDtypeComesBackBitwise) {
  std::vector<NamedTensor> tensors;
  for (const auto dtype : {at::kChar, at::kByte, at::kFloat8_e4m3fn, at::kFloat8_e5m2, at::kShort, at::kUInt16, at::kHalf,
                           at::kBFloat16, at::kInt, at::kUInt32, at::kFloat, at::kLong, at::kUInt64, at::kDouble}) {
    const auto raw = at::randint(0, 256, {2 * 3 * 8}, at::kByte);  // every bit pattern, NaNs too
    tensors.emplace_back(at::toString(dtype), raw.view(dtype).slice(0, 0, 6).reshape({2, 3}));
  }
  tensors.emplace_back("bool", at::tensor({1, 0, 1}, at::kByte).to(at::kBool));
  write_safetensors(path(), tensors);
  const SafetensorsFile file(path());
  EXPECT_EQ(file.names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const auto read = file.tensor(name);
    EXPECT_EQ(read.scalar_type(), tensor.scalar_type());
    EXPECT_EQ(read.sizes(), tensor.sizes());
    EXPECT_TRUE(at::equal(bits(read), bits(tensor))) << name;
    EXPECT_EQ(file.dtype(name), tensor.scalar_type());
    EXPECT_EQ(file.shape(name), tensor.sizes().vec());
  }
}

TEST_F(Safetensors, TheBytesAreThoseOfTheFormat) {
  write_safetensors(path(), std::vector<NamedTensor>{{"b", at::tensor({1.0F, -2.0F})}, {"a", at::tensor({258}, at::kShort)}},
                    {{"k", "v"}});
  const std::string header =
      R"({"__metadata__":{"k":"v"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"I16","shape":[1],"data_offsets":[8,10]}})";
  const std::size_t padded = (header.size() + 7) / 8 * 8;
  using namespace std::string_literals;
  EXPECT_EQ(bytes(), std::string(1, static_cast<char>(padded)) + std::string(7, '\0') + header +
                         std::string(padded - header.size(), ' ') + "\x00\x00\x80\x3f\x00\x00\x00\xc0\x02\x01"s);
}

TEST_F(Safetensors, WiderDtypesComeFirstAndTheOrderStaysOtherwise) {
  const auto f = at::zeros({3}, at::kFloat), d = at::zeros({1}, at::kDouble), b = at::zeros({1}, at::kByte);
  write_safetensors(path(), std::vector<NamedTensor>{{"z", b}, {"y", f}, {"x", d}, {"w", f}});
  EXPECT_THAT(SafetensorsFile(path()).names(), ElementsAre("x", "y", "w", "z"));
}

TEST_F(Safetensors, StridedTensorsAndTensorsWithGradients) {
  const auto base = at::arange(12, at::kDouble).reshape({3, 4});
  const auto leaf = at::ones({2}).requires_grad_();
  write_safetensors(path(), std::vector<NamedTensor>{{"t", base.t()}, {"s", base.slice(1, 1, 3)}, {"g", leaf}});
  const SafetensorsFile file(path());
  EXPECT_TRUE(at::equal(file.tensor("t"), base.t()));
  EXPECT_TRUE(at::equal(file.tensor("s"), base.slice(1, 1, 3)));
  EXPECT_FALSE(file.tensor("g").requires_grad());
}

TEST_F(Safetensors, EmptyThings) {
  write_safetensors(path(), {});
  EXPECT_TRUE(SafetensorsFile(path()).names().empty());
  write_safetensors(path(),
                    std::vector<NamedTensor>{{"none", at::empty({3, 0})}, {"scalar", at::tensor(2.5)}, {"", at::ones({1})}});
  const SafetensorsFile file(path());
  EXPECT_EQ(file.tensor("none").sizes().vec(), (std::vector<std::int64_t>{3, 0}));
  EXPECT_EQ(file.tensor("scalar").item<double>(), 2.5);
  EXPECT_EQ(file.tensor("").item<double>(), 1);
}

TEST_F(Safetensors, TextsComeBack) {
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"quote \" and \n", "ü 😀"}};
  write_safetensors(path(), std::vector<NamedTensor>{{"wé\"ight", at::ones({1})}}, metadata);
  const SafetensorsFile file(path());
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_TRUE(file.has("wé\"ight"));
}

TEST_F(Safetensors, AMissingTensorIsNamedWithItsNearest) {
  write_safetensors(path(), std::vector<NamedTensor>{{"model.norm.weight", at::ones({1})}});
  const SafetensorsFile file(path());
  EXPECT_FALSE(file.has("model.norm.weigth"));
  try {
    file.tensor("model.norm.weigth");
    FAIL() << "found";
  } catch (const DataError& error) {
    EXPECT_EQ(error.what(),
              path().string() + ": has no tensor 'model.norm.weigth' among its 1; did you mean 'model.norm.weight'?");
  }
  EXPECT_THROW(file.shape("x"), DataError);
  EXPECT_THROW(file.dtype("x"), DataError);
}

TEST_F(Safetensors, AMovedFileStaysReadable) {
  write_safetensors(path(), std::vector<NamedTensor>{{"a", at::ones({2})}});
  SafetensorsFile file(path());
  const SafetensorsFile moved(std::move(file));
  EXPECT_TRUE(at::equal(moved.tensor("a"), at::ones({2})));
}

TEST_F(Safetensors, EqualNamesAndForeignDtypesAreProgrammerErrors) {
  const auto one = at::ones({1});
  EXPECT_THROW(write_safetensors(path(), std::vector<NamedTensor>{{"a", one}, {"a", one}}), c10::Error);
  EXPECT_THROW(write_safetensors(path(), std::vector<NamedTensor>{{"__metadata__", one}}), c10::Error);
  EXPECT_THROW(write_safetensors(path(), std::vector<NamedTensor>{{"a", one.to(at::kComplexDouble)}}), c10::Error);
  EXPECT_FALSE(std::filesystem::exists(path()));
}

// Written by another program; the numbers are those that the format's Python library reads.
TEST(SafetensorsGolden, ARecordingReadsAsItsSidecarSays) {
  const SafetensorsFile file(std::string(EQUISWEEP_SOURCE_DIR) +
                             "/tests/golden/optim/pure/muon_split__gptoss_gate_up_2x3x14_gaussian.safetensors");
  EXPECT_THAT(file.names(), ::testing::UnorderedElementsAre("W0", "G1", "G2", "G3", "G4", "G5", "W1", "W2", "W3", "W4", "W5",
                                                            "state.momentum"));
  for (const auto& name : file.names()) {
    EXPECT_THAT(file.shape(name), ElementsAre(2, 3, 14)) << name;
    EXPECT_EQ(file.dtype(name), name == "W0" || name[0] == 'G' ? at::kFloat : at::kDouble) << name;
  }
  EXPECT_EQ(file.tensor("W0")[0][0][0].item<double>(), 0x1.a5631ep-10);
  EXPECT_EQ(file.tensor("W5")[1][2][13].item<double>(), 0x1.ffa696ea4cd26p-3);
}

}  // namespace test_safetensors
}  // namespace equisweep
