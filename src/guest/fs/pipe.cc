#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>

#include "guest/fs/devices.h"
#include "guest/fs/special.h"
#include "guest/platform/host/io.h"

namespace fluyt::guest {
namespace {

constexpr size_t kAtomic = 4096;  // PIPE_BUF
constexpr size_t kDefaultCapacity = 65536;
constexpr size_t kMaxCapacity = size_t{1} << 20;

uint64_t next_pipe_number() {
  static std::atomic<uint64_t> next{1000};
  return next.fetch_add(1);
}

/// The bytes between the ends (pipe(7)).
class Pipe {
 public:
  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, bool nonblocking) {
    if (to.empty()) return size_t{0};
    // Who need not wait is in no queue.
    std::optional<WaitQueue::Entry> entry;
    Wakes wakes;
    for (;;) {
      {
        std::lock_guard lock(mutex);
        if (used != 0) return take(to, wakes);
        if (writers == 0) return size_t{0};
      }
      if (nonblocking) return Errno(EAGAIN);
      if (!entry)
        entry.emplace(queue, caller.sleeper, POLLIN | POLLHUP);
      else if (caller.sleeper.sleep({}) == Sleeper::Outcome::kInterrupted)
        return Errno(kRestartSys);
    }
  }

  ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from, bool nonblocking) {
    size_t done = 0;
    std::optional<WaitQueue::Entry> entry;
    for (;;) {
      {
        Wakes wakes;  // before it sleeps itself, and behind the lock
        std::lock_guard lock(mutex);
        if (readers == 0) return Errno(EPIPE);
        const size_t room = this->room();
        const size_t left = from.size() - done;
        // Up to PIPE_BUF bytes go whole or not at all.
        if (room >= left || (room > 0 && from.size() > kAtomic)) {
          grow(0);
          done += put(from.subspan(done, std::min(room, left)), wakes);
          if (done == from.size()) return done;
        }
      }
      if (nonblocking) return done != 0 ? ErrnoOr<size_t>(done) : Errno(EAGAIN);
      if (!entry)
        entry.emplace(queue, caller.sleeper, POLLOUT | POLLERR);
      else if (caller.sleeper.sleep({}) == Sleeper::Outcome::kInterrupted)
        return done != 0 ? ErrnoOr<size_t>(done) : Errno(kRestartSys);
    }
  }

  ErrnoOr<size_t> wait_for_room(Caller& caller, PipeEnd::Wait wait) {
    size_t found = 0;
    bool broken = false;
    const auto look = [&] {
      std::lock_guard lock(mutex);
      broken = readers == 0;
      found = room();
      return broken || found != 0;
    };
    if (!look()) {
      if (wait == PipeEnd::Wait::kNever) return Errno(EAGAIN);
      GUEST_TRY(wait_until(queue, caller.sleeper, {}, look));
    }
    return broken ? ErrnoOr<size_t>(Errno(EPIPE)) : found;
  }
  ErrnoOr<size_t> wait_for_bytes(Caller& caller, PipeEnd::Wait wait) {
    size_t found = 0;
    const auto look = [&] {
      std::lock_guard lock(mutex);
      found = used;
      return found != 0 || writers == 0;
    };
    if (!look()) {
      if (wait == PipeEnd::Wait::kNever) return Errno(EAGAIN);
      GUEST_TRY(wait_until(queue, caller.sleeper, {}, look));
    }
    return found;
  }
  size_t peek(std::span<std::byte> to) {
    std::lock_guard lock(mutex);
    return copy(to);
  }
  size_t take_some(std::span<std::byte> to) {
    Wakes wakes;
    std::lock_guard lock(mutex);
    return take(to, wakes);
  }
  size_t put_some(std::span<const std::byte> bytes, PipeEnd::Room how) {
    Wakes wakes;
    std::lock_guard lock(mutex);
    if (how == PipeEnd::Room::kAsThereIs) bytes = bytes.first(std::min(bytes.size(), room()));
    grow(bytes.size());
    return put(bytes, wakes);
  }
  void put_back(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    Wakes wakes;
    std::lock_guard lock(mutex);
    grow(bytes.size());
    begin_ = (begin_ + ring_.size() - bytes.size()) % ring_.size();
    used += bytes.size();
    const size_t first = std::min(bytes.size(), ring_.size() - begin_);
    std::memcpy(ring_.data() + begin_, bytes.data(), first);
    std::memcpy(ring_.data(), bytes.data() + first, bytes.size() - first);
    queue.wake_all(POLLIN | POLLRDNORM, wakes);
  }

  uint32_t ready(bool reader, bool writer) {
    std::lock_guard lock(mutex);
    uint32_t out = 0;
    if (reader) {
      if (used != 0) out |= POLLIN | POLLRDNORM;
      if (writers == 0 && had_writer) out |= POLLHUP;
    }
    if (writer) {
      if (room() >= kAtomic) out |= POLLOUT | POLLWRNORM;
      if (readers == 0) out |= POLLERR;
    }
    return out;
  }

  std::mutex mutex;
  WaitQueue queue;
  size_t used = 0;
  size_t capacity = kDefaultCapacity;
  int readers = 0;
  int writers = 0;
  uint64_t reader_openings = 0;
  uint64_t writer_openings = 0;
  bool had_writer = false;
  bool named = false;  // a FIFO: opening it waits for the other end
  const uint64_t number = next_pipe_number();

  Errno resize(size_t wanted) {
    std::lock_guard lock(mutex);
    if (wanted < used) return Errno(EBUSY);
    if (wanted > kMaxCapacity) return Errno(EPERM);
    wanted = std::max(wanted, kAtomic);
    size_t size = kAtomic;
    while (size < wanted) size *= 2;
    relocate(size);
    capacity = size;
    return kOk;
  }

 private:
  size_t room() const { return used < capacity ? capacity - used : 0; }
  void relocate(size_t size) {
    std::vector<std::byte> moved(size);
    copy(moved);
    ring_ = std::move(moved);
    begin_ = 0;
  }
  /// For so many bytes more, whatever the capacity.
  void grow(size_t more) {
    if (ring_.size() < std::max(capacity, used + more)) relocate(std::max(capacity, used + more));
  }
  size_t copy(std::span<std::byte> to) const {
    const size_t count = std::min(to.size(), used);
    if (count == 0) return 0;
    const size_t first = std::min(count, ring_.size() - begin_);
    std::memcpy(to.data(), ring_.data() + begin_, first);
    if (count > first) std::memcpy(to.data() + first, ring_.data(), count - first);
    return count;
  }
  size_t take(std::span<std::byte> to, Wakes& wakes) {
    const size_t count = copy(to);
    if (count == 0) return 0;
    begin_ = (begin_ + count) % ring_.size();
    used -= count;
    queue.wake_all(POLLOUT | POLLWRNORM, wakes);
    return count;
  }
  size_t put(std::span<const std::byte> from, Wakes& wakes) {
    const size_t at = (begin_ + used) % ring_.size();
    const size_t first = std::min(from.size(), ring_.size() - at);
    std::memcpy(ring_.data() + at, from.data(), first);
    if (from.size() > first) std::memcpy(ring_.data(), from.data() + first, from.size() - first);
    used += from.size();
    queue.wake_all(POLLIN | POLLRDNORM, wakes);
    return from.size();
  }
  std::vector<std::byte> ring_;  // made with the first byte
  size_t begin_ = 0;
};

/// The inode behind pipe(2)'s two ends.
class PipeInode final : public Inode {
 public:
  explicit PipeInode(uint64_t number) : number_(number) {
    made_.seconds = host::clock_ns(0) / 1'000'000'000;
  }
  uint32_t type() const override { return S_IFIFO; }
  ErrnoOr<Stat> stat() override {
    Stat stat;
    stat.dev = make_device(0, 13);
    stat.ino = number_;
    stat.mode = S_IFIFO | 0600;
    stat.accessed = stat.modified = stat.changed = made_;
    return stat;
  }
  Errno set_attributes(const SetAttributes& /*change*/) override { return Errno(EPERM); }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override {
    return open_special(*this, std::move(path), flags);
  }

 private:
  uint64_t number_;
  Timestamp made_;
};

class PipeFile final : public PipeEnd {
 public:
  PipeFile(DentryPtr path, InodePtr inode, int flags, std::shared_ptr<Pipe> pipe)
      : PipeEnd(std::move(path), std::move(inode), flags), pipe_(std::move(pipe)) {
    {
      std::lock_guard lock(pipe_->mutex);
      if (readable()) {
        ++pipe_->readers;
        ++pipe_->reader_openings;
      }
      if (writable()) {
        ++pipe_->writers;
        ++pipe_->writer_openings;
        pipe_->had_writer = true;
      }
    }
    pipe_->queue.wake_all();
  }
  ~PipeFile() override {
    {
      std::lock_guard lock(pipe_->mutex);
      if (readable()) --pipe_->readers;
      if (writable()) --pipe_->writers;
    }
    pipe_->queue.wake_all();
  }
  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t* /*offset*/) override {
    return pipe_->read(caller, to, nonblocking());
  }
  ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from,
                        int64_t* /*offset*/) override {
    if (from.empty()) return size_t{0};
    return pipe_->write(caller, from, nonblocking());
  }
  uint32_t ready(uint32_t /*wanted*/) override { return pipe_->ready(readable(), writable()); }
  WaitQueue* queue() override { return &pipe_->queue; }
  ErrnoOr<uint64_t> ioctl(Caller& caller, uint32_t request, uint64_t argument) override {
    if (request == FIONREAD) {
      int count = 0;
      {
        std::lock_guard lock(pipe_->mutex);
        count = static_cast<int>(pipe_->used);
      }
      if (caller.memory->write(argument, std::as_bytes(std::span(&count, 1))) != sizeof count)
        return Errno(EFAULT);
      return uint64_t{0};
    }
    if (request == kPipeGetSize) {
      std::lock_guard lock(pipe_->mutex);
      return uint64_t{pipe_->capacity};
    }
    if (request == kPipeSetSize) {
      GUEST_TRY(pipe_->resize(argument));
      std::lock_guard lock(pipe_->mutex);
      return uint64_t{pipe_->capacity};
    }
    return Errno(ENOTTY);
  }
  ErrnoOr<size_t> wait_for_room(Caller& caller, Wait wait) override {
    return pipe_->wait_for_room(caller, nonblocking() ? Wait::kNever : wait);
  }
  ErrnoOr<size_t> wait_for_bytes(Caller& caller, Wait wait) override {
    return pipe_->wait_for_bytes(caller, nonblocking() ? Wait::kNever : wait);
  }
  size_t peek(std::span<std::byte> to) override { return pipe_->peek(to); }
  size_t take(std::span<std::byte> to) override { return pipe_->take_some(to); }
  bool takes_back() override { return true; }
  void put_back(std::span<const std::byte> bytes) override { pipe_->put_back(bytes); }
  size_t put(std::span<const std::byte> bytes, Room room) override {
    return pipe_->put_some(bytes, room);
  }
  const void* pipe() const override { return pipe_.get(); }
  std::string describe() const override { return "pipe:[" + std::to_string(pipe_->number) + "]"; }
  /// A FIFO is open when somebody has the other end.
  ErrnoOr<FilePtr> finish_open(Caller& caller) override {
    if (!pipe_->named || nonblocking()) return FilePtr();  // unnamed: /proc/self/fd/N of pipe(2)
    uint64_t readers = 0;
    uint64_t writers = 0;
    {
      std::lock_guard lock(pipe_->mutex);
      readers = pipe_->reader_openings;
      writers = pipe_->writer_openings;
    }
    GUEST_TRY(wait_until(pipe_->queue, caller.sleeper, {}, [&] {
      std::lock_guard lock(pipe_->mutex);
      const bool other_reader = pipe_->readers != 0 || pipe_->reader_openings != readers;
      const bool other_writer = pipe_->writers != 0 || pipe_->writer_openings != writers;
      return readable() ? other_writer : other_reader;
    }));
    return FilePtr();
  }

 private:
  std::shared_ptr<Pipe> pipe_;
};

}  // namespace

PipeEnds make_pipe(int flags) {
  auto pipe = std::make_shared<Pipe>();
  auto inode = std::make_shared<PipeInode>(pipe->number);
  inode->identity().attachment = pipe;
  return {std::make_shared<PipeFile>(nullptr, inode, O_RDONLY | flags, pipe),
          std::make_shared<PipeFile>(nullptr, inode, O_WRONLY | flags, pipe)};
}

ErrnoOr<FilePtr> open_special(Inode& inode, DentryPtr path, int flags) {
  const uint32_t type = inode.type();
  if (type == S_IFCHR) {
    const Stat stat = GUEST_TRY(inode.stat());
    return open_device(inode, std::move(path), flags, stat.rdev);
  }
  if (type != S_IFIFO) return Errno(ENXIO);
  std::shared_ptr<Pipe> pipe;
  {
    FileIdentity& file = inode.identity();
    std::lock_guard lock(file.attachment_lock);
    if (!file.attachment) {
      auto made = std::make_shared<Pipe>();
      made->named = true;
      file.attachment = std::move(made);
    }
    pipe = std::static_pointer_cast<Pipe>(file.attachment);
  }
  if (pipe->named && (flags & O_ACCMODE) == O_WRONLY && (flags & O_NONBLOCK) != 0) {
    std::lock_guard lock(pipe->mutex);
    if (pipe->readers == 0) return Errno(ENXIO);
  }
  return FilePtr(
      std::make_shared<PipeFile>(std::move(path), inode.shared_from_this(), flags, pipe));
}

}  // namespace fluyt::guest
