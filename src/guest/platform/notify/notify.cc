#include "guest/platform/notify/notify.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>

#include "guest/platform/notify/arena.h"
#include "guest/platform/notify/bpf.h"
#include "guest/platform/notify/stub_process.h"
#include "guest/stub/layout.h"

extern "C" const std::byte fluyt_guest_stub_begin[];
extern "C" const std::byte fluyt_guest_stub_end[];

namespace fluyt::guest {
namespace {

constexpr int kCallIn = SIGUSR1;
constexpr size_t kStackSize = SLOT_STACK_SIZE;

struct KernelAction {
  uint64_t handler;
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
};

/// The slot of a guest thread as the sentry may read it: every address in it is the guest's word.
class SlotView {
 public:
  explicit SlotView(const StubProcess::Slot& slot) : slot_(slot) {}
  /// Our address of `length` bytes at the stub's `address`, or null when they are not in the slot.
  std::byte* find(uint64_t address, size_t length, uint64_t alignment) const {
    if (address < slot_.address || address % alignment != 0) return nullptr;
    const uint64_t offset = address - slot_.address;
    if (offset > kStackSize || length > kStackSize - offset) return nullptr;
    return slot_.memory + offset;
  }
  size_t room_from(uint64_t address) const { return kStackSize - (address - slot_.address); }
  const StubProcess::Slot& slot() const { return slot_; }

 private:
  StubProcess::Slot slot_;
};

/// Lays out a frame that rt_sigreturn loads: `image` in a fresh slot. The stub's stack pointer.
ErrnoOr<uint64_t> write_frame(const StubProcess::Slot& slot, const ThreadImage& image) {
  constexpr size_t kFrameOffset = 0;
  constexpr size_t kFpOffset = 1024;
  static_assert(sizeof(SignalFrame) <= kFpOffset && kFpOffset % 64 == 0);
  if (image.fp.size() > kStackSize - kFpOffset) return Errno(EINVAL);
  SignalFrame frame;
  frame.context.flags = kContextFlags;
  frame.context.stack = {slot.address, 0, 0, kStackSize};
  frame.context.registers = image.registers;
  if (!image.fp.empty()) {
    frame.context.flags |= kContextFpXstate;
    frame.context.fp_state = slot.address + kFpOffset;
    std::memcpy(slot.memory + kFpOffset, image.fp.data(), image.fp.size());
  }
  std::memcpy(slot.memory + kFrameOffset, &frame, sizeof frame);
  return slot.address + kFrameOffset + sizeof frame.return_address;
}

class NotifyAddressSpace;

class NotifyContext final : public Context {
 public:
  NotifyContext(std::shared_ptr<StubProcess> process, SlotView slot, Listener listener,
                const seccomp_notif& first, const ThreadImage& image)
      : process_(std::move(process)),
        view_(slot),
        listener_(std::move(listener)),
        fs_base_(image.fs_base),
        gs_base_(image.gs_base),
        state_(State::kStopped) {
    answer_.id = first.id;
  }
  /// A fork's thread, before its first run: it has the host keep what its maker had.
  void inherit_rseq(const RseqArea& area) {
    if (area.address == 0) return;
    rseq_ = area;
    ask_for_rseq(0);
  }
  /// A thread that stood parked, with `image` in place of what it was.
  static ErrnoOr<std::unique_ptr<Context>> reuse(std::shared_ptr<StubProcess> process,
                                                 StubProcess::Parked parked,
                                                 const ThreadImage& image) {
    seccomp_notif first{};
    first.id = parked.notification;
    const SlotView view(parked.slot);
    auto context = std::make_unique<NotifyContext>(std::move(process), view,
                                                   std::move(parked.listener), first, image);
    if (!context->renew(parked.frame, image)) {
      context->gone();
      return Errno(EAGAIN);
    }
    return std::unique_ptr<Context>(std::move(context));
  }
  NotifyContext(const NotifyContext&) = delete;
  NotifyContext& operator=(const NotifyContext&) = delete;
  ~NotifyContext() override = default;

  Event run() override {
    release();
    return wait();
  }

  void set_return(uint64_t value) override {
    if (state_ == State::kTrap)
      registers_.rax = value;
    else
      answer_.val = static_cast<int64_t>(value);
  }

  void carry_out() override {
    answer_.val = 0;
    answer_.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    if (last_call_.number == SYS_rseq) rseq_ = rseq_after(last_call_);
  }

  Registers* registers() override {
    if (state_ == State::kTrap) return &registers_;
    if (state_ != State::kStopped) return nullptr;
    // The call returns, and the signal that waits for it brings the thread straight back.
    interrupt();
    listener_.send(answer_);
    const Event event = comes_back() ? wait() : Event();
    if (event.kind != Event::Kind::kInterrupt) {
      // Its mask keeps our signal out, or it was killed: nothing that we can steer.
      if (state_ != State::kGone) gone();
      return nullptr;
    }
    return &registers_;
  }

  std::span<std::byte> fp_state() override {
    if (state_ != State::kTrap) return {};
    const uint64_t address = context_.fp_state;
    std::byte* area = view_.find(address, kFpLegacySize, 64);
    if (address == 0 || area == nullptr) return {};
    uint32_t software[2];
    std::memcpy(software, area + kFpSoftwareOffset, sizeof software);
    const size_t length = software[0] == kFpMagic1 ? software[1] : kFpLegacySize;
    if (length < kFpLegacySize || length > view_.room_from(address)) return {};
    return {area, length};
  }

  Errno set_fp_state(std::span<const std::byte> state) override {
    if (state_ != State::kTrap) return Errno(ESRCH);
    if (state.empty()) {
      context_.fp_state = 0;
      return kOk;
    }
    std::byte* area = view_.find(context_.fp_state, state.size(), 64);
    if (area == nullptr) return Errno(EINVAL);
    std::memcpy(area, state.data(), state.size());
    return kOk;
  }

  uint64_t fs_base() override { return fs_base_; }
  uint64_t gs_base() override { return gs_base_; }
  RseqArea rseq() const override { return rseq_; }

  void drop_rseq() override {
    // Where the memory is gone already, the host would end the process for want of it.
    if (rseq_.address == 0 || !has_memory(rseq_.address) || registers() == nullptr) return;
    ask_for_rseq(1);
    release();
    (void)wait();
    if (state_ == State::kTrap) rseq_ = {};
  }

  void interrupt() override { syscall(SYS_tgkill, process_->pid(), listener_.thread(), kCallIn); }

  bool halt() override { return process_->halt(listener_.thread()); }

  void finish() override {
    if (park()) return;
    if (state_ == State::kStopped && last_call_.native && last_call_.number == SYS_exit) {
      carry_out();
      listener_.send(answer_);
    } else if (registers() != nullptr) {
      answer_.val = ANSWER_LEAVE;  // the stub's handler leaves with exit(2)
      listener_.send(answer_);
      state_ = State::kRunning;
      const Event event = wait();
      if (event.kind == Event::Kind::kSyscall && event.call.number == SYS_exit) {
        carry_out();
        listener_.send(answer_);
      } else if (event.kind != Event::Kind::kGone) {
        gone();
      }
    }
    if (state_ != State::kGone) {
      // The slot is free once nothing of the thread can write its frame there any more.
      seccomp_notif last{};
      if (listener_.receive(last)) process_->kill();
      state_ = State::kGone;
    }
    process_->give_slot(view_.slot().index);
  }

 private:
  enum class State { kRunning, kStopped /* in a call */, kTrap /* in the handler */, kGone };

  /// False: the thread that was called in computes instead. One that is only slow (frozen, waiting
  /// for memory) takes no processor time meanwhile, and one that is starved by others of its
  /// process has its turn when all have. Whose time it was the host does not tell.
  bool comes_back() {
    constexpr int kPatienceMs = 5000;
    std::optional<int64_t> before;
    while (!listener_.wait(kPatienceMs)) {
      const int64_t now = process_->processor_ns();
      if (before && each_had_a_turn(now - *before, process_->threads())) return false;
      if (!before) before = now;
    }
    return true;
  }

  bool park() {
    if (!reads_bases || (state_ != State::kStopped && state_ != State::kTrap)) return false;
    StubProcess::Parked thread;
    thread.slot = view_.slot();
    thread.listener = std::move(listener_);
    thread.notification = answer_.id;
    thread.spent = rseq_.address != 0;
    if (state_ == State::kTrap)
      thread.frame = view_.slot().address + static_cast<uint64_t>(frame_ - view_.slot().memory);
    if (!process_->park(thread)) {
      listener_ = std::move(thread.listener);
      return false;
    }
    state_ = State::kGone;
    return true;
  }

  bool renew(uint64_t frame, const ThreadImage& image) {
    if (frame == 0) {
      if (registers() == nullptr) return false;
    } else if (!enter_frame(frame)) {
      return false;
    }
    if (!set_fp_state(image.fp).ok()) return false;
    registers_ = image.registers;
    fs_base_ = image.fs_base;
    gs_base_ = image.gs_base;
    std::memcpy(view_.slot().memory + SLOT_FS_BASE, &fs_base_, sizeof fs_base_);
    std::memcpy(view_.slot().memory + SLOT_GS_BASE, &gs_base_, sizeof gs_base_);
    renewed_ = true;
    return true;
  }

  /// What the slot says is in the way of other threads of the process: `wait` looks again.
  void ask_for_rseq(uint32_t flags) {
    std::byte* slot = view_.slot().memory;
    std::memcpy(slot + SLOT_RSEQ_ADDRESS, &rseq_.address, sizeof rseq_.address);
    std::memcpy(slot + SLOT_RSEQ_LENGTH, &rseq_.length, sizeof rseq_.length);
    std::memcpy(slot + SLOT_RSEQ_FLAGS, &flags, sizeof flags);
    std::memcpy(slot + SLOT_RSEQ_SIGNATURE, &rseq_.signature, sizeof rseq_.signature);
    rseq_flags_ = flags;
    asks_for_rseq_ = true;
    answer_.val = ANSWER_RSEQ;
  }
  bool is_rseq_asked_for(const seccomp_data& data) const {
    return data.nr == SYS_rseq && data.arch == 0xc000003e && data.args[0] == rseq_.address &&
           static_cast<uint32_t>(data.args[1]) == rseq_.length &&
           static_cast<uint32_t>(data.args[2]) == rseq_flags_ &&
           static_cast<uint32_t>(data.args[3]) == rseq_.signature;
  }
  bool has_memory(uint64_t address) const {
    char byte = 0;
    iovec ours{&byte, 1};
    iovec theirs{reinterpret_cast<void*>(address), 1};
    return process_vm_readv(process_->pid(), &ours, 1, &theirs, 1, 0) == 1;
  }

  void gone() {
    process_->kill();
    state_ = State::kGone;
  }

  void release() {
    if (state_ == State::kTrap) {
      context_.registers = registers_;
      std::memcpy(frame_, &context_, sizeof context_);
      if (!asks_for_rseq_) answer_.val = renewed_ ? ANSWER_RENEWED : ANSWER_BACK;
      renewed_ = false;
    }
    if (state_ != State::kGone) {
      listener_.send(answer_);
      state_ = State::kRunning;
    }
  }

  Event wait() {
    Event event;
    if (state_ == State::kGone) return event;
    seccomp_notif notification;
    if (!receive(notification)) return event;
    if (asks_for_rseq_) {
      asks_for_rseq_ = false;
      if (!is_rseq_asked_for(notification.data)) {
        gone();
        return event;
      }
      listener_.send({notification.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE});
      if (!receive(notification)) return event;
    }
    answer_ = {};
    answer_.id = notification.id;
    const seccomp_data& data = notification.data;
    const bool from_stub =
        data.instruction_pointer - STUB_TEXT <= static_cast<uint64_t>(STUB_TEXT_SIZE);
    if (data.nr == STUB_CALL_TRAP && from_stub) return trap(data);
    state_ = State::kStopped;
    event.kind = Event::Kind::kSyscall;
    event.call.native = data.arch == 0xc000003e && data.nr >= 0 && (data.nr & 0x40000000) == 0;
    event.call.number = data.nr;
    event.call.arch = data.arch;
    event.call.instruction_pointer = data.instruction_pointer;
    for (int i = 0; i < 6; ++i) event.call.args[i] = data.args[i];
    last_call_ = event.call;
    if (event.call.native && event.call.number == SYS_arch_prctl) note_bases(data);
    return event;
  }

  bool receive(seccomp_notif& notification) {
    const bool received = listener_.receive(notification) &&
                          static_cast<pid_t>(notification.pid) == listener_.thread();
    if (!received) gone();
    return received;
  }

  // Where user code may not read its own bases, what it asked the kernel to set is all there is.
  void note_bases(const seccomp_data& data) {
    if (data.args[0] == 0x1002) fs_base_ = data.args[1];
    if (data.args[0] == 0x1001) gs_base_ = data.args[1];
  }

  /// The thread stands in its handler, with the frame at the stub's `address`.
  bool enter_frame(uint64_t address) {
    frame_ = view_.find(address, sizeof(UserContext), 8);
    if (frame_ == nullptr) return false;
    state_ = State::kTrap;
    std::memcpy(&context_, frame_, sizeof context_);
    // Whatever a guest wrote over its frame, our signals stay deliverable and the stack ours.
    context_.signal_mask = 0;
    context_.stack = {view_.slot().address, 0, 0, kStackSize};
    registers_ = context_.registers;
    return true;
  }

  Event trap(const seccomp_data& data) {
    Event event;
    const std::byte* info = view_.find(data.args[1], sizeof(SignalInfo), 8);
    if (info == nullptr || !enter_frame(data.args[2])) {
      gone();
      return event;
    }
    if (reads_bases) {
      fs_base_ = data.args[3];
      gs_base_ = data.args[4];
    }
    const int signal = static_cast<int>(data.args[0]);
    switch (signal) {
      case SIGSEGV:
      case SIGBUS:
      case SIGFPE:
      case SIGILL:
      case SIGTRAP:
        event.kind = Event::Kind::kFault;
        std::memcpy(&event.fault, info, sizeof event.fault);
        event.fault.signo = signal;
        break;
      default:
        event.kind = Event::Kind::kInterrupt;
    }
    return event;
  }

  std::shared_ptr<StubProcess> process_;
  SlotView view_;
  Listener listener_;
  uint64_t fs_base_;
  uint64_t gs_base_;
  State state_;
  seccomp_notif_resp answer_{};
  SyscallRequest last_call_;
  RseqArea rseq_;
  uint32_t rseq_flags_ = 0;
  bool asks_for_rseq_ = false;  // what is to come next is our own rseq(2)
  bool renewed_ = false;
  std::byte* frame_ = nullptr;
  UserContext context_;
  Registers registers_;

 public:
  static inline const bool reads_bases = (getauxval(AT_HWCAP2) & 2) != 0;  // HWCAP2_FSGSBASE
};

class NotifyAddressSpace final : public AddressSpace {
 public:
  explicit NotifyAddressSpace(std::shared_ptr<StubProcess> process)
      : process_(std::move(process)) {}
  NotifyAddressSpace(const NotifyAddressSpace&) = delete;
  NotifyAddressSpace& operator=(const NotifyAddressSpace&) = delete;
  ~NotifyAddressSpace() override { process_->kill(); }

  Errno map(const Mapping& mapping) override {
    if (!in_guest(mapping.address, mapping.length)) return Errno(ENOMEM);
    uint64_t flags = MAP_FIXED | MAP_NORESERVE;
    uint64_t fd = ~uint64_t{0};
    switch (mapping.backing) {
      case Backing::kAnonymous:
        flags |= MAP_PRIVATE | MAP_ANONYMOUS;
        break;
      case Backing::kPrivateFile:
        flags |= MAP_PRIVATE;
        break;
      case Backing::kSharedFile:
        flags |= MAP_SHARED;
        break;
    }
    if (mapping.backing != Backing::kAnonymous) fd = static_cast<uint64_t>(mapping.host_fd);
    return result(process_->call(
        SYS_mmap, {mapping.address, mapping.length, static_cast<uint64_t>(mapping.protection),
                   flags, fd, mapping.offset}));
  }
  Errno unmap(uint64_t address, uint64_t length) override {
    if (!in_guest(address, length)) return Errno(EINVAL);
    return result(process_->call(SYS_munmap, {address, length, 0, 0, 0, 0}));
  }
  Errno protect(uint64_t address, uint64_t length, int protection) override {
    if (!in_guest(address, length)) return Errno(ENOMEM);
    return result(process_->call(SYS_mprotect,
                                 {address, length, static_cast<uint64_t>(protection), 0, 0, 0}));
  }
  Errno move(uint64_t from, uint64_t old_length, uint64_t to, uint64_t new_length) override {
    if (!in_guest(from, old_length) || !in_guest(to, new_length)) return Errno(EINVAL);
    const uint64_t flags = from != to ? MREMAP_MAYMOVE | MREMAP_FIXED : 0;
    const int64_t moved = process_->call(SYS_mremap, {from, old_length, new_length, flags, to, 0});
    if (moved >= 0 && static_cast<uint64_t>(moved) != to) process_->kill();
    return result(moved);
  }
  Errno advise(uint64_t address, uint64_t length, int advice) override {
    if (!in_guest(address, length)) return Errno(ENOMEM);
    return result(
        process_->call(SYS_madvise, {address, length, static_cast<uint64_t>(advice), 0, 0, 0}));
  }

  Errno barrier_within(uint32_t command, uint32_t flags, int32_t processor) override {
    if ((command & kBarriersWithin) == 0) return Errno(EINVAL);
    return result(process_->call(
        SYS_membarrier, {command, flags, static_cast<uint64_t>(uint32_t(processor)), 0, 0, 0}));
  }

  size_t read(uint64_t address, std::span<std::byte> to) override {
    return copy(address, to.data(), to.size(), process_vm_readv);
  }
  size_t write(uint64_t address, std::span<const std::byte> from) override {
    auto* local = const_cast<std::byte*>(from.data());
    constexpr size_t kLarge = size_t{16} << 10;
    if (from.size() >= kLarge && process_->memory_is_limited())
      (void)populate(address, from.size());
    size_t done = copy(address, local, from.size(), process_vm_writev);
    // Memory that runs out looks like memory that is not there. Its own process can tell, if not at
    // once: somebody has to end first.
    int patience = process_->memory_is_limited() ? 4 : 1;
    while (done < from.size() && patience > 0) {
      const Errno populated = populate(address + done, 1);
      const size_t more =
          populated.ok() ? copy(address + done, local + done, from.size() - done, process_vm_writev)
                         : 0;
      done += more;
      if (more != 0) continue;
      if (populated.value() == EFAULT || populated.value() == EINVAL || --patience == 0) break;
      constexpr timespec kPause{.tv_sec = 0, .tv_nsec = 3'000'000};
      clock_nanosleep(CLOCK_MONOTONIC, 0, &kPause, nullptr);
    }
    return done;
  }

  ErrnoOr<std::unique_ptr<Context>> create_context(const ThreadImage& image) override {
    if (std::optional<StubProcess::Parked> parked = process_->unpark())
      return NotifyContext::reuse(process_, std::move(*parked), image);
    const StubProcess::Slot slot = GUEST_TRY(process_->take_slot());
    const uint64_t frame = GUEST_TRY(write_frame(slot, image));
    StubProcess::NewThread made =
        GUEST_TRY(process_->start_thread(slot, frame, image.fs_base, image.gs_base));
    return std::unique_ptr<Context>(std::make_unique<NotifyContext>(
        process_, SlotView(slot), std::move(made.listener), made.first, image));
  }

  ErrnoOr<Forked> fork(const ThreadImage& image) override {
    Errno written;
    StubProcess::NewProcess made =
        GUEST_TRY(process_->fork([&](const StubProcess::Slot& slot) -> StubProcess::FirstThread {
          ErrnoOr<uint64_t> frame = write_frame(slot, image);
          if (!frame.ok()) written = frame.error();
          return {frame.ok() ? frame.value() : 0, image.fs_base, image.gs_base};
        }));
    GUEST_TRY(written);
    StubProcess::NewThread thread = GUEST_TRY(made.process->first_thread(made.slot));
    std::shared_ptr<StubProcess> process = std::move(made.process);
    Forked forked;
    auto context = std::make_unique<NotifyContext>(process, SlotView(made.slot),
                                                   std::move(thread.listener), thread.first, image);
    context->inherit_rseq(image.rseq);
    forked.context = std::move(context);
    forked.memory = std::make_unique<NotifyAddressSpace>(std::move(process));
    return forked;
  }

  void kill() override { process_->kill(); }
  int64_t id() const override { return process_->pid(); }

  void go_on() override { process_->go_on(); }
  int64_t processor_ns() override { return process_->processor_ns(); }

 private:
  static bool in_guest(uint64_t address, uint64_t length) {
    return address >= kGuestBottom && length <= kGuestTop && address <= kGuestTop - length;
  }
  static Errno result(int64_t value) { return Errno(value < 0 ? static_cast<int>(-value) : 0); }

  Errno populate(uint64_t address, size_t length) {
    constexpr uint64_t kPage = 4096;
    constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, Linux 5.14
    const uint64_t first = address & ~(kPage - 1);
    const uint64_t end = (address + length + kPage - 1) & ~(kPage - 1);
    if (end <= first) return Errno(EFAULT);
    return advise(first, end - first, kPopulateWrite);
  }
  template <class Copy>
  size_t copy(uint64_t address, std::byte* local, size_t length, Copy how) {
    if (address > kGuestTop || length > kGuestTop - address) {
      if (address >= kGuestTop) return 0;
      length = kGuestTop - address;
    }
    size_t done = 0;
    while (done < length) {
      const size_t step = std::min<size_t>(length - done, size_t{1} << 30);
      iovec ours{local + done, step};
      iovec theirs{reinterpret_cast<void*>(address + done), step};
      const ssize_t copied = how(process_->pid(), &ours, 1, &theirs, 1, 0);
      if (copied <= 0) break;
      done += static_cast<size_t>(copied);
      if (static_cast<size_t>(copied) < step) break;
    }
    return done;
  }

  std::shared_ptr<StubProcess> process_;
};

/// What the template of all stubs runs before it is one: still a copy of us, in our memory.
[[noreturn]] void become_stub(const void* launch, int image_fd, int arena_fd, uint64_t boot,
                              uint64_t request) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  setsid();
  // The C library registered an area in memory that is about to go. It says how much of it is in
  // use, not how much it registered: 32 bytes, or from 2.41 on what the kernel has features for.
  void* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  for (uint64_t size = 32; __rseq_size != 0 && size <= 1024; size += 32)
    if (syscall(SYS_rseq, area, size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) == 0) break;
  register uint64_t r12 __asm__("r12") = static_cast<uint64_t>(image_fd);
  register uint64_t r13 __asm__("r13") = static_cast<uint64_t>(arena_fd);
  register uint64_t r14 __asm__("r14") = boot;
  register uint64_t r15 __asm__("r15") = request;
  __asm__ volatile("jmp *%0" : : "r"(launch), "r"(r12), "r"(r13), "r"(r14), "r"(r15) : "memory");
  __builtin_unreachable();
}

class NotifyPlatform final : public Platform {
 public:
  NotifyPlatform(Arena arena, const HostClock& clock, Memory memory,
                 std::shared_ptr<Quota> descriptors)
      : arena_(std::move(arena)),
        share_(arena_.make_share(std::move(descriptors))),
        reaper_(arena_),
        clock_(clock) {
    arena_.memory_is_limited = memory == Memory::kLimited;
    if (clock_.pieces.empty()) return;
    pages_.start = STUB_CLOCK;
    pages_.library = STUB_CLOCK + (clock_.pieces.back().start - clock_.pieces.front().start);
    pages_.end = STUB_CLOCK + (clock_.pieces.back().end - clock_.pieces.front().start);
  }

  ClockPages clock_pages() const override { return pages_; }

  Result<> start() {
    FLUYT_TRY(write_boot_page());
    sys::Fd image(memfd_create("guest-stub", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!image.valid()) return Error::from_errno(errno, "memfd_create(guest-stub)");
    const auto size = static_cast<size_t>(fluyt_guest_stub_end - fluyt_guest_stub_begin);
    if (size > STUB_TEXT_SIZE) return Error(Code::kInternal, "the stub is larger than its page");
    if (ftruncate(image.raw(), STUB_TEXT_SIZE) != 0 ||
        pwrite(image.raw(), fluyt_guest_stub_begin, size, 0) != static_cast<ssize_t>(size))
      return Error::from_errno(errno, "pwrite(guest-stub)");
    if (fcntl(image.raw(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL))
      return Error::from_errno(errno, "fcntl(guest-stub, F_ADD_SEALS)");
    void* launch =
        mmap(nullptr, STUB_TEXT_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, image.raw(), 0);
    if (launch == MAP_FAILED) return Error::from_errno(errno, "mmap(guest-stub)");

    auto holdings = StubProcess::prepare(arena_, share_);
    if (!holdings.ok())
      return Error::from_errno(holdings.error().value(), "socketpair for the first stub");
    const uint64_t request = Arena::request_offset(holdings->request);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    // A copy of our memory, but our very descriptor table.
    const long pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) become_stub(launch, image.raw(), arena_.fd(), Arena::kBootOffset, request);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    munmap(launch, STUB_TEXT_SIZE);
    if (pid < 0) return Error::from_errno(errno, "clone(the first stub)");
    holdings->pid = static_cast<pid_t>(pid);
    const Errno met = StubProcess::meet(*holdings);
    template_ = std::make_unique<StubProcess>(arena_, listeners_, reaper_, share_,
                                              std::move(holdings).value());
    if (!met.ok()) return Error::from_errno(met.value(), "first word of the first stub");
    return {};
  }

  void on_loss(std::function<void(int64_t)> lost) override { reaper_.on_loss(std::move(lost)); }

  ErrnoOr<std::unique_ptr<AddressSpace>> create_address_space() override {
    return create_from(*template_);
  }

  ErrnoOr<std::unique_ptr<Platform>> branch(bool limited,
                                            std::shared_ptr<Quota> descriptors) override {
    if (limited) arena_.memory_is_limited = true;
    StubProcess::NewProcess made =
        GUEST_TRY(template_->fork(arena_.make_share(std::move(descriptors)), kNoThread));
    return std::unique_ptr<Platform>(std::make_unique<Branch>(*this, std::move(made.process)));
  }
  int32_t host_pid() const override { return template_->pid(); }

  uint32_t barriers_within() const override { return barriers_within_; }
  bool has_rseq() const override { return has_rseq_; }
  Errno barrier() override {
    if (!has_barrier_) return Errno(ENOSYS);
    return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0 ? kOk : Errno(errno);
  }

 private:
  /// What differs between containers is the process that theirs are copies of.
  class Branch final : public Platform {
   public:
    Branch(NotifyPlatform& of, std::unique_ptr<StubProcess> first)
        : trunk_(of), template_(std::move(first)) {}
    ClockPages clock_pages() const override { return trunk_.clock_pages(); }
    ErrnoOr<std::unique_ptr<AddressSpace>> create_address_space() override {
      return create_from(*template_);
    }
    int32_t host_pid() const override { return template_->pid(); }
    uint32_t barriers_within() const override { return trunk_.barriers_within(); }
    bool has_rseq() const override { return trunk_.has_rseq(); }

   private:
    NotifyPlatform& trunk_;
    std::unique_ptr<StubProcess> template_;
  };

  static constexpr auto kNoThread = [](const StubProcess::Slot&) {
    return StubProcess::FirstThread();
  };
  static ErrnoOr<std::unique_ptr<AddressSpace>> create_from(StubProcess& from) {
    StubProcess::NewProcess made = GUEST_TRY(from.fork(kNoThread));
    return std::unique_ptr<AddressSpace>(std::make_unique<NotifyAddressSpace>(
        std::shared_ptr<StubProcess>(std::move(made.process))));
  }

  static uint32_t hosts_barriers() {
    const long known = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    return known < 0 ? 0 : static_cast<uint32_t>(known);
  }

  Result<> write_boot_page() {
    std::byte* page = arena_.boot_page();
    const auto put = [page](size_t offset, auto value) {
      std::memcpy(page + offset, &value, sizeof value);
    };
    put(BOOT_ARENA_FD, static_cast<uint64_t>(arena_.fd()));
    put(BOOT_SENTRY_PID, static_cast<uint64_t>(getpid()));
    put(BOOT_LISTENER_FLAGS,
        uint64_t{SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV});
    put(BOOT_CLOCK_END, pages_.end != 0 ? pages_.end : uint64_t{STUB_CLOCK});
    size_t move = BOOT_MOVES;
    for (const HostClock::Piece& piece : clock_.pieces) {
      put(move, piece.start);
      put(move + 8, piece.end - piece.start);
      put(move + 16, STUB_CLOCK + (piece.start - clock_.pieces.front().start));
      move += 24;
    }
    KernelAction action{};
    action.handler =
        STUB_TEXT + (NotifyContext::reads_bases ? STUB_TRAP_OFFSET : STUB_TRAP_NO_FSGSBASE_OFFSET);
    action.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | 0x04000000;  // SA_RESTORER
    action.restorer = action.handler;                                  // never returned to
    action.mask = ~uint64_t{0};
    put(BOOT_ACTION, action);
    size_t at = BOOT_INSTRUCTIONS;
    const auto put_program = [&](size_t offset, const std::vector<sock_filter>& program) -> bool {
      const size_t bytes = program.size() * sizeof(sock_filter);
      if (at + bytes > STUB_PAGE_SIZE) return false;
      put(offset, static_cast<uint64_t>(program.size()));  // sock_fprog: u16 length, pointer
      put(offset + 8, uint64_t{STUB_BOOT} + at);
      std::memcpy(page + at, program.data(), bytes);
      at += bytes;
      return true;
    };
    if (!put_program(BOOT_BASE_PROGRAM, base_program(arena_.fd())) ||
        !put_program(BOOT_GUEST_PROGRAM, guest_program()) ||
        !put_program(BOOT_HELPER_PROGRAM, helper_program()))
      return Error(Code::kInternal, "the stub's filters are larger than their page");
    return {};
  }

  Arena arena_;
  const StubShare share_;  // of the container that the platform was made for
  Listeners listeners_;
  // Every stub descends from us, and so is one of those that `barrier` reaches. Before the reaper:
  // a process that has threads waits here for all processors, some milliseconds.
  const bool has_barrier_ =
      syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
  // Asked while we may: who is confined has but one command.
  const uint32_t barriers_within_ = kBarriersWithin & hosts_barriers();
  // With no length it is EINVAL wherever there is one.
  const bool has_rseq_ = syscall(SYS_rseq, nullptr, 0, 0, 0) == 0 || errno != ENOSYS;
  Reaper reaper_;
  HostClock clock_;
  ClockPages pages_;
  std::unique_ptr<StubProcess> template_;
};

}  // namespace

std::string notify_platform_missing() {
  utsname name{};
  int major = 0;
  int minor = 0;
  if (uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2)
    return "the kernel's release cannot be read";
  if (major < 5 || (major == 5 && minor < 19))
    return std::string("Linux ") + name.release +
           " has no SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: expected 5.19 or later";
  uint32_t action = SECCOMP_RET_USER_NOTIF;
  if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) != 0)
    return "seccomp has no user notification";
  return {};
}

HostClock find_host_clock(const std::string& maps) {
  HostClock clock;
  const auto library = getauxval(AT_SYSINFO_EHDR);
  bool found = false;
  for (size_t at = 0; !found && at < maps.size();) {
    const size_t line_end = std::min(maps.find('\n', at), maps.size());
    const std::string line = maps.substr(at, line_end - at);
    at = line_end + 1;
    unsigned long start = 0;
    unsigned long end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &start, &end) != 2) break;
    const bool ours = line.find(" [vvar") != line.npos || line.find(" [vdso]") != line.npos;
    if (!ours || (!clock.pieces.empty() && clock.pieces.back().end != start)) clock.pieces.clear();
    if (!ours) continue;
    clock.pieces.push_back({start, end});
    found = start == library;
  }
  if (!found || clock.pieces.size() < 2 || clock.pieces.size() >= BOOT_MOVES_MAX) return {};
  // Not where the stub or its clock is to be: then a move would go over what it moves.
  const uint64_t first = clock.pieces.front().start;
  const uint64_t last = clock.pieces.back().end;
  const auto meets = [&](uint64_t from, uint64_t to) { return first < to && from < last; };
  if (meets(STUB_CLOCK, STUB_CLOCK + (last - first)) ||
      meets(STUB_TEXT, STUB_REQUEST + STUB_PAGE_SIZE))
    return {};
  return clock;
}

Result<std::unique_ptr<Platform>> create_notify_platform(const HostClock& clock, Memory memory,
                                                         std::shared_ptr<Quota> descriptors) {
  if (std::string missing = notify_platform_missing(); !missing.empty())
    return Error(Code::kUnimplemented, std::move(missing));
  auto platform = std::make_unique<NotifyPlatform>(FLUYT_TRY(Arena::create()), clock, memory,
                                                   std::move(descriptors));
  FLUYT_TRY(platform->start());
  return std::unique_ptr<Platform>(std::move(platform));
}

}  // namespace fluyt::guest
