#include "models/huggingface/weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <xxhash.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/atomic_file.h"
#include "core/data/file_io.h"
#include "core/document.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "models/huggingface/config.h"
#include "models/models.h"

namespace equisweep {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// An index names each tensor once; this is that of some million.
constexpr std::int64_t kLargestIndex = 100'000'000;

/// The tensors of a folder, over however many files.
class Folder {
 public:
  /// A folder as transformers writes it, or one file of tensors.
  explicit Folder(const fs::path& folder) : name_((folder / "model.safetensors").string()) {
    if (!fs::is_directory(folder)) {
      name_ = folder.string();
      add_file(folder);
      return;
    }
    const fs::path index = folder / "model.safetensors.index.json";
    if (!fs::exists(index)) {
      add_file(folder / "model.safetensors");
      return;
    }
    name_ = index.string();
    const json parsed = document_of(read_text_file(index, kLargestIndex)).value_or(nullptr);
    const auto map = parsed.find("weight_map");
    if (map == parsed.end() || !map->is_object()) {
      throw DataError(name_, "is not a JSON object with an object 'weight_map' from tensor to file");
    }
    std::set<std::string> files;
    for (const auto& [tensor, file] : map->items()) {
      // A bare file name: anything else would reach outside the folder.
      if (!file.is_string() || fs::path(file.get<std::string>()).filename() != file.get<std::string>()) {
        throw DataError(
            name_, fmt::format("'{}' must name a file of this folder, not {}", printable(tensor), printable(file.dump())));
      }
      files.insert(file.get<std::string>());
    }
    for (const auto& f : files) add_file(folder / f);
    for (const auto& [tensor, file] : map->items()) {
      const auto at = where_.find(tensor);
      if (at == where_.end() || files_[at->second].path().filename() != file.get<std::string>()) {
        throw DataError(name_, fmt::format("'{}' is not in {}", printable(tensor), printable(file.get<std::string>())));
      }
    }
  }

  const std::string& name() const { return name_; }
  std::int64_t size() const { return static_cast<std::int64_t>(where_.size()); }
  bool has(const std::string& tensor) const { return where_.contains(tensor); }
  const SafetensorsFile& file_of(const std::string& tensor) const { return files_[where_.at(tensor)]; }
  at::Tensor tensor(const std::string& name) const { return file_of(name).tensor(name); }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [n, file] : where_) names.push_back(n);
    return names;
  }

 private:
  void add_file(const fs::path& path) {
    files_.emplace_back(path);
    for (const auto& n : files_.back().names()) {
      if (!where_.emplace(n, files_.size() - 1).second)
        throw DataError(path.string(), fmt::format("'{}' is in two files", printable(n)));
    }
  }

  std::string name_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::size_t> where_;
};

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

/// The complaints about a folder, one a line; of one that has little to do with the model the first are enough.
class Complaints {
 public:
  /// make(): the text, which may cost a search.
  template <class F>
  void add(const F& make) {
    if (lines_.size() < kMostLines)
      lines_.push_back(make());
    else
      ++more_;
  }

  void raise(const std::string& file) const {
    if (lines_.empty()) return;
    throw DataError(file, fmt::format("does not fit its config.json:\n  {}{}", fmt::join(lines_, "\n  "),
                                      more_ > 0 ? fmt::format("\n  and {} more", more_) : ""));
  }

 private:
  static constexpr std::size_t kMostLines = 100;

  std::vector<std::string> lines_;
  std::size_t more_ = 0;
};

/// The dtypes that weights are kept in. The 8-bit floats need factors that stand elsewhere, and others are no weights.
bool holds_weights(at::ScalarType dtype) {
  return dtype == at::kDouble || dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16;
}

/// Whether two tensors of the folder hold the same numbers, in whatever dtypes.
bool equal_numbers(const Folder& folder, const char* a, const char* b) {
  const auto type_a = folder.file_of(a).dtype(a), type_b = folder.file_of(b).dtype(b);
  if (!holds_weights(type_a) || !holds_weights(type_b)) return false;
  const auto both = at::promote_types(type_a, type_b);
  return at::equal(folder.tensor(a).to(both), folder.tensor(b).to(both));
}

/// disk_views(), or the whole where the folder has an expert stack in one piece, under its name in memory.
std::vector<std::pair<std::string, at::Tensor>> views_in(const Folder& folder, const Param& param,
                                                         const at::Tensor& tensor) {
  if (folder.has(param.name)) return {{param.name, tensor}};
  return disk_views(param, tensor);
}

/// Everything that can be wrong before weights are read; of `params` only names and shapes count.
void check_weights(const Folder& folder, std::span<const Param> params) {
  std::map<std::string, at::Tensor> wanted;
  bool tied = true;
  for (const auto& p : params) {
    for (auto& [name, view] : views_in(folder, p, p.tensor.detach())) wanted[name] = view;
    tied = tied && p.role != Role::lm_head;
  }
  Complaints wrong;
  const auto on_disk = folder.names();
  for (const auto& [name, target] : wanted) {
    if (!folder.has(name)) {
      wrong.add([&] {
        const auto near = nearest_name(name, on_disk);
        return fmt::format("'{}' {} is missing{}", name, fmt::join(target.sizes(), " x "),
                           near.empty() || wanted.contains(near) ? "" : fmt::format("; the file has '{}'", printable(near)));
      });
      continue;
    }
    const auto& file = folder.file_of(name);
    const auto& shape = file.shape(name);
    if (at::IntArrayRef(shape) != target.sizes()) {
      wrong.add([&] {
        return fmt::format("'{}' is {}, but config.json makes it {}", name, fmt::join(shape, " x "),
                           fmt::join(target.sizes(), " x "));
      });
    } else if (!holds_weights(file.dtype(name))) {
      wrong.add([&] {
        return fmt::format("'{}' holds {}; weights are read from F64, F32, F16 and BF16", name,
                           at::toString(file.dtype(name)));
      });
    }
  }
  // Some files of tied models hold the head as well; it must then be the embedding.
  const bool repeated = tied && folder.has(kHead) && folder.has(kEmbedding);
  for (const auto& name : on_disk) {
    if (wanted.contains(name) || (repeated && name == kHead)) continue;
    wrong.add([&] { return fmt::format("'{}' belongs to no weight of the model", printable(name)); });
  }
  if (repeated && !equal_numbers(folder, kHead, kEmbedding))
    wrong.add([] { return fmt::format("'{}' differs from '{}', although config.json ties them", kHead, kEmbedding); });
  wrong.raise(folder.name());
}

/// Sets the weights of a model that check_weights() has passed.
void read_weights(LanguageModel& model, const Folder& folder) {
  std::vector<at::Tensor> values;  // the weights are written only when all of them are known to be good
  for (const auto& p : model.params()) {
    values.push_back(at::empty(p.tensor.sizes(), p.tensor.options().device(at::kCPU)));
    for (const auto& [name, view] : views_in(folder, p, values.back())) {
      const at::Tensor data = folder.tensor(name);
      const auto bad = at::isfinite(data).logical_not_().sum().item<std::int64_t>();
      if (bad > 0)
        throw DataError(folder.name(), fmt::format("'{}' has {} NaN or infinite values of {}", name, bad, data.numel()));
      view.copy_(data);
    }
  }
  for (std::size_t i = 0; i < values.size(); ++i) model.params()[i].tensor.copy_(values[i]);
}

bool stack_of_gates(const Param& param) { return param.layout.kind == LayoutKind::gate_up_stacked; }
bool stack_of_experts(const Param& param) { return stack_of_gates(param) || param.layout.kind == LayoutKind::experts_down; }

/// Refuses by their number alone experts most of which the folder does not have: those of all layers are many, and each
/// name takes memory.
void check_experts(const json& config, const std::string& file, std::span<const Param> params, const Folder& folder) {
  constexpr std::int64_t kFewest = 4;
  std::int64_t tensors = 0;
  for (const auto& p : params)
    tensors += stack_of_experts(p) && !folder.has(p.name) ? p.tensor.size(0) * (stack_of_gates(p) ? 2 : 1) : 1;
  if (!config.contains("experts") || tensors / kFewest <= folder.size()) return;
  throw DataError(file, fmt::format("'num_experts' is {}, so that the weights are {} tensors; {} has {}",
                                    config["experts"].dump(), tensors, folder.name(), folder.size()));
}

}  // namespace

std::vector<std::pair<std::string, at::Tensor>> disk_views(const Param& param, const at::Tensor& tensor) {
  if (!stack_of_experts(param)) return {{param.name, tensor}};
  const std::string stem = param.name.substr(0, param.name.rfind('.'));
  const auto r = tensor.size(1) / 2;
  std::vector<std::pair<std::string, at::Tensor>> views;
  for (std::int64_t e = 0; e < tensor.size(0); ++e) {
    const at::Tensor expert = tensor.select(0, e);
    if (stack_of_gates(param)) {
      views.emplace_back(fmt::format("{}.{}.gate_proj.weight", stem, e), expert.narrow(0, 0, r));
      views.emplace_back(fmt::format("{}.{}.up_proj.weight", stem, e), expert.narrow(0, r, r));
    } else {
      views.emplace_back(fmt::format("{}.{}.down_proj.weight", stem, e), expert);
    }
  }
  return views;
}

void load_huggingface_weights(LanguageModel& model, const fs::path& path) {
  const at::NoGradGuard no_grad;
  const Folder folder(path);
  check_weights(folder, model.params());
  read_weights(model, folder);
}

std::unique_ptr<LanguageModel> load_huggingface(const fs::path& folder) {
  const at::NoGradGuard no_grad;
  const fs::path file = folder / "config.json";
  const json config = read_huggingface_config(file);
  const Folder tensors(folder);
  std::vector<Param> params;
  try {
    params = describe_params(config);
  } catch (const UsageError& e) {  // dimensions that do not fit together
    throw DataError(file.string(), e.what());
  }
  check_experts(config, file.string(), params, tensors);
  check_weights(tensors, params);
  auto model = make_model(config);  // the folder has as many numbers as this takes
  read_weights(*model, tensors);
  return model;
}

std::string hash_weights(LanguageModel& model) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  XXH3_128bits_reset(state.get());
  const auto add = [&](const void* data, std::size_t bytes) { XXH3_128bits_update(state.get(), data, bytes); };
  const std::string config = model.config().dump();
  add(config.data(), config.size());
  for (const auto& p : model.params()) {
    const at::Tensor values = p.tensor.detach().to(at::kCPU, at::kFloat).contiguous();
    add(p.name.data(), p.name.size());
    add(values.const_data_ptr(), values.nbytes());
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

void save_weights(LanguageModel& model, const fs::path& file, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  std::vector<NamedTensor> tensors;
  for (const auto& p : model.params()) {
    for (auto& [name, view] : disk_views(p, p.tensor.detach())) tensors.emplace_back(name, view.to(dtype));
  }
  write_safetensors(file, tensors, {{"format", "pt"}});
}

void save_huggingface(LanguageModel& model, const fs::path& folder, const ExportOptions& options) {
  json config = config_to_huggingface(model.config(), options.context);
  if (options.eos_token) config["eos_token_id"] = *options.eos_token;
  fs::create_directories(folder);
  save_weights(model, folder / "model.safetensors");
  write_file_atomically(folder / "config.json", config.dump(2) + "\n");
}

}  // namespace equisweep
