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

class HostStream final : public File {
 public:
  HostStream(InodePtr inode, int flags, sys::Fd fd, std::shared_ptr<host::Poller> poller,
             std::shared_ptr<Terminal> terminal, bool regular)
      : File(nullptr, std::move(inode), flags),
        fd_(std::move(fd)),
        poller_(std::move(poller)),
        terminal_(std::move(terminal)),
        regular_(regular) {}
  ~HostStream() override { poller_->forget(fd_); }

  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t* offset) override {
    if (regular_) {
      const size_t done = GUEST_TRY(host::read_at(fd_, to, *offset));
      *offset += static_cast<int64_t>(done);
      return done;
    }
    if (terminal_ && caller.job != nullptr) GUEST_TRY(may_use(*terminal_, *caller.job, SIGTTIN));
    GUEST_TRY(wait(caller, POLLIN));
    return host::read(fd_, to);
  }
  ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from, int64_t* offset) override {
    if (regular_) {
      const size_t done = GUEST_TRY(host::write(fd_, from));
      *offset = GUEST_TRY(host::seek(fd_, 0, SEEK_CUR));
      return done;
    }
    if (terminal_ && caller.job != nullptr) {
      termios settings{};
      if (host::terminal_control(fd_, TCGETS, &settings).ok() && (settings.c_lflag & TOSTOP) != 0)
        GUEST_TRY(may_use(*terminal_, *caller.job, SIGTTOU));
    }
    GUEST_TRY(wait(caller, POLLOUT));
    // What a pipe of the host has no room for must not hold us up beyond the guest's signals.
    constexpr size_t kStep = 4096;
    size_t done = 0;
    while (done < from.size()) {
      const size_t step = std::min(kStep, from.size() - done);
      const ErrnoOr<size_t> written = host::write(fd_, from.subspan(done, step));
      if (!written.ok()) return done != 0 ? ErrnoOr<size_t>(done) : written.error();
      done += written.value();
      if (done == from.size() || nonblocking()) break;
      const Errno waited = wait(caller, POLLOUT);
      if (!waited.ok()) return done;
    }
    return done;
  }
  bool seekable() const override { return regular_; }
  ErrnoOr<int64_t> seek(int64_t offset, int whence) override {
    if (!regular_) return Errno(ESPIPE);
    const Stat stat = GUEST_TRY(host::stat(fd_));
    return seek_within(offset, whence, stat.size);
  }
  ErrnoOr<Stat> stat() override {
    if (!regular_) return inode()->stat();
    return host::stat(fd_);
  }
  uint32_t ready(uint32_t wanted) override {
    const uint32_t now = host::ready(fd_, wanted | POLLIN | POLLOUT);
    if ((now & (wanted | POLLERR | POLLHUP)) == 0)
      poller_->watch(fd_, wanted & (POLLIN | POLLOUT), queue_);
    return now;
  }
  WaitQueue* queue() override { return regular_ ? nullptr : &queue_; }
  Errno truncate(int64_t size) override { return host::truncate(fd_, size); }
  std::string describe() const override { return terminal_ ? "/dev/console" : "pipe:[1]"; }

  ErrnoOr<uint64_t> ioctl(Caller& caller, uint32_t request, uint64_t argument) override {
    if (request == FIONREAD) {
      int count = 0;
      GUEST_TRY(host::terminal_control(fd_, FIONREAD, &count));
      GUEST_TRY(copy_out(caller, argument, count));
      return uint64_t{0};
    }
    if (!terminal_) return Errno(ENOTTY);
    ErrnoOr<uint64_t> jobs =
        control_jobs(terminal_, TerminalSide::kSlave, caller, *this, request, argument);
    if (jobs.ok() || jobs.error().value() != kNoSuchRequest) return jobs;
    switch (request) {
      case TCGETS: {
        std::byte settings[64] = {};  // the kernel's structure is shorter than the library's
        GUEST_TRY(host::terminal_control(fd_, TCGETS, settings));
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
        if (caller.job != nullptr) GUEST_TRY(may_use(*terminal_, *caller.job, SIGTTOU));
        GUEST_TRY(host::terminal_control(fd_, request, settings));
        return uint64_t{0};
      }
      case TIOCGWINSZ: {
        winsize size{};
        GUEST_TRY(host::terminal_control(fd_, TIOCGWINSZ, &size));
        GUEST_TRY(copy_out(caller, argument, size));
        return uint64_t{0};
      }
      case TIOCSWINSZ: {
        winsize size{};
        GUEST_TRY(copy_in(caller, argument, size));
        GUEST_TRY(host::terminal_control(fd_, TIOCSWINSZ, &size));
        return uint64_t{0};
      }
      default:
        return Errno(ENOTTY);
    }
  }

 private:
  Errno wait(Caller& caller, uint32_t events) {
    if (nonblocking() && (host::ready(fd_, events) & (events | POLLHUP | POLLERR)) == 0)
      return Errno(EAGAIN);
    return wait_until(queue_, caller.sleeper, {}, [&] {
      if ((host::ready(fd_, events) & (events | POLLHUP | POLLERR)) != 0) return true;
      poller_->watch(fd_, events, queue_);
      return false;
    });
  }

  sys::Fd fd_;
  std::shared_ptr<host::Poller> poller_;
  std::shared_ptr<Terminal> terminal_;
  bool regular_;
  WaitQueue queue_;
};

}  // namespace

ErrnoOr<FilePtr> HostTerminal::reopen(const DentryPtr& /*path*/, const InodePtr& /*inode*/,
                                      int /*flags*/) {
  FilePtr open = stream.lock();
  if (!open) return Errno(ENXIO);
  return open;
}

ErrnoOr<FilePtr> make_host_stream(sys::Fd fd, int flags, std::shared_ptr<host::Poller> poller,
                                  std::shared_ptr<Terminal> terminal) {
  const Stat stat = GUEST_TRY(host::stat(fd));
  const bool regular = S_ISREG(stat.mode);
  const InodePtr inode = make_anonymous_inode(
      terminal ? S_IFCHR | 0620 : (regular ? S_IFREG | 0644 : (stat.mode & S_IFMT) | 0600),
      terminal ? make_device(5, 1) : stat.rdev);
  return FilePtr(std::make_shared<HostStream>(inode, flags, std::move(fd), std::move(poller),
                                              std::move(terminal), regular));
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
    std::lock_guard lock(inode.attachment_lock);
    if (inode.attachment) return std::static_pointer_cast<File>(inode.attachment);
  }
  return Errno(ENXIO);
}

}  // namespace fluyt::guest
