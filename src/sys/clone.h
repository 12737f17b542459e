#pragma once

#include <sched.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/id_range.h"
#include "sys/process.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/// Processes and namespaces: clone3(2), setns(2), unshare(2). For single-threaded programs.
namespace fluyt::sys {

struct CloneRequest {
  uint64_t flags = 0;  // CLONE_NEW*, CLONE_PARENT
  FdRef cgroup;        // a v2 directory to be born in (CLONE_INTO_CGROUP); invalid: ours
};
/// A copy of this process with memory of its own. The parent gets the child, by pidfd; the child
/// gets nothing.
Result<std::optional<Process>> clone_process(const CloneRequest& request);

/// What a child in our memory does; it ends by _exit(2) or execve(2), and does not return.
using Life = void (*)(void* argument);
/// A child that lives in our own memory while we stand still until it has ended (CLONE_VM,
/// CLONE_VFORK): a copy of that memory saved, for one that does little. Descriptors, ids, signals,
/// working directory and root are its own. What it does to memory we see, so it may allocate, but
/// not move anything out of our objects, nor wait for us. `cgroup` as in CloneRequest.
/// kUnimplemented where this is not done.
Result<Process> live_in_our_memory(Life life, void* argument, FdRef cgroup = {});
/// The same for a thread of a program with threads: nothing is allocated. The child's pid, or
/// -errno; -ENOSYS where this is not done.
long live_in_our_memory_plainly(Life life, void* argument, FdRef cgroup);

/// A child that does nothing, holds no descriptor of ours, and dies with us.
Result<Process> make_sleeper();

Result<> unshare_namespaces(uint64_t flags);
/// setns(2) into `type` (CLONE_NEW*; several at once where `fd` is a pidfd).
Result<> join_namespaces(FdRef fd, uint64_t types);
/// Opens a namespace file of the host and verifies with NS_GET_NSTYPE that it is of `type`.
Result<Fd> open_namespace(const std::string& path, uint64_t type);

/// Writes uid_map and gid_map of a process in a new user namespace.
Result<> write_id_maps(pid_t pid, const std::vector<IdRange>& uids,
                       const std::vector<IdRange>& gids);
/// A user namespace with these maps and no process in it: for idmapped mounts, and for others to
/// join. The child that holds it for a moment does nothing but wait, so that programs with threads
/// may call this too.
Result<Fd> make_user_namespace(const std::vector<IdRange>& uids, const std::vector<IdRange>& gids);

/// Brings the loopback device of our network namespace up.
Result<> bring_loopback_up();
Result<> set_host_name(const std::string& name);
Result<> set_domain_name(const std::string& name);

/// pidfd_getfd(2): a copy of another process's descriptor. Needs the right to trace it.
Result<Fd> take_descriptor(const Process& process, int number);
/// chroot(2) into an empty file system of our own: nothing of the host can be reached through us.
Result<> hide_in_empty_root();

/// Closes every descriptor above 2 but those in `keep`.
Result<> close_all_but(std::vector<int> keep);
/// Sets close-on-exec on every descriptor from `first` up.
Result<> close_on_exec_from(int first);
/// This one stays open in the program that is executed.
Result<> keep_on_exec(FdRef fd);
/// Opens /dev/null as each of the descriptors 0, 1 and 2 that is not open: what is opened next
/// would else take its number, and go to every program that is executed as one of its standard
/// streams.
Result<> open_missing_streams();
/// dup2(2): `fd` becomes number `number`, without close-on-exec.
Result<> place_descriptor(FdRef fd, int number);

}  // namespace fluyt::sys
