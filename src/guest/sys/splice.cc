#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>

#include <algorithm>

#include "guest/fs/special.h"
#include "guest/sys/handlers.h"

// splice(2), tee(2), vmsplice(2). Bytes are copied through the sentry: pages are not lent.
namespace fluyt::guest {
namespace {

constexpr uint32_t kMove = 1, kNonblock = 2, kMore = 4, kGift = 8;
constexpr size_t kChunk = size_t{64} << 10;
using Wait = PipeEnd::Wait;
using Room = PipeEnd::Room;

ErrnoOr<FilePtr> file_of(Task& task, uint64_t fd) {
  FilePtr file = GUEST_TRY(task.files->get(as_int(fd)));
  if ((file->flags() & 010000000) != 0) return Errno(EBADF);  // O_PATH
  return file;
}

/// An end of the same pipe as itself, or null.
std::shared_ptr<PipeEnd> pipe_end(const FilePtr& file) {
  return std::dynamic_pointer_cast<PipeEnd>(file);
}

/// Who writes into a pipe that nobody reads hears of it.
ErrnoOr<uint64_t> with_signal(Task& task, ErrnoOr<uint64_t> done) {
  if (!done.ok() && done.error().value() == EPIPE) {
    std::lock_guard lock(task.kernel.lock);
    task.kernel.send_to(task, signal_from(task, *task.process, SIGPIPE, SI_USER));
  }
  return done;
}

/// The position that a call without an offset moves, and who may move it meanwhile.
struct Position {
  explicit Position(const FilePtr& file) : file_(file) {
    if (file_ && file_->seekable()) lock_ = std::unique_lock(file_->position_lock);
  }
  int64_t* get() { return &file_->position; }

 private:
  FilePtr file_;
  std::unique_lock<std::mutex> lock_;
};

ErrnoOr<uint64_t> from_pipe(Task& task, PipeEnd& in, File& out, int64_t* offset, size_t length,
                            Wait wait) {
  Caller caller = task.caller();
  std::vector<std::byte> buffer(std::min(length, kChunk));
  uint64_t done = 0;
  while (done < length) {
    // What is there goes; only for the first byte there is a wait.
    const ErrnoOr<size_t> there = in.wait_for_bytes(caller, done != 0 ? Wait::kNever : wait);
    if (!there.ok() || there.value() == 0) {
      if (done == 0 && !there.ok()) return there.error();
      break;
    }
    const size_t taken =
        in.take(std::span(buffer).first(std::min<uint64_t>(buffer.size(), length - done)));
    if (taken == 0) continue;
    const std::span<const std::byte> bytes = std::span(buffer).first(taken);
    const ErrnoOr<size_t> written = write_bytes(task, out, bytes, offset);
    in.put_back(bytes.subspan(written.ok() ? written.value() : 0));
    if (!written.ok()) return done != 0 ? ErrnoOr<uint64_t>(done) : written.error();
    done += written.value();
    if (written.value() < taken) break;
  }
  return done;
}

ErrnoOr<uint64_t> to_pipe(Task& task, File& in, int64_t* offset, PipeEnd& out, size_t length,
                          Wait wait) {
  Caller caller = task.caller();
  const size_t room = GUEST_TRY(out.wait_for_room(caller, wait));
  if (wait == Wait::kNever && !in.seekable() && (in.ready(POLLIN) & (POLLIN | POLLHUP)) == 0)
    return Errno(EAGAIN);
  // What a stream gave cannot go back: it goes in, though others have filled the pipe meanwhile.
  std::vector<std::byte> buffer(std::min({length, room, kChunk}));
  const size_t got = GUEST_TRY(in.read(caller, buffer, offset));
  const size_t put = out.put(std::span(buffer).first(got),
                             in.seekable() ? Room::kAsThereIs : Room::kHoweverLittle);
  if (in.seekable()) *offset -= static_cast<int64_t>(got - put);
  return uint64_t{put};
}

ErrnoOr<uint64_t> between_pipes(Task& task, PipeEnd& in, PipeEnd& out, size_t length, Wait wait,
                                bool keep) {
  Caller caller = task.caller();
  for (;;) {
    const size_t there = GUEST_TRY(in.wait_for_bytes(caller, wait));
    if (there == 0) return uint64_t{0};
    const size_t room = GUEST_TRY(out.wait_for_room(caller, wait));
    std::vector<std::byte> buffer(std::min({length, there, room}));
    const size_t got = keep ? in.peek(buffer) : in.take(buffer);
    const std::span<const std::byte> bytes = std::span(buffer).first(got);
    const size_t put = out.put(bytes, Room::kAsThereIs);
    if (!keep) in.put_back(bytes.subspan(put));
    if (put == 0) continue;  // somebody else has the bytes, or the room
    return uint64_t{put};
  }
}

ErrnoOr<int64_t> offset_at(Task& task, uint64_t address) {
  const int64_t offset = GUEST_TRY(task.get<int64_t>(address));
  if (offset < 0) return Errno(EINVAL);
  return offset;
}

}  // namespace

ErrnoOr<uint64_t> sys_splice(Task& task, Arguments a) {
  constexpr size_t kMost = size_t{1} << 30;
  const auto flags = static_cast<uint32_t>(a[5]);
  if ((flags & ~(kMove | kNonblock | kMore | kGift)) != 0) return Errno(EINVAL);
  if (a[4] == 0) return uint64_t{0};
  const FilePtr in = GUEST_TRY(file_of(task, a[0]));
  const FilePtr out = GUEST_TRY(file_of(task, a[2]));
  if (!in->readable() || !out->writable()) return Errno(EBADF);
  const std::shared_ptr<PipeEnd> source = pipe_end(in);
  const std::shared_ptr<PipeEnd> sink = pipe_end(out);
  if ((source && a[1] != 0) || (sink && a[3] != 0)) return Errno(ESPIPE);
  if (!source && !sink) return Errno(EINVAL);
  if (source && sink && source->pipe() == sink->pipe()) return Errno(EINVAL);
  if (out->appending()) return Errno(EINVAL);
  const size_t length = std::min<uint64_t>(a[4], kMost);
  const Wait wait = (flags & kNonblock) != 0 ? Wait::kNever : Wait::kBlock;
  ErrnoOr<uint64_t> done = uint64_t{0};
  if (source && sink) {
    done = with_signal(task, between_pipes(task, *source, *sink, length, wait, false));
  } else {
    const FilePtr& file = source ? out : in;
    const uint64_t address = source ? a[3] : a[1];
    if (file->inode()->is_dir()) return Errno(EINVAL);
    if (address != 0 && !file->seekable()) return Errno(EINVAL);
    int64_t own = 0;
    if (address != 0) own = GUEST_TRY(offset_at(task, address));
    {
      Position position(address != 0 ? FilePtr() : file);
      int64_t* offset = address != 0 ? &own : &file->position;
      done = source ? from_pipe(task, *source, *out, offset, length, wait)
                    : with_signal(task, to_pipe(task, *in, offset, *sink, length, wait));
    }
    if (done.ok() && address != 0) GUEST_TRY(task.put(address, own));
  }
  if (done.ok() && done.value() != 0) {
    in->tell(IN_ACCESS);
    out->tell(IN_MODIFY);
  }
  return done;
}

ErrnoOr<uint64_t> sys_tee(Task& task, Arguments a) {
  const auto flags = static_cast<uint32_t>(a[3]);
  if ((flags & ~(kMove | kNonblock | kMore | kGift)) != 0) return Errno(EINVAL);
  if (a[2] == 0) return uint64_t{0};
  const FilePtr in = GUEST_TRY(file_of(task, a[0]));
  const FilePtr out = GUEST_TRY(file_of(task, a[1]));
  if (!in->readable() || !out->writable()) return Errno(EBADF);
  const std::shared_ptr<PipeEnd> source = pipe_end(in);
  const std::shared_ptr<PipeEnd> sink = pipe_end(out);
  if (!source || !sink || source->pipe() == sink->pipe()) return Errno(EINVAL);
  return with_signal(task,
                     between_pipes(task, *source, *sink, std::min<uint64_t>(a[2], INT32_MAX),
                                   (flags & kNonblock) != 0 ? Wait::kNever : Wait::kBlock, true));
}

ErrnoOr<uint64_t> sys_vmsplice(Task& task, Arguments a) {
  const auto flags = static_cast<uint32_t>(a[3]);
  if ((flags & ~(kMove | kNonblock | kMore | kGift)) != 0) return Errno(EINVAL);
  const FilePtr file = GUEST_TRY(file_of(task, a[0]));
  const std::shared_ptr<PipeEnd> end = pipe_end(file);
  if (!end) return Errno(EBADF);
  const std::vector<IoVector> vectors = GUEST_TRY(get_vectors(task, a[1], a[2]));
  const Wait wait = (flags & kNonblock) != 0 ? Wait::kNever : Wait::kBlock;
  Caller caller = task.caller();
  AddressSpace& memory = task.mm->space();
  std::vector<std::byte> buffer(kChunk);
  uint64_t done = 0;
  for (const IoVector& vector : vectors) {
    for (uint64_t at = 0; at < vector.length;) {
      // The call waits for its first byte alone.
      const Wait now = done != 0 ? Wait::kNever : wait;
      const ErrnoOr<size_t> there =
          end->writable() ? end->wait_for_room(caller, now) : end->wait_for_bytes(caller, now);
      if (!there.ok() || there.value() == 0) {
        if (done != 0 || there.ok()) return done;
        return with_signal(task, there.error());
      }
      const size_t step = std::min<uint64_t>({buffer.size(), there.value(), vector.length - at});
      const std::span<std::byte> bytes = std::span(buffer).first(step);
      size_t moved = 0;
      if (end->writable()) {
        const size_t have = memory.read(vector.base + at, bytes);
        moved = end->put(bytes.first(have), Room::kAsThereIs);
        if (have != 0 && moved == 0) continue;
      } else {
        const size_t got = end->take(bytes);
        moved = memory.write(vector.base + at, bytes.first(got));
        end->put_back(bytes.subspan(moved, got - moved));
        if (got == 0) continue;
      }
      if (moved == 0) return done != 0 ? ErrnoOr<uint64_t>(done) : Errno(EFAULT);
      done += moved;
      at += moved;
    }
  }
  return done;
}

}  // namespace fluyt::guest
