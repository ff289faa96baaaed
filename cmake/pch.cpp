// Exists so that the precompiled header has an owner; see cmake/library.cmake.
