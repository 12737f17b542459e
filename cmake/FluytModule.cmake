# One target a folder. A module sees its own headers and those of the modules it names, nothing else:
# its include path is made of links that lead to just those folders, so an include that the list does
# not allow does not build.
#
#   fluyt_module(image_layer FOLDER image/layer
#     DEPS base sys          headers that ours include: seen by our users too
#     PRIVATE_DEPS oci       seen by our bodies alone
#     LIBS PkgConfig::ZSTD   outside libraries our bodies need
#     PUBLIC_LIBS ...        outside libraries our headers need
#     TEST_LIBS ...          outside libraries our tests need (oracles)
#     PCH <x.h> ...)         outside headers that most bodies include and that take seconds to read
#
# Bodies are *.cc, tests *_test.cc beside them (one program <name>_test), fuzzers *_fuzz.cc
# (one program each, in the fuzz preset). Every header is compiled alone once, to prove that it can be.

set_property(GLOBAL PROPERTY FLUYT_TESTS "")
add_custom_target(fluyt_tests)
add_custom_target(fluyt_headers)
add_custom_target(fluyt_fuzzers)

function(fluyt_precompile NAME)
  target_precompile_headers(${NAME} PRIVATE ${ARGN})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${NAME} PRIVATE -fpch-preprocess)  # so that ccache can see through them
  endif()
endfunction()

function(fluyt_module NAME)
  cmake_parse_arguments(M "" "FOLDER" "DEPS;PRIVATE_DEPS;LIBS;PUBLIC_LIBS;TEST_LIBS;TEST_DEPS;PCH" ${ARGN})
  if(NOT M_FOLDER)
    set(M_FOLDER ${NAME})
  endif()
  set(dir ${CMAKE_SOURCE_DIR}/src/${M_FOLDER})
  file(GLOB bodies CONFIGURE_DEPENDS ${dir}/*.cc)
  file(GLOB headers CONFIGURE_DEPENDS ${dir}/*.h)
  set(tests ${bodies})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(fuzzers ${bodies})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  list(FILTER bodies EXCLUDE REGEX "_(test|fuzz)\\.cc$")

  set(inc ${CMAKE_BINARY_DIR}/inc/${NAME})
  cmake_path(GET M_FOLDER PARENT_PATH parent)
  # A link of an older layout (FOLDER image, now image/testing) must not lead us into the sources.
  set(prefix ${parent})
  while(prefix)
    if(IS_SYMLINK ${inc}/${prefix})
      file(REMOVE ${inc}/${prefix})
    endif()
    cmake_path(GET prefix PARENT_PATH prefix)
  endwhile()
  file(MAKE_DIRECTORY ${inc}/${parent})
  file(CREATE_LINK ${dir} ${inc}/${M_FOLDER} SYMBOLIC)

  if(bodies)
    add_library(${NAME} STATIC ${bodies})
    set(scope PUBLIC)
    target_link_libraries(${NAME} PUBLIC fluyt_flags)
  else()
    add_library(${NAME} INTERFACE)
    set(scope INTERFACE)
  endif()
  # -iquote, not -I: <sys/socket.h> is the system's, "sys/socket.h" ours.
  target_compile_options(${NAME} ${scope} "SHELL:-iquote ${inc}")
  target_link_libraries(${NAME} ${scope} ${M_DEPS} ${M_PUBLIC_LIBS})
  if(bodies)
    target_link_libraries(${NAME} PRIVATE ${M_PRIVATE_DEPS} ${M_LIBS})
    if(M_PCH)
      fluyt_precompile(${NAME} ${M_PCH})
    endif()
  endif()

  if(headers AND FLUYT_TESTS)
    set(proofs "")
    foreach(header ${headers})
      cmake_path(GET header FILENAME file)
      set(proof ${CMAKE_BINARY_DIR}/headers/${NAME}/${file}.cc)
      file(CONFIGURE OUTPUT ${proof} CONTENT "#include \"${M_FOLDER}/${file}\"\n")
      list(APPEND proofs ${proof})
    endforeach()
    add_library(${NAME}_headers OBJECT EXCLUDE_FROM_ALL ${proofs})
    target_link_libraries(${NAME}_headers PRIVATE fluyt_flags ${NAME} ${M_PRIVATE_DEPS} ${M_LIBS})
    add_dependencies(fluyt_headers ${NAME}_headers)
  endif()

  if(tests AND FLUYT_TESTS)
    add_executable(${NAME}_test EXCLUDE_FROM_ALL ${tests})
    target_link_libraries(${NAME}_test PRIVATE fluyt_flags ${NAME} ${M_PRIVATE_DEPS} ${M_TEST_DEPS} ${M_LIBS} ${M_TEST_LIBS}
      GTest::gmock GTest::gtest_main)
    set_target_properties(${NAME}_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test)
    add_dependencies(fluyt_tests ${NAME}_test)
    add_test(NAME ${NAME} COMMAND ${NAME}_test)
  endif()

  if(fuzzers AND FLUYT_SANITIZE STREQUAL "fuzzer")
    foreach(fuzzer ${fuzzers})
      cmake_path(GET fuzzer STEM stem)
      add_executable(${stem} ${fuzzer})
      target_link_libraries(${stem} PRIVATE fluyt_flags ${NAME} ${M_PRIVATE_DEPS} ${M_TEST_DEPS} ${M_LIBS})
      target_link_options(${stem} PRIVATE -fsanitize=fuzzer)
      set_target_properties(${stem} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
      add_dependencies(fluyt_fuzzers ${stem})
    endforeach()
  endif()
endfunction()

# A program: src/cmd/<name>, STATIC where it enters containers or must live alone.
function(fluyt_program NAME)
  cmake_parse_arguments(P "STATIC" "FOLDER" "DEPS;LIBS;PCH" ${ARGN})
  if(NOT P_FOLDER)
    set(P_FOLDER cmd/${NAME})
  endif()
  file(GLOB bodies CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${P_FOLDER}/*.cc)
  list(FILTER bodies EXCLUDE REGEX "_test\\.cc$")
  add_executable(${NAME} ${bodies})
  set(inc ${CMAKE_BINARY_DIR}/inc/program_${NAME})
  cmake_path(GET P_FOLDER PARENT_PATH parent)
  file(MAKE_DIRECTORY ${inc}/${parent})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/src/${P_FOLDER} ${inc}/${P_FOLDER} SYMBOLIC)
  target_compile_options(${NAME} PRIVATE "SHELL:-iquote ${inc}")
  target_link_libraries(${NAME} PRIVATE fluyt_flags ${P_DEPS} ${P_LIBS})
  if(P_PCH)
    fluyt_precompile(${NAME} ${P_PCH})
  endif()
  if(P_STATIC)
    target_link_options(${NAME} PRIVATE ${FLUYT_STATIC_LINK})
  endif()
endfunction()
