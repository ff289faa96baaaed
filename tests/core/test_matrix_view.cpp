// E experts, r neurons, d features, H heads of width h, K weights of a bank.
#include "core/matrix_view.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/error.h"
#include "core/param.h"

namespace equisweep {
namespace test_matrix_view {

using Index = std::vector<std::int64_t>;

constexpr std::int64_t kExperts = 3, kNeurons = 5, kFeatures = 6, kHeads = 3, kWidth = 4, kOut = 10, kIn = 8;

// Which stored element stands at index `b` of the blocks: the definition of the layout, written out.
using Source = Index (*)(const Index& b);

struct Case {
  LayoutKind layout;
  Index stored;
  ViewKind view;
  Index blocks;
  std::int64_t fan_out, fan_in;
  Source source;
  bool aliases = true;  // the blocks are a strided view of the stored weight
};

Index same(const Index& b) { return b; }
Index swapped(const Index& b) {
  Index s = b;
  std::swap(s.end()[-1], s.end()[-2]);
  return s;
}

// Block shapes and fans of this size, for every layout, view and role, are those of the recordings of published updates.
const std::vector<Case>& cases() {
  using L = LayoutKind;
  using V = ViewKind;
  static const std::vector<Case> kCases = {
      {L::vector, {16}, V::whole, {16}, 16, 1, same},
      {L::vector, {kExperts, 4}, V::whole, {kExperts, 4}, 4, 1, same},
      {L::vector, {}, V::whole, {}, 1, 1, same},
      {L::matrix, {24, 8}, V::whole, {24, 8}, 24, 8, same},
      {L::matrix, {24, 8}, V::row, {24, 8}, 24, 8, same},
      {L::matrix, {8, 24}, V::col, {24, 8}, 8, 24, swapped},
      {L::matrix, {1, 16}, V::row, {1, 16}, 1, 16, same},
      {L::matrix, {16, 1}, V::col, {1, 16}, 16, 1, swapped},
      {L::matrix, {3, 10, 6}, V::row, {3, 10, 6}, 10, 6, same},
      {L::matrix, {3, 10, 6}, V::col, {3, 6, 10}, 10, 6, swapped},
      {L::matrix, {2, 3, 10, 6}, V::col, {2, 3, 6, 10}, 10, 6, swapped},
      {L::heads_rows, {kHeads * kWidth, kIn}, V::whole, {12, 8}, 12, 8, same},
      {L::heads_rows, {kHeads * kWidth, kIn}, V::row, {12, 8}, 12, 8, same},
      {L::heads_rows, {kHeads * kWidth, kIn}, V::col, {8, 12}, 12, 8, swapped},
      {L::heads_rows,
       {kHeads * kWidth, kIn},
       V::heads,
       {3, 4, 8},
       4,
       8,
       [](const Index& b) {
         return Index{b[0] * kWidth + b[1], b[2]};
       }},
      {L::heads_columns, {kIn, kHeads * kWidth}, V::whole, {8, 12}, 8, 12, same},
      {L::heads_columns, {kIn, kHeads * kWidth}, V::row, {8, 12}, 8, 12, same},
      {L::heads_columns, {kIn, kHeads * kWidth}, V::col, {12, 8}, 8, 12, swapped},
      {L::heads_columns,
       {kIn, kHeads * kWidth},
       V::heads,
       {3, 8, 4},
       8,
       4,
       [](const Index& b) {
         return Index{b[1], b[0] * kWidth + b[2]};
       }},
      {L::gate_up_stacked, {kExperts, 2 * kNeurons, kFeatures}, V::whole, {3, 10, 6}, 10, 6, same},
      {L::gate_up_stacked,
       {kExperts, 2 * kNeurons, kFeatures},
       V::split,
       {3, 2, 5, 6},
       5,
       6,
       [](const Index& b) {
         return Index{b[0], b[1] * kNeurons + b[2], b[3]};
       }},
      {L::gate_up_stacked,
       {kExperts, 2 * kNeurons, kFeatures},
       V::pair,
       {3, 5, 12},
       5,
       12,
       [](const Index& b) {
         return Index{b[0], b[2] / kFeatures * kNeurons + b[1], b[2] % kFeatures};
       },
       false},
      {L::gate_up_interleaved, {kExperts, kFeatures, 2 * kNeurons}, V::whole, {3, 10, 6}, 10, 6, swapped},
      {L::gate_up_interleaved,
       {kExperts, kFeatures, 2 * kNeurons},
       V::split,
       {3, 2, 5, 6},
       5,
       6,
       [](const Index& b) {
         return Index{b[0], b[3], 2 * b[2] + b[1]};
       }},
      {L::gate_up_interleaved,
       {kExperts, kFeatures, 2 * kNeurons},
       V::pair,
       {3, 5, 12},
       5,
       12,
       [](const Index& b) {
         return Index{b[0], b[2] % kFeatures, 2 * b[1] + b[2] / kFeatures};
       },
       false},
      {L::experts_down, {kExperts, kFeatures, kNeurons}, V::whole, {3, 6, 5}, 6, 5, same},
      {L::experts_down, {kExperts, kFeatures, kNeurons}, V::row, {3, 6, 5}, 6, 5, same},
      {L::experts_down, {kExperts, kFeatures, kNeurons}, V::col, {3, 5, 6}, 6, 5, swapped},
      {L::experts_down_in_out, {kExperts, kNeurons, kFeatures}, V::whole, {3, 5, 6}, 6, 5, same},
      {L::experts_down_in_out, {kExperts, kNeurons, kFeatures}, V::row, {3, 5, 6}, 6, 5, same},
      {L::experts_down_in_out, {kExperts, kNeurons, kFeatures}, V::col, {3, 6, 5}, 6, 5, swapped},
  };
  return kCases;
}

std::string label(const Case& c) { return std::string(name_of(c.layout)) + " as " + std::string(name_of(c.view)); }

MatrixView view_of_case(const Case& c) { return make_view({c.layout, kHeads}, c.stored, c.view); }

std::int64_t position(const Index& index, const Index& shape) {
  std::int64_t at = 0;
  for (std::size_t i = 0; i < shape.size(); ++i) at = at * shape[i] + index[i];
  return at;
}

// Moves `index` on in row-major order; false after the last one.
bool advance(Index& index, const Index& shape) {
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (++index[i] < shape[i]) return true;
    index[i] = 0;
  }
  return false;
}

std::vector<double> expected_blocks(const Case& c, std::int64_t first) {
  std::vector<double> values;
  Index b(c.blocks.size(), 0);
  do {
    values.push_back(static_cast<double>(first + position(c.source(b), c.stored)));
  } while (advance(b, c.blocks));
  return values;
}

std::vector<double> values_of(const at::Tensor& x) {
  const auto flat = x.contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

at::Tensor numbered(const Index& shape) {
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;
  return at::arange(count, at::kDouble).reshape(shape);
}

Index banked(std::int64_t bank, Index shape) {
  shape.insert(shape.begin(), bank);
  return shape;
}

TEST(MatrixView, ShapesAndFans) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(label(c));
    const auto view = view_of_case(c);
    EXPECT_EQ(view.stored, c.stored);
    EXPECT_EQ(view.blocks, c.blocks);
    EXPECT_EQ(view.fan_out, c.fan_out);
    EXPECT_EQ(view.fan_in, c.fan_in);
  }
}

TEST(MatrixView, EveryElementIsWhereTheLayoutSaysItIs) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(label(c));
    const auto blocks = to_blocks(view_of_case(c), numbered(c.stored));
    EXPECT_EQ(blocks.sizes().vec(), c.blocks);
    EXPECT_EQ(values_of(blocks), expected_blocks(c, 0));
  }
}

TEST(MatrixView, ABankIsViewedWeightByWeight) {
  for (const std::int64_t bank : {1, 4}) {
    for (const auto& c : cases()) {
      SCOPED_TRACE(label(c));
      const auto x = numbered(banked(bank, c.stored));
      const auto blocks = to_blocks(view_of_case(c), x);
      EXPECT_EQ(blocks.sizes().vec(), banked(bank, c.blocks));
      std::vector<double> expected;
      for (std::int64_t k = 0; k < bank; ++k) {
        const auto one = expected_blocks(c, k * x.numel() / bank);
        expected.insert(expected.end(), one.begin(), one.end());
      }
      EXPECT_EQ(values_of(blocks), expected);
    }
  }
}

TEST(MatrixView, ToStoredIsTheInverseBitwise) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kLong}) {
    for (const auto& c : cases()) {
      SCOPED_TRACE(label(c));
      const auto view = view_of_case(c);
      for (const auto& shape : {c.stored, banked(3, c.stored)}) {
        // Every bit pattern, NaNs and -0 too.
        const auto bytes = at::randint(0, 256, {numbered(shape).numel() * 8}, at::kByte);
        const auto x = bytes.view(dtype).slice(0, 0, numbered(shape).numel()).reshape(shape);
        const auto bits = [](const at::Tensor& t) { return t.contiguous().reshape({-1}).view(at::kByte); };
        EXPECT_TRUE(at::equal(bits(to_stored(view, to_blocks(view, x))), bits(x)));
        // The other way round, from blocks that own their memory.
        const auto blocks = to_blocks(view, x).clone(at::MemoryFormat::Contiguous);
        EXPECT_TRUE(at::equal(bits(to_blocks(view, to_stored(view, blocks))), bits(blocks)));
        EXPECT_EQ(to_stored(view, blocks).sizes().vec(), shape);
      }
    }
  }
}

TEST(MatrixView, BlocksAliasTheWeightWhereStridesCanSayIt) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(label(c));
    const auto x = numbered(banked(3, c.stored));
    EXPECT_EQ(to_blocks(view_of_case(c), x).is_alias_of(x), c.aliases);
  }
}

TEST(MatrixView, NaturalViews) {
  struct Natural {
    Role role;
    LayoutKind layout;
    Index stored;
    ViewKind view;
  };
  const std::vector<Natural> kNatural = {
      {Role::embedding, LayoutKind::matrix, {9, 4}, ViewKind::row},
      {Role::mlp_gate, LayoutKind::matrix, {9, 4}, ViewKind::row},
      {Role::mlp_down, LayoutKind::matrix, {9, 4}, ViewKind::col},
      {Role::attention_q, LayoutKind::heads_rows, {9, 4}, ViewKind::whole},
      {Role::attention_o, LayoutKind::heads_columns, {4, 9}, ViewKind::whole},
      {Role::experts_gate_up, LayoutKind::gate_up_stacked, {2, 6, 4}, ViewKind::split},
      {Role::experts_gate_up, LayoutKind::gate_up_interleaved, {2, 4, 6}, ViewKind::split},
      {Role::experts_down, LayoutKind::experts_down, {2, 4, 3}, ViewKind::col},
      {Role::experts_down, LayoutKind::experts_down_in_out, {2, 3, 4}, ViewKind::row},
      {Role::vector, LayoutKind::vector, {7}, ViewKind::whole},
  };
  for (const auto& n : kNatural) {
    SCOPED_TRACE(name_of(n.layout));
    const Param param{"w", n.role, {n.layout, 3}, at::zeros(n.stored)};
    const auto natural = view_of(param), named = view_of(param, n.view);
    EXPECT_EQ(natural.blocks, named.blocks);
    EXPECT_EQ(natural.order, named.order);
    EXPECT_EQ(natural.fan_out, named.fan_out);
    EXPECT_EQ(natural.fan_in, named.fan_in);
  }
}

TEST(MatrixView, AMissingViewIsRefusedWithTheViewsThereAre) {
  const auto message = [](LayoutKind layout, const Index& stored, ViewKind view) -> std::string {
    try {
      make_view({layout, 1}, stored, view);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(LayoutKind::matrix, {4, 4}, ViewKind::heads),
            "a weight of layout matrix has no view 'heads'; allowed: natural, whole, row, col");
  EXPECT_EQ(message(LayoutKind::vector, {4}, ViewKind::row),
            "a weight of layout vector has no view 'row'; allowed: natural, whole");
  EXPECT_EQ(message(LayoutKind::gate_up_interleaved, {1, 4, 4}, ViewKind::col),
            "a weight of layout gate_up_interleaved has no view 'col'; allowed: natural, whole, split, pair");
  EXPECT_EQ(message(LayoutKind::heads_rows, {4, 4}, ViewKind::pair),
            "a weight of layout heads_rows has no view 'pair'; allowed: natural, whole, row, col, heads");
}

TEST(MatrixView, ViewsOfListsExactlyWhatMakeViewAccepts) {
  for (const auto& c : cases()) {
    const Layout layout{c.layout, kHeads};
    const auto views = views_of(layout);
    for (const auto kind :
         {ViewKind::whole, ViewKind::row, ViewKind::col, ViewKind::heads, ViewKind::split, ViewKind::pair}) {
      SCOPED_TRACE(label(c));
      if (std::find(views.begin(), views.end(), kind) != views.end()) {
        EXPECT_NO_THROW(make_view(layout, c.stored, kind));
      } else {
        EXPECT_THROW(make_view(layout, c.stored, kind), UsageError);
      }
    }
  }
}

TEST(MatrixView, ShapesThatAreNoSuchLayoutAreProgrammerErrors) {
  const std::vector<std::pair<LayoutKind, Index>> wrong = {
      {LayoutKind::matrix, {4}},
      {LayoutKind::heads_rows, {7, 4}},
      {LayoutKind::heads_columns, {6, 7}},
      {LayoutKind::gate_up_stacked, {3, 5, 4}},
      {LayoutKind::gate_up_interleaved, {3, 4, 5}},
      {LayoutKind::experts_down, {4, 4}},
  };
  for (const auto& [layout, stored] : wrong) EXPECT_THROW(make_view({layout, 3}, stored, ViewKind::natural), c10::Error);

  const auto view = make_view({LayoutKind::matrix}, {4, 6}, ViewKind::col);
  EXPECT_THROW(to_blocks(view, at::zeros({6, 4})), c10::Error);
  EXPECT_THROW(to_blocks(view, at::zeros({24})), c10::Error);
  EXPECT_THROW(to_blocks(view, at::zeros({2, 2, 4, 6})), c10::Error);
  EXPECT_THROW(to_stored(view, at::zeros({4, 6})), c10::Error);
}

TEST(MatrixView, Names) {
  EXPECT_THAT(view_names(), ::testing::ElementsAre("natural", "whole", "row", "col", "heads", "split", "pair"));
}

}  // namespace test_matrix_view
}  // namespace equisweep
