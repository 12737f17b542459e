#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "guest/task/task.h"

/// The one table of system calls. Dispatch, --strace and docs/guest-syscalls.md read it.
namespace fluyt::guest {

enum class Support : uint8_t { kFull, kPartial };

using Arguments = const uint64_t (&)[6];
using Handler = ErrnoOr<uint64_t> (*)(Task& task, Arguments a);

struct CallEntry {
  int number;
  const char* name;
  Handler handler;
  Support support;
  /// A letter an argument, for --strace: d number, x bits, p pointer, s path, f descriptor.
  const char* arguments;
  /// What is missing when it is partial.
  const char* missing;
};

std::span<const CallEntry> call_table();
const CallEntry* find_call(int number);

ErrnoOr<uint64_t> dispatch(Task& task, const SyscallRequest& call);

/// docs/guest-syscalls.md.
std::string describe_calls();

}  // namespace fluyt::guest
