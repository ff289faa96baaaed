#include "models/huggingface/weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <xxhash.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "models/huggingface/config.h"
#include "models/models.h"

namespace equisweep {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

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
    std::ifstream in(index, std::ios::binary);
    const json parsed = json::parse(in, nullptr, false);
    const auto map = parsed.is_object() ? parsed.find("weight_map") : parsed.end();
    if (!parsed.is_object() || map == parsed.end() || !map->is_object()) {
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

/// Everything that can be wrong before a byte of data is read.
std::vector<std::string> complaints(const Folder& folder, const std::map<std::string, at::Tensor>& wanted) {
  std::vector<std::string> wrong;
  const auto on_disk = folder.names();
  for (const auto& [name, target] : wanted) {
    if (!folder.has(name)) {
      const auto near = nearest_name(name, on_disk);
      wrong.push_back(
          fmt::format("'{}' {} is missing{}", name, fmt::join(target.sizes(), " x "),
                      near.empty() || wanted.contains(near) ? "" : fmt::format("; the file has '{}'", printable(near))));
      continue;
    }
    const auto& file = folder.file_of(name);
    const auto& shape = file.shape(name);
    if (at::IntArrayRef(shape) != target.sizes()) {
      wrong.push_back(fmt::format("'{}' is {}, but config.json makes it {}", name, fmt::join(shape, " x "),
                                  fmt::join(target.sizes(), " x ")));
    } else if (!at::isFloatingType(file.dtype(name))) {
      wrong.push_back(
          fmt::format("'{}' holds {}; weights are floating-point numbers", name, at::toString(file.dtype(name))));
    }
  }
  for (const auto& name : on_disk) {
    if (!wanted.contains(name)) wrong.push_back(fmt::format("'{}' belongs to no weight of the model", printable(name)));
  }
  return wrong;
}

}  // namespace

std::vector<std::pair<std::string, at::Tensor>> disk_views(const Param& param, const at::Tensor& tensor) {
  const auto stacked = param.layout.kind == LayoutKind::gate_up_stacked;
  if (!stacked && param.layout.kind != LayoutKind::experts_down) return {{param.name, tensor}};
  const std::string stem = param.name.substr(0, param.name.rfind('.'));
  const auto r = tensor.size(1) / 2;
  std::vector<std::pair<std::string, at::Tensor>> views;
  for (std::int64_t e = 0; e < tensor.size(0); ++e) {
    const at::Tensor expert = tensor.select(0, e);
    if (stacked) {
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
  std::vector<at::Tensor> values;  // the weights are written only when all of them are known to be good
  std::map<std::string, at::Tensor> wanted;
  bool tied = true;
  for (const auto& p : model.params()) {
    values.push_back(at::empty(p.tensor.sizes(), p.tensor.options().device(at::kCPU)));
    const bool whole = folder.has(p.name);  // an expert stack in one piece, under its name in memory
    for (auto& [name, view] : disk_views(p, values.back())) {
      if (!whole) wanted[name] = view;
    }
    if (whole) wanted[p.name] = values.back();
    tied = tied && p.role != Role::lm_head;
  }
  auto wrong = complaints(folder, wanted);
  if (tied && folder.has(kHead) && folder.has(kEmbedding)) {
    // Some files of tied models hold the head as well; it must then be the embedding.
    if (at::equal(folder.tensor(kHead), folder.tensor(kEmbedding))) {
      std::erase(wrong, fmt::format("'{}' belongs to no weight of the model", kHead));
    } else {
      wrong.push_back(fmt::format("'{}' differs from '{}', although config.json ties them", kHead, kEmbedding));
    }
  }
  if (!wrong.empty())
    throw DataError(folder.name(), fmt::format("does not fit its config.json:\n  {}", fmt::join(wrong, "\n  ")));
  for (const auto& [name, view] : wanted) {
    const at::Tensor data = folder.tensor(name);
    const auto bad = at::isfinite(data).logical_not_().sum().item<std::int64_t>();
    if (bad > 0) {
      throw DataError(folder.name(), fmt::format("'{}' has {} NaN or infinite values of {}", name, bad, data.numel()));
    }
    view.copy_(data);
  }
  for (std::size_t i = 0; i < values.size(); ++i) model.params()[i].tensor.copy_(values[i]);
}

std::unique_ptr<LanguageModel> load_huggingface(const fs::path& folder) {
  auto model = make_model(read_huggingface_config(folder / "config.json"));
  load_huggingface_weights(*model, folder);
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
