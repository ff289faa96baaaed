#include "core/scratch_folder.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <system_error>

#include "core/error.h"

namespace equisweep {
namespace {

std::filesystem::path make_scratch(const std::filesystem::path& parent, const std::string& prefix, const char* advice) {
  std::string name = (std::filesystem::absolute(parent) / (prefix + "XXXXXX")).string();
  if (::mkdtemp(name.data()) == nullptr)
    throw Error(fmt::format("{}: cannot be made: {}{}", name, std::generic_category().message(errno), advice));
  return name;
}

}  // namespace

ScratchFolder::ScratchFolder(const std::filesystem::path& parent, const std::string& prefix)
    : path_(make_scratch(parent, prefix, "")) {}

ScratchFolder::ScratchFolder(const std::string& prefix)
    : path_(make_scratch(std::filesystem::temp_directory_path(), prefix, "; set TMPDIR to a folder with room")) {}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace equisweep
