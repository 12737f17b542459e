#pragma once

#include <linux/seccomp.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include "guest/abi/errno.h"
#include "guest/base/listener_table.h"
#include "guest/platform/notify/arena.h"
#include "sys/fd.h"

namespace fluyt::guest {

/// A seccomp listener that was proved to be one of a thread of a given process of ours: its number
/// came from memory that a guest can write.
class Listener {
 public:
  bool valid() const { return fd_.valid(); }
  pid_t thread() const { return thread_; }
  /// Waits for the next notification. False: every thread of it is gone.
  bool receive(seccomp_notif& notification) const;
  /// Waits until there is something to receive. False: nothing within `milliseconds`.
  bool wait(int milliseconds) const;
  /// Answers one; a lost addressee shows at the next receive.
  void send(const seccomp_notif_resp& response) const;

 private:
  friend class Listeners;
  KnownListener fd_;
  pid_t thread_ = 0;
  bool poll_first_ = false;
};

/// How a stub's listener becomes ours.
class Listeners {
 public:
  Listeners();
  /// Proves that `number` is a listener that nobody has, and that the thread which waits there, in
  /// the stub's call `magic`, belongs to `process`; gives the notification too. Waits 10 s at most.
  ErrnoOr<Listener> claim(int number, pid_t process, int magic, seccomp_notif& first);

 private:
  bool poll_first_ = false;  // before 6.11 RECV sleeps on after the last thread is gone
};

/// What a stub process holds of ours, until it is gone.
struct StubHoldings {
  pid_t pid = 0;
  sys::Fd ours;    // our end of its socket
  sys::Fd theirs;  // its end, in the descriptor table that we share
  uint32_t request = 0;
  bool has_request = false;
  std::vector<uint32_t> slots;
  /// What it takes of its container's share.
  struct Charges {
    explicit Charges(const StubShare& of)
        : process(of.processes), slots(of.slots), descriptors(of.descriptors) {}
    Charge process;
    Charge slots;
    Charge descriptors;
  };
  std::unique_ptr<Charges> charges;

  /// Charges for so many slots. False: the share has not so much.
  bool charge_slots(size_t count);
};

/// Waits for stubs to end, gives back what they held, and says who ended without our doing.
class Reaper {
 public:
  explicit Reaper(Arena& arena);
  /// Waits until all that were taken have ended.
  ~Reaper();
  /// A process that was just made: its end is noticed from now on. False: no descriptor for it.
  bool watch(pid_t pid);
  /// SIGKILL to a watched process; its end is no loss.
  void kill(pid_t pid);
  /// What a process holds that was killed, or is ending.
  void take(StubHoldings holdings);
  /// Called by a thread of ours with the pid of who ended by itself or by the host's doing; no more
  /// once this has set another.
  void on_loss(std::function<void(pid_t)> lost);

 private:
  struct Watched {
    sys::Fd pidfd;
    bool killed = false;
    bool ended = false;
    std::optional<StubHoldings> holdings;
  };
  void run();
  void release(StubHoldings& holdings);
  void poke();
  Arena& arena_;
  sys::Fd epoll_;
  sys::Fd wake_;
  std::mutex mutex_;
  std::unordered_map<pid_t, Watched> watched_;
  std::vector<pid_t> late_;  // taken after they had ended
  size_t taken_ = 0;         // of those watched
  bool stopping_ = false;
  std::mutex loss_mutex_;
  std::function<void(pid_t)> lost_;
  std::thread thread_;
};

/// Whether a process that took so much processor time since one of its threads was called in has
/// had a turn for each of them, that one too.
constexpr bool each_had_a_turn(int64_t processor_ns, size_t threads) {
  constexpr int64_t kTurnNs = 1'000'000'000;
  return processor_ns / kTurnNs >= static_cast<int64_t>(threads);
}

/// One stub process: its spawner's socket, its request page, its slots.
class StubProcess {
 public:
  StubProcess(Arena& arena, Listeners& listeners, Reaper& reaper, StubShare share,
              StubHoldings holdings);
  StubProcess(const StubProcess&) = delete;
  StubProcess& operator=(const StubProcess&) = delete;
  /// Kills it; the reaper does the rest.
  ~StubProcess();

  /// Socket and request page of a process that is still to be made.
  static ErrnoOr<StubHoldings> prepare(Arena& arena, const StubShare& share);
  /// Waits for the first word of a process that was just made, and learns its pid from the kernel.
  static Errno meet(StubHoldings& holdings);

  bool memory_is_limited() const { return arena_.memory_is_limited; }
  pid_t pid() const { return holdings_.pid; }
  void kill();
  /// Stops a thread and then all others on the host, which nothing inside can keep out, until
  /// go_on(). Forks, new threads and calls of the helper wait meanwhile, for it to go on or to end.
  /// False: one of them is under way.
  bool halt(pid_t thread);
  void go_on();
  /// The processor time of all its threads; 0 once it is gone.
  int64_t processor_ns() const;
  /// Guest threads that it has, parked ones among them.
  size_t threads();

  struct Slot {
    uint64_t address = 0;         // in the stub
    std::byte* memory = nullptr;  // ours
    uint64_t offset = 0;
    size_t index = 0;
  };
  /// A slot for a further guest thread; slots are reused within the process only.
  ErrnoOr<Slot> take_slot();
  void give_slot(size_t index);

  struct NewThread {
    Listener listener;
    seccomp_notif first;
  };
  /// A guest thread whose task has ended. It stands in its last notification until a further one is
  /// wanted: to be used again costs two hand-offs, to be made anew a clone and a filter.
  struct Parked {
    Slot slot;
    Listener listener;
    uint64_t notification = 0;
    uint64_t frame = 0;  // where it stands in the handler; 0: it stands in a call
    bool spent = false;  // not to be used again: the host would write to memory of what it was
  };
  /// False: there are enough of them, and it is to end.
  bool park(Parked& thread);
  std::optional<Parked> unpark();
  ErrnoOr<NewThread> start_thread(const Slot& slot, uint64_t frame, uint64_t fs_base,
                                  uint64_t gs_base);

  struct NewProcess {
    std::unique_ptr<StubProcess> process;
    Slot slot;
  };
  /// A copy of the process. It starts a guest thread at once when `fill` prepared a frame in the
  /// new slot (and says where), and a helper otherwise.
  struct FirstThread {
    uint64_t frame = 0;  // 0: a helper
    uint64_t fs_base = 0;
    uint64_t gs_base = 0;
  };
  template <class Fill>
  ErrnoOr<NewProcess> fork(Fill fill) {
    return fork(share_, fill);
  }
  /// The same as a process of another container's.
  template <class Fill>
  ErrnoOr<NewProcess> fork(const StubShare& as, Fill fill) {
    return fork_with(
        as, &fill, [](void* with, const Slot& slot) { return (*static_cast<Fill*>(with))(slot); });
  }
  /// Claims the listener that the first thread of a fork reported.
  ErrnoOr<NewThread> first_thread(const Slot& slot);

  /// Has the helper make a system call: the result as the kernel gives it.
  int64_t call(uint64_t number, std::array<uint64_t, 6> arguments);

 private:
  ErrnoOr<NewProcess> fork_with(const StubShare& as, void* with,
                                FirstThread (*fill)(void*, const Slot&));
  /// The lock, held while the process is not halted.
  std::unique_lock<std::mutex> take_turn();
  Errno perform(uint64_t op);
  ErrnoOr<pid_t> hear_child();
  /// What the spawner says. Without a word in time it is killed.
  ErrnoOr<int> hear_own_length();
  Errno ensure_helper();
  uint64_t& request(size_t offset);
  static Slot make_slot(const Arena& arena, size_t index, uint32_t piece);
  ErrnoOr<int> await_listener(const Slot& slot, size_t where);

  Arena& arena_;
  Listeners& listeners_;
  Reaper& reaper_;
  const StubShare share_;
  StubHoldings holdings_;
  std::mutex mutex_;                 // the socket, the request page and the helper
  std::atomic<bool> halted_{false};  // changed with the lock held
  std::condition_variable resumed_;
  std::vector<bool> slot_in_use_;
  std::vector<Parked> parked_;
  Listener helper_;
  uint64_t helper_id_ = 0;
  bool helper_started_ = false;
  bool out_of_step_ = false;  // an answer did not come: it has been killed
  bool watched_ = false;
};

}  // namespace fluyt::guest
