# `cmake --install build`, then find_package(equisweep) in a program of your own and link equisweep::optimizers.
include(CMakePackageConfigHelpers)

get_property(libraries GLOBAL PROPERTY EQUISWEEP_LIBRARIES)
install(TARGETS ${libraries} EXPORT equisweep-targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
# The installed program finds LibTorch where the build found it.
set_target_properties(equisweep PROPERTIES INSTALL_RPATH ${TORCH_INSTALL_PREFIX}/lib)
install(TARGETS equisweep RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
foreach(folder core optimizers models analysis sweeps)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/equisweep
          FILES_MATCHING PATTERN "*.h")
endforeach()
install(EXPORT equisweep-targets NAMESPACE equisweep:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/equisweep)
configure_package_config_file(cmake/equisweep-config.cmake.in ${PROJECT_BINARY_DIR}/equisweep-config.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/equisweep)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/equisweep-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/equisweep-config.cmake ${PROJECT_BINARY_DIR}/equisweep-config-version.cmake
              cmake/dependencies.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/equisweep)
