# Every library comes from Debian's packages. gRPC, Protobuf and Abseil are linked statically: the calls between them are
# the hot path, and without the jump tables a read costs about a seventh less.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Protobuf REQUIRED)
find_package(GTest REQUIRED)

# shadowline_archives(NAME LIBRARIES... [AND TARGETS...]): an interface target that links static archives. The linker takes
# from an archive only what is used, so Abseil's are given whole: asking pkg-config which of them follow from which takes
# half a minute.
function(shadowline_archives name)
  cmake_parse_arguments(ARG "" "" "AND" ${ARGN})
  set(archives "")
  foreach(library IN LISTS ARG_UNPARSED_ARGUMENTS)
    find_library(ARCHIVE_${library} NAMES lib${library}.a REQUIRED)
    list(APPEND archives ${ARCHIVE_${library}})
  endforeach()
  add_library(${name} INTERFACE)
  target_link_libraries(${name} INTERFACE -Wl,--start-group ${archives} -Wl,--end-group ${ARG_AND} Threads::Threads)
endfunction()

find_library(ABSL_BASE_ARCHIVE NAMES libabsl_base.a REQUIRED)
get_filename_component(ARCHIVE_FOLDER ${ABSL_BASE_ARCHIVE} DIRECTORY)
file(GLOB ABSL_ARCHIVES RELATIVE ${ARCHIVE_FOLDER} ${ARCHIVE_FOLDER}/libabsl_*.a)
list(TRANSFORM ABSL_ARCHIVES REPLACE "^lib(.*)\\.a$" "\\1")
shadowline_archives(dep_absl ${ABSL_ARCHIVES})
shadowline_archives(dep_protobuf protobuf AND dep_absl ZLIB::ZLIB)
if(SHADOWLINE_SANITIZE STREQUAL "thread")
  target_compile_options(dep_protobuf INTERFACE "SHELL:-include ${PROJECT_SOURCE_DIR}/cmake/protobuf_tsan.inc")
endif()
shadowline_archives(dep_grpc grpc++ grpc gpr upb re2 cares address_sorting
  AND dep_protobuf OpenSSL::SSL OpenSSL::Crypto ZLIB::ZLIB ${CMAKE_DL_LIBS} rt atomic)
find_library(GRPC_REFLECTION_ARCHIVE NAMES libgrpc++_reflection.a REQUIRED)
add_library(dep_grpc_reflection INTERFACE)
target_link_libraries(dep_grpc_reflection INTERFACE -Wl,--whole-archive ${GRPC_REFLECTION_ARCHIVE} -Wl,--no-whole-archive dep_grpc)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

# shadowline_package(NAME PKGCONFIG-MODULES...): an ordinary shared library.
function(shadowline_package name)
  pkg_check_modules(${name} REQUIRED QUIET IMPORTED_TARGET ${ARGN})
  add_library(dep_${name} INTERFACE)
  target_link_libraries(dep_${name} INTERFACE PkgConfig::${name})
endfunction()

shadowline_package(pqxx libpqxx libpq)
shadowline_package(hiredis hiredis)
shadowline_package(spdlog spdlog)
shadowline_package(yaml yaml-cpp)
shadowline_package(zstd libzstd)
shadowline_package(xxhash libxxhash)
shadowline_package(simdjson simdjson)
find_package(prometheus-cpp REQUIRED CONFIG)
find_library(HTTPLIB_LIBRARY NAMES cpp-httplib REQUIRED)
add_library(dep_httplib INTERFACE)
target_link_libraries(dep_httplib INTERFACE ${HTTPLIB_LIBRARY} Threads::Threads OpenSSL::SSL OpenSSL::Crypto)
target_compile_definitions(dep_httplib INTERFACE CPPHTTPLIB_OPENSSL_SUPPORT CPPHTTPLIB_ZLIB_SUPPORT CPPHTTPLIB_BROTLI_SUPPORT)
find_library(JEMALLOC_LIBRARY NAMES jemalloc REQUIRED)

# Tools that only make a build faster.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  add_link_options(-fuse-ld=mold)
endif()
