#pragma once

#include "base/result.h"
#include "runtime/channel.h"
#include "runtime/container.h"
#include "runtime/plan.h"
#include "runtime/prepare.h"
#include "sys/clone.h"
#include "sys/fd.h"
#include "sys/mount.h"

namespace fluyt::runtime {

/// Everything that the first process has: values copied by the fork, and descriptors.
struct FirstProcess {
  const Plan& plan;
  HostSide& host;
  const Program& program;
  sys::Fd channel;  // packets to the maker (channel.h)
  Stdio stdio;
  sys::FdRef gate;               // invalid: there is none, as for every exec
  sys::FdRef report;             // invalid without a gate: the channel tells
  sys::FdRef container_init;     // an exec: pidfd of the container's first process
  uint64_t container_types = 0;  // an exec: the namespaces to join, CLONE_NEW*; maybe none
  oci::State state;              // for hooks; its pid comes with kGo
};

/// The life of the process that clone_process() made, up to execve(2): carries out the plan's
/// steps, tells of errors over the channel, waits at the gate. Does not return.
[[noreturn]] void live(FirstProcess process);

/// What the steps share. Each step is one function of steps_*.cc: it finds its input in the plan
/// and leaves what later ones need here.
struct Inside {
  explicit Inside(FirstProcess process) : p(std::move(process)), plan(p.plan), host(p.host) {}
  FirstProcess p;
  const Plan& plan;
  HostSide& host;
  sys::Fd root;            // of the container, O_PATH
  bool over_root = false;  // attached over "/" of the namespace
  bool in_chroot = false;  // of our maker's: "/" is not the root of the mount namespace
  sys::Fd devpts;          // the mount at /dev/pts, when it is a new one
  sys::Fd read_only_dev;   // the one at /dev, when it is to be read-only once it is filled
  sys::Fd proc;   // the mount at /proc: what is masked in it is masked wherever the image moves it
  sys::Fd sysfs;  // the mount at /sys, likewise
  sys::Fd proc_before;  // of the PID namespace that we began in, where labels are to be set
  sys::Fd mask_dir;     // the read-only tmpfs over masked directories, once attached
  bool null_attached = false;
  std::vector<sys::FsContext> procs;  // of a joined PID namespace, opened before we joined it
  std::vector<sys::Fd> early;         // by place in the plan's mounts: proc and sysfs made ahead
  sys::Fd console;                    // our end of the pty
  bool directory_entered = false;
  sys::Fd listener;     // of the seccomp filter, until the program is executed
  std::string program;  // absolute, or relative to the working directory
  std::vector<std::string> env;
};

// steps_mounts.cc
Result<> open_procs(Inside& in);
// steps_namespaces.cc
Result<> join_planned(Inside& in);
Result<> join_container(Inside& in);
Result<> make_user_namespace(Inside& in);
Result<> make_namespaces(Inside& in);
Result<> become_root(Inside& in);
Result<> cgroup_namespace(Inside& in);
Result<> fork_on(Inside& in);
Result<> ask_maker(Inside& in, Message question, int32_t value = 0);
Result<> wait_for_go(Inside& in);
Result<> await_maker(Inside& in);
// steps_root.cc
Result<> own_mounts(Inside& in);
Result<> attach_root(Inside& in);
Result<> attach_root_at_path(Inside& in);
Result<> pivot(Inside& in);
Result<> read_only_root(Inside& in);
Result<> root_propagation(Inside& in);
Result<> mask_paths(Inside& in);
Result<> read_only_paths(Inside& in);
// steps_mounts.cc
Result<> early_proc(Inside& in);
Result<> make_mounts(Inside& in);
Result<> make_later_mounts(Inside& in);
// steps_dev.cc
Result<> make_devices(Inside& in);
Result<> make_dev_links(Inside& in);
Result<> open_console(Inside& in);
// steps_identity.cc
Result<> set_names(Inside& in);
Result<> write_sysctls(Inside& in);
Result<> open_proc_before(Inside& in);
Result<> new_keyring(Inside& in);
Result<> set_scheduling(Inside& in);
Result<> set_security_labels(Inside& in);
Result<> let_go(Inside& in);
Result<> set_rlimits(Inside& in);
Result<> give_stdio(Inside& in);
Result<> load_seccomp(Inside& in);
Result<> take_identity(Inside& in);
// steps_program.cc
Result<> enter_directory(Inside& in);
Result<> verify_directory(Inside& in);
Result<> find_program(Inside& in);
Result<> start_session(Inside& in);
Result<> close_descriptors(Inside& in);

/// A procfs of our PID namespace, verified, detached: never the container's /proc.
Result<sys::Fd> own_procfs();

}  // namespace fluyt::runtime
