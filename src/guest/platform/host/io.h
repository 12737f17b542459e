#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "guest/abi/errno.h"
#include "guest/abi/file.h"
#include "sys/fd.h"

/// The sentry's own calls on descriptors that it was given. None takes a path.
namespace fluyt::guest::host {

ErrnoOr<size_t> read(sys::FdRef fd, std::span<std::byte> to);
ErrnoOr<size_t> write(sys::FdRef fd, std::span<const std::byte> from);
/// What does not wait; EAGAIN. RWF_NOWAIT of preadv2(2); where the host has none for the kind of
/// file (pipes before Linux 6.4, terminals), poll(2) says whether it would wait, so that somebody
/// else who is faster makes it wait all the same.
ErrnoOr<size_t> read_now(sys::FdRef fd, std::span<std::byte> to);
ErrnoOr<size_t> write_now(sys::FdRef fd, std::span<const std::byte> from);
/// At the end of a file, which the descriptor's position is behind then (pwritev2(2), RWF_APPEND).
ErrnoOr<size_t> append(sys::FdRef fd, std::span<const std::byte> from);
/// The same, and the descriptor's position stays.
ErrnoOr<size_t> append_apart(sys::FdRef fd, std::span<const std::byte> from);
ErrnoOr<size_t> read_at(sys::FdRef fd, std::span<std::byte> to, int64_t offset);
ErrnoOr<size_t> write_at(sys::FdRef fd, std::span<const std::byte> from, int64_t offset);
ErrnoOr<Stat> stat(sys::FdRef fd);
Errno truncate(sys::FdRef fd, int64_t size);
Errno allocate(sys::FdRef fd, int mode, int64_t offset, int64_t length);
Errno sync(sys::FdRef fd);
ErrnoOr<int64_t> seek(sys::FdRef fd, int64_t offset, int whence);
/// POLL* bits that hold now, of those asked for.
uint32_t ready(sys::FdRef fd, uint32_t events);
/// Until one holds on either, or `timeout_ms` (-1: for ever).
void wait_ready(sys::FdRef fd, uint32_t events, sys::FdRef alarm, int timeout_ms);
/// Memory that stubs and sentry can share.
ErrnoOr<sys::Fd> make_memory(const char* name);
ErrnoOr<sys::Fd> make_event();
void signal_event(sys::FdRef fd);
void drain_event(sys::FdRef fd);
bool is_terminal(sys::FdRef fd);
/// tcgetattr and friends: `request` with a structure of `size` bytes in or out.
Errno terminal_control(sys::FdRef fd, unsigned long request, void* argument);
void fill_random(std::span<std::byte> to);
/// RFC 9562, version 4.
std::string random_uuid();
int64_t clock_ns(int clock);
ErrnoOr<int64_t> clock_resolution_ns(int clock);
/// How many a process may use, or when there is none of the number we; 0 is we.
unsigned processors(pid_t pid = 0);
/// The processor that the calling thread is on.
unsigned current_processor();
/// The beginning of a file of procfs or the like; nothing when it cannot be read.
std::string text_of(sys::FdRef file);
// Before confinement only:
/// A procfs of our PID namespace that no name leads to; the one at /proc where none can be mounted.
Result<sys::Fd> open_procfs();
/// One of the host's own file systems. What is at `path` may be an image's, so that it has to be of
/// the type; else it is mounted where no name leads to.
struct HostMountWanted {
  std::string path;
  std::string type;
  uint64_t magic = 0;  // of the type: statfs(2)
  std::vector<std::string> flags;
};
/// Invalid: it is not there and cannot be mounted.
sys::Fd find_host_mount(const HostMountWanted& wanted);
std::string host_text(sys::FdRef dir, const std::string& path);

}  // namespace fluyt::guest::host
