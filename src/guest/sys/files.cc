#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "guest/fs/devices.h"
#include "guest/fs/memory_file.h"
#include "guest/fs/special.h"
#include "guest/fs/tty.h"
#include "guest/net/socket.h"
#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"
#include "guest/task/namespaces.h"

namespace fluyt::guest {
namespace {

constexpr size_t kBounce = size_t{256} << 10;

using Vector = IoVector;

ErrnoOr<FilePtr> get_file(Task& task, uint64_t fd) {
  FilePtr file = GUEST_TRY(task.files->get(as_int(fd)));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  return file;
}

std::span<std::byte> bounce(Task& task, size_t size) {
  if (task.bounce.size() < size) task.bounce.resize(size);
  return std::span(task.bounce).first(size);
}

/// The program's memory that a call names, from the first byte that it has not moved yet.
class Cursor {
 public:
  Cursor(AddressSpace& memory, std::span<const Vector> vectors)
      : memory_(memory), vectors_(vectors) {
    for (const Vector& vector : vectors) left_ += vector.length;
  }
  uint64_t left() const { return left_; }
  /// As far as it goes.
  size_t store(std::span<const std::byte> bytes) {
    return move(bytes.size(), [&](uint64_t address, size_t at, size_t count) {
      return memory_.write(address, bytes.subspan(at, count));
    });
  }
  size_t load(std::span<std::byte> bytes) {
    return move(bytes.size(), [&](uint64_t address, size_t at, size_t count) {
      return memory_.read(address, bytes.subspan(at, count));
    });
  }
  bool is_there() const {
    Cursor look = *this;
    std::byte probe{};
    return look.load(std::span(&probe, 1)) == 1;
  }

 private:
  template <class Copy>
  size_t move(size_t length, Copy copy) {
    size_t done = 0;
    while (done < length && !vectors_.empty()) {
      const Vector& vector = vectors_.front();
      const size_t count = std::min<uint64_t>(length - done, vector.length - at_);
      const size_t moved = count == 0 ? 0 : copy(vector.base + at_, done, count);
      done += moved;
      at_ += moved;
      left_ -= moved;
      if (moved < count) break;
      if (at_ < vector.length) break;
      vectors_ = vectors_.subspan(1);
      at_ = 0;
    }
    return done;
  }

  AddressSpace& memory_;
  std::span<const Vector> vectors_;
  uint64_t at_ = 0;  // in the first of them
  uint64_t left_ = 0;
};

/// All vectors are one read, as much as a bounce buffer holds. A stream gives what it has; what
/// can be read at a place goes on until a read is short.
ErrnoOr<uint64_t> read_into(Task& task, File& file, std::span<const Vector> vectors,
                            int64_t* offset) {
  Caller caller = task.caller();
  Cursor to(task.mm->space(), vectors);
  uint64_t done = 0;
  const auto ended_with = [&](Errno error) {
    return done != 0 ? ErrnoOr<uint64_t>(done) : ErrnoOr<uint64_t>(error);
  };
  while (to.left() != 0 && !(done != 0 && task.is_ending())) {
    const size_t step = std::min<uint64_t>(kBounce, to.left());
    // A byte that cannot be stored must not be taken from a stream.
    if (!file.seekable() && !file.takes_back() && !to.is_there()) return ended_with(Errno(EFAULT));
    const std::span<std::byte> buffer = bounce(task, step);
    const ErrnoOr<size_t> got = file.read(caller, buffer, offset);
    if (!got.ok()) return ended_with(got.error());
    const size_t stored = to.store(buffer.first(got.value()));
    done += stored;
    if (stored < got.value()) {
      if (file.seekable())
        *offset -= static_cast<int64_t>(got.value() - stored);
      else
        file.put_back(buffer.first(got.value()).subspan(stored));
      return ended_with(Errno(EFAULT));
    }
    if (got.value() < step || !file.seekable()) break;
  }
  return done;
}

/// All vectors are one write, as much as a bounce buffer holds.
ErrnoOr<uint64_t> write_from(Task& task, File& file, std::span<const Vector> vectors,
                             int64_t* offset) {
  Cursor from(task.mm->space(), vectors);
  uint64_t done = 0;
  while (from.left() != 0 && !(done != 0 && task.is_ending())) {
    const size_t step = std::min<uint64_t>(kBounce, from.left());
    const std::span<std::byte> buffer = bounce(task, step);
    const size_t have = from.load(buffer);
    if (have == 0) return done != 0 ? ErrnoOr<uint64_t>(done) : Errno(EFAULT);
    const ErrnoOr<size_t> put = write_bytes(task, file, buffer.first(have), offset);
    if (!put.ok()) return done != 0 ? ErrnoOr<uint64_t>(done) : put.error();
    done += put.value();
    if (put.value() < have || have < step) break;
  }
  return done;
}

enum class Way : uint8_t { kRead, kWrite };

/// For /proc/[pid]/io.
void count(const Task& task, Way way, uint64_t bytes) {
  Process::Traffic& traffic = task.process->traffic;
  const bool reads = way == Way::kRead;
  (reads ? traffic.reads : traffic.writes).fetch_add(1, std::memory_order_relaxed);
  (reads ? traffic.read_bytes : traffic.written_bytes).fetch_add(bytes, std::memory_order_relaxed);
}

ErrnoOr<uint64_t> counted(const Task& task, Way way, const ErrnoOr<uint64_t>& result) {
  count(task, way, result.ok() ? result.value() : 0);
  return result;
}

/// Who watches hears of bytes that went, however many. They are counted.
ErrnoOr<uint64_t> told(const Task& task, const File& file, ErrnoOr<uint64_t> done, Way way) {
  count(task, way, done.ok() ? done.value() : 0);
  if (done.ok() && done.value() != 0) file.tell(way == Way::kRead ? IN_ACCESS : IN_MODIFY);
  return done;
}

/// RWF_* of preadv2(2).
constexpr uint32_t kHighPriority = 1, kDataSync = 2, kSync = 4, kNoWait = 8, kAppend = 16,
                   kNoAppend = 32;

/// What the flags ask for before the bytes go.
Errno apply_flags(const FilePtr& file, uint32_t flags, Way way) {
  constexpr uint32_t kKnown = kHighPriority | kDataSync | kSync | kNoWait | kAppend | kNoAppend;
  if ((flags & ~kKnown) != 0) return Errno(EOPNOTSUPP);
  if ((flags & kAppend) != 0 && (flags & kNoAppend) != 0) return Errno(EINVAL);
  // The host's descriptor of such a file appends whatever we say.
  if ((flags & kNoAppend) != 0 && way == Way::kWrite && file->appending()) return Errno(EOPNOTSUPP);
  if ((flags & kNoWait) != 0 && !file->seekable()) {
    if (!S_ISFIFO(file->inode()->type()) && !S_ISSOCK(file->inode()->type()))
      return Errno(EOPNOTSUPP);
    const uint32_t wanted = way == Way::kRead ? POLLIN | POLLHUP : POLLOUT | POLLERR;
    if ((file->ready(wanted) & wanted) == 0) return Errno(EAGAIN);
  }
  return kOk;
}

ErrnoOr<uint64_t> transfer(Task& task, uint64_t fd, std::span<const Vector> vectors, Way way,
                           uint32_t flags = 0) {
  const FilePtr file = GUEST_TRY(get_file(task, fd));
  if (way == Way::kRead ? !file->readable() : !file->writable()) return Errno(EBADF);
  if (flags != 0) GUEST_TRY(apply_flags(file, flags, way));
  const auto run = [&] {
    return told(task, *file,
                way == Way::kRead ? read_into(task, *file, vectors, &file->position)
                                  : write_from(task, *file, vectors, &file->position),
                way);
  };
  if (way == Way::kRead && file->inode()->is_dir()) return Errno(EISDIR);
  // Messages have borders: all vectors make one.
  if (std::shared_ptr<Socket> socket = std::dynamic_pointer_cast<Socket>(file))
    return counted(task, way,
                   way == Way::kRead ? read_socket(task, *socket, vectors)
                                     : write_socket(task, *socket, vectors));
  if (!file->seekable()) return run();
  std::lock_guard lock(file->position_lock);
  if ((flags & kAppend) != 0 && way == Way::kWrite) {
    const Stat now = GUEST_TRY(file->stat());
    file->position = now.size;
  }
  ErrnoOr<uint64_t> done = run();
  if ((flags & (kDataSync | kSync)) != 0 && way == Way::kWrite && done.ok())
    GUEST_TRY(file->sync());
  return done;
}

ErrnoOr<uint64_t> transfer_at(Task& task, uint64_t fd, std::span<const Vector> vectors,
                              uint64_t offset, Way way, uint32_t flags = 0) {
  auto at = static_cast<int64_t>(offset);
  if (at < 0) return Errno(EINVAL);
  const FilePtr file = GUEST_TRY(get_file(task, fd));
  if (way == Way::kRead ? !file->readable() : !file->writable()) return Errno(EBADF);
  if (!file->seekable()) return Errno(ESPIPE);
  if (way == Way::kRead && file->inode()->is_dir()) return Errno(EISDIR);
  if (flags != 0) GUEST_TRY(apply_flags(file, flags, way));
  if ((flags & kAppend) != 0 && way == Way::kWrite) {
    const Stat now = GUEST_TRY(file->stat());
    at = now.size;
  }
  ErrnoOr<uint64_t> done = told(task, *file,
                                way == Way::kRead ? read_into(task, *file, vectors, &at)
                                                  : write_from(task, *file, vectors, &at),
                                way);
  if ((flags & (kDataSync | kSync)) != 0 && way == Way::kWrite && done.ok())
    GUEST_TRY(file->sync());
  return done;
}

/// preadv2(2) and its like: an offset of -1 is the file's position.
ErrnoOr<uint64_t> transfer_with_flags(Task& task, Arguments a, Way way) {
  const std::vector<Vector> vectors = GUEST_TRY(get_vectors(task, a[1], a[2]));
  const auto flags = static_cast<uint32_t>(a[5]);
  if (static_cast<int64_t>(a[3]) == -1) return transfer(task, a[0], vectors, way, flags);
  return transfer_at(task, a[0], vectors, a[3], way, flags);
}

ErrnoOr<Vector> one_vector(uint64_t address, uint64_t length) {
  if (static_cast<int64_t>(length) < 0) return Errno(EINVAL);
  return Vector{address, std::min<uint64_t>(length, kMaxTransfer)};
}

}  // namespace

namespace {
Errno too_long(Task& task) {
  std::lock_guard lock(task.kernel.lock);
  task.kernel.send_to(task, signal_from(task, *task.process, SIGXFSZ, SI_USER));
  return Errno(EFBIG);
}
}  // namespace

ErrnoOr<size_t> write_bytes(Task& task, File& file, std::span<const std::byte> from,
                            int64_t* offset) {
  const uint64_t limit = task.process->file_size_limit;
  if (limit != ~uint64_t{0} && S_ISREG(file.inode()->type()) && !from.empty()) {
    auto at = static_cast<uint64_t>(*offset);
    if (file.appending()) {
      const Stat now = GUEST_TRY(file.stat());
      at = static_cast<uint64_t>(now.size);
    }
    if (at >= limit) return too_long(task);
    from = from.first(std::min<uint64_t>(from.size(), limit - at));
  }
  Caller caller = task.caller();
  const ErrnoOr<size_t> put = file.write(caller, from, offset);
  if (!put.ok() && put.error().value() == EPIPE) {
    std::lock_guard lock(task.kernel.lock);
    task.kernel.send_to(task, signal_from(task, *task.process, SIGPIPE, SI_USER));
  }
  return put;
}

Errno may_become(Task& task, Inode& inode, uint64_t size) {
  if (size <= task.process->file_size_limit || !S_ISREG(inode.type())) return kOk;
  const Stat now = GUEST_TRY(inode.stat());
  return size > static_cast<uint64_t>(now.size) ? too_long(task) : kOk;
}

ErrnoOr<std::vector<IoVector>> get_vectors(Task& task, uint64_t address, uint64_t count) {
  if (count > kMaxVectors) return Errno(EINVAL);
  std::vector<IoVector> out(count);
  GUEST_TRY(task.copy_in(address, std::as_writable_bytes(std::span(out))));
  uint64_t left = kMaxTransfer;
  for (IoVector& vector : out) {
    if (vector.length > SSIZE_MAX) return Errno(EINVAL);
    left -= vector.length = std::min(vector.length, left);
  }
  return out;
}

ErrnoOr<uint64_t> add_file(Task& task, FilePtr file, bool close_on_exec) {
  const int fd = GUEST_TRY(task.files->add(std::move(file), close_on_exec));
  return static_cast<uint64_t>(fd);
}

ErrnoOr<uint64_t> sys_read(Task& task, Arguments a) {
  const Vector vector = GUEST_TRY(one_vector(a[1], a[2]));
  return transfer(task, a[0], std::span(&vector, 1), Way::kRead);
}
ErrnoOr<uint64_t> sys_write(Task& task, Arguments a) {
  const Vector vector = GUEST_TRY(one_vector(a[1], a[2]));
  return transfer(task, a[0], std::span(&vector, 1), Way::kWrite);
}
ErrnoOr<uint64_t> sys_readv(Task& task, Arguments a) {
  GUEST_TRY(get_file(task, a[0]));
  const std::vector<Vector> vectors = GUEST_TRY(get_vectors(task, a[1], a[2]));
  return transfer(task, a[0], vectors, Way::kRead);
}
ErrnoOr<uint64_t> sys_writev(Task& task, Arguments a) {
  GUEST_TRY(get_file(task, a[0]));
  const std::vector<Vector> vectors = GUEST_TRY(get_vectors(task, a[1], a[2]));
  return transfer(task, a[0], vectors, Way::kWrite);
}
ErrnoOr<uint64_t> sys_pread64(Task& task, Arguments a) {
  const Vector vector = GUEST_TRY(one_vector(a[1], a[2]));
  return transfer_at(task, a[0], std::span(&vector, 1), a[3], Way::kRead);
}
ErrnoOr<uint64_t> sys_pwrite64(Task& task, Arguments a) {
  const Vector vector = GUEST_TRY(one_vector(a[1], a[2]));
  return transfer_at(task, a[0], std::span(&vector, 1), a[3], Way::kWrite);
}
ErrnoOr<uint64_t> sys_preadv(Task& task, Arguments a) {
  const std::vector<Vector> vectors = GUEST_TRY(get_vectors(task, a[1], a[2]));
  return transfer_at(task, a[0], vectors, a[3], Way::kRead);
}
ErrnoOr<uint64_t> sys_pwritev(Task& task, Arguments a) {
  const std::vector<Vector> vectors = GUEST_TRY(get_vectors(task, a[1], a[2]));
  return transfer_at(task, a[0], vectors, a[3], Way::kWrite);
}

ErrnoOr<uint64_t> sys_preadv2(Task& task, Arguments a) {
  return transfer_with_flags(task, a, Way::kRead);
}
ErrnoOr<uint64_t> sys_pwritev2(Task& task, Arguments a) {
  return transfer_with_flags(task, a, Way::kWrite);
}

ErrnoOr<uint64_t> sys_close(Task& task, Arguments a) {
  GUEST_TRY(task.files->remove(as_int(a[0])));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_close_range(Task& task, Arguments a) {
  constexpr unsigned kUnshare = 2;
  constexpr unsigned kCloseOnExec = 4;
  const auto first = static_cast<unsigned>(a[0]);
  const auto last = static_cast<unsigned>(a[1]);
  const auto flags = static_cast<unsigned>(a[2]);
  if ((flags & ~(kUnshare | kCloseOnExec)) != 0 || first > last) return Errno(EINVAL);
  // One that it has alone stays, with what is tied to it: record locks, notices.
  if ((flags & kUnshare) != 0 && task.files.use_count() > 1) task.replace_files(task.files->copy());
  task.files->close_range(first, last, (flags & kCloseOnExec) != 0);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_lseek(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(get_file(task, a[0]));
  const auto offset = static_cast<int64_t>(a[1]);
  const int whence = as_int(a[2]);
  if (whence < 0 || whence > 4) return Errno(EINVAL);
  std::lock_guard lock(file->position_lock);
  if (file->inode()->is_dir()) {
    if (whence == SEEK_SET)
      file->position = offset;
    else if (whence == SEEK_CUR)
      file->position += offset;
    else
      return Errno(EINVAL);
    if (file->position == 0) file->listed = false;
    return static_cast<uint64_t>(file->position);
  }
  const int64_t at = GUEST_TRY(file->seek(offset, whence));
  return static_cast<uint64_t>(at);
}

ErrnoOr<uint64_t> sys_dup(Task& task, Arguments a) {
  return add_file(task, GUEST_TRY(task.files->get(as_int(a[0]))), false);
}

ErrnoOr<uint64_t> sys_dup2(Task& task, Arguments a) {
  FilePtr file = GUEST_TRY(task.files->get(as_int(a[0])));
  if (as_int(a[0]) != as_int(a[1]))
    GUEST_TRY(task.files->put(as_int(a[1]), std::move(file), false));
  return static_cast<uint64_t>(as_int(a[1]));
}

ErrnoOr<uint64_t> sys_dup3(Task& task, Arguments a) {
  const int flags = as_int(a[2]);
  if ((flags & ~O_CLOEXEC) != 0 || as_int(a[0]) == as_int(a[1])) return Errno(EINVAL);
  FilePtr file = GUEST_TRY(task.files->get(as_int(a[0])));
  GUEST_TRY(task.files->put(as_int(a[1]), std::move(file), (flags & O_CLOEXEC) != 0));
  return static_cast<uint64_t>(as_int(a[1]));
}

ErrnoOr<uint64_t> sys_fcntl(Task& task, Arguments a) {
  const int fd = as_int(a[0]);
  const FilePtr file = GUEST_TRY(task.files->get(fd));
  switch (as_int(a[1])) {
    case F_DUPFD:
    case 1030: {  // F_DUPFD_CLOEXEC
      const int lowest = as_int(a[2]);
      if (lowest < 0) return Errno(EINVAL);
      const int made = GUEST_TRY(task.files->add(file, as_int(a[1]) != F_DUPFD, lowest));
      return static_cast<uint64_t>(made);
    }
    case F_GETFD: {
      const bool on = GUEST_TRY(task.files->close_on_exec(fd));
      return uint64_t{on ? 1U : 0U};
    }
    case F_SETFD:
      GUEST_TRY(task.files->set_close_on_exec(fd, (a[2] & 1) != 0));
      return uint64_t{0};
    case F_GETFL:
      return static_cast<uint64_t>(file->flags() | 0100000);  // O_LARGEFILE
    case F_SETFL: {
      constexpr int kSettable = O_APPEND | O_NONBLOCK | O_ASYNC | O_NOATIME;
      file->set_flags((file->flags() & ~kSettable) | (as_int(a[2]) & kSettable));
      return uint64_t{0};
    }
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      return control_lock(task, file, as_int(a[1]), a[2]);
    case 1033:  // F_ADD_SEALS
      GUEST_TRY(file->add_seals(static_cast<uint32_t>(a[2])));
      return uint64_t{0};
    case 1034:
      return uint64_t{GUEST_TRY(file->seals())};
    case F_SETOWN:
      return uint64_t{0};
    case F_GETOWN:
      return uint64_t{0};
    case 1031: {  // F_SETPIPE_SZ
      Caller caller = task.caller();
      const ErrnoOr<uint64_t> done = file->ioctl(caller, kPipeSetSize, a[2]);
      return done.ok() || done.error().value() != ENOTTY ? done : Errno(EBADF);
    }
    case 1032: {
      Caller caller = task.caller();
      const ErrnoOr<uint64_t> done = file->ioctl(caller, kPipeGetSize, 0);
      return done.ok() ? done : Errno(EBADF);
    }
    default:
      return Errno(EINVAL);
  }
}

ErrnoOr<uint64_t> sys_ioctl(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(get_file(task, a[0]));
  const auto request = static_cast<uint32_t>(a[1]);
  switch (request) {
    case FIOCLEX:
      GUEST_TRY(task.files->set_close_on_exec(as_int(a[0]), true));
      return uint64_t{0};
    case FIONCLEX:
      GUEST_TRY(task.files->set_close_on_exec(as_int(a[0]), false));
      return uint64_t{0};
    case FIONBIO: {
      const int on = GUEST_TRY(task.get<int>(a[2]));
      file->set_flags(on != 0 ? file->flags() | O_NONBLOCK : file->flags() & ~O_NONBLOCK);
      return uint64_t{0};
    }
    case FIOASYNC: {
      // Remembered and shown, as with F_SETFL; nobody is sent SIGIO.
      const int on = GUEST_TRY(task.get<int>(a[2]));
      file->set_flags(on != 0 ? file->flags() | O_ASYNC : file->flags() & ~O_ASYNC);
      return uint64_t{0};
    }
    case TIOCGPTPEER: {
      Caller opener = task.caller();
      const int flags = as_int(a[2]);
      FilePtr peer = GUEST_TRY(open_peer(opener, *file, flags));
      return add_file(task, std::move(peer), (flags & O_CLOEXEC) != 0);
    }
    case kPipeSetSize:
    case kPipeGetSize:
      return Errno(ENOTTY);
    default:
      break;
  }
  if (const auto* space = dynamic_cast<const NamespaceInode*>(file->inode().get()))
    return control_namespace(task, *space, request, a[2]);
  Caller caller = task.caller();
  return file->ioctl(caller, request, a[2]);
}

namespace {
ErrnoOr<uint64_t> make_pipe_at(Task& task, uint64_t address, int flags) {
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) != 0) return Errno(EINVAL);
  const PipeEnds ends = make_pipe(flags & O_NONBLOCK);
  const bool close_on_exec = (flags & O_CLOEXEC) != 0;
  int32_t numbers[2];
  numbers[0] = GUEST_TRY(task.files->add(ends.reader, close_on_exec));
  const ErrnoOr<int> second = task.files->add(ends.writer, close_on_exec);
  if (!second.ok()) {
    (void)task.files->remove(numbers[0]).ok();
    return second.error();
  }
  numbers[1] = second.value();
  if (const Errno put = task.put(address, numbers); !put.ok()) {
    (void)task.files->remove(numbers[0]).ok();
    (void)task.files->remove(numbers[1]).ok();
    return put;
  }
  return uint64_t{0};
}
}  // namespace

ErrnoOr<uint64_t> sys_pipe(Task& task, Arguments a) { return make_pipe_at(task, a[0], 0); }
ErrnoOr<uint64_t> sys_pipe2(Task& task, Arguments a) {
  return make_pipe_at(task, a[0], as_int(a[1]));
}

ErrnoOr<uint64_t> sys_fstat(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(task.files->get(as_int(a[0])));
  const Stat stat = GUEST_TRY(file->stat());
  GUEST_TRY(task.put(a[1], shown(task, stat)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_fsync(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(get_file(task, a[0]));
  if (!file->seekable()) return Errno(EINVAL);
  GUEST_TRY(file->sync());
  return uint64_t{0};
}
ErrnoOr<uint64_t> sys_fdatasync(Task& task, Arguments a) { return sys_fsync(task, a); }
ErrnoOr<uint64_t> sys_sync(Task&, Arguments) { return uint64_t{0}; }

ErrnoOr<uint64_t> sys_syncfs(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(get_file(task, a[0]));
  if (file->seekable()) GUEST_TRY(file->sync());
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_sync_file_range(Task& task, Arguments a) {
  constexpr uint32_t kKnown = 7;  // SYNC_FILE_RANGE_*
  const FilePtr file = GUEST_TRY(get_file(task, a[0]));
  const auto offset = static_cast<int64_t>(a[1]);
  int64_t end = 0;
  if ((static_cast<uint32_t>(a[3]) & ~kKnown) != 0 || offset < 0 ||
      static_cast<int64_t>(a[2]) < 0 ||
      __builtin_add_overflow(offset, static_cast<int64_t>(a[2]), &end))
    return Errno(EINVAL);
  const uint32_t type = file->inode()->type();
  if (!S_ISREG(type) && !S_ISDIR(type) && !S_ISBLK(type) && !S_ISLNK(type)) return Errno(ESPIPE);
  if (static_cast<uint32_t>(a[3]) != 0) GUEST_TRY(file->sync());
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_readahead(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(get_file(task, a[0]));
  if (!file->readable()) return Errno(EBADF);
  if (!S_ISREG(file->inode()->type())) return Errno(EINVAL);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_ftruncate(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(get_file(task, a[0]));
  const auto size = static_cast<int64_t>(a[1]);
  if (size < 0 || !file->writable()) return Errno(EINVAL);
  GUEST_TRY(may_become(task, *file->inode(), a[1]));
  GUEST_TRY(file->truncate(size));
  file->inode()->written_by(task.credentials);
  file->tell(IN_MODIFY);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_fallocate(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(get_file(task, a[0]));
  const auto offset = static_cast<int64_t>(a[2]);
  const auto length = static_cast<int64_t>(a[3]);
  if (offset < 0 || length <= 0) return Errno(EINVAL);
  if (!file->writable()) return Errno(EBADF);
  uint64_t end = a[2] + a[3];
  if ((as_int(a[1]) & FALLOC_FL_KEEP_SIZE) != 0) end = 0;
  GUEST_TRY(may_become(task, *file->inode(), end));
  GUEST_TRY(file->allocate(as_int(a[1]), offset, length));
  file->inode()->written_by(task.credentials);
  file->tell(IN_MODIFY);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_fadvise64(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(get_file(task, a[0]));
  if (!file->seekable()) return Errno(ESPIPE);
  if (static_cast<int64_t>(a[2]) < 0) return Errno(EINVAL);
  if (as_int(a[3]) < 0 || as_int(a[3]) > 5) return Errno(EINVAL);
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_getdents64(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(get_file(task, a[0]));
  if (!file->inode()->is_dir()) return Errno(ENOTDIR);
  const uint64_t room = std::min<uint64_t>(static_cast<uint32_t>(a[2]), kBounce);
  std::lock_guard lock(file->position_lock);
  if (!file->listed) {
    file->listing = GUEST_TRY(file->list());
    const Stat self = GUEST_TRY(file->inode()->stat());
    file->listing.insert(file->listing.begin(), {{".", self.ino, 4}, {"..", self.ino, 4}});
    file->listed = true;
  }
  std::vector<std::byte> out;
  const auto put = [&out](const auto& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  auto at = static_cast<size_t>(std::max<int64_t>(file->position, 0));
  for (; at < file->listing.size(); ++at) {
    const DirEntry& entry = file->listing[at];
    const size_t length = (19 + entry.name.size() + 1 + 7) & ~size_t{7};
    if (out.size() + length > room) {
      if (out.empty()) return Errno(EINVAL);
      break;
    }
    const size_t begin = out.size();
    put(entry.ino);
    put(static_cast<int64_t>(at + 1));
    put(static_cast<uint16_t>(length));
    put(entry.type);
    const auto name = std::as_bytes(std::span(entry.name));
    out.insert(out.end(), name.begin(), name.end());
    out.resize(begin + length);
  }
  GUEST_TRY(task.copy_out(a[1], out));
  file->position = static_cast<int64_t>(at);
  file->tell(IN_ACCESS);
  return uint64_t{out.size()};
}

namespace {

/// The position as it is. A copy goes on from it without the lock, which is not to be held while it
/// sleeps.
ErrnoOr<int64_t> position_of(File& file) {
  if (!file.seekable()) return int64_t{0};
  std::lock_guard lock(file.position_lock);
  return file.seek(0, SEEK_CUR);
}
Errno set_position(File& file, int64_t to) {
  if (!file.seekable()) return kOk;
  std::lock_guard lock(file.position_lock);
  const ErrnoOr<int64_t> there = file.seek(to, SEEK_SET);
  return there.ok() ? kOk : there.error();
}

/// Copies between two files of the guest, through the sentry.
ErrnoOr<uint64_t> copy_between(Task& task, File& in, int64_t* in_at, File& out, int64_t* out_at,
                               uint64_t length) {
  length = std::min<uint64_t>(length, kMaxTransfer);
  Caller caller = task.caller();
  uint64_t done = 0;
  while (done < length && !(done != 0 && task.is_ending())) {
    const std::span<std::byte> buffer = bounce(task, std::min<uint64_t>(kBounce, length - done));
    const ErrnoOr<size_t> got = in.read(caller, buffer, in_at);
    if (!got.ok()) return done != 0 ? ErrnoOr<uint64_t>(done) : got.error();
    if (got.value() == 0) break;
    size_t written = 0;
    while (written < got.value()) {
      const ErrnoOr<size_t> put =
          write_bytes(task, out, buffer.subspan(written, got.value() - written), out_at);
      if (!put.ok()) {
        *in_at -= static_cast<int64_t>(got.value() - written);
        done += written;
        return done != 0 ? ErrnoOr<uint64_t>(done) : put.error();
      }
      written += put.value();
    }
    done += got.value();
  }
  return done;
}

void tell_copied(const Task& task, const File& in, const File& out, uint64_t bytes) {
  count(task, Way::kRead, bytes);
  count(task, Way::kWrite, bytes);
  if (bytes == 0) return;
  in.tell(IN_ACCESS);
  out.tell(IN_MODIFY);
}

}  // namespace

ErrnoOr<uint64_t> sys_sendfile(Task& task, Arguments a) {
  const FilePtr out = GUEST_TRY(get_file(task, a[0]));
  const FilePtr in = GUEST_TRY(get_file(task, a[1]));
  if (!in->readable() || !out->writable()) return Errno(EBADF);
  if (in->inode()->is_dir() || !in->seekable()) return Errno(EINVAL);
  if (out->appending()) return Errno(EINVAL);
  int64_t offset = a[2] != 0 ? GUEST_TRY(task.get<int64_t>(a[2])) : GUEST_TRY(position_of(*in));
  if (offset < 0) return Errno(EINVAL);
  int64_t to = GUEST_TRY(position_of(*out));
  const uint64_t done = GUEST_TRY(copy_between(task, *in, &offset, *out, &to, a[3]));
  GUEST_TRY(set_position(*out, to));
  tell_copied(task, *in, *out, done);
  if (a[2] != 0)
    GUEST_TRY(task.put(a[2], offset));
  else
    GUEST_TRY(set_position(*in, offset));
  return done;
}

ErrnoOr<uint64_t> sys_copy_file_range(Task& task, Arguments a) {
  const FilePtr in = GUEST_TRY(get_file(task, a[0]));
  const FilePtr out = GUEST_TRY(get_file(task, a[2]));
  if (!in->readable() || !out->writable() || out->appending()) return Errno(EBADF);
  if (in->inode()->is_dir() || out->inode()->is_dir()) return Errno(EISDIR);
  if ((in->inode()->type() & S_IFMT) != S_IFREG || (out->inode()->type() & S_IFMT) != S_IFREG ||
      as_int(a[5]) != 0)
    return Errno(EINVAL);
  int64_t from = a[1] != 0 ? GUEST_TRY(task.get<int64_t>(a[1])) : GUEST_TRY(position_of(*in));
  int64_t to = a[3] != 0 ? GUEST_TRY(task.get<int64_t>(a[3])) : GUEST_TRY(position_of(*out));
  if (from < 0 || to < 0) return Errno(EINVAL);
  const auto length = static_cast<int64_t>(std::min<uint64_t>(a[4], kMaxTransfer));
  if (in->inode() == out->inode() && from < to + length && to < from + length && length != 0)
    return Errno(EINVAL);
  const uint64_t done = GUEST_TRY(copy_between(task, *in, &from, *out, &to, a[4]));
  tell_copied(task, *in, *out, done);
  if (a[1] != 0)
    GUEST_TRY(task.put(a[1], from));
  else
    GUEST_TRY(set_position(*in, from));
  if (a[3] != 0)
    GUEST_TRY(task.put(a[3], to));
  else
    GUEST_TRY(set_position(*out, to));
  return done;
}

namespace {

class EventFile final : public File {
 public:
  EventFile(InodePtr inode, int flags, uint64_t count, bool semaphore)
      : File(nullptr, std::move(inode), flags), count_(count), semaphore_(semaphore) {}
  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t*) override {
    if (to.size() < sizeof(uint64_t)) return Errno(EINVAL);
    uint64_t value = 0;
    const auto take = [&] {
      std::lock_guard lock(mutex_);
      if (count_ == 0) return false;
      value = semaphore_ ? 1 : count_;
      count_ -= value;
      return true;
    };
    if (!take()) {
      if (nonblocking()) return Errno(EAGAIN);
      GUEST_TRY(wait_until(queue_, caller.sleeper, {}, take));
    }
    queue_.wake_all(POLLOUT | POLLWRNORM);
    std::copy_n(std::as_bytes(std::span(&value, 1)).data(), sizeof value, to.data());
    return sizeof value;
  }
  ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from, int64_t*) override {
    if (from.size() < sizeof(uint64_t)) return Errno(EINVAL);
    uint64_t value = 0;
    std::copy_n(from.data(), sizeof value, std::as_writable_bytes(std::span(&value, 1)).data());
    if (value == ~uint64_t{0}) return Errno(EINVAL);
    const auto give = [&] {
      std::lock_guard lock(mutex_);
      if (value > ~uint64_t{0} - 1 - count_) return false;
      count_ += value;
      return true;
    };
    if (!give()) {
      if (nonblocking()) return Errno(EAGAIN);
      GUEST_TRY(wait_until(queue_, caller.sleeper, {}, give));
    }
    queue_.wake_all(POLLIN | POLLRDNORM);
    return sizeof value;
  }
  uint32_t ready(uint32_t) override {
    std::lock_guard lock(mutex_);
    return (count_ != 0 ? POLLIN | POLLRDNORM : 0U) |
           (count_ < ~uint64_t{0} - 1 ? POLLOUT | POLLWRNORM : 0U);
  }
  WaitQueue* queue() override { return &queue_; }
  ErrnoOr<int64_t> seek(int64_t, int) override { return int64_t{0}; }
  std::string describe() const override { return "anon_inode:[eventfd]"; }

 private:
  std::mutex mutex_;
  uint64_t count_;
  bool semaphore_;
  WaitQueue queue_;
};

}  // namespace

ErrnoOr<uint64_t> sys_eventfd2(Task& task, Arguments a) {
  const int flags = as_int(a[1]);
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK | 1)) != 0) return Errno(EINVAL);
  auto file =
      std::make_shared<EventFile>(make_anonymous_inode(0600, 0), O_RDWR | (flags & O_NONBLOCK),
                                  static_cast<uint32_t>(a[0]), (flags & 1) != 0);
  return add_file(task, std::move(file), (flags & O_CLOEXEC) != 0);
}

ErrnoOr<uint64_t> sys_eventfd(Task& task, Arguments a) {
  const uint64_t with_flags[6] = {a[0], 0};
  return sys_eventfd2(task, with_flags);
}

ErrnoOr<uint64_t> sys_memfd_create(Task& task, Arguments a) {
  constexpr unsigned kCloseOnExec = 1;
  constexpr unsigned kAllowSealing = 2;
  constexpr unsigned kNoExec = 8;  // MFD_NOEXEC_SEAL
  constexpr unsigned kExec = 16;
  const auto flags = static_cast<unsigned>(a[1]);
  if ((flags & ~(kCloseOnExec | kAllowSealing | kNoExec | kExec)) != 0 ||
      (flags & (kNoExec | kExec)) == (kNoExec | kExec))
    return Errno(EINVAL);
  ErrnoOr<std::string> name = task.get_string(a[0], 250);
  if (!name.ok()) return name.error().value() == ENAMETOOLONG ? Errno(EINVAL) : name.error();
  MemoryFileRequest request;
  request.name = std::move(name).value();
  request.uid = task.credentials.fsuid;
  request.gid = task.credentials.fsgid;
  request.charge = task.memory_charge();
  if ((flags & kAllowSealing) != 0) request.seals = 0;
  if ((flags & kNoExec) != 0) {
    request.mode = 0666;
    request.seals = kSealExec;
  }
  FilePtr file = GUEST_TRY(make_memory_file(request));
  return add_file(task, std::move(file), (flags & kCloseOnExec) != 0);
}

}  // namespace fluyt::guest
