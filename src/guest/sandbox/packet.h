#pragma once

#include <cstddef>
#include <cstdint>

/// The socket through which others enter a sandbox. One connection (SOCK_SEQPACKET) is one program,
/// and lives as long as it does: who is at the other end is its keeper.
///
/// The keeper's first packet is a ControlPacket of kExec with four descriptors: memory with the
/// program's description, and its standard streams. Then it may send kSignal. It is answered with
/// kStarted or kFailed, and in the end with kExited. When the keeper is gone the program is killed.
///
/// A container is taken in likewise. Its member, the process in its namespaces on the host, sends
/// kAdd with what it takes (member.h) and hears kMade, with the process that is to go into its
/// cgroup; then it says kContinue, hears kDone, and in the end, when the program is to run, kStart.
/// From there on it is that program's keeper.
///
/// Other connections say one thing, kLimitTasks, kLimitProcessors, kPause, kSignalAll, kCount or
/// kProcesses, and are answered with kDone. That of kCount has a text, a line a system call: its
/// number and how often it was asked for. That of kProcesses is what packets of kMore have together
/// (processes.h).
namespace fluyt::guest {

struct ControlPacket {
  enum Kind : uint32_t {
    kExec = 1,
    kSignal,
    kLimitTasks,
    kPause,
    kCount,
    kStarted,
    kFailed,
    kExited,
    kDone,
    kAdd,
    kMade,
    kContinue,
    kStart,
    kSignalAll,
    kLimitProcessors,
    kProcesses,
    kMore
  };
  uint32_t kind = 0;
  // A signal, the most tasks, 1 or 0, a process id, a Code, a wait status; of kLimitProcessors the
  // quota in microseconds, 0 for none.
  int32_t value = 0;
  // Of a signal: kFromTerminal; of kAdd: kHas...; of kLimitProcessors the period, 0: as usual.
  uint32_t flags = 0;
  uint32_t length = 0;  // of the text that follows
  static constexpr uint32_t kFromTerminal = 1;
  // Whether these descriptors come behind the others, in this order.
  static constexpr uint32_t kHasLimit = 1;  // two: the memory's limit and its use
  static constexpr uint32_t kHasStrace = 2;
  static constexpr uint32_t kHasLog = 4;
};
inline constexpr size_t kMaxControlText = size_t{16} << 10;
inline constexpr size_t kMaxProgramText = size_t{16} << 20;

}  // namespace fluyt::guest
