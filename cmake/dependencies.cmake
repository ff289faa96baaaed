# Everything that equisweep is built from. Nothing is fetched here; scripts/setup installs what is missing.

# LibTorch: Torch_DIR or CMAKE_PREFIX_PATH if given, then the environment that scripts/setup makes in this checkout, then
# the Python on the PATH, then wherever CMake looks by itself.
#
# TorchConfig.cmake warns if it finds no libkineto beside the shared libraries, although libtorch_cpu holds it.
set(kineto_LIBRARY torch CACHE INTERNAL "part of libtorch_cpu")
if(NOT EXISTS "${Torch_DIR}/TorchConfig.cmake")
  find_package(Torch 2.6 QUIET CONFIG NO_SYSTEM_ENVIRONMENT_PATH NO_CMAKE_PACKAGE_REGISTRY NO_CMAKE_SYSTEM_PATH)
endif()
if(NOT EXISTS "${Torch_DIR}/TorchConfig.cmake")
  file(GLOB EQUISWEEP_TORCH_DIRS ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch/share/cmake/Torch)
  if(NOT EQUISWEEP_TORCH_DIRS)
    execute_process(COMMAND python3 -c "import torch.utils; print(torch.utils.cmake_prefix_path)"
                    OUTPUT_VARIABLE EQUISWEEP_PYTHON_PREFIX OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(EQUISWEEP_PYTHON_PREFIX)
      set(EQUISWEEP_TORCH_DIRS ${EQUISWEEP_PYTHON_PREFIX}/Torch)
    endif()
  endif()
  if(EQUISWEEP_TORCH_DIRS)
    list(GET EQUISWEEP_TORCH_DIRS 0 EQUISWEEP_TORCH_DIR)
    set(Torch_DIR ${EQUISWEEP_TORCH_DIR} CACHE PATH "the folder of TorchConfig.cmake" FORCE)
  endif()
endif()
if(NOT Torch_FOUND)
  find_package(Torch 2.6 QUIET CONFIG)
endif()
if(NOT Torch_FOUND)
  message(FATAL_ERROR "No LibTorch of version 2.6 or later found. Run scripts/setup, or set CMAKE_PREFIX_PATH to one. "
                      "Looked at and refused: ${Torch_CONSIDERED_CONFIGS} (versions: ${Torch_CONSIDERED_VERSIONS}).")
endif()
message(STATUS "LibTorch ${Torch_VERSION} in ${TORCH_INSTALL_PREFIX}")

# A LibTorch with CUDA has switched on the language CUDA by now.
set(EQUISWEEP_CUDA OFF)
if(TARGET torch_cuda)
  set(EQUISWEEP_CUDA ON)
endif()

find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(SQLiteCpp REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(PkgConfig REQUIRED)
pkg_check_modules(sentencepiece REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)

# Imported, so that an installed equisweep asks for the LibTorch of the machine where it is used, and so that its headers count
# as a system's. It holds the headers of fmt, too, whose compiled part is core/format.cpp.
if(NOT TARGET equisweep_torch)
  # A toolkit without libnvrtc leaves this behind; nothing here calls it, and LibTorch loads its own.
  list(REMOVE_ITEM TORCH_LIBRARIES CUDA_nvrtc_LIBRARY-NOTFOUND)
  add_library(equisweep_torch INTERFACE IMPORTED)
  target_include_directories(equisweep_torch INTERFACE ${TORCH_INCLUDE_DIRS})
  target_link_libraries(equisweep_torch INTERFACE ${TORCH_LIBRARIES})
  # LibTorch's libraries bring parts of a standard library of their own (std::filesystem of 2.11's CUDA build crashes), and the
  # first library in a program's list is the one whose functions are taken.
  target_link_options(equisweep_torch INTERFACE "LINKER:--push-state,--no-as-needed" -lstdc++ "LINKER:--pop-state")
  # at::parallel_for is compiled into the code that calls it, and runs on one thread where that code is without OpenMP. By
  # flag, not by path: the libgomp beside LibTorch is the one that is loaded.
  target_compile_options(equisweep_torch INTERFACE ${OpenMP_CXX_FLAGS})
  target_link_options(equisweep_torch INTERFACE ${OpenMP_CXX_FLAGS})
endif()
