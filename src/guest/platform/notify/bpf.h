#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

/// The seccomp programs of a stub's threads, as values.
namespace fluyt::guest {

/// Under every thread of a stub. Outside the stub's text everything is left to the program above it
/// (the guest's); inside, only what the stub itself does, with the arguments it does it with: what
/// is not in here kills the process, also when guest code jumps there.
std::vector<sock_filter> base_program(int arena_fd);
/// A guest thread: every call is the sentry's, but for rt_sigreturn from the stub's text.
std::vector<sock_filter> guest_program();
/// The helper: memory operations, and its own word to the sentry.
std::vector<sock_filter> helper_program();

}  // namespace fluyt::guest
