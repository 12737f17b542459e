#include "guest/sys/table.h"

#include <array>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>

#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

constexpr CallEntry kCalls[] = {
#define CALL(number, name, support, arguments, missing) \
  {number, #name, sys_##name, Support::support, arguments, missing},
#include "guest/sys/calls.inc"
#undef CALL
};

constexpr int kHighest = 512;
constexpr std::array<int16_t, kHighest> make_index() {
  std::array<int16_t, kHighest> index{};
  for (int16_t& at : index) at = -1;
  for (size_t i = 0; i < std::size(kCalls); ++i)
    index[static_cast<size_t>(kCalls[i].number)] = static_cast<int16_t>(i);
  return index;
}
constexpr std::array<int16_t, kHighest> kIndex = make_index();

std::string name_of(const Task& task) {
  std::lock_guard lock(task.kernel.lock);
  return task.name;
}

void trace(Task& task, const SyscallRequest& call, const CallEntry* entry,
           const ErrnoOr<uint64_t>* result) {
  char line[1024];
  size_t at = 0;
  const auto put = [&](const char* format, auto... values) {
    const int done = std::snprintf(line + at, sizeof line - at, format, values...);
    if (done > 0) at = std::min(sizeof line - 1, at + static_cast<size_t>(done));
  };
  put("[%5d %s] ", task.tid, name_of(task).c_str());
  if (entry == nullptr) {
    put("%s%d(%#lx, %#lx, %#lx)", call.native ? "call_" : "foreign_", call.number, call.args[0],
        call.args[1], call.args[2]);
  } else {
    put("%s(", entry->name);
    for (size_t i = 0; entry->arguments[i] != 0; ++i) {
      if (i != 0) put("%s", ", ");
      const uint64_t value = call.args[i];
      switch (entry->arguments[i]) {
        case 'd':
        case 'f':
          put("%ld", static_cast<int64_t>(static_cast<int32_t>(value)));
          break;
        case 's': {
          const ErrnoOr<std::string> text =
              task.mm ? task.get_string(value, 256) : ErrnoOr<std::string>(Errno(EFAULT));
          if (text.ok())
            put("\"%s\"", text.value().c_str());
          else
            put("%#lx", value);
          break;
        }
        default:
          put("%#lx", value);
      }
    }
    put("%s", ")");
  }
  if (result == nullptr)
    put("%s", " ...");
  else if (!result->ok())
    put(" = -%d (%s)", result->error().value(),
        result->error().value() < kRestartSys ? std::strerror(result->error().value()) : "restart");
  else if (result->value() != kCarriedOut)
    put(" = %ld", static_cast<int64_t>(result->value()));
  put("%s", "\n");
  (void)host::write(task.container->strace, std::as_bytes(std::span(line, at))).ok();
}

void report(Task& task, int number) {
  Container& of = *task.container;
  if (!of.log.valid() || number < 0 || static_cast<size_t>(number) >= of.reported.size() ||
      of.reported[static_cast<size_t>(number)].exchange(true))
    return;
  char line[128];
  // The program chose its name: a line is to stay one.
  std::string name = name_of(task);
  for (char& c : name)
    if (c < ' ' || c > '~') c = '?';
  const int length = std::snprintf(line, sizeof line, "rung: %s: system call %d is not supported\n",
                                   name.c_str(), number);
  if (length > 0)
    (void)host::write(of.log, std::as_bytes(std::span(line, static_cast<size_t>(length)))).ok();
}

}  // namespace

std::span<const CallEntry> call_table() { return kCalls; }

const CallEntry* find_call(int number) {
  if (number < 0 || number >= kHighest || kIndex[static_cast<size_t>(number)] < 0) return nullptr;
  return &kCalls[kIndex[static_cast<size_t>(number)]];
}

ErrnoOr<uint64_t> dispatch(Task& task, const SyscallRequest& call) {
  const CallEntry* entry = call.native ? find_call(call.number) : nullptr;
  if (call.number >= 0 && static_cast<size_t>(call.number) < task.container->call_counts.size())
    task.container->call_counts[static_cast<size_t>(call.number)].fetch_add(
        1, std::memory_order_relaxed);
  const bool tracing = task.container->strace.valid();
  // What does not come back is shown before it goes.
  if (tracing && entry != nullptr && (call.number == 231 || call.number == 60 || call.number == 59))
    trace(task, call, entry, nullptr);
  ErrnoOr<uint64_t> result = Errno(ENOSYS);
  if (entry != nullptr) {
    // Sizes are checked where they come in; what slips through costs its caller the call, not the
    // sandbox its kernel.
    try {
      result = entry->handler(task, call.args);
    } catch (const std::bad_alloc&) {
      result = Errno(ENOMEM);
    } catch (const std::length_error&) {
      result = Errno(ENOMEM);
    }
  } else
    report(task, call.native ? call.number : -1);
  if (tracing && call.number != 59) trace(task, call, entry, &result);
  return result;
}

std::string describe_calls() {
  std::string out =
      "# System calls of the guest kernel\n\n"
      "Generated from src/guest/sys/calls.inc by `rung syscalls`. A call that is not here is "
      "ENOSYS and is logged once.\n"
      "x86-64 alone; int 0x80 and x32 numbers are ENOSYS.\n\n"
      "## What the host carries out for a guest thread\n\n"
      "| call | when |\n| --- | --- |\n"
      "| arch_prctl | ARCH_SET_FS, ARCH_SET_GS, ARCH_GET_FS, ARCH_GET_GS: registers of the thread "
      "itself |\n"
      "| clock_gettime, getrusage | CLOCK_THREAD_CPUTIME_ID and RUSAGE_THREAD of one thread of "
      "several: the answer goes "
      "where the program itself could write |\n"
      "| exit | the thread has ended in the guest kernel |\n"
      "| rseq | where the host keeps the thread's processor, and looks for what it restarts: "
      "memory of "
      "the program's alone |\n"
      "| rt_sigreturn | from the stub's text alone, behind every signal of the host |\n"
      "| seccomp, arch_prctl, mmap of its slot, rseq after a fork | once, in the stub's text, "
      "before "
      "the first instruction of the program |\n"
      "| uretprobe, uprobe (335, 336) | no seccomp filter sees them (Linux 6.14 and later); they "
      "fail outside the kernel's own trampolines |\n\n"
      "## The calls\n\n"
      "| number | call | support | missing |\n| --- | --- | --- | --- |\n";
  size_t full = 0;
  for (const CallEntry& entry : kCalls) {
    const bool whole = entry.support == Support::kFull;
    full += whole ? 1 : 0;
    out += "| " + std::to_string(entry.number) + " | " + entry.name + " | " +
           (whole ? "full" : "partial") + " | " + entry.missing + " |\n";
  }
  out += "\n" + std::to_string(std::size(kCalls)) + " calls: " + std::to_string(full) + " full, " +
         std::to_string(std::size(kCalls) - full) + " partial.\n";
  return out;
}

}  // namespace fluyt::guest
