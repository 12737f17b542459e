#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <cstring>

#include "guest/fs/devices.h"
#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

static_assert(sizeof(signalfd_siginfo) == 128);

/// siginfo_t of a program as signalfd shows it: by who sent it (signalfd(2)).
signalfd_siginfo shown(const SignalInfo& info) {
  signalfd_siginfo out{};
  out.ssi_signo = static_cast<uint32_t>(info.signo);
  out.ssi_errno = info.error;
  out.ssi_code = info.code;
  const auto low = [](uint64_t word) { return static_cast<uint32_t>(word); };
  const auto high = [](uint64_t word) { return static_cast<uint32_t>(word >> 32); };
  const bool fault = info.signo == SIGSEGV || info.signo == SIGBUS || info.signo == SIGFPE ||
                     info.signo == SIGILL || info.signo == SIGTRAP;
  if (info.code == SI_TIMER) {
    out.ssi_tid = low(info.payload[0]);
    out.ssi_overrun = high(info.payload[0]);
  } else if (info.code > 0 && fault) {
    out.ssi_addr = info.payload[0];
    return out;
  } else {
    out.ssi_pid = low(info.payload[0]);
    out.ssi_uid = high(info.payload[0]);
  }
  if (info.signo == SIGCHLD && info.code > 0) {
    out.ssi_status = static_cast<int32_t>(low(info.payload[1]));
  } else if (info.code < 0) {
    out.ssi_ptr = info.payload[1];
    out.ssi_int = static_cast<int32_t>(low(info.payload[1]));
  }
  return out;
}

/// signalfd(2): what is pending for whoever reads or polls, not for whoever made it.
class SignalFile final : public File {
 public:
  SignalFile(int flags, SignalSet wanted)
      : File(nullptr, make_anonymous_inode(0600, 0), O_RDWR | flags), wanted_(wanted) {}

  void set_wanted(SignalSet wanted) { wanted_ = wanted; }

  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t*) override {
    if (to.size() < sizeof(signalfd_siginfo)) return Errno(EINVAL);
    Task* task = Task::current();
    if (task == nullptr) return Errno(EINVAL);
    std::vector<signalfd_siginfo> taken;
    const size_t room = std::min<size_t>(to.size() / sizeof(signalfd_siginfo), 64);
    const auto take = [&] {
      std::lock_guard lock(task->kernel.lock);
      while (taken.size() < room) {
        std::optional<SignalInfo> info = task->pending.take(~wanted_.load());
        if (!info) info = task->process->pending.take(~wanted_.load());
        if (!info) break;
        taken.push_back(shown(*info));
      }
      return !taken.empty();
    };
    if (!take()) {
      if (nonblocking()) return Errno(EAGAIN);
      GUEST_TRY(wait_until(task->process->signal_sent, caller.sleeper, {}, take));
    }
    const auto bytes = std::as_bytes(std::span(taken));
    std::memcpy(to.data(), bytes.data(), bytes.size());
    return bytes.size();
  }
  uint32_t ready(uint32_t) override {
    Task* task = Task::current();
    if (task == nullptr) return 0;
    std::lock_guard lock(task->kernel.lock);
    const SignalSet pending = task->pending.set() | task->process->pending.set();
    return (pending & wanted_.load()) != 0 ? POLLIN | POLLRDNORM : 0;
  }
  WaitQueue* queue() override {
    Task* task = Task::current();
    return task == nullptr ? &nobody_ : &task->process->signal_sent;
  }
  std::string describe() const override { return "anon_inode:[signalfd]"; }
  ErrnoOr<int64_t> seek(int64_t, int) override { return int64_t{0}; }

 private:
  std::atomic<SignalSet> wanted_;
  WaitQueue nobody_;
};

ErrnoOr<uint64_t> signalfd_at(Task& task, int fd, uint64_t mask, uint64_t size, int flags) {
  if (size != 8 || (flags & ~(SFD_CLOEXEC | SFD_NONBLOCK)) != 0) return Errno(EINVAL);
  const SignalSet wanted =
      GUEST_TRY(task.get<SignalSet>(mask)) & ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
  if (fd == -1)
    return add_file(task, std::make_shared<SignalFile>(flags & SFD_NONBLOCK, wanted),
                    (flags & SFD_CLOEXEC) != 0);
  const FilePtr file = GUEST_TRY(task.files->get(fd));
  auto* signals = dynamic_cast<SignalFile*>(file.get());
  if (signals == nullptr) return Errno(EINVAL);
  signals->set_wanted(wanted);
  task.process->signal_sent.wake_all();
  return static_cast<uint64_t>(fd);
}

}  // namespace

ErrnoOr<uint64_t> sys_signalfd4(Task& task, Arguments a) {
  return signalfd_at(task, as_int(a[0]), a[1], a[2], as_int(a[3]));
}
ErrnoOr<uint64_t> sys_signalfd(Task& task, Arguments a) {
  return signalfd_at(task, as_int(a[0]), a[1], a[2], 0);
}

}  // namespace fluyt::guest
