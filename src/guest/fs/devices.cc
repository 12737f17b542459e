#include "guest/fs/devices.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#include <atomic>
#include <cstring>

#include "guest/fs/ioctl.h"
#include "guest/platform/host/io.h"

namespace fluyt::guest {
namespace {

class NullFile final : public File {
 public:
  using File::File;
  ErrnoOr<size_t> read(Caller&, std::span<std::byte>, int64_t*) override { return size_t{0}; }
  ErrnoOr<size_t> write(Caller&, std::span<const std::byte> from, int64_t*) override {
    return from.size();
  }
  bool seekable() const override { return true; }
  ErrnoOr<int64_t> seek(int64_t, int) override { return int64_t{0}; }
};

class ZeroFile final : public File {
 public:
  using File::File;
  ErrnoOr<size_t> read(Caller&, std::span<std::byte> to, int64_t*) override {
    std::memset(to.data(), 0, to.size());
    return to.size();
  }
  ErrnoOr<size_t> write(Caller&, std::span<const std::byte> from, int64_t*) override {
    if (full) return Errno(ENOSPC);
    return from.size();
  }
  bool seekable() const override { return true; }
  ErrnoOr<int64_t> seek(int64_t, int) override { return int64_t{0}; }
  bool maps_anonymous() const override { return true; }
  bool full = false;
};

class RandomFile final : public File {
 public:
  using File::File;
  ErrnoOr<size_t> read(Caller&, std::span<std::byte> to, int64_t*) override {
    host::fill_random(to);
    return to.size();
  }
  ErrnoOr<size_t> write(Caller&, std::span<const std::byte> from, int64_t*) override {
    return from.size();
  }
  bool seekable() const override { return true; }
  ErrnoOr<int64_t> seek(int64_t, int) override { return int64_t{0}; }
};

class AnonymousInode final : public Inode {
 public:
  AnonymousInode(uint32_t mode, uint64_t device) : mode_(mode), device_(device) {
    static std::atomic<uint64_t> next{100};
    number_ = next.fetch_add(1);
  }
  uint32_t type() const override { return mode_ & S_IFMT; }
  ErrnoOr<Stat> stat() override {
    Stat stat;
    stat.dev = make_device(0, 14);
    stat.ino = number_;
    stat.mode = mode_;
    stat.rdev = device_;
    return stat;
  }
  Errno set_attributes(const SetAttributes&) override { return Errno(EPERM); }
  ErrnoOr<FilePtr> open(DentryPtr, int) override { return Errno(ENXIO); }

 private:
  uint32_t mode_;
  uint64_t device_;
  uint64_t number_;
};

/// /dev/tty: whatever terminal controls the session of who opens it.
class ControllingTerminal final : public File {
 public:
  using File::File;
  ErrnoOr<FilePtr> finish_open(Caller& caller) override {
    const std::shared_ptr<Terminal> terminal =
        caller.job != nullptr ? caller.job->terminal() : nullptr;
    if (!terminal) return Errno(ENXIO);
    return terminal->reopen(path(), inode(), flags());
  }
};

/// A stream of the host's: what all who have it open, or open it by its name in /proc, read and
/// write.
struct HostSource {
  HostSource(sys::Fd of_host, std::shared_ptr<host::Poller> by, std::shared_ptr<Terminal> on,
             const Stat& found, uint32_t owner_uid)
      : fd(std::move(of_host)),
        poller(std::move(by)),
        terminal(std::move(on)),
        regular(S_ISREG(found.mode)),
        shown(found) {
    shown.uid = owner_uid;
    if (terminal) {
      shown.mode = S_IFCHR | 0620;
      shown.rdev = make_device(5, 1);
    } else if (!regular) {
      shown.mode = (found.mode & S_IFMT) | 0600;
    }
  }
  HostSource(const HostSource&) = delete;
  HostSource& operator=(const HostSource&) = delete;
  ~HostSource() { poller->forget(fd); }

  /// EAGAIN: nothing is there, or no room. One at a time: where the host can only be asked whether
  /// a call would wait, the answer holds for one.
  ErrnoOr<size_t> read_now(std::span<std::byte> to) {
    std::lock_guard lock(mutex);
    return host::read_now(fd, to);
  }
  ErrnoOr<size_t> write_now(std::span<const std::byte> from) {
    std::lock_guard lock(mutex);
    return host::write_now(fd, from);
  }

  const sys::Fd fd;
  const std::shared_ptr<host::Poller> poller;
  const std::shared_ptr<Terminal> terminal;  // null: it is none
  const bool regular;
  Stat shown;
  WaitQueue queue;

 private:
  std::mutex mutex;
};
using HostSourcePtr = std::shared_ptr<HostSource>;

class HostStream final : public File {
 public:
  /// Whether its position in a regular file is that of the host's descriptor, which the host's
  /// processes may share, or of its own.
  enum class Position : uint8_t { kOfHost, kOwn };
  HostStream(InodePtr inode, int flags, HostSourcePtr source, Position kept)
      : File(nullptr, std::move(inode), flags), source_(std::move(source)), kept_(kept) {}

  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t* offset) override {
    if (source_->regular) return read_file(to, offset);
    if (source_->terminal && caller.job != nullptr)
      GUEST_TRY(may_use(*source_->terminal, *caller.job, SIGTTIN));
    for (;;) {
      const ErrnoOr<size_t> done = source_->read_now(to);
      if (done.ok() || done.error().value() != EAGAIN || nonblocking()) return done;
      GUEST_TRY(wait(caller, POLLIN));
    }
  }
  ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from, int64_t* offset) override {
    if (source_->regular) return write_file(from, offset);
    if (source_->terminal && caller.job != nullptr) {
      termios settings{};
      if (host::terminal_control(source_->fd, TCGETS, &settings).ok() &&
          (settings.c_lflag & TOSTOP) != 0)
        GUEST_TRY(may_use(*source_->terminal, *caller.job, SIGTTOU));
    }
    // What a pipe takes whole or not at all.
    constexpr size_t kStep = 4096;
    size_t done = 0;
    while (done < from.size()) {
      const size_t step = std::min(kStep, from.size() - done);
      const ErrnoOr<size_t> written = source_->write_now(from.subspan(done, step));
      if (written.ok()) {
        done += written.value();
        continue;
      }
      const bool waits = written.error().value() == EAGAIN && !nonblocking();
      const Errno failed = waits ? wait(caller, POLLOUT) : written.error();
      if (!failed.ok()) return done != 0 ? ErrnoOr<size_t>(done) : failed;
    }
    return done;
  }
  bool seekable() const override { return source_->regular; }
  ErrnoOr<int64_t> seek(int64_t offset, int whence) override {
    if (!source_->regular) return Errno(ESPIPE);
    if (kept_ == Position::kOfHost) {
      position = GUEST_TRY(host::seek(source_->fd, offset, whence));
      return position;
    }
    const Stat stat = GUEST_TRY(host::stat(source_->fd));
    return seek_within(offset, whence, stat.size);
  }
  uint32_t ready(uint32_t wanted) override {
    const uint32_t now = host::ready(source_->fd, wanted | POLLIN | POLLOUT);
    if ((now & (wanted | POLLERR | POLLHUP)) == 0)
      source_->poller->watch(source_->fd, wanted & (POLLIN | POLLOUT), source_->queue);
    return now;
  }
  WaitQueue* queue() override { return source_->regular ? nullptr : &source_->queue; }
  Errno truncate(int64_t size) override { return host::truncate(source_->fd, size); }
  std::string describe() const override {
    return source_->terminal ? "/dev/console" : source_->regular ? "/dev/file" : "pipe:[1]";
  }

  ErrnoOr<uint64_t> ioctl(Caller& caller, uint32_t request, uint64_t argument) override {
    if (request == FIONREAD) {
      int count = 0;
      GUEST_TRY(host::terminal_control(source_->fd, FIONREAD, &count));
      GUEST_TRY(copy_out(caller, argument, count));
      return uint64_t{0};
    }
    if (!source_->terminal) return Errno(ENOTTY);
    ErrnoOr<uint64_t> jobs =
        control_jobs(source_->terminal, TerminalSide::kSlave, caller, *this, request, argument);
    if (jobs.ok() || jobs.error().value() != kNoSuchRequest) return jobs;
    switch (request) {
      case TCGETS: {
        std::byte settings[64] = {};  // the kernel's structure is shorter than the library's
        GUEST_TRY(host::terminal_control(source_->fd, TCGETS, settings));
        constexpr size_t kKernelSize = 36;
        if (caller.memory->write(argument, std::span(settings, kKernelSize)) != kKernelSize)
          return Errno(EFAULT);
        return uint64_t{0};
      }
      case TCSETS:
      case TCSETSW:
      case TCSETSF: {
        std::byte settings[64] = {};
        constexpr size_t kKernelSize = 36;
        if (caller.memory->read(argument, std::span(settings, kKernelSize)) != kKernelSize)
          return Errno(EFAULT);
        if (caller.job != nullptr) GUEST_TRY(may_use(*source_->terminal, *caller.job, SIGTTOU));
        GUEST_TRY(host::terminal_control(source_->fd, request, settings));
        return uint64_t{0};
      }
      case TIOCGWINSZ: {
        winsize size{};
        GUEST_TRY(host::terminal_control(source_->fd, TIOCGWINSZ, &size));
        GUEST_TRY(copy_out(caller, argument, size));
        return uint64_t{0};
      }
      case TIOCSWINSZ: {
        winsize size{};
        GUEST_TRY(copy_in(caller, argument, size));
        GUEST_TRY(host::terminal_control(source_->fd, TIOCSWINSZ, &size));
        return uint64_t{0};
      }
      default:
        return Errno(ENOTTY);
    }
  }

 private:
  ErrnoOr<size_t> read_file(std::span<std::byte> to, int64_t* offset) {
    const sys::Fd& fd = source_->fd;
    if (kept_ == Position::kOfHost && offset == &position) {
      const size_t done = GUEST_TRY(host::read(fd, to));
      *offset = GUEST_TRY(host::seek(fd, 0, SEEK_CUR));
      return done;
    }
    const size_t done = GUEST_TRY(host::read_at(fd, to, *offset));
    *offset += static_cast<int64_t>(done);
    return done;
  }
  ErrnoOr<size_t> write_file(std::span<const std::byte> from, int64_t* offset) {
    const sys::Fd& fd = source_->fd;
    if (kept_ == Position::kOfHost && offset == &position) {
      const size_t done = GUEST_TRY(host::write(fd, from));
      *offset = GUEST_TRY(host::seek(fd, 0, SEEK_CUR));
      return done;
    }
    if (appending()) {
      const size_t done = GUEST_TRY(host::append_apart(fd, from));
      const Stat now = GUEST_TRY(host::stat(fd));
      *offset = now.size;
      return done;
    }
    const size_t done = GUEST_TRY(host::write_at(fd, from, *offset));
    *offset += static_cast<int64_t>(done);
    return done;
  }
  Errno wait(Caller& caller, uint32_t events) {
    return wait_until(source_->queue, caller.sleeper, {}, [&] {
      if ((host::ready(source_->fd, events) & (events | POLLHUP | POLLERR)) != 0) return true;
      source_->poller->watch(source_->fd, events, source_->queue);
      return false;
    });
  }

  HostSourcePtr source_;
  Position kept_;
};

/// What /dev/stdout and /proc/self/fd lead to.
class HostStreamInode final : public Inode {
 public:
  explicit HostStreamInode(HostSourcePtr source) : source_(std::move(source)) {}
  uint32_t type() const override { return source_->shown.mode & S_IFMT; }
  ErrnoOr<Stat> stat() override {
    Stat out = source_->shown;
    if (source_->regular) {
      out = GUEST_TRY(host::stat(source_->fd));
      out.uid = source_->shown.uid;
    }
    return out;
  }
  Errno set_attributes(const SetAttributes&) override { return Errno(EPERM); }
  Errno truncate(int64_t size) override {
    return source_->regular ? host::truncate(source_->fd, size) : Errno(EINVAL);
  }
  /// One more description of what the host's descriptor is. What that does not do (a pipe's end
  /// reads or writes) is EBADF at its use.
  ErrnoOr<FilePtr> open(DentryPtr, int flags) override {
    return FilePtr(std::make_shared<HostStream>(shared_from_this(), flags, source_,
                                                HostStream::Position::kOwn));
  }

 private:
  HostSourcePtr source_;
};

}  // namespace

ErrnoOr<FilePtr> HostTerminal::reopen(const DentryPtr& /*path*/, const InodePtr& /*inode*/,
                                      int /*flags*/) {
  FilePtr open = stream.lock();
  if (!open) return Errno(ENXIO);
  return open;
}

ErrnoOr<FilePtr> make_host_stream(sys::Fd fd, int flags, std::shared_ptr<host::Poller> poller,
                                  std::shared_ptr<Terminal> terminal, uint32_t owner_uid) {
  const Stat found = GUEST_TRY(host::stat(fd));
  const auto source = std::make_shared<HostSource>(std::move(fd), std::move(poller),
                                                   std::move(terminal), found, owner_uid);
  return FilePtr(std::make_shared<HostStream>(std::make_shared<HostStreamInode>(source), flags,
                                              source, HostStream::Position::kOfHost));
}

InodePtr make_anonymous_inode(uint32_t mode, uint64_t device) {
  return std::make_shared<AnonymousInode>(mode, device);
}

ErrnoOr<FilePtr> open_device(Inode& inode, DentryPtr path, int flags, uint64_t device) {
  const InodePtr self = inode.shared_from_this();
  if (device == make_device(1, 3)) return FilePtr(std::make_shared<NullFile>(path, self, flags));
  if (device == make_device(1, 5)) return FilePtr(std::make_shared<ZeroFile>(path, self, flags));
  if (device == make_device(1, 7)) {
    auto file = std::make_shared<ZeroFile>(path, self, flags);
    file->full = true;
    return FilePtr(std::move(file));
  }
  if (device == make_device(1, 8) || device == make_device(1, 9))
    return FilePtr(std::make_shared<RandomFile>(path, self, flags));
  if (device == make_device(5, 0))
    return FilePtr(std::make_shared<ControllingTerminal>(path, self, flags));
  // The console: whoever mounted /dev left its description with the inode.
  if (device == make_device(5, 1)) {
    FileIdentity& console = inode.identity();
    std::lock_guard lock(console.attachment_lock);
    if (console.attachment) return std::static_pointer_cast<File>(console.attachment);
  }
  return Errno(ENXIO);
}

}  // namespace fluyt::guest
