# Warnings, hardening and sanitizers, as one interface target that every module links.
add_library(fluyt_flags INTERFACE)
target_compile_options(fluyt_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
  -Wno-missing-field-initializers  # designated initializers leave out what has a default
  # clang looks into headers of others: structures of the kernel that end in an empty array, std::stable_sort of GCC 12
  "$<$<CXX_COMPILER_ID:Clang>:-Wno-zero-length-array;-Wno-deprecated-declarations>"
  -fno-omit-frame-pointer -fstack-protector-strong -ffunction-sections -fdata-sections
  -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
target_link_options(fluyt_flags INTERFACE -Wl,--gc-sections -Wl,-z,relro -Wl,-z,now)
target_compile_definitions(fluyt_flags INTERFACE FLUYT_VERSION="${PROJECT_VERSION}")

if(FLUYT_SANITIZE STREQUAL "address")
  # Where a type is met for the first time, the check of dynamic types makes a pipe to see whether memory can be read: a filter kills it for that.
  # g++ 12 loses with its checks what it knows of an optional's flag; the release build is warned of what may be uninitialized.
  target_compile_options(fluyt_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
    "$<$<BOOL:$<TARGET_PROPERTY:FLUYT_HAS_FILTER>>:-fno-sanitize=vptr>" "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>")
  target_link_options(fluyt_flags INTERFACE -fsanitize=address,undefined)
elseif(FLUYT_SANITIZE STREQUAL "thread")
  # g++ 12 sees a delete of a stack object where it inlines ~variant<T, Error>: it takes both members for live.
  target_compile_options(fluyt_flags INTERFACE -fsanitize=thread "$<$<CXX_COMPILER_ID:GNU>:-Wno-free-nonheap-object>")
  target_link_options(fluyt_flags INTERFACE -fsanitize=thread)
elseif(FLUYT_SANITIZE STREQUAL "fuzzer")
  target_compile_options(fluyt_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined)
  target_link_options(fluyt_flags INTERFACE -fsanitize=address,undefined)
endif()

# Sanitizer runtimes cannot be linked statically, so only plain builds make static programs.
if(FLUYT_SANITIZE)
  set(FLUYT_STATIC_LINK "")
else()
  set(FLUYT_STATIC_LINK -static)
endif()
