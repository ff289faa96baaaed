// All steps of a quintic by kernels of our own, against the same steps in ATen's operations: bf16 on tile registers and
// fp32 on vectors, where the machine has them; elsewhere bf16 is ATen's on both sides, fp32 the BLAS'.

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/kernels.h"
#include "optimizers/polar/polar.h"
#include "support.h"

namespace equisweep {
namespace test_polar_tiles {

using namespace testing;
using nlohmann::json;

at::Tensor factor(const at::Tensor& x, const std::string& precision, Kernels form, json given = json::object()) {
  const Kernels before = kernels();
  set_kernels(form);
  given["precision"] = precision;
  const at::Tensor u = make_polar(complete_polar(complete(polar_field().fields, given, "polar")))->factor(x);
  set_kernels(before);
  return u;
}

/// Batches of matrices: blocks of 32 x 32 once and often, square, wide, tall, one piece and several, none a multiple of 32,
/// a single row.
const std::vector<std::vector<std::int64_t>> kShapes = {
    {3, 32, 32},    {2, 32, 96},   {2, 96, 32},    {3, 64, 64}, {2, 128, 384}, {2, 384, 128}, {1, 64, 1600}, {1, 1600, 64},
    {1, 4096, 128}, {2, 128, 128}, {2, 3, 32, 64}, {2, 7, 12},  {2, 33, 65},   {2, 70, 31},   {1, 1, 40},    {1, 544, 576}};

TEST(PolarTiles, AreAsAccurateAsAtensOperations) {
  for (const auto& shape : kShapes)
    for (const char* method : {"polar_express", "newton_schulz"}) {
      SCOPED_TRACE(::testing::Message() << at::IntArrayRef(shape) << ' ' << method);
      const at::Tensor x = gaussian(shape, 3, at::kFloat);
      const json given = {{"method", method}};
      const at::Tensor exact = factor(x.to(at::kDouble), "fp64", Kernels::reference, given);
      const double ours = relative_error(factor(x, "bf16", Kernels::fused, given), exact);
      const double atens = relative_error(factor(x, "bf16", Kernels::reference, given), exact);
      EXPECT_LT(ours, 1.25 * atens + 1e-3);  // both round at the same places, not in the same order
      EXPECT_LT(ours, 0.2);
    }
}

TEST(PolarTiles, AreExactInSinglePrecisionUpToRounding) {
  for (const auto& shape : kShapes)
    for (const char* method : {"polar_express", "newton_schulz", "gram"}) {
      SCOPED_TRACE(::testing::Message() << at::IntArrayRef(shape) << ' ' << method);
      const at::Tensor x = gaussian(shape, 3, at::kFloat);
      const json given = {{"method", method}};
      const at::Tensor exact = factor(x.to(at::kDouble), "fp64", Kernels::reference, given);
      const double ours = relative_error(factor(x, "fp32", Kernels::fused, given), exact);
      const double atens = relative_error(factor(x, "fp32", Kernels::reference, given), exact);
      // The BLAS in these places comes to 6 times ATen's: a Gram matrix squares the condition, and half of each product is
      // taken from the other half.
      EXPECT_LT(ours, 10 * atens + 1e-6);
      EXPECT_LT(ours, 1e-4);
    }
}

TEST(PolarTiles, FollowTheMemoryOfTheMatrixInEitherOrder) {
  for (const auto& shape : kShapes) {
    SCOPED_TRACE(at::IntArrayRef(shape));
    const at::Tensor x = gaussian(shape, 5, at::kFloat), by_columns = x.mT().contiguous().mT();
    for (const auto& [precision, bound] : {std::pair{"bf16", 0.03}, std::pair{"fp32", 1e-3}}) {
      const at::Tensor u = factor(x, precision, Kernels::fused);
      EXPECT_LT(relative_error(factor(by_columns, precision, Kernels::fused), u), bound);
      EXPECT_LT(relative_error(factor(x.mT(), precision, Kernels::fused).mT(), u), bound);
    }
  }
}

TEST(PolarTiles, TreatEachMatrixAloneOnAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  auto shapes = kShapes;
  shapes.push_back({1, 300, 301});  // for the BLAS in several blocks and parts
  shapes.push_back({3, 7, 13});     // not all at the same place modulo 16 bytes
  shapes.push_back({3, 1, 41});
  for (const auto& shape : shapes)
    for (const char* precision : {"bf16", "fp32", "fp64"}) {
      SCOPED_TRACE(::testing::Message() << at::IntArrayRef(shape) << ' ' << precision);
      const at::Tensor x = gaussian(shape, 7, precision == std::string("fp64") ? at::kDouble : at::kFloat);
      // Nobody promises this of oneDNN, which has what our own products in bf16 have not.
      const bool ours = (has_tile_registers() || has_bf16_vectors()) && std::min(x.size(-2), x.size(-1)) <= 512;
      if (precision == std::string("bf16") && !ours) continue;
      std::vector<at::Tensor> results;
      for (const int threads : {1, 2, 3}) {
        at::set_num_threads(threads);
        results.push_back(factor(x, precision, Kernels::fused));
        results.push_back(at::stack({factor(x[0], precision, Kernels::fused)}));
      }
      at::set_num_threads(before);
      for (std::size_t i = 2; i < results.size(); ++i) EXPECT_TRUE(same_bits(results[i], results[i % 2]));
      for (std::int64_t i = 0; i < x.size(0); ++i)
        EXPECT_TRUE(same_bits(results[0][i], factor(x[i], precision, Kernels::fused))) << "matrix " << i << " of the batch";
    }
}

TEST(PolarTiles, SoDoTheMethodsOfLapack) {
  const int before = at::get_num_threads();
  for (const char* method : {"svd", "qdwh", "zolo"})
    for (const std::vector<std::int64_t>& shape :
         {std::vector<std::int64_t>{2, 33, 7}, {3, 7, 33}, {2, 50, 50}, {1, 1, 40}, {1, 260, 130}})
      for (const char* precision : {"fp32", "fp64"}) {
        SCOPED_TRACE(::testing::Message() << method << ' ' << at::IntArrayRef(shape) << ' ' << precision);
        const at::Tensor x = gaussian(shape, 7, precision == std::string("fp64") ? at::kDouble : at::kFloat);
        at::set_num_threads(1);
        const at::Tensor first = factor(x, precision, Kernels::fused, {{"method", method}});
        for (const int threads : {1, 2, 3}) {
          at::set_num_threads(threads);
          EXPECT_TRUE(same_bits(factor(x, precision, Kernels::fused, {{"method", method}}), first));
          for (std::int64_t i = 0; i < x.size(0); ++i)
            EXPECT_TRUE(same_bits(factor(x[i], precision, Kernels::fused, {{"method", method}}), first[i]));
        }
        at::set_num_threads(before);
      }
}

TEST(PolarTiles, KeepZerosAndSpreadNothingBeyondAMatrix) {
  for (const auto& shape : kShapes)
    for (const char* precision : {"bf16", "fp32"}) {
      SCOPED_TRACE(::testing::Message() << at::IntArrayRef(shape) << ' ' << precision);
      at::Tensor x = gaussian(shape, 9, at::kFloat);
      if (x.size(-2) > 1) x.select(-2, x.size(-2) - 1).zero_();
      x.select(-1, x.size(-1) / 2).zero_();
      const at::Tensor u = factor(x, precision, Kernels::fused);
      if (x.size(-2) > 1) {
        EXPECT_EQ(norm_of(u.select(-2, x.size(-2) - 1)), 0);
      }
      EXPECT_EQ(norm_of(u.select(-1, x.size(-1) / 2)), 0);
      if (x.size(0) == 1) continue;
      x[1].zero_();
      x[0].view(-1)[0] = std::numeric_limits<float>::infinity();
      const at::Tensor v = factor(x, precision, Kernels::fused);
      EXPECT_FALSE(at::isfinite(v[0]).all().item<bool>());
      EXPECT_EQ(norm_of(v[1]), 0);
    }
}

}  // namespace test_polar_tiles
}  // namespace equisweep
