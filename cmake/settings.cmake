# Compiler settings shared by every target.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_COMPILE_OPTIONS_PIE -fPIC)  # programs share the libraries' precompiled header: the same flags for both

# -O2: the time of a training step is spent inside LibTorch, and -O3 costs a fifth of the build.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

# gcc looks for garbage whenever its heap has grown by a third, and finds little: 5 to 8% of its time (-ftime-report). In KiB.
add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:--param=ggc-min-heapsize=1048576>)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()

# ccache must look through a precompiled header; it refuses to by default.
find_program(EQUISWEEP_CCACHE ccache)
if(EQUISWEEP_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${EQUISWEEP_CCACHE})
endif()

# Files are compiled many at a time, because all files instantiate much the same templates: the 29 test files of analysis took
# 51 s in three units and 29 to 34 s in one. So names in anonymous namespaces are distinct
# within a folder, and a test has a namespace of its own.
set(CMAKE_UNITY_BUILD ON CACHE BOOL "compile several files as one translation unit")
set(CMAKE_UNITY_BUILD_BATCH_SIZE 30 CACHE STRING "how many at most; fewer compile sooner after an edit")

# gcc 12 is wrong about what "literal" + std::string writes where (gcc bugs 105651, 105329); four warnings say so. And a
# class may use the anonymous namespace of the one file that defines it, also where files are compiled together.
add_library(equisweep_warnings INTERFACE)
target_compile_options(equisweep_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wconversion -Wno-sign-conversion
  "$<$<CXX_COMPILER_ID:GNU>:-Wno-restrict;-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread>"
  "$<$<AND:$<CXX_COMPILER_ID:GNU>,$<BOOL:${CMAKE_UNITY_BUILD}>>:-Wno-subobject-linkage>"
  $<$<BOOL:${EQUISWEEP_WERROR}>:-Werror>)
