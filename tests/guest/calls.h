#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>

// A case prints one line a call: its name and what came of it. Values that differ between two
// native runs (pids, addresses, times) are printed as relations, never as they are.
namespace calls {

void begin(const char* call);
void line(const std::string& what, const std::string& result);

inline std::string result_of(long value) {
  if (value != -1) return std::to_string(value);
  const char* name = strerrorname_np(errno);
  return name != nullptr ? name : "errno " + std::to_string(errno);
}
/// The value, or the errno's name.
inline void value(const std::string& what, long got) { line(what, result_of(got)); }
/// "ok" for anything but -1.
inline long ok(const std::string& what, long got) {
  line(what, got == -1 ? result_of(got) : "ok");
  return got;
}
inline void truth(const std::string& what, bool holds) { line(what, holds ? "yes" : "no"); }

/// A child that runs `body`; its wait status as text.
std::string in_child(const std::function<int()>& body);

/// What --capabilities tells: CAP_NET_BIND_SERVICE effective, permitted, AT_SECURE, a bit each.
int effective_capabilities();

/// Takes 12 MiB of stack.
int go_deep();
/// Prints how the stack may be used.
int look_at_stack();

void by_number();
void epolls();
void extended_attributes();
void files();
void futexes();
void guards();
void inotify();
void ip_packets();
void tmpfs_limits();
void locks();
void memory();
void message_queues();
void namespaces();
void opening_ways();
void processes();
void restartable_sequences();
void seccomp();
void signals();
void sockets();
void splicing();
void sysv();
void tasks();
void terminals();
void times();
void users();

}  // namespace calls
