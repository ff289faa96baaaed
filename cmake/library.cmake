# One library a folder. Its files come in two kinds: SOURCES use tensors, PLAIN files do not, and each kind shares a
# precompiled header, because else most of the build is the parsing of LibTorch and of nlohmann/json.

# torch/torch.h would cost 6 to 16 s a file even when precompiled. So would less: templates that precompiled headers leave pending
# are instantiated in every file, 2 s of them for torch/csrc/autograd/custom_function.h, which the few files that need it include.
set(EQUISWEEP_TENSOR_HEADERS <ATen/ATen.h> <nlohmann/json.hpp> <fmt/format.h>)
set(EQUISWEEP_PLAIN_HEADERS <nlohmann/json.hpp> <fmt/format.h> <algorithm> <array> <charconv> <chrono> <cmath> <filesystem>
    <fstream> <functional> <map> <memory> <optional> <set> <span> <string> <string_view> <unordered_map> <vector>)

# equisweep_precompiled(NAME HEADERS ... [LINK ...] [OPTIONS ...]): a precompiled header that other targets reuse.
function(equisweep_precompiled name)
  cmake_parse_arguments(ARG "" "" "HEADERS;LINK;OPTIONS" ${ARGN})
  add_library(${name} OBJECT ${PROJECT_SOURCE_DIR}/cmake/pch.cpp)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} equisweep_torch nlohmann_json::nlohmann_json equisweep_warnings)
  target_compile_options(${name} PRIVATE ${ARG_OPTIONS})
  target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
endfunction()

# equisweep_objects(NAME PCH ... SOURCES ... LINK ... [OPTIONS ...]): compiles sources with a precompiled header of
# equisweep_precompiled(); makes no target where there are none.
function(equisweep_objects name)
  cmake_parse_arguments(ARG "" "PCH" "SOURCES;LINK;OPTIONS" ${ARGN})
  if(NOT ARG_SOURCES)
    return()
  endif()
  add_library(${name} OBJECT ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} equisweep_torch equisweep_warnings)  # the macros of the header's owner
  target_compile_options(${name} PRIVATE ${ARG_OPTIONS})
  target_precompile_headers(${name} REUSE_FROM ${ARG_PCH})
endfunction()

equisweep_precompiled(equisweep_pch HEADERS ${EQUISWEEP_PLAIN_HEADERS})
equisweep_precompiled(equisweep_tensor_pch HEADERS ${EQUISWEEP_TENSOR_HEADERS})

# equisweep_library(NAME SOURCES ... [PLAIN ...] [BARE ...] LINK ...). BARE files are plain ones that a program without LibTorch
# links (tests/support/stub_worker.cpp): compiled together with each other alone, so that nothing else comes with them.
function(equisweep_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PLAIN;BARE;LINK" ${ARGN})
  set(target equisweep_${name})
  equisweep_objects(${target}_plain PCH equisweep_pch SOURCES ${ARG_PLAIN} LINK ${ARG_LINK})
  equisweep_objects(${target}_bare PCH equisweep_pch SOURCES ${ARG_BARE} LINK ${ARG_LINK})
  add_library(${target} STATIC ${ARG_SOURCES})
  foreach(part plain bare)
    if(TARGET ${target}_${part})
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_${part}>)
    endif()
  endforeach()
  add_library(equisweep::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/equisweep>
                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_link_libraries(${target} PUBLIC ${ARG_LINK} PRIVATE $<BUILD_INTERFACE:equisweep_warnings>)
  target_precompile_headers(${target} REUSE_FROM equisweep_tensor_pch)
  set_property(GLOBAL APPEND PROPERTY EQUISWEEP_LIBRARIES ${target})
endfunction()

# Machine code for Ampere (A100) and Hopper (H100), and an intermediate form of the latter for what came after.
set(EQUISWEEP_CUDA_ARCHITECTURES 80-real 90 CACHE STRING "what kernels for CUDA are compiled for, as CMAKE_CUDA_ARCHITECTURES")

# equisweep_cuda(NAME FILE...): FILE_none.cpp of the library NAME, or FILE.cu, with plain pointers and without LibTorch, where
# LibTorch has CUDA.
function(equisweep_cuda name)
  if(NOT EQUISWEEP_CUDA)
    list(TRANSFORM ARGN APPEND _none.cpp)
    target_sources(equisweep_${name} PRIVATE ${ARGN})
    return()
  endif()
  list(TRANSFORM ARGN APPEND .cu)
  add_library(equisweep_${name}_cuda STATIC ${ARGN})
  target_include_directories(equisweep_${name}_cuda PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(equisweep_${name}_cuda PRIVATE -O3 "SHELL:-Xcompiler -Wall,-Wextra")
  set_target_properties(equisweep_${name}_cuda PROPERTIES CUDA_ARCHITECTURES "${EQUISWEEP_CUDA_ARCHITECTURES}"
                        CUDA_STANDARD 17 CUDA_RUNTIME_LIBRARY Shared EXPORT_NAME ${name}_cuda)
  target_link_libraries(equisweep_${name} PRIVATE equisweep_${name}_cuda)
  set_property(GLOBAL APPEND PROPERTY EQUISWEEP_LIBRARIES equisweep_${name}_cuda)
endfunction()

set(EQUISWEEP_AVX512 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl)

# equisweep_kernel(FILE OPTIONS...): a file with flags of its own, which the precompiled header was not made with.
function(equisweep_kernel file)
  set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${ARGN}" SKIP_PRECOMPILE_HEADERS ON
                              SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# equisweep_loops(NAME [OPTIONS...]): NAME_default.cpp, NAME_avx2.cpp and NAME_avx512.cpp hold the same loops for each
# instruction set of x86, of which the best is taken at run time (core/kernels.h). They include nothing of the standard
# library, whose inline functions would bring these instructions to every machine.
function(equisweep_loops name)
  set(loops -O3 -fno-math-errno -fno-trapping-math -fopenmp-simd ${ARGN})
  equisweep_kernel(${name}_default.cpp ${loops})
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    equisweep_kernel(${name}_avx2.cpp ${loops} -mfma -mavx2)
    equisweep_kernel(${name}_avx512.cpp ${loops} ${EQUISWEEP_AVX512} -mprefer-vector-width=512)
  else()
    equisweep_kernel(${name}_avx2.cpp ${loops})
    equisweep_kernel(${name}_avx512.cpp ${loops})
  endif()
endfunction()
