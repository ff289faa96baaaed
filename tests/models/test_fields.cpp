// The limits of dimensions: what passes them can be counted.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/field.h"
#include "models/models.h"

namespace equisweep {
namespace test_fields {

using nlohmann::json;

/// The configuration of `a` in which every dimension is as large as its field allows, with `layers` layers.
json largest(const Architecture& a, std::int64_t layers) {
  json given = {{"architecture", a.name}, {"layers", layers}};
  for (const Field& field : a.fields) {
    if (field.kind != FieldKind::integer || field.name == "layers") continue;
    EXPECT_TRUE(std::isfinite(field.max)) << a.name << " " << field.name;
    given[field.name] = static_cast<std::int64_t>(field.max);
  }
  return complete_config(given);
}

__extension__ using Wide = __int128;

Wide weights_of(const json& config) {
  Wide n = 0;
  for (const Param& p : describe_params(config)) n += p.tensor.numel();
  return n;
}

// Sums of weights, and bytes of fp64 weights with their gradient and two states, are 64-bit integers everywhere.
TEST(Fields, TheLargestModelThatTheyAllowCanBeCounted) {
  for (const Architecture& a : architectures()) {
    const Wide one = weights_of(largest(a, 1)), two = weights_of(largest(a, 2));
    const auto layers = static_cast<Wide>(find_field(a.fields, "layers")->max);
    EXPECT_GT(two, one) << a.name;
    EXPECT_LT((one + (layers - 1) * (two - one)) * 32, Wide{std::numeric_limits<std::int64_t>::max()}) << a.name;
  }
}

// A sweep file's models are described when it is read: names and shapes of every weight, one by one.
TEST(Fields, TheDeepestModelIsDescribedInABoundedNumberOfWeights) {
  for (const Architecture& a : architectures()) {
    const auto layers = static_cast<std::size_t>(find_field(a.fields, "layers")->max);
    const std::size_t one = describe_params(largest(a, 1)).size(), two = describe_params(largest(a, 2)).size();
    EXPECT_LE(one + (layers - 1) * (two - one), 100'000u) << a.name;
  }
}

}  // namespace test_fields
}  // namespace equisweep
