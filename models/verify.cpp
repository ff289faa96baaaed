#include "models/verify.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <map>

#include "core/error.h"
#include "core/safetensors.h"
#include "models/blocks/moe.h"
#include "models/decoder.h"
#include "models/huggingface/weights.h"
#include "models/models.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

/// What is allowed in one precision.
struct Bounds {
  const char* precision;
  at::ScalarType dtype;
  double tensors, losses, gradients, aux_gradients;
};

// The recordings are fp64, except that gradients are stored as fp32 (6e-8).
constexpr Bounds kBounds[] = {{"fp64", at::kDouble, 1e-12, 1e-12, 2e-7, 1e-12},
                              {"fp32", at::kFloat, 1e-5, 1e-6, 3e-5, 3e-5}};

/// Collects the worst error of each quantity.
class Comparison {
 public:
  Comparison(ParityReport& report, const Bounds& bounds, std::string file)
      : report_(report), bounds_(bounds), file_(std::move(file)) {}

  void compare(const char* quantity, double bound, const std::string& name, const at::Tensor& ours,
               const at::Tensor& recorded) {
    if (ours.sizes() != recorded.sizes()) {
      throw DataError(file_, fmt::format("'{}' is {}, but the model makes it {}", printable(name),
                                         fmt::join(recorded.sizes(), " x "), fmt::join(ours.sizes(), " x ")));
    }
    if (recorded.numel() == 0) return;
    const at::Tensor a = ours.detach().to(at::kCPU, at::kDouble), b = recorded.to(at::kDouble);
    const double difference = (a - b).abs().max().item<double>(), size = b.abs().max().item<double>();
    // A tensor that is recorded as zero (the gradient of an expert without tokens) must be zero.
    double error = difference == 0 ? 0 : difference / size;
    if (!(error <= std::numeric_limits<double>::max())) error = std::numeric_limits<double>::infinity();
    const auto row = std::find_if(report_.rows.begin(), report_.rows.end(), [&](const ParityRow& r) {
      return r.precision == bounds_.precision && r.quantity == quantity;
    });
    if (row == report_.rows.end()) {
      report_.rows.push_back({bounds_.precision, quantity, error, bound, name});
    } else if (error > row->error) {
      row->error = error;
      row->worst = name;
    }
  }

 private:
  ParityReport& report_;
  const Bounds& bounds_;
  std::string file_;
};

at::Tensor tokens_of(const SafetensorsFile& io, const char* name, std::int64_t vocabulary) {
  const at::Tensor tokens = io.tensor(name);
  if (tokens.dim() != 2 || tokens.scalar_type() != at::kLong || tokens.numel() == 0) {
    throw DataError(io.path().string(), fmt::format("'{}' must be int64 [B, T], not {} with {} dimensions", name,
                                                    at::toString(tokens.scalar_type()), tokens.dim()));
  }
  const auto low = tokens.min().item<std::int64_t>(), high = tokens.max().item<std::int64_t>();
  if (low < 0 || high >= vocabulary) {
    throw DataError(io.path().string(),
                    fmt::format("'{}' holds token {}; the vocabulary is {}", name, low < 0 ? low : high, vocabulary));
  }
  return tokens;
}

void compare_forward(Comparison& compare, const Bounds& bounds, const Decoder& model, const SafetensorsFile& io,
                     const at::Tensor& tokens_BT, const Forward& out) {
  compare.compare("logits", bounds.tensors, "logits", model.logits(out.hidden_BTD), io.tensor("logits"));
  const auto stream = model.residual_stream(tokens_BT);
  for (std::size_t i = 0; i < stream.size(); ++i) {
    const std::string name = i + 1 == stream.size() ? "hidden.final" : fmt::format("hidden.{}", i);
    if (io.has(name)) compare.compare("hidden", bounds.tensors, name, stream[i], io.tensor(name));
  }
  for (std::size_t i = 0; i < out.router_logits_NE.size(); ++i) {
    const std::string name = fmt::format("router_logits.{}", i);
    if (io.has(name)) compare.compare("router_logits", bounds.tensors, name, out.router_logits_NE[i], io.tensor(name));
  }
}

void compare_gradients(Comparison& compare, double bound, LanguageModel& model, const SafetensorsFile& grads) {
  for (const auto& p : model.params()) {
    const at::Tensor gradient = p.tensor.grad().defined() ? p.tensor.grad() : at::zeros_like(p.tensor);
    for (const auto& [name, ours] : disk_views(p, gradient)) {
      compare.compare("gradients", bound, name, ours, grads.tensor(name));
    }
  }
}

/// The load-balancing loss and its gradients, which flow to earlier layers too; clears the gradients before it.
void compare_auxiliary(Comparison& compare, const Bounds& bounds, LanguageModel& model, const SafetensorsFile& io,
                       const at::Tensor& tokens_BT) {
  for (auto& p : model.params()) p.tensor.mutable_grad() = at::Tensor();
  const at::Tensor loss =
      load_balancing_loss(model.forward(tokens_BT).router_logits_NE, model.config().at("top_k").get<std::int64_t>());
  compare.compare("aux_loss", bounds.losses, "aux_loss", loss, io.tensor("aux_loss"));
  loss.backward();
  for (const auto& p : model.params()) {
    const std::string name = "aux_grad." + p.name;
    if (io.has(name)) compare.compare("aux_gradients", bounds.aux_gradients, name, p.tensor.grad(), io.tensor(name));
  }
}

}  // namespace

bool ParityReport::ok() const {
  return std::all_of(rows.begin(), rows.end(), [](const ParityRow& r) { return r.ok(); });
}

ParityReport verify_parity(const fs::path& folder, at::Device device) {
  const auto owned = load_huggingface(folder);
  auto& model = dynamic_cast<Decoder&>(*owned);
  const SafetensorsFile io(folder / "io.safetensors");
  const at::Tensor tokens = tokens_of(io, "input_ids", model.vocabulary()).to(device),
                   labels = tokens_of(io, "labels", model.vocabulary()).to(device);
  if (tokens.sizes() != labels.sizes()) throw DataError(io.path().string(), "'input_ids' and 'labels' differ in shape");

  ParityReport report{folder.string(), model.config().at("architecture").get<std::string>(), {}};
  for (const auto& bounds : kBounds) {
    convert_weights(model, device, bounds.dtype);
    model.set_compute_dtype(bounds.dtype);
    Comparison compare(report, bounds, io.path().string());
    const Forward out = model.forward(tokens);
    const at::Tensor loss = model.loss(out.hidden_BTD, labels);
    {
      const at::NoGradGuard no_grad;
      compare_forward(compare, bounds, model, io, tokens, out);
    }
    compare.compare("loss", bounds.losses, "loss", loss, io.tensor("loss"));
    if (fs::exists(folder / "grads.safetensors")) {
      loss.backward();
      compare_gradients(compare, bounds.gradients, model, SafetensorsFile(folder / "grads.safetensors"));
    }
    if (io.has("aux_loss") && !out.router_logits_NE.empty()) compare_auxiliary(compare, bounds, model, io, tokens);
  }
  return report;
}

std::string to_string(const ParityReport& report) {
  std::string text = fmt::format("{} ({})\n", report.folder, report.architecture);
  for (const auto& r : report.rows) {
    text += fmt::format("  {:4} {:14} {:8.2g}  bound {:7.0e}  {}  worst: {}\n", r.precision, r.quantity, r.error, r.bound,
                        r.ok() ? "ok  " : "FAIL", r.worst);
  }
  return text;
}

}  // namespace equisweep
