#include "guest/platform/host/io.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::guest::host {
namespace {

template <class Call>
ErrnoOr<size_t> transfer(Call call) {
  for (;;) {
    const ssize_t done = call();
    if (done >= 0) return static_cast<size_t>(done);
    if (errno != EINTR) return Errno(errno);
  }
}
Errno result(int value) { return value == 0 ? kOk : Errno(errno); }

}  // namespace

ErrnoOr<size_t> read(sys::FdRef fd, std::span<std::byte> to) {
  return transfer([&] { return ::read(fd.raw(), to.data(), to.size()); });
}
ErrnoOr<size_t> write(sys::FdRef fd, std::span<const std::byte> from) {
  return transfer([&] { return ::write(fd.raw(), from.data(), from.size()); });
}
ErrnoOr<size_t> read_now(sys::FdRef fd, std::span<std::byte> to) {
  const iovec all{to.data(), to.size()};
  const ErrnoOr<size_t> done =
      transfer([&] { return ::preadv2(fd.raw(), &all, 1, -1, RWF_NOWAIT); });
  if (done.ok() || done.error().value() != EOPNOTSUPP) return done;
  return ready(fd, POLLIN) == 0 ? ErrnoOr<size_t>(Errno(EAGAIN)) : read(fd, to);
}
ErrnoOr<size_t> write_now(sys::FdRef fd, std::span<const std::byte> from) {
  const iovec all{const_cast<std::byte*>(from.data()), from.size()};
  const ErrnoOr<size_t> done =
      transfer([&] { return ::pwritev2(fd.raw(), &all, 1, -1, RWF_NOWAIT); });
  if (done.ok() || done.error().value() != EOPNOTSUPP) return done;
  return ready(fd, POLLOUT) == 0 ? ErrnoOr<size_t>(Errno(EAGAIN)) : write(fd, from);
}
ErrnoOr<size_t> read_at(sys::FdRef fd, std::span<std::byte> to, int64_t offset) {
  return transfer([&] { return ::pread(fd.raw(), to.data(), to.size(), offset); });
}
ErrnoOr<size_t> write_at(sys::FdRef fd, std::span<const std::byte> from, int64_t offset) {
  return transfer([&] { return ::pwrite(fd.raw(), from.data(), from.size(), offset); });
}

ErrnoOr<size_t> append(sys::FdRef fd, std::span<const std::byte> from) {
  const iovec all{const_cast<std::byte*>(from.data()), from.size()};
  return transfer([&] { return ::pwritev2(fd.raw(), &all, 1, -1, RWF_APPEND); });
}

ErrnoOr<size_t> append_apart(sys::FdRef fd, std::span<const std::byte> from) {
  const iovec all{const_cast<std::byte*>(from.data()), from.size()};
  return transfer([&] { return ::pwritev2(fd.raw(), &all, 1, 0, RWF_APPEND); });
}

ErrnoOr<Stat> stat(sys::FdRef fd) {
  Stat out;  // the C library's fstat would name a path, if an empty one
  if (syscall(SYS_fstat, fd.raw(), &out) != 0) return Errno(errno);
  return out;
}

Errno truncate(sys::FdRef fd, int64_t size) { return result(ftruncate(fd.raw(), size)); }
Errno allocate(sys::FdRef fd, int mode, int64_t offset, int64_t length) {
  return result(fallocate(fd.raw(), mode, offset, length));
}
Errno sync(sys::FdRef fd) { return result(fsync(fd.raw())); }
ErrnoOr<int64_t> seek(sys::FdRef fd, int64_t offset, int whence) {
  const off_t at = lseek(fd.raw(), offset, whence);
  if (at < 0) return Errno(errno);
  return at;
}

uint32_t ready(sys::FdRef fd, uint32_t events) {
  pollfd entry{fd.raw(), static_cast<short>(events), 0};
  return poll(&entry, 1, 0) > 0 ? static_cast<uint16_t>(entry.revents) : 0;
}

void wait_ready(sys::FdRef fd, uint32_t events, sys::FdRef alarm, int timeout_ms) {
  pollfd entries[2] = {{fd.raw(), static_cast<short>(events), 0}, {alarm.raw(), POLLIN, 0}};
  poll(entries, 2, timeout_ms);
}

ErrnoOr<sys::Fd> make_memory(const char* name) {
  sys::Fd fd(memfd_create(name, MFD_CLOEXEC));
  if (!fd.valid()) return Errno(errno);
  return fd;
}

ErrnoOr<sys::Fd> make_event() {
  sys::Fd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return Errno(errno);
  return fd;
}
void signal_event(sys::FdRef fd) {
  const uint64_t one = 1;
  if (::write(fd.raw(), &one, sizeof one) < 0) return;  // full: signalled already
}
void drain_event(sys::FdRef fd) {
  uint64_t count = 0;
  if (::read(fd.raw(), &count, sizeof count) < 0) return;  // nothing there
}

bool is_terminal(sys::FdRef fd) { return isatty(fd.raw()) == 1; }
Errno terminal_control(sys::FdRef fd, unsigned long request, void* argument) {
  return result(ioctl(fd.raw(), request, argument) < 0 ? -1 : 0);
}

void fill_random(std::span<std::byte> to) {
  while (!to.empty()) {
    const ssize_t done = getrandom(to.data(), to.size(), 0);
    if (done > 0) to = to.subspan(static_cast<size_t>(done));
  }
}

std::string random_uuid() {
  std::array<uint8_t, 16> bytes{};
  fill_random(std::as_writable_bytes(std::span(bytes)));
  bytes[6] = static_cast<uint8_t>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<uint8_t>((bytes[8] & 0x3f) | 0x80);
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += kDigits[bytes[i] >> 4];
    out += kDigits[bytes[i] & 0xf];
  }
  return out;
}

int64_t clock_ns(int clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}
ErrnoOr<int64_t> clock_resolution_ns(int clock) {
  timespec out{};
  if (clock_getres(clock, &out) != 0) return Errno(errno);
  return out.tv_sec * 1'000'000'000 + out.tv_nsec;
}
unsigned processors(pid_t pid) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(pid, sizeof set, &set) != 0) return pid == 0 ? 1 : processors();
  return static_cast<unsigned>(CPU_COUNT(&set));
}

Result<sys::Fd> open_procfs() {
  auto context = sys::FsContext::open("proc");
  if (context.ok()) {
    auto mounted = context->mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (mounted.ok()) return mounted;
  }
  sys::Fd proc = FLUYT_TRY(sys::open("/proc", O_PATH | O_DIRECTORY));
  if (FLUYT_TRY(sys::fs_magic(proc)) != sys::kProcMagic)
    return Error(Code::kFailedPrecondition, "/proc: expected a procfs");
  return proc;
}

sys::Fd find_host_mount(const HostMountWanted& wanted) {
  if (auto named = sys::open(wanted.path, O_PATH | O_DIRECTORY); named.ok()) {
    const auto magic = sys::fs_magic(*named);
    if (magic.ok() && *magic == wanted.magic) return std::move(*named);
  }
  auto context = sys::FsContext::open(wanted.type);
  if (!context.ok()) return {};
  const bool set = std::ranges::all_of(
      wanted.flags, [&](const std::string& flag) { return context->set_flag(flag).ok(); });
  if (!set) return {};
  auto mounted = context->mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  return mounted.ok() ? std::move(*mounted) : sys::Fd();
}

unsigned current_processor() {
  const int at = sched_getcpu();
  return at < 0 ? 0 : static_cast<unsigned>(at);
}

std::string text_of(sys::FdRef file) {
  std::array<char, 8192> text;
  if (!file.valid()) return {};
  const auto got = read_at(file, std::as_writable_bytes(std::span(text)), 0);
  return got.ok() ? std::string(text.data(), got.value()) : std::string();
}

std::string host_text(sys::FdRef dir, const std::string& path) {
  constexpr size_t kMost = size_t{4} << 20;
  const sys::Fd file(openat(dir.raw(), path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return {};
  auto text = sys::read_all(file, kMost);
  return text.ok() ? std::move(*text) : std::string();
}

}  // namespace fluyt::guest::host
