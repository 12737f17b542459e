#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "sys/fd.h"

/// What a container's first process and its maker say to each other until the gate: packets on a
/// socketpair. The other side may be hostile memory only in the sense that it may die: it is our
/// code.
namespace fluyt::runtime {

enum class Message : uint32_t {
  // from the maker
  kGo = 1,  // what was asked for is done; `value` is the pid of who reads it
  // from the first process
  kError,        // `text` is why; it ends
  kWarning,      // `text` for the log
  kWantIdMaps,   // it is in a new user namespace; wants kGo
  kWantOffsets,  // it made a time namespace; wants kGo
  kWantDevices,  // it is in its network namespace; wants kGo
  kWantHooks,    // namespaces and mounts are there; wants kGo
  kWantBind,  // `value` is the place of a mount to map, its fd the source; wants kGo with the bind
  kForked,    // `value` is the pid of the process that runs the program; that one wants kGo
  kConsole,   // the pty's master is attached
  kListener,  // `value` is the number of the seccomp listener; an exec wants kGo
  kReady,     // it waits at the gate, or is about to execute
};

struct Packet {
  Message kind = Message::kGo;
  int32_t value = 0;  // kError: the Code
  std::string text;
  std::vector<sys::Fd> fds;
};

Result<> send_packet(sys::FdRef channel, Message kind, int32_t value = 0,
                     std::string_view text = {}, const std::vector<sys::FdRef>& fds = {});
/// The first process's way: write(2) alone, which every filter allows that lets a program run.
Result<> say(sys::FdRef channel, Message kind, int32_t value = 0, std::string_view text = {});
Result<> say_error(sys::FdRef channel, const Error& error);
/// Waits for kGo with read(2) alone and gives its value; nothing at end of file.
Result<std::optional<int32_t>> wait_go(sys::FdRef channel);
/// A descriptor of the maker's and what it is called.
using NamedFds = std::vector<std::pair<std::string, sys::Fd>>;
/// The first kGo, with the container's cgroups.
struct FirstGo {
  int32_t pid = 0;
  NamedFds cgroups;            // what a cgroup mount is made of
  std::vector<sys::Fd> tasks;  // cgroup::Ways: to enter by
};
Result<> send_first_go(sys::FdRef channel, const FirstGo& go);
/// Nothing at end of file.
Result<std::optional<FirstGo>> wait_first_go(sys::FdRef channel);
/// Nothing at end of file. kDeadlineExceeded when the deadline passes first, kCancelled where
/// `stop` can be read first.
Result<std::optional<Packet>> receive_packet(sys::FdRef channel, Deadline deadline,
                                             sys::FdRef stop = {});
Error error_of(const Packet& packet);

}  // namespace fluyt::runtime
