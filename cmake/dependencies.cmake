# Everything that equisweep is built from. Nothing is fetched here; scripts/setup installs what is missing.

# LibTorch: CMAKE_PREFIX_PATH or Torch_DIR if given, then the environment that scripts/setup makes in this checkout, then
# the Python on the PATH.
if(NOT Torch_DIR)
  find_package(Torch QUIET CONFIG)
  if(NOT Torch_FOUND)
    file(GLOB EQUISWEEP_TORCH_DIRS ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch/share/cmake/Torch)
    if(NOT EQUISWEEP_TORCH_DIRS)
      execute_process(COMMAND python3 -c "import torch.utils; print(torch.utils.cmake_prefix_path)"
                      OUTPUT_VARIABLE EQUISWEEP_PYTHON_PREFIX OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
      if(EQUISWEEP_PYTHON_PREFIX)
        set(EQUISWEEP_TORCH_DIRS ${EQUISWEEP_PYTHON_PREFIX}/Torch)
      endif()
    endif()
    if(NOT EQUISWEEP_TORCH_DIRS)
      message(FATAL_ERROR "LibTorch not found. Run scripts/setup, or set CMAKE_PREFIX_PATH to a LibTorch 2.6 or later.")
    endif()
    list(GET EQUISWEEP_TORCH_DIRS 0 Torch_DIR)
  endif()
endif()
find_package(Torch 2.6 REQUIRED CONFIG)
message(STATUS "LibTorch ${Torch_VERSION} in ${TORCH_INSTALL_PREFIX}")

find_package(fmt REQUIRED)
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(SQLiteCpp REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(sentencepiece REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)

# LibTorch's include folder holds headers of fmt that win over the system's; header-only fmt makes one version serve
# the whole program.
add_library(equisweep_torch INTERFACE)
target_include_directories(equisweep_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
target_link_libraries(equisweep_torch INTERFACE ${TORCH_LIBRARIES})
