#pragma once
// config.json of transformers, versions 4 and 5, to and from our configurations.

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace equisweep {

/// Our complete configuration of a parsed config.json. `file` names it in messages. Throws DataError naming the key, what
/// was found and what is allowed, also where the file asks for something that the architecture here cannot do: nothing that
/// changes the outputs is ignored.
nlohmann::json config_from_huggingface(const nlohmann::json& huggingface, const std::string& file);

/// Reads and converts `file`. Throws DataError where it cannot be read, is no regular file or is not JSON.
nlohmann::json read_huggingface_config(const std::filesystem::path& file);

/// The config.json that describes our complete configuration, with the rope keys of both versions (each ignores the other's
/// in silence). `context` is max_position_embeddings. Throws UsageError where one of them could not read it: an olmoe
/// whose head_dim is not d / heads; a gemma3 whose heads do not divide d or whose query_scale is not whole.
nlohmann::json config_to_huggingface(const nlohmann::json& config, std::int64_t context = 4096);

/// What who exports this configuration has to know, a sentence each: where a version of transformers reads that file, but
/// makes another model of it.
std::vector<std::string> export_warnings(const nlohmann::json& config);

}  // namespace equisweep
