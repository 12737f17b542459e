#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "guest/abi/errno.h"
#include "guest/abi/registers.h"
#include "guest/base/quota.h"

/// What runs guest code, seen from the guest kernel. Two implementations: `notify` (stub processes
/// under seccomp user notification) and `fake` (in process, for tests and fuzzing);
/// testing/platform_suite.h is what both must pass.
namespace fluyt::guest {

/// The first address that no guest mapping reaches, and the lowest that one may have.
inline constexpr uint64_t kGuestTop = 0x7ffdfffff000;
inline constexpr uint64_t kGuestBottom = 0x10000;
inline constexpr uint64_t kPageSize = 4096;

/// A system call as the hardware handed it over.
struct SyscallRequest {
  int32_t number = -1;
  bool native = true;          // false: int 0x80, an x32 number or another architecture
  uint32_t arch = 0xc000003e;  // AUDIT_ARCH_*
  uint64_t instruction_pointer = 0;
  uint64_t args[6] = {};
};

/// Where the host keeps saying on which processor a thread runs, and looks for what it restarts
/// (rseq(2)). An address of 0: nowhere.
struct RseqArea {
  uint64_t address = 0;
  uint32_t length = 0;
  uint32_t signature = 0;
  bool operator==(const RseqArea&) const = default;
};

/// What rseq(2), carried out, leaves registered.
inline RseqArea rseq_after(const SyscallRequest& call) {
  constexpr uint32_t kUnregister = 1;
  if (static_cast<uint32_t>(call.args[2]) == kUnregister) return {};
  return {call.args[0], static_cast<uint32_t>(call.args[1]), static_cast<uint32_t>(call.args[3])};
}

/// Why a guest thread stopped.
struct Event {
  enum class Kind : uint8_t {
    kSyscall,    // `call`
    kFault,      // `fault`: the host delivered SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP
    kInterrupt,  // Context::interrupt was called while guest code ran
    kGone,       // the thread is no more: its process died (OOM, a fault within a fault, hostile)
  };
  Kind kind = Kind::kGone;
  SyscallRequest call;
  SignalInfo fault;
};

/// All that a new guest thread starts with. An empty `fp` is the processor's initial state.
struct ThreadImage {
  Registers registers;
  std::vector<std::byte> fp;
  uint64_t fs_base = 0;
  uint64_t gs_base = 0;
  RseqArea rseq;  // of a fork's thread; those in an address space that is shared begin without
};

/// One guest thread's processor. Owned and used by one sentry thread, but for `interrupt`.
class Context {
 public:
  virtual ~Context() = default;

  /// Lets guest code go on and waits for its next event. After kSyscall, set_return or carry_out
  /// came first, or `registers` did.
  virtual Event run() = 0;
  /// The value that the system call of the last event returns; after registers(), what rax holds.
  virtual void set_return(uint64_t value) = 0;
  /// The host is to carry the last event's call out itself. Only for arch_prctl's FS and GS bases,
  /// rseq(2) and the exit of a thread: calls of scalars that change nothing shared.
  virtual void carry_out() = 0;

  /// The registers, to be read and changed in place until the next run(); the same pointer until
  /// then. After a kSyscall without set_return, rax holds nothing of use. Null: the thread is gone.
  virtual Registers* registers() = 0;
  /// The XSAVE area beside registers(); empty when the processor's initial state.
  virtual std::span<std::byte> fp_state() = 0;
  /// Replaces it, before run(); `state` is an XSAVE area of at most fp_capacity() bytes, or empty.
  virtual Errno set_fp_state(std::span<const std::byte> state) = 0;
  virtual uint64_t fs_base() = 0;
  virtual uint64_t gs_base() = 0;
  /// What rseq(2), carried out, has the host keep for the thread.
  virtual RseqArea rseq() const = 0;
  /// The host forgets it, before others may take the memory away: the thread may be used again.
  virtual void drop_rseq() = 0;

  /// From any thread: makes a run() under way, or the next one, return kInterrupt soon.
  virtual void interrupt() = 0;
  /// From any thread: stops this one where it is, whatever its code does (interrupt() is of no
  /// avail where that keeps the signal out), and with it all others of its address space, until
  /// AddressSpace::go_on(). What changes the mappings, creates a context or forks sleeps meanwhile.
  /// False: such a call is under way, and nothing was done.
  virtual bool halt() { return true; }
  /// Ends the thread; the address space stays. Nothing but the destructor may follow.
  virtual void finish() = 0;
};

enum class Backing : uint8_t { kAnonymous, kPrivateFile, kSharedFile };

/// One guest memory mapping to be made at `address`, over whatever is there.
struct Mapping {
  uint64_t address = 0;
  uint64_t length = 0;
  int protection = 0;  // PROT_*
  Backing backing = Backing::kAnonymous;
  int host_fd = -1;  // of the sentry
  uint64_t offset = 0;
};

/// The memory that guest threads run in. Its mapping calls are serialised by the caller (the mm
/// lock); read and write may run beside them.
class AddressSpace {
 public:
  virtual ~AddressSpace() = default;

  virtual Errno map(const Mapping& mapping) = 0;
  virtual Errno unmap(uint64_t address, uint64_t length) = 0;
  virtual Errno protect(uint64_t address, uint64_t length, int protection) = 0;
  virtual Errno move(uint64_t from, uint64_t old_length, uint64_t to, uint64_t new_length) = 0;
  virtual Errno advise(uint64_t address, uint64_t length, int advice) = 0;
  /// membarrier(2) of the host's for the threads in here, with a command of those that
  /// Platform::barriers_within has.
  virtual Errno barrier_within(uint32_t /*command*/, uint32_t /*flags*/, int32_t /*processor*/) {
    return Errno(EINVAL);
  }

  /// Copies as far as it goes, by the protections that guest code is under; the number of bytes.
  virtual size_t read(uint64_t address, std::span<std::byte> to) = 0;
  virtual size_t write(uint64_t address, std::span<const std::byte> from) = 0;

  /// A further guest thread, stopped before its first instruction.
  virtual ErrnoOr<std::unique_ptr<Context>> create_context(const ThreadImage& image) = 0;

  struct Forked {
    std::unique_ptr<AddressSpace> memory;
    std::unique_ptr<Context> context;
  };
  /// A copy of the private memory with one thread in it, which starts from `image`.
  virtual ErrnoOr<Forked> fork(const ThreadImage& image) = 0;
  /// The processor time that its threads have taken, those that have ended too.
  virtual int64_t processor_ns() { return 0; }
  /// Ends every thread in it, now. run() in other threads returns kGone.
  virtual void kill() = 0;
  /// What Context::halt stopped goes on.
  virtual void go_on() {}
  /// Which one it is, for Platform::on_loss.
  virtual int64_t id() const { return 0; }
};

/// Commands of membarrier(2), and their registrations: SYNC_CORE and RSEQ of one process.
inline constexpr uint32_t kBarriersWithin = 0x1e0;

/// Where guests find the library with which they read the time without a call (vdso(7)), and what
/// it reads; the same in every address space. All 0: there is none.
struct ClockPages {
  uint64_t start = 0;
  uint64_t library = 0;
  uint64_t end = 0;
};

class Platform {
 public:
  virtual ~Platform() = default;
  virtual ClockPages clock_pages() const { return {}; }
  virtual ErrnoOr<std::unique_ptr<AddressSpace>> create_address_space() = 0;
  /// From now on `lost` is called, by a thread of the platform's, with the id of an address space
  /// that ended though nobody here had killed it: its threads may be in calls, of which none sees
  /// it.
  virtual void on_loss(std::function<void(int64_t id)> /*lost*/) {}
  /// Every guest thread that runs at this moment passes a full memory barrier before this comes
  /// back (membarrier(2)). ENOSYS: the host has no such thing.
  virtual Errno barrier() { return Errno(ENOSYS); }
  /// Commands of membarrier(2) that the host carries out for one address space: those of
  /// kBarriersWithin that it has.
  virtual uint32_t barriers_within() const { return 0; }
  /// Whether rseq(2) can be carried out.
  virtual bool has_rseq() const { return false; }

  /// The same platform for the programs of one more container: the host's processes that it makes
  /// descend from one of its own, host_pid(), which can be put into a cgroup before the first of
  /// them. It may not outlive this one, nor may its address spaces outlive it. `limited`: the host
  /// may run out of memory for them. `descriptors` is what they may have of ours; null: as many as
  /// there are. Of everything else that is finite each of the two has a share. ENOSYS: there is
  /// none.
  virtual ErrnoOr<std::unique_ptr<Platform>> branch(bool /*limited*/,
                                                    std::shared_ptr<Quota> /*descriptors*/) {
    return Errno(ENOSYS);
  }
  virtual int32_t host_pid() const { return 0; }
};

}  // namespace fluyt::guest
