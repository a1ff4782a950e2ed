# How this project's libraries, programs and tests are made.

set(SHADOWLINE_WARNINGS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror -Wno-unused-parameter
  # Designated initializers leave out what has a default: that is what they are for.
  -Wno-missing-field-initializers
  # GCC 12 sees overlaps in std::string that are not there (its bug 105651).
  -Wno-restrict)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  list(APPEND SHADOWLINE_WARNINGS -Wthread-safety -Wno-unknown-warning-option)
endif()

if(SHADOWLINE_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=address,undefined)
elseif(SHADOWLINE_SANITIZE STREQUAL "fuzzer")
  set(CMAKE_CXX_FLAGS_RELEASE "-O1")
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=address,undefined)
elseif(SHADOWLINE_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=thread)
endif()

# shadowline_library(NAME SOURCES a.cc ... DEPS b ...)
function(shadowline_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_compile_options(${name} PRIVATE ${SHADOWLINE_WARNINGS})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} INTERFACE ${ARG_DEPS})
  endif()
endfunction()

# shadowline_binary(NAME SOURCES a.cc ... DEPS b ...): lands in the build folder's bin/.
function(shadowline_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_compile_options(${name} PRIVATE ${SHADOWLINE_WARNINGS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()

# What nearly every test includes, read once; a test whose flags do not fit reads it as text. A sanitizer's build does
# without, and so sees to it that each source includes what it uses.
set(CMAKE_PCH_WARN_INVALID OFF)
function(shadowline_precompiled_for_tests)
  if(SHADOWLINE_SANITIZE)
    return()
  endif()
  file(WRITE ${PROJECT_BINARY_DIR}/generated/test_headers.cc "")
  add_library(test_headers STATIC ${PROJECT_BINARY_DIR}/generated/test_headers.cc)
  target_compile_options(test_headers PRIVATE ${SHADOWLINE_WARNINGS})
  target_link_libraries(test_headers PUBLIC base GTest::gmock)
  target_precompile_headers(test_headers PRIVATE
    <algorithm> <functional> <map> <memory> <optional> <string> <vector>
    <gmock/gmock.h> <gtest/gtest.h>
    <absl/container/flat_hash_map.h> <absl/functional/any_invocable.h> <absl/status/statusor.h> <absl/strings/str_cat.h>
    <absl/time/time.h>)
endfunction()

# shadowline_test(NAME LABEL unit|sim|conformance|integration|chaos SOURCES a.cc ... DEPS b ... [TIMEOUT seconds] [TSAN])
# One program with GoogleTest's main; its label says what it needs: `conformance`, `integration` and `chaos` start a private
# PostgreSQL and Redis. TSAN: it has threads but no gRPC, so `./dev test --tsan` runs it too.
add_custom_target(tsan_tests)
function(shadowline_test name)
  cmake_parse_arguments(ARG "TSAN" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(SHADOWLINE_SANITIZE)
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 5")
  endif()
  shadowline_binary(${name} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS} GTest::gmock_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/bin)
  if(TARGET test_headers)
    target_precompile_headers(${name} REUSE_FROM test_headers)
  endif()
  set(left_out)
  if(SHADOWLINE_SANITIZE STREQUAL "thread")
    set(left_out --gtest_filter=-*SimTest.*)  # Simulations are long, and of one thread.
  endif()
  add_test(NAME ${name} COMMAND ${name} ${left_out})
  if(ARG_TSAN)
    list(APPEND ARG_LABEL tsan)
    add_dependencies(tsan_tests ${name})
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABEL}" TIMEOUT ${ARG_TIMEOUT}
    ENVIRONMENT "SHADOWLINE_SOURCE_DIR=${PROJECT_SOURCE_DIR};SHADOWLINE_BIN_DIR=${PROJECT_BINARY_DIR}/bin;LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/support/leaks.supp;TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/support/races.supp")
endfunction()
