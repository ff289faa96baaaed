# equisweep_library(NAME SOURCES ... [PLAIN ...] LINK ...): one library a folder.
# SOURCES use tensors and share one precompiled header; PLAIN sources do not, and compile without it.

# torch/torch.h would cost 6 to 16 s a file even when precompiled; these two are all that the code needs.
add_library(equisweep_pch OBJECT ${PROJECT_SOURCE_DIR}/cmake/pch.cpp)
target_link_libraries(equisweep_pch PRIVATE equisweep_torch equisweep_warnings)
target_precompile_headers(equisweep_pch PRIVATE <torch/types.h> <torch/csrc/autograd/custom_function.h>)

function(equisweep_target_settings target)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:equisweep_warnings>)
  target_precompile_headers(${target} REUSE_FROM equisweep_pch)
endfunction()

function(equisweep_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PLAIN;LINK" ${ARGN})
  set(target equisweep_${name})
  add_library(${target} STATIC ${ARG_SOURCES} ${ARG_PLAIN})
  add_library(equisweep::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/equisweep>
                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_link_libraries(${target} PUBLIC ${ARG_LINK})
  equisweep_target_settings(${target})
  set_source_files_properties(${ARG_PLAIN} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  set_property(GLOBAL APPEND PROPERTY EQUISWEEP_LIBRARIES ${target})
endfunction()
