# The library libdecant.a, target decant::decant, and what `cmake --install` puts where: program, library, headers, package files for
# CMake and pkg-config, completion of shells.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# All modules that decant_NAME links, itself included.
function(decant_collect_modules name out)
  set(seen "")
  set(todo decant_${name})
  while(todo)
    list(POP_FRONT todo target)
    if(target IN_LIST seen OR NOT TARGET ${target})
      continue()
    endif()
    get_target_property(type ${target} TYPE)
    if(NOT target MATCHES "^decant_" OR NOT type STREQUAL "STATIC_LIBRARY")
      continue()
    endif()
    list(APPEND seen ${target})
    get_target_property(links ${target} LINK_LIBRARIES)
    list(APPEND todo ${links})
  endwhile()
  set(${out} ${seen} PARENT_SCOPE)
endfunction()

decant_collect_modules(api decant_modules)
list(TRANSFORM decant_modules REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>" OUTPUT_VARIABLE decant_objects)
add_library(decant_library STATIC ${decant_objects})
add_library(decant::decant ALIAS decant_library)
set_target_properties(decant_library PROPERTIES OUTPUT_NAME decant EXPORT_NAME decant LINKER_LANGUAGE CXX)
target_compile_features(decant_library INTERFACE cxx_std_20)
target_include_directories(decant_library INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
  $<BUILD_INTERFACE:${CMAKE_BINARY_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
# What the objects need; decantConfig.cmake and decant.pc name the same.
target_link_libraries(decant_library INTERFACE fmt::fmt Threads::Threads utf8proc)
set(decant_pc_requires "fmt libutf8proc")
set(decant_pc_libs -pthread)
if(DECANT_CUDA)
  find_package(CUDAToolkit REQUIRED)  # its targets are of the folder that asks
  target_link_libraries(decant_library INTERFACE CUDA::cudart)
  list(APPEND decant_pc_libs -L${CUDAToolkit_LIBRARY_DIR} -lcudart)
endif()
if(DECANT_SANITIZE)
  target_compile_options(decant_library INTERFACE -fsanitize=${DECANT_SANITIZE})
  target_link_options(decant_library INTERFACE -fsanitize=${DECANT_SANITIZE})
  list(APPEND decant_pc_libs -fsanitize=${DECANT_SANITIZE})
endif()
list(JOIN decant_pc_libs " " decant_pc_libs)

set(decant_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/decant)
configure_package_config_file(cmake/decantConfig.cmake.in ${CMAKE_BINARY_DIR}/decantConfig.cmake INSTALL_DESTINATION ${decant_package_dir})
# Before 1.0 a new minor version may break what was there; docs/api.md says when which number changes.
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(decant_compatibility SameMinorVersion)
else()
  set(decant_compatibility SameMajorVersion)
endif()
write_basic_package_version_file(${CMAKE_BINARY_DIR}/decantConfigVersion.cmake COMPATIBILITY ${decant_compatibility})
# Relative, so that it holds under any prefix.
file(RELATIVE_PATH decant_pc_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/decant.pc.in ${CMAKE_BINARY_DIR}/decant.pc @ONLY)

install(TARGETS decant RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS decant_library EXPORT decant ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT decant FILE decantTargets.cmake NAMESPACE decant:: DESTINATION ${decant_package_dir})
install(FILES ${CMAKE_BINARY_DIR}/decantConfig.cmake ${CMAKE_BINARY_DIR}/decantConfigVersion.cmake DESTINATION ${decant_package_dir})
install(FILES ${CMAKE_BINARY_DIR}/decant.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/decant ${CMAKE_BINARY_DIR}/include/decant DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h")

# The program writes its own completion, so it runs while installing.
foreach(entry bash=share/bash-completion/completions/decant zsh=share/zsh/site-functions/_decant
    fish=share/fish/vendor_completions.d/decant.fish)
  string(REGEX MATCH "^([a-z]+)=(.+)/([^/]+)$" matched ${entry})
  set(script ${CMAKE_BINARY_DIR}/completion/${CMAKE_MATCH_1}/${CMAKE_MATCH_3})
  install(CODE "
    file(MAKE_DIRECTORY \"${CMAKE_BINARY_DIR}/completion/${CMAKE_MATCH_1}\")
    execute_process(COMMAND \"$<TARGET_FILE:decant>\" completion ${CMAKE_MATCH_1} OUTPUT_FILE \"${script}\" COMMAND_ERROR_IS_FATAL ANY)")
  install(FILES ${script} DESTINATION ${CMAKE_MATCH_2})
endforeach()
