#include "guest/platform/notify/stub_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

#include "guest/stub/layout.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS _IOW('!', 4, uint64_t)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1
#endif

namespace fluyt::guest {
namespace {

constexpr int kPatienceMs = 10'000;
constexpr int kLookMs = 50;  // how often, while we wait for a stub, we look whether it lives

bool kernel_at_least(int major, int minor) {
  utsname name{};
  int have_major = 0;
  int have_minor = 0;
  if (uname(&name) != 0) return false;
  if (std::sscanf(name.release, "%d.%d", &have_major, &have_minor) != 2) return false;
  return have_major > major || (have_major == major && have_minor >= minor);
}

bool thread_of(pid_t process, pid_t thread) { return syscall(SYS_tgkill, process, thread, 0) == 0; }

bool has_ended(pid_t process) {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(process), &info, WEXITED | WNOHANG | WNOWAIT | __WALL) !=
             0 ||
         info.si_pid == process;
}

std::atomic_ref<int32_t> word(std::byte* memory, size_t offset) {
  return std::atomic_ref(*reinterpret_cast<int32_t*>(memory + offset));
}

}  // namespace

bool Listener::receive(seccomp_notif& notification) const {
  for (;;) {
    if (poll_first_) {
      pollfd entry{fd_.raw(), POLLIN, 0};
      if (poll(&entry, 1, -1) > 0 && (entry.revents & POLLIN) == 0) return false;
    }
    std::memset(&notification, 0, sizeof notification);
    if (ioctl(fd_.raw(), SECCOMP_IOCTL_NOTIF_RECV, &notification) == 0) return true;
    if (errno == EINTR) continue;
    if (errno != ENOENT) return false;
    // The caller was called away before we came (a signal), or all are gone.
    pollfd entry{fd_.raw(), POLLIN, 0};
    if (poll(&entry, 1, 0) > 0 && (entry.revents & POLLHUP) != 0) return false;
  }
}

bool Listener::wait(int milliseconds) const {
  pollfd entry{fd_.raw(), POLLIN, 0};
  return poll(&entry, 1, milliseconds) != 0;
}

void Listener::send(const seccomp_notif_resp& response) const {
  seccomp_notif_resp copy = response;
  while (ioctl(fd_.raw(), SECCOMP_IOCTL_NOTIF_SEND, &copy) != 0 && errno == EINTR) {
  }
}

Listeners::Listeners() : poll_first_(!kernel_at_least(6, 11)) {}

ErrnoOr<Listener> Listeners::claim(int number, pid_t process, int magic, seccomp_notif& first) {
  if (number < 0) return Errno(number < -4095 ? EAGAIN : -number);
  if (!ListenerTable::own().claim(number)) return Errno(EBADF);
  Listener listener;
  listener.fd_ = KnownListener::claimed(number);
  listener.poll_first_ = poll_first_;
  // Before 6.6 there is no such flag, and a hand-off may end up on another processor.
  ioctl(number, SECCOMP_IOCTL_NOTIF_SET_FLAGS, uint64_t{SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP});
  pollfd entry{number, POLLIN, 0};
  if (poll(&entry, 1, kPatienceMs) != 1 || (entry.revents & POLLIN) == 0) return Errno(EAGAIN);
  if (!listener.receive(first)) return Errno(EAGAIN);
  listener.thread_ = static_cast<pid_t>(first.pid);
  if (first.data.nr != magic || !thread_of(process, listener.thread_)) return Errno(EBADF);
  return listener;
}

Reaper::Reaper(Arena& arena)
    : arena_(arena),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = 0;  // no pid
  epoll_ctl(epoll_.raw(), EPOLL_CTL_ADD, wake_.raw(), &event);
  thread_ = std::thread([this] { run(); });
}

Reaper::~Reaper() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  poke();
  thread_.join();
}

void Reaper::poke() {
  const uint64_t one = 1;
  while (write(wake_.raw(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

bool Reaper::watch(pid_t pid) {
  sys::Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) return false;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.fd = pid;
  std::lock_guard lock(mutex_);
  if (epoll_ctl(epoll_.raw(), EPOLL_CTL_ADD, pidfd.raw(), &event) != 0) return false;
  watched_[pid].pidfd = std::move(pidfd);
  return true;
}

void Reaper::kill(pid_t pid) {
  std::lock_guard lock(mutex_);
  if (const auto found = watched_.find(pid); found != watched_.end()) found->second.killed = true;
  ::kill(pid, SIGKILL);
}

void Reaper::take(StubHoldings holdings) {
  bool ended = false;
  {
    std::lock_guard lock(mutex_);
    const auto found = watched_.find(holdings.pid);
    if (found != watched_.end()) {
      ended = found->second.ended;
      if (ended) late_.push_back(holdings.pid);
      found->second.holdings = std::move(holdings);
      ++taken_;
    }
  }
  if (ended) poke();
  // Nobody looks at one without a descriptor, and one without a pid is none.
  if (holdings.pid > 0 && holdings.ours.valid()) {
    while (waitpid(holdings.pid, nullptr, __WALL) < 0 && errno == EINTR) {
    }
  }
  if (holdings.ours.valid()) release(holdings);
}

void Reaper::on_loss(std::function<void(pid_t)> lost) {
  std::lock_guard lock(loss_mutex_);
  lost_ = std::move(lost);
}

void Reaper::release(StubHoldings& holdings) {
  if (holdings.has_request) arena_.give_request(holdings.request);
  for (uint32_t slot : holdings.slots) arena_.give_slot(slot);
}

void Reaper::run() {
  std::vector<pid_t> ended;
  for (;;) {
    epoll_event events[16];
    const int count = epoll_wait(epoll_.raw(), events, 16, -1);
    std::vector<pid_t> lost;
    ended.clear();
    {
      std::lock_guard lock(mutex_);
      for (int i = 0; i < count; ++i) {
        const pid_t pid = events[i].data.fd;
        uint64_t pokes = 0;
        if (pid == 0) {
          (void)!read(wake_.raw(), &pokes, sizeof pokes);
          continue;
        }
        Watched& which = watched_[pid];
        which.ended = true;
        if (which.holdings) ended.push_back(pid);
        if (!which.killed) lost.push_back(pid);
      }
      ended.insert(ended.end(), late_.begin(), late_.end());
      late_.clear();
    }
    // Its pid is its own until it is waited for, which is done here alone.
    for (const pid_t pid : lost) {
      std::lock_guard lock(loss_mutex_);
      if (lost_) lost_(pid);
    }
    for (const pid_t pid : ended) {
      Watched gone;
      {
        std::lock_guard lock(mutex_);
        gone = std::move(watched_.extract(pid).mapped());
        --taken_;
      }
      while (waitpid(pid, nullptr, __WALL) < 0 && errno == EINTR) {
      }
      release(*gone.holdings);
    }
    std::lock_guard lock(mutex_);
    if (stopping_ && taken_ == 0) return;
  }
}

bool StubHoldings::charge_slots(size_t count) {
  // Its socket's two ends, a descriptor of itself, the helper's listener; a listener a thread.
  constexpr size_t kOfProcess = 4;
  if (!charges->slots.set(count)) return false;
  if (charges->descriptors.set(kOfProcess + count)) return true;
  (void)charges->slots.set(slots.size());
  return false;
}

ErrnoOr<StubHoldings> StubProcess::prepare(Arena& arena, const StubShare& share) {
  StubHoldings holdings;
  holdings.charges = std::make_unique<StubHoldings::Charges>(share);
  if (!holdings.charges->process.set(1) || !holdings.charge_slots(1)) return Errno(EAGAIN);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return Errno(EAGAIN);
  holdings.ours = sys::Fd(ends[0]);
  holdings.theirs = sys::Fd(ends[1]);
  const int on = 1;
  const timeval patience{0, kLookMs * 1000};
  if (setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
      setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0)
    return Errno(EAGAIN);
  holdings.request = GUEST_TRY(arena.take_request());
  holdings.has_request = true;
  std::byte* page = arena.at(Arena::request_offset(holdings.request));
  const uint64_t socket = static_cast<uint64_t>(ends[1]);
  std::memcpy(page + REQUEST_SOCKET, &socket, sizeof socket);
  return holdings;
}

namespace {

/// A spawner's word: the length of a message, and who sent it, as the kernel says. Its end of
/// the socket is in our table as well, so its death alone would never end the wait: `speaker` is
/// looked at.
ErrnoOr<int> hear_length(int fd, pid_t speaker, pid_t* sender) {
  iovec nothing{};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &nothing;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t length = 0;
  for (int waited_ms = 0;;) {
    message.msg_controllen = sizeof control;
    length = recvmsg(fd, &message, MSG_TRUNC);
    if (length >= 0) break;
    if (errno == EINTR) continue;
    if (errno != EAGAIN || (waited_ms += kLookMs) >= kPatienceMs) break;
    if (speaker > 0 && has_ended(speaker)) break;
  }
  if (length <= 0) return Errno(EAGAIN);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_CREDENTIALS) return Errno(EAGAIN);
  ucred who{};
  std::memcpy(&who, CMSG_DATA(header), sizeof who);
  *sender = who.pid;
  return static_cast<int>(length);
}

/// Its answer: 1, or 1 + errno.
Errno hear(int fd, pid_t speaker, pid_t* sender) {
  const int length = GUEST_TRY(hear_length(fd, speaker, sender));
  return Errno(length - 1);
}

}  // namespace

Errno StubProcess::meet(StubHoldings& holdings) {
  // Once it is known by its parent's word, it must be the one that speaks.
  pid_t sender = 0;
  GUEST_TRY(hear(holdings.ours.raw(), holdings.pid, &sender));
  if (holdings.pid > 0 && sender != holdings.pid) return Errno(EAGAIN);
  holdings.pid = sender;
  return kOk;
}

StubProcess::StubProcess(Arena& arena, Listeners& listeners, Reaper& reaper, StubShare share,
                         StubHoldings holdings)
    : arena_(arena),
      listeners_(listeners),
      reaper_(reaper),
      share_(std::move(share)),
      holdings_(std::move(holdings)) {
  if (holdings_.pid > 0) watched_ = reaper_.watch(holdings_.pid);
  slot_in_use_.resize(holdings_.slots.size(), true);
}

StubProcess::~StubProcess() {
  kill();
  reaper_.take(std::move(holdings_));
}

void StubProcess::kill() {
  if (holdings_.pid > 0) reaper_.kill(holdings_.pid);
}

std::unique_lock<std::mutex> StubProcess::take_turn() {
  std::unique_lock lock(mutex_);
  while (halted_.load() && !has_ended(pid()))
    resumed_.wait_for(lock, std::chrono::milliseconds(kLookMs));
  return lock;
}

// SIGSTOP is for the process as a whole: its spawner and helper too, of which nobody is to wait for
// an answer. Who is sent it stops at once, and the others by that; those in a call when it has been
// answered.
bool StubProcess::halt(pid_t thread) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  halted_.store(true);
  syscall(SYS_tgkill, pid(), thread, SIGSTOP);
  return true;
}

void StubProcess::go_on() {
  // Who is halted keeps nobody's lock for long.
  if (!halted_.load()) return;
  {
    const std::lock_guard lock(mutex_);
    if (pid() > 0) ::kill(pid(), SIGCONT);
    halted_.store(false);
  }
  resumed_.notify_all();
}

int64_t StubProcess::processor_ns() const {
  // A process's clock by its pid (clock_getcpuclockid(3)); one that is gone has none.
  constexpr int kScheduler = 2;
  const auto clock = static_cast<clockid_t>((~static_cast<unsigned>(pid()) << 3) |
                                            static_cast<unsigned>(kScheduler));
  timespec now{};
  if (clock_gettime(clock, &now) != 0) return 0;
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

size_t StubProcess::threads() {
  const std::lock_guard lock(mutex_);
  return static_cast<size_t>(std::count(slot_in_use_.begin(), slot_in_use_.end(), true));
}

uint64_t& StubProcess::request(size_t offset) {
  return *reinterpret_cast<uint64_t*>(arena_.at(Arena::request_offset(holdings_.request)) + offset);
}

StubProcess::Slot StubProcess::make_slot(const Arena& arena, size_t index, uint32_t piece) {
  const uint64_t offset = Arena::slot_offset(piece);
  return {STUB_SLOTS + index * STUB_SLOT_SIZE, arena.at(offset), offset, index};
}

ErrnoOr<StubProcess::Slot> StubProcess::take_slot() {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < slot_in_use_.size(); ++i) {
    if (slot_in_use_[i]) continue;
    slot_in_use_[i] = true;
    return make_slot(arena_, i, holdings_.slots[i]);
  }
  if (slot_in_use_.size() == STUB_SLOTS_SIZE / STUB_SLOT_SIZE) return Errno(EAGAIN);
  if (!holdings_.charge_slots(slot_in_use_.size() + 1)) return Errno(EAGAIN);
  const uint32_t piece = GUEST_TRY(arena_.take_slot());
  holdings_.slots.push_back(piece);
  slot_in_use_.push_back(true);
  return make_slot(arena_, slot_in_use_.size() - 1, piece);
}

bool StubProcess::park(Parked& thread) {
  constexpr size_t kMost = 64;
  std::lock_guard lock(mutex_);
  if (parked_.size() >= kMost) return false;
  parked_.push_back(std::move(thread));
  return true;
}

std::optional<StubProcess::Parked> StubProcess::unpark() {
  std::lock_guard lock(mutex_);
  for (size_t i = parked_.size(); i-- > 0;) {
    if (parked_[i].spent) continue;
    std::optional<Parked> out(std::move(parked_[i]));
    parked_.erase(parked_.begin() + static_cast<ptrdiff_t>(i));
    return out;
  }
  return std::nullopt;
}

/// The number that a new thread writes into its slot. Nothing wakes us for it, and to yield is to
/// wait for everyone who can run: so a short look, then short sleeps.
ErrnoOr<int> StubProcess::await_listener(const Slot& slot, size_t where) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kLook = std::chrono::microseconds(60);
  constexpr auto kSleep = std::chrono::microseconds(50);
  const Clock::time_point began = Clock::now();
  for (;;) {
    if (const int number = word(slot.memory, where).load(); number != -1) return number;
    const auto passed = Clock::now() - began;
    if (passed > std::chrono::milliseconds(kPatienceMs)) return Errno(EAGAIN);
    if (passed > std::chrono::milliseconds(kLookMs) && has_ended(pid())) return Errno(EAGAIN);
    if (passed > kLook)
      std::this_thread::sleep_for(kSleep);
    else
      __builtin_ia32_pause();
  }
}

void StubProcess::give_slot(size_t index) {
  std::lock_guard lock(mutex_);
  slot_in_use_[index] = false;
}

Errno StubProcess::perform(uint64_t op) {
  request(REQUEST_OP) = op;
  if (send(holdings_.ours.raw(), "", 1, MSG_NOSIGNAL) != 1) return Errno(EAGAIN);
  return Errno(GUEST_TRY(hear_own_length()) - 1);
}

ErrnoOr<int> StubProcess::hear_own_length() {
  pid_t sender = 0;
  const ErrnoOr<int> length = hear_length(holdings_.ours.raw(), pid(), &sender);
  if (length.ok() && sender == pid()) return length;
  // What it says later would be the answer to something else. It is not waited for before we go, so
  // the pid is still its own; that it ends is told as a loss, for its guest process ends with it.
  out_of_step_ = true;
  if (pid() > 0) ::kill(pid(), SIGKILL);
  return Errno(EAGAIN);
}

ErrnoOr<StubProcess::NewThread> StubProcess::start_thread(const Slot& slot, uint64_t frame,
                                                          uint64_t fs_base, uint64_t gs_base) {
  const auto turn = take_turn();
  word(slot.memory, SLOT_LISTENER).store(-1);
  request(REQUEST_SLOT_ADDRESS) = slot.address;
  request(REQUEST_SLOT_OFFSET) = slot.offset;
  request(REQUEST_FRAME) = frame;
  request(REQUEST_FS_BASE) = fs_base;
  request(REQUEST_GS_BASE) = gs_base;
  GUEST_TRY(perform(OP_THREAD));
  // With the lock held: the new thread reads the request until it has its listener.
  return first_thread(slot);
}

ErrnoOr<StubProcess::NewThread> StubProcess::first_thread(const Slot& slot) {
  NewThread made;
  const int number = GUEST_TRY(await_listener(slot, SLOT_LISTENER));
  made.listener = GUEST_TRY(listeners_.claim(number, pid(), STUB_CALL_START, made.first));
  return made;
}

ErrnoOr<StubProcess::NewProcess> StubProcess::fork_with(const StubShare& as, void* with,
                                                        FirstThread (*fill)(void*, const Slot&)) {
  StubHoldings child = GUEST_TRY(prepare(arena_, as));
  const uint32_t piece = GUEST_TRY(arena_.take_slot());
  child.slots.push_back(piece);
  const Slot slot = make_slot(arena_, 0, piece);
  word(slot.memory, SLOT_LISTENER).store(-1);
  word(slot.memory, SLOT_HELPER_LISTENER).store(-1);
  const FirstThread first = fill(with, slot);
  std::byte* page = arena_.at(Arena::request_offset(child.request));
  const auto put = [page](size_t offset, uint64_t value) {
    std::memcpy(page + offset, &value, sizeof value);
  };
  put(REQUEST_OP, first.frame == 0 ? OP_HELPER : OP_THREAD);
  put(REQUEST_SLOT_ADDRESS, slot.address);
  put(REQUEST_SLOT_OFFSET, slot.offset);
  put(REQUEST_FRAME, first.frame);
  put(REQUEST_FS_BASE, first.fs_base);
  put(REQUEST_GS_BASE, first.gs_base);

  Errno done;
  {
    const auto turn = take_turn();
    request(REQUEST_CHILD_OFFSET) = Arena::request_offset(child.request);
    done = perform(OP_FORK);
    if (done.ok()) {
      ErrnoOr<pid_t> made = hear_child();
      if (made.ok()) child.pid = made.value();
      done = made.ok() ? kOk : made.error();
    }
  }
  if (done.ok()) {
    done = meet(child);
  } else if (out_of_step_ || has_ended(pid())) {
    // It may have been made all the same, and lives until we end: nobody else gets what it maps.
    child.slots.clear();
    child.has_request = false;
  }
  // From here on whatever exists of it is killed and given back by the destructor.
  auto process = std::make_unique<StubProcess>(arena_, listeners_, reaper_, as, std::move(child));
  if (!done.ok()) return done;
  if (!process->watched_) return Errno(EAGAIN);
  if (first.frame == 0) {
    seccomp_notif notification{};
    const int number = GUEST_TRY(process->await_listener(slot, SLOT_HELPER_LISTENER));
    process->helper_ =
        GUEST_TRY(listeners_.claim(number, process->pid(), STUB_CALL_HELPER, notification));
    process->helper_id_ = notification.id;
    process->helper_started_ = true;
    process->slot_in_use_[0] = false;
  }
  return NewProcess{std::move(process), slot};
}

ErrnoOr<pid_t> StubProcess::hear_child() {
  const int low = GUEST_TRY(hear_own_length());
  const int high = GUEST_TRY(hear_own_length());
  return (low - 1) | (high - 1) << 11;
}

Errno StubProcess::ensure_helper() {
  if (helper_started_) return kOk;
  const Slot slot = make_slot(arena_, 0, holdings_.slots[0]);
  word(slot.memory, SLOT_HELPER_LISTENER).store(-1);
  request(REQUEST_SLOT_ADDRESS) = slot.address;
  request(REQUEST_SLOT_OFFSET) = slot.offset;
  GUEST_TRY(perform(OP_HELPER));
  seccomp_notif first{};
  const int number = GUEST_TRY(await_listener(slot, SLOT_HELPER_LISTENER));
  helper_ = GUEST_TRY(listeners_.claim(number, pid(), STUB_CALL_HELPER, first));
  helper_id_ = first.id;
  helper_started_ = true;
  return kOk;
}

int64_t StubProcess::call(uint64_t number, std::array<uint64_t, 6> arguments) {
  const auto turn = take_turn();
  if (const Errno error = ensure_helper(); !error.ok()) return -error.value();
  request(REQUEST_CALL) = number;
  for (size_t i = 0; i < arguments.size(); ++i) request(REQUEST_CALL + 8 + 8 * i) = arguments[i];
  helper_.send({.id = helper_id_, .val = 0, .error = 0, .flags = 0});
  seccomp_notif notification{};
  if (!helper_.receive(notification) || static_cast<pid_t>(notification.pid) != helper_.thread())
    return -ESRCH;
  helper_id_ = notification.id;
  return static_cast<int64_t>(notification.data.args[0]);
}

}  // namespace fluyt::guest
