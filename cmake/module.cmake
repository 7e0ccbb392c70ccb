# decant_module(NAME DEPENDS ... PRIVATE ... TEST ...): the static library decant_NAME of src/NAME/*.cc, the test program NAME_test of
# src/NAME/*_test.cc and, with DECANT_BENCHMARKS, NAME_bench of src/NAME/*_bench.cc. Include paths start at src/.

# Flags of everything we compile ourselves; warnings are errors. No implicit contraction: where a kernel fuses, it says so.
add_library(decant_flags INTERFACE)
target_compile_options(decant_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wno-missing-field-initializers -Werror -ffp-contract=off -fno-math-errno>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 warns about its own intrinsics' undefined sources and about string copies that cannot overlap.
  target_compile_options(decant_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized -Wno-uninitialized -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-psabi>)
else()
  target_compile_options(decant_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-psabi>)
endif()
if(DECANT_SANITIZE)
  target_compile_options(decant_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${DECANT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer>)
  target_link_options(decant_flags INTERFACE -fsanitize=${DECANT_SANITIZE})
  if(DECANT_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Asio's fences, which ThreadSanitizer does not follow; the mutexes beside them it does.
    target_compile_options(decant_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-tsan>)
  endif()
endif()
# version.h is generated, from project().
configure_file(${CMAKE_SOURCE_DIR}/include/decant/version.h.in ${CMAKE_BINARY_DIR}/include/decant/version.h @ONLY)
target_include_directories(decant_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include ${CMAKE_BINARY_DIR}/include)

function(decant_module name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;PRIVATE;TEST" ${ARGN})
  set(dir ${CMAKE_SOURCE_DIR}/src/${name})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${dir}/*.cc)
  set(tests ${sources})
  set(benches ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  list(FILTER sources EXCLUDE REGEX "(_test|_bench|/main)\\.cc$")
  if(NOT sources)
    message(STATUS "module ${name} has no sources yet")
    add_library(decant_${name} INTERFACE)
    return()
  endif()
  add_library(decant_${name} STATIC ${sources})
  target_link_libraries(decant_${name} PUBLIC ${ARG_DEPENDS} decant_flags PRIVATE ${ARG_PRIVATE})
  # A sanitizer build spends half its time on optimizing code that takes none.
  if(DECANT_SANITIZE AND name MATCHES "^(cli|hub)$")
    target_compile_options(decant_${name} PRIVATE -O0)
  endif()
  if(DECANT_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE decant_${name} ${ARG_PRIVATE} ${ARG_TEST} GTest::gtest GTest::gtest_main decant_flags)
    if(DECANT_SANITIZE AND NOT name STREQUAL "kernels")
      target_compile_options(${name}_test PRIVATE -O0)
    endif()
    target_compile_definitions(${name}_test PRIVATE DECANT_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    add_test(NAME ${name} COMMAND ${name}_test)
    set_tests_properties(${name} PROPERTIES LABELS unit)
  endif()
  if(DECANT_BENCHMARKS AND benches)
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE decant_${name} benchmark::benchmark benchmark::benchmark_main decant_flags)
  endif()
endfunction()
