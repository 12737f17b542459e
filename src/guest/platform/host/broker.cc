#include "guest/platform/host/broker.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

#include "sys/file.h"
#include "sys/socket.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS _IOW('!', 4, uint64_t)
#endif

namespace fluyt::guest::host {
namespace {

constexpr int kNextCall = 0x7e10;  // no kernel has it; the filter makes it ours
constexpr size_t kMaxHandles = 1 << 20;
constexpr std::string_view kPlainPacket = "d";  // that a descriptor comes with

/// The process that holds the root. Single-threaded.
class Keeper {
 public:
  struct Settings {
    sys::Fd folder;  // invalid: there are none
    std::vector<std::string> paths;
  };
  Keeper(sys::Fd root, sys::Fd own_fds, Settings settings, sys::FdRef socket,
         BrokerMessage* message)
      : own_fds_(std::move(own_fds)),
        settings_(std::move(settings)),
        socket_(socket),
        message_(message) {
    handles_.push_back(std::move(root));
  }

  [[noreturn]] void serve() {
    for (;;) {
      // Whoever had the listener is gone.
      if (syscall(kNextCall) != 0) _exit(0);
      BrokerMessage& m = *message_;
      m.has_descriptor = 0;
      m.name[sizeof m.name - 1] = 0;
      m.other_name[sizeof m.other_name - 1] = 0;
      m.text[sizeof m.text - 1] = 0;
      const uint32_t count = m.forgotten_count;
      for (uint32_t i = 0; i < count && i < BrokerMessage::kMaxForgotten; ++i)
        forget(m.forgotten[i]);
      errno = 0;
      m.error = carry_out(m);
    }
  }

 private:
  int fd(uint64_t handle) const { return handle < handles_.size() ? handles_[handle].raw() : -1; }
  static bool is_name(const char* name) {
    return name[0] != 0 && std::strchr(name, '/') == nullptr && std::strcmp(name, ".") != 0 &&
           std::strcmp(name, "..") != 0;
  }
  /// O_PATH of what `name` is in a directory: not followed, not out of it.
  int find(int dir, const char* name) const {
    open_how how{};
    how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
    // A final symbolic link itself is wanted: O_PATH | O_NOFOLLOW gives it, under NO_SYMLINKS not.
    int found = static_cast<int>(syscall(SYS_openat2, dir, name, &how, sizeof how));
    if (found < 0 && errno == ELOOP) {
      how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
      found = static_cast<int>(syscall(SYS_openat2, dir, name, &how, sizeof how));
    }
    return found;
  }
  static uint64_t mount_of(int number) {
    struct statx raw;
    raw.stx_mask = 0;
    if (statx(number, "", AT_EMPTY_PATH, STATX_MNT_ID, &raw) != 0) return 0;
    return (raw.stx_mask & STATX_MNT_ID) != 0 ? raw.stx_mnt_id : 0;
  }
  /// There lies the memory of the guest kernel, and of whoever else this process may look into.
  static bool is_in_procfs(int number) {
    struct statfs info;
    return fstatfs(number, &info) != 0 || info.f_type == PROC_SUPER_MAGIC;
  }
  void forget(uint64_t handle) {
    if (handle == Broker::kRoot || fd(handle) < 0) return;
    handles_[handle].reset();
    free_.push_back(handle);
  }
  /// Whether what `name` is in a directory is the file that `known` is; `m.stat` then tells of it.
  static bool is_still(int dir, const char* name, int known, BrokerMessage& m) {
    struct stat now;
    struct stat then;
    if (fstatat(dir, name, &now, AT_SYMLINK_NOFOLLOW) != 0 ||
        fstatat(known, "", &then, AT_EMPTY_PATH) != 0)
      return false;
    if (now.st_dev != then.st_dev || now.st_ino != then.st_ino) return false;
    std::memcpy(static_cast<void*>(&m.stat), &now, sizeof m.stat);
    return true;
  }
  int keep(int number, BrokerMessage& m) {
    sys::Fd owned(number);
    if (!owned.valid()) return errno;
    struct stat raw;
    if (fstatat(number, "", &raw, AT_EMPTY_PATH) != 0) return errno;
    // Its root is a place to mount another at.
    constexpr ino_t kProcRoot = 1;
    if (is_in_procfs(number) && (!S_ISDIR(raw.st_mode) || raw.st_ino != kProcRoot)) return EACCES;
    std::memcpy(static_cast<void*>(&m.stat), &raw, sizeof m.stat);
    m.mount = mount_of(number);
    if (!free_.empty()) {
      m.new_handle = free_.back();
      free_.pop_back();
      handles_[m.new_handle] = std::move(owned);
      return 0;
    }
    if (handles_.size() == kMaxHandles) return ENFILE;
    m.new_handle = handles_.size();
    handles_.push_back(std::move(owned));
    return 0;
  }
  int give(int number, BrokerMessage& m) {
    sys::Fd owned(number);
    if (!owned.valid()) return errno;
    auto sent = sys::send_with_fds(socket_, kPlainPacket, {owned.ref()});
    if (!sent.ok()) return sent.error().errno_value();
    m.has_descriptor = 1;
    return 0;
  }
  /// The name of a handle in our own /proc/self/fd: the one way from O_PATH to anything else.
  static const char* number_of(int number, char (&buffer)[16]) {
    char* at = buffer + sizeof buffer - 1;
    *at = 0;
    do {
      *--at = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    return at;
  }
  int own(int number, const BrokerMessage& m) const {
    if (m.uid == ~0U || (m.uid == geteuid() && m.gid == getegid())) return 0;
    return fchownat(number, "", m.uid, m.gid, AT_EMPTY_PATH) == 0 ? 0 : errno;
  }
  int keep_new(int dir, const char* name, BrokerMessage& m) {
    const int made = find(dir, name);
    if (made >= 0) {
      if (const int error = own(made, m); error != 0) {
        close(made);
        return error;
      }
    }
    return keep(made, m);
  }
  static int outcome(int value) { return value == 0 ? 0 : errno; }

  /// A file in the file system of the directory, without a name (O_TMPFILE).
  int make_unnamed(int dir, BrokerMessage& m) {
    sys::Fd made(
        openat(dir, ".", O_TMPFILE | O_RDWR | (m.flags & O_EXCL) | O_CLOEXEC, m.mode & 07777));
    if (!made.valid()) return errno;
    if (const int error = own(made.raw(), m); error != 0) return error;
    char buffer[16];
    const int error =
        keep(openat(own_fds_.raw(), number_of(made.raw(), buffer), O_PATH | O_CLOEXEC), m);
    if (error != 0) return error;
    return give(made.release(), m);
  }

  int carry_out(BrokerMessage& m) {
    const int at = fd(m.handle);
    const int other = fd(m.other);
    char buffer[16];
    if (at < 0) return ESTALE;
    switch (m.op) {
      case BrokerMessage::kLookup:
        if (!is_name(m.name)) return ENOENT;
        if (other >= 0 && is_still(at, m.name, other, m)) {
          m.new_handle = m.other;
          return 0;
        }
        return keep(find(at, m.name), m);
      case BrokerMessage::kOpen:
        if (is_in_procfs(at)) return EACCES;
        return give(openat(own_fds_.raw(), number_of(at, buffer),
                           (m.flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC | O_NOCTTY |
                               O_NONBLOCK),
                    m);
      case BrokerMessage::kCreate: {
        if (m.name[0] == 0) return make_unnamed(at, m);
        if (!is_name(m.name)) return EINVAL;
        const int made = openat(at, m.name,
                                (m.flags & (O_ACCMODE | O_APPEND)) | O_CREAT | O_EXCL | O_NOFOLLOW |
                                    O_CLOEXEC | O_NOCTTY,
                                m.mode & 07777);
        if (made < 0) return errno;
        if (const int error = keep_new(at, m.name, m); error != 0) {
          close(made);
          return error;
        }
        return give(made, m);
      }
      case BrokerMessage::kMakeDir:
        if (!is_name(m.name)) return EINVAL;
        if (mkdirat(at, m.name, m.mode & 07777) != 0) return errno;
        return keep_new(at, m.name, m);
      case BrokerMessage::kMakeNode:
        // Devices of the host are nobody's to make.
        if (!is_name(m.name) || !(S_ISREG(m.mode) || S_ISFIFO(m.mode) || S_ISSOCK(m.mode)))
          return EPERM;
        if (mknodat(at, m.name, m.mode, 0) != 0) return errno;
        return keep_new(at, m.name, m);
      case BrokerMessage::kSymlink:
        if (!is_name(m.name)) return EINVAL;
        if (symlinkat(m.text, at, m.name) != 0) return errno;
        return keep_new(at, m.name, m);
      case BrokerMessage::kLink:
        if (!is_name(m.name) || other < 0) return EINVAL;
        return outcome(
            linkat(own_fds_.raw(), number_of(at, buffer), other, m.name, AT_SYMLINK_FOLLOW));
      case BrokerMessage::kUnlink:
        if (!is_name(m.name)) return EINVAL;
        return outcome(unlinkat(at, m.name, m.flags & AT_REMOVEDIR));
      case BrokerMessage::kRename:
        if (!is_name(m.name) || !is_name(m.other_name) || other < 0) return EINVAL;
        return outcome(static_cast<int>(syscall(SYS_renameat2, at, m.name, other, m.other_name,
                                                static_cast<unsigned>(m.flags & 3))));
      case BrokerMessage::kReadlink: {
        const ssize_t length = readlinkat(at, "", m.text, sizeof m.text - 1);
        if (length < 0) return errno;
        m.length = static_cast<uint32_t>(length);
        return 0;
      }
      case BrokerMessage::kStat: {
        struct stat raw;
        if (fstatat(at, "", &raw, AT_EMPTY_PATH) != 0) return errno;
        std::memcpy(static_cast<void*>(&m.stat), &raw, sizeof m.stat);
        if (m.handle == Broker::kRoot) m.mount = mount_of(at);
        return 0;
      }
      case BrokerMessage::kChmod:
        return outcome(fchmodat(own_fds_.raw(), number_of(at, buffer), m.mode & 07777, 0));
      case BrokerMessage::kChown:
        return outcome(fchownat(at, "", m.uid, m.gid, AT_EMPTY_PATH));
      case BrokerMessage::kSetTimes: {
        timespec times[2];
        for (int i = 0; i < 2; ++i) times[i] = {m.times[i].seconds, m.times[i].nanoseconds};
        return outcome(static_cast<int>(syscall(SYS_utimensat, at, "", times, AT_EMPTY_PATH)));
      }
      case BrokerMessage::kStatfs: {
        struct statfs raw;
        if (fstatfs(at, &raw) != 0) return errno;
        static_assert(sizeof raw == sizeof m.statfs);
        std::memcpy(static_cast<void*>(&m.statfs), &raw, sizeof raw);
        return 0;
      }
      case BrokerMessage::kForget:
        return 0;  // what was to be forgotten is
      case BrokerMessage::kGetAttribute:
      case BrokerMessage::kSetAttribute:
      case BrokerMessage::kListAttributes:
      case BrokerMessage::kRemoveAttribute:
        return on_attributes(at, m);
      case BrokerMessage::kOpenSetting:
        if (m.other >= settings_.paths.size()) return ENOENT;
        return give(
            openat(settings_.folder.raw(), settings_.paths[m.other].c_str(), O_RDONLY | O_CLOEXEC),
            m);
      default:
        return ENOSYS;
    }
  }

  /// No call takes a descriptor of O_PATH, so the file is opened: only what opening does nothing
  /// to.
  int on_attributes(int at, BrokerMessage& m) {
    struct stat raw;
    if (fstatat(at, "", &raw, AT_EMPTY_PATH) != 0) return errno;
    if (!S_ISREG(raw.st_mode) && !S_ISDIR(raw.st_mode)) return EOPNOTSUPP;
    const bool list = m.op == BrokerMessage::kListAttributes;
    const bool user = std::strncmp(m.name, "user.", 5) == 0;
    // The rest is the host's own: what overlay keeps of its layers, labels, access lists.
    if (!list && !user && std::strcmp(m.name, "security.capability") != 0) return EOPNOTSUPP;
    char buffer[16];
    const sys::Fd file(openat(own_fds_.raw(), number_of(at, buffer),
                              O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!file.valid()) return errno;
    ssize_t length = 0;
    const uint32_t size = m.length;
    switch (m.op) {
      case BrokerMessage::kSetAttribute:
        if (size > sizeof m.value) return E2BIG;
        return outcome(fsetxattr(file.raw(), m.name, m.value, size, m.flags));
      case BrokerMessage::kRemoveAttribute:
        return outcome(fremovexattr(file.raw(), m.name));
      case BrokerMessage::kGetAttribute:
        length = fgetxattr(file.raw(), m.name, m.value, sizeof m.value);
        break;
      default:
        length = flistxattr(file.raw(), m.value, sizeof m.value);
        break;
    }
    if (length < 0) return errno;
    m.length = static_cast<uint32_t>(length);
    return 0;
  }

  sys::Fd own_fds_;
  Settings settings_;
  sys::FdRef socket_;
  BrokerMessage* message_;
  std::vector<sys::Fd> handles_;
  std::vector<uint64_t> free_;
};

/// What the guest's calls take on files, and nothing that is about processes: a guest that is shown
/// /proc of another PID namespace reads of it what anybody may.
bool keep_file_capabilities() {
  constexpr std::array kKept{CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH,
                             CAP_FOWNER, CAP_FSETID,       CAP_SETFCAP};
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2] = {};
  if (syscall(SYS_capget, &header, sets) != 0) return false;
  __user_cap_data_struct kept[2] = {};
  for (const int capability : kKept) {
    const int half = capability / 32;
    kept[half].permitted |= sets[half].permitted & (1U << capability % 32);
  }
  for (auto& half : kept) half.effective = half.permitted;
  return syscall(SYS_capset, &header, kept) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

/// Only what carry_out calls, and what the C library's allocator needs. Gives the listener.
int confine_keeper() {
  constexpr uint32_t kAllowed[] = {
      SYS_openat,     SYS_openat2,      SYS_newfstatat, SYS_statx,    SYS_fgetxattr, SYS_fsetxattr,
      SYS_flistxattr, SYS_fremovexattr, SYS_mkdirat,    SYS_mknodat,  SYS_symlinkat, SYS_linkat,
      SYS_unlinkat,   SYS_renameat2,    SYS_readlinkat, SYS_fchmodat, SYS_fchownat,  SYS_utimensat,
      SYS_fstatfs,    SYS_close,        SYS_sendmsg,    SYS_geteuid,  SYS_getegid,   SYS_brk,
      SYS_munmap,     SYS_rt_sigreturn, SYS_exit_group, SYS_mmap,     SYS_mremap,    SYS_madvise};
  std::vector<sock_filter> code;
  code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
  code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kNextCall, 0, 1));
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
  for (uint32_t number : kAllowed) {
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  return static_cast<int>(
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
              SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program));
}

ErrnoOr<sys::Fd> receive_descriptor(sys::FdRef socket) {
  char byte = 0;
  auto got = sys::receive_with_fds(socket, &byte, 1);
  if (!got.ok()) return Errno(got.error().errno_value() != 0 ? got.error().errno_value() : EMFILE);
  if (got->fds.size() != 1) return Errno(EIO);
  return std::move(got->fds.front());
}

/// Before Linux 6.11 RECV sleeps on when the broker is gone.
bool receive_hears_of_the_end() {
  static const bool hears = [] {
    utsname name{};
    int major = 0;
    int minor = 0;
    return uname(&name) == 0 && std::sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 11));
  }();
  return hears;
}

bool receive_notification(int listener, uint64_t* id) {
  seccomp_notif notification;
  bool ask_first = !receive_hears_of_the_end();
  for (;;) {
    pollfd entry{listener, POLLIN, 0};
    if (ask_first && poll(&entry, 1, -1) > 0 && (entry.revents & POLLIN) == 0) return false;
    ask_first = true;  // ENOENT: it was called away, or is gone
    std::memset(&notification, 0, sizeof notification);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notification) == 0) break;
    if (errno != EINTR && errno != ENOENT) return false;
  }
  *id = notification.id;
  return true;
}

}  // namespace

namespace {
Result<BrokerMessage*> map_message(sys::FdRef memory) {
  void* shared =
      mmap(nullptr, sizeof(BrokerMessage), PROT_READ | PROT_WRITE, MAP_SHARED, memory.raw(), 0);
  if (shared == MAP_FAILED) return Error::from_errno(errno, "mmap(broker)");
  return static_cast<BrokerMessage*>(shared);
}
}  // namespace

Result<std::unique_ptr<Broker>> Broker::start(const std::string& root, sys::FdRef procfs,
                                              const std::vector<std::string>& settings) {
  return adopt(FLUYT_TRY(fork_keeper(root, procfs, settings)));
}

Result<Broker::Parts> Broker::fork_keeper(const std::string& root, sys::FdRef procfs,
                                          const std::vector<std::string>& settings) {
  sys::Fd tree = FLUYT_TRY(sys::open(root, O_PATH | O_DIRECTORY));
  sys::Fd memory(memfd_create("rung-broker", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.valid() || ftruncate(memory.raw(), sizeof(BrokerMessage)) != 0 ||
      fcntl(memory.raw(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return Error::from_errno(errno, "memfd_create(rung-broker)");
  auto* message = FLUYT_TRY(map_message(memory));

  Child child = FLUYT_TRY(Child::start("rung-broker", {tree, procfs}, [&](sys::FdRef socket) {
    umask(0);
    sys::Fd own_fds(openat(procfs.raw(), "self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
    Keeper::Settings shown{.folder = {}, .paths = settings};
    if (!settings.empty())
      shown.folder = sys::Fd(openat(procfs.raw(), "sys", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!shown.folder.valid()) shown.paths.clear();
    close(procfs.raw());
    if (!own_fds.valid()) return;
    Keeper keeper(std::move(tree), std::move(own_fds), std::move(shown), socket, message);
    if (!keep_file_capabilities()) return;
    // The listener goes to the sentry alone: what is confined must not answer itself.
    sys::Fd listener(confine_keeper());
    if (!listener.valid() || !sys::send_with_fds(socket, kPlainPacket, {listener.ref()}).ok())
      return;
    listener.reset();
    keeper.serve();
  }));
  munmap(message, sizeof *message);
  KnownListener listener;
  {
    const ListenerTable::Lock lock = ListenerTable::own().hold();
    auto received = receive_descriptor(child.socket());
    if (!received.ok())
      return Error::from_errno(received.error().value(), "recvmsg(the broker's listener)");
    listener = KnownListener(std::move(received).value(), lock);
  }
  // Further ones are there before we are told of them. Set here: who adopts it may be confined.
  if (fcntl(child.socket().raw(), F_SETFL, O_NONBLOCK) != 0)
    return Error::from_errno(errno, "fcntl(the broker's socket)");
  return Parts{std::move(child), std::move(listener), std::move(memory)};
}

Result<std::unique_ptr<Broker>> Broker::adopt(Parts parts) {
  auto* message = FLUYT_TRY(map_message(parts.memory));
  // 6.6: stay on this CPU
  ioctl(parts.listener.raw(), SECCOMP_IOCTL_NOTIF_SET_FLAGS, uint64_t{1});
  uint64_t id = 0;
  if (!receive_notification(parts.listener.raw(), &id)) {
    munmap(message, sizeof *message);
    return Error(Code::kInternal, "the broker ended at its start");
  }
  return std::unique_ptr<Broker>(
      new Broker(std::move(parts.child), std::move(parts.listener), message, id));
}

Broker::Broker(Child child, KnownListener listener, BrokerMessage* message, uint64_t first_id)
    : child_(std::move(child)), listener_(std::move(listener)), message_(message), id_(first_id) {}

Broker::~Broker() {
  {
    std::lock_guard lock(forgotten_mutex_);
    is_ending_ = true;
  }
  told_.notify_one();
  if (forgetter_.joinable()) forgetter_.join();
  munmap(message_, sizeof *message_);
}

ErrnoOr<BrokerMessage*> Broker::exchange() {
  seccomp_notif_resp answer{};
  answer.id = id_;
  while (ioctl(listener_.raw(), SECCOMP_IOCTL_NOTIF_SEND, &answer) != 0) {
    if (errno != EINTR) return Errno(EIO);
  }
  if (!receive_notification(listener_.raw(), &id_)) return Errno(EIO);
  const int error = message_->error;
  if (error != 0) return Errno(error > 0 && error < 4096 ? error : EIO);
  return message_;
}

void Broker::put_forgotten() {
  std::lock_guard lock(forgotten_mutex_);
  const size_t count = std::min(forgotten_.size(), BrokerMessage::kMaxForgotten);
  message_->forgotten_count = static_cast<uint32_t>(count);
  std::copy_n(forgotten_.end() - static_cast<ptrdiff_t>(count), count, message_->forgotten);
  forgotten_.resize(forgotten_.size() - count);
}

template <class Fill>
ErrnoOr<BrokerMessage*> Broker::ask(uint32_t op, Fill fill) {
  message_->op = op;
  put_forgotten();
  message_->flags = 0;
  message_->uid = ~0U;
  message_->gid = ~0U;
  message_->device = 0;
  fill(*message_);
  return exchange();
}

namespace {
Errno put_name(char (&to)[256], std::string_view name) {
  if (name.size() >= sizeof to) return Errno(ENAMETOOLONG);
  std::memcpy(to, name.data(), name.size());
  to[name.size()] = 0;
  return kOk;
}
}  // namespace

ErrnoOr<sys::Fd> Broker::take_descriptor() {
  if (message_->has_descriptor == 0) return Errno(EIO);
  return receive_descriptor(child_.socket());
}

ErrnoOr<Broker::Found> Broker::find_root() {
  std::lock_guard lock(mutex_);
  const BrokerMessage* m =
      GUEST_TRY(ask(BrokerMessage::kStat, [&](BrokerMessage& q) { q.handle = kRoot; }));
  return Found{kRoot, m->stat, m->mount};
}

ErrnoOr<sys::Fd> Broker::open_setting(size_t index) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(ask(BrokerMessage::kOpenSetting, [&](BrokerMessage& q) {
    q.handle = kRoot;
    q.other = index;
  }));
  return take_descriptor();
}

ErrnoOr<Broker::Found> Broker::lookup(uint64_t dir, std::string_view name, uint64_t known) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(put_name(message_->name, name));
  const BrokerMessage* m = GUEST_TRY(ask(BrokerMessage::kLookup, [&](BrokerMessage& q) {
    q.handle = dir;
    q.other = known;
  }));
  return Found{m->new_handle, m->stat, m->mount, ++lookups_};
}

ErrnoOr<sys::Fd> Broker::open(uint64_t handle, int flags) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(ask(BrokerMessage::kOpen, [&](BrokerMessage& q) {
    q.handle = handle;
    q.flags = flags;
  }));
  return take_descriptor();
}

ErrnoOr<Broker::Created> Broker::create(uint64_t dir, std::string_view name, int flags,
                                        uint32_t mode, uint32_t uid, uint32_t gid) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(put_name(message_->name, name));
  const BrokerMessage* m = GUEST_TRY(ask(BrokerMessage::kCreate, [&](BrokerMessage& q) {
    q.handle = dir;
    q.flags = flags;
    q.mode = mode;
    q.uid = uid;
    q.gid = gid;
  }));
  Created created{m->new_handle, m->stat, m->mount, {}};
  ErrnoOr<sys::Fd> taken = take_descriptor();
  if (!taken.ok()) {
    forget(created.handle, When::kLater);
    return taken.error();
  }
  created.fd = std::move(taken).value();
  return created;
}

ErrnoOr<Broker::Found> Broker::make_dir(uint64_t dir, std::string_view name, uint32_t mode,
                                        uint32_t uid, uint32_t gid) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(put_name(message_->name, name));
  const BrokerMessage* m = GUEST_TRY(ask(BrokerMessage::kMakeDir, [&](BrokerMessage& q) {
    q.handle = dir;
    q.mode = mode;
    q.uid = uid;
    q.gid = gid;
  }));
  return Found{m->new_handle, m->stat, m->mount};
}

ErrnoOr<Broker::Found> Broker::make_node(uint64_t dir, std::string_view name, uint32_t mode,
                                         uint32_t device, uint32_t uid, uint32_t gid) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(put_name(message_->name, name));
  const BrokerMessage* m = GUEST_TRY(ask(BrokerMessage::kMakeNode, [&](BrokerMessage& q) {
    q.handle = dir;
    q.mode = mode;
    q.device = device;
    q.uid = uid;
    q.gid = gid;
  }));
  return Found{m->new_handle, m->stat, m->mount};
}

ErrnoOr<Broker::Found> Broker::symlink(uint64_t dir, std::string_view name, std::string_view target,
                                       uint32_t uid, uint32_t gid) {
  std::lock_guard lock(mutex_);
  if (target.size() >= sizeof message_->text) return Errno(ENAMETOOLONG);
  GUEST_TRY(put_name(message_->name, name));
  std::memcpy(message_->text, target.data(), target.size());
  message_->text[target.size()] = 0;
  const BrokerMessage* m = GUEST_TRY(ask(BrokerMessage::kSymlink, [&](BrokerMessage& q) {
    q.handle = dir;
    q.uid = uid;
    q.gid = gid;
  }));
  return Found{m->new_handle, m->stat, m->mount};
}

Errno Broker::link(uint64_t handle, uint64_t dir, std::string_view name) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(put_name(message_->name, name));
  GUEST_TRY(ask(BrokerMessage::kLink, [&](BrokerMessage& q) {
    q.handle = handle;
    q.other = dir;
  }));
  return kOk;
}

Errno Broker::unlink(uint64_t dir, std::string_view name, int flags) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(put_name(message_->name, name));
  GUEST_TRY(ask(BrokerMessage::kUnlink, [&](BrokerMessage& q) {
    q.handle = dir;
    q.flags = flags;
  }));
  return kOk;
}

Errno Broker::rename(uint64_t from, std::string_view name, uint64_t to, std::string_view new_name,
                     int flags) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(put_name(message_->name, name));
  GUEST_TRY(put_name(message_->other_name, new_name));
  {
    std::lock_guard forgotten(forgotten_mutex_);
    replaced_ = true;
  }
  GUEST_TRY(ask(BrokerMessage::kRename, [&](BrokerMessage& q) {
    q.handle = from;
    q.other = to;
    q.flags = flags;
  }));
  return kOk;
}

ErrnoOr<std::string> Broker::readlink(uint64_t handle) {
  std::lock_guard lock(mutex_);
  const BrokerMessage* m =
      GUEST_TRY(ask(BrokerMessage::kReadlink, [&](BrokerMessage& q) { q.handle = handle; }));
  const uint32_t length = m->length;
  if (length >= sizeof m->text) return Errno(EIO);
  return std::string(m->text, length);
}

ErrnoOr<Stat> Broker::stat(uint64_t handle) {
  std::lock_guard lock(mutex_);
  const BrokerMessage* m =
      GUEST_TRY(ask(BrokerMessage::kStat, [&](BrokerMessage& q) { q.handle = handle; }));
  return m->stat;
}

Errno Broker::chmod(uint64_t handle, uint32_t mode) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(ask(BrokerMessage::kChmod, [&](BrokerMessage& q) {
    q.handle = handle;
    q.mode = mode;
  }));
  return kOk;
}

Errno Broker::chown(uint64_t handle, uint32_t uid, uint32_t gid) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(ask(BrokerMessage::kChown, [&](BrokerMessage& q) {
    q.handle = handle;
    q.uid = uid;
    q.gid = gid;
  }));
  return kOk;
}

Errno Broker::set_times(uint64_t handle, const Timestamp times[2]) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(ask(BrokerMessage::kSetTimes, [&](BrokerMessage& q) {
    q.handle = handle;
    q.times[0] = times[0];
    q.times[1] = times[1];
  }));
  return kOk;
}

ErrnoOr<StatfsBuffer> Broker::statfs(uint64_t handle) {
  std::lock_guard lock(mutex_);
  const BrokerMessage* m =
      GUEST_TRY(ask(BrokerMessage::kStatfs, [&](BrokerMessage& q) { q.handle = handle; }));
  return m->statfs;
}

void Broker::forget(uint64_t handle, When when) {
  std::lock_guard lock(forgotten_mutex_);
  forgotten_.push_back(handle);
  if (when == When::kLater && !replaced_ && forgotten_.size() < BrokerMessage::kMaxForgotten)
    return;
  is_urgent_ = true;
  try {
    if (!forgetter_.joinable()) forgetter_ = std::thread([this] { forget_all(); });
  } catch (const std::system_error&) {
    // Then they go with what is asked next.
  }
  told_.notify_one();
}

void Broker::forget_all() {
  std::unique_lock lock(forgotten_mutex_);
  for (;;) {
    told_.wait(lock, [this] { return is_urgent_ || is_ending_; });
    if (is_ending_) return;
    is_urgent_ = replaced_ = false;
    lock.unlock();
    {
      std::lock_guard turn(mutex_);
      // Nothing follows from a broker that is gone.
      (void)ask(BrokerMessage::kForget, [](BrokerMessage& q) { q.handle = kRoot; }).ok();
    }
    lock.lock();
  }
}

ErrnoOr<std::string> Broker::get_attribute(uint64_t handle, std::string_view name) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(put_name(message_->name, name));
  const BrokerMessage* m =
      GUEST_TRY(ask(BrokerMessage::kGetAttribute, [&](BrokerMessage& q) { q.handle = handle; }));
  const uint32_t length = m->length;
  if (length > sizeof m->value) return Errno(EIO);
  return std::string(m->value, length);
}

Errno Broker::set_attribute(uint64_t handle, std::string_view name, std::string_view value,
                            int flags) {
  std::lock_guard lock(mutex_);
  if (value.size() > sizeof message_->value) return Errno(E2BIG);
  GUEST_TRY(put_name(message_->name, name));
  std::memcpy(message_->value, value.data(), value.size());
  GUEST_TRY(ask(BrokerMessage::kSetAttribute, [&](BrokerMessage& q) {
    q.handle = handle;
    q.flags = flags;
    q.length = static_cast<uint32_t>(value.size());
  }));
  return kOk;
}

ErrnoOr<std::string> Broker::list_attributes(uint64_t handle) {
  std::lock_guard lock(mutex_);
  const BrokerMessage* m =
      GUEST_TRY(ask(BrokerMessage::kListAttributes, [&](BrokerMessage& q) { q.handle = handle; }));
  const uint32_t length = m->length;
  if (length > sizeof m->value) return Errno(EIO);
  return std::string(m->value, length);
}

Errno Broker::remove_attribute(uint64_t handle, std::string_view name) {
  std::lock_guard lock(mutex_);
  GUEST_TRY(put_name(message_->name, name));
  GUEST_TRY(ask(BrokerMessage::kRemoveAttribute, [&](BrokerMessage& q) { q.handle = handle; }));
  return kOk;
}

ErrnoOr<std::vector<HostEntry>> list_directory(sys::FdRef fd) {
  constexpr size_t kLimit = 1 << 20;
  if (lseek(fd.raw(), 0, SEEK_SET) != 0) return Errno(errno);
  std::vector<HostEntry> entries;
  alignas(8) char buffer[32768];
  for (;;) {
    const long length = syscall(SYS_getdents64, fd.raw(), buffer, sizeof buffer);
    if (length < 0) return Errno(errno);
    if (length == 0) return entries;
    for (long at = 0; at < length;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      at += entry->d_reclen;
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (entries.size() == kLimit) return Errno(EOVERFLOW);
      entries.push_back({std::string(name), entry->d_ino, entry->d_type});
    }
  }
}

}  // namespace fluyt::guest::host
