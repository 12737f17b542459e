#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "guest/vfs/credentials.h"
#include "sys/fd.h"

/// A guest kernel with programs in it, from nothing to the first program's end.
namespace fluyt::guest {

/// A program to be started from outside: the sandbox's first one, or one more.
struct ProgramRequest {
  std::vector<std::string> arguments;    // the first is the program: a path, or a name to look for
  std::vector<std::string> environment;  // its PATH says where; HOME is added from /etc/passwd
  std::string working_directory = "/";
  Credentials credentials;
  std::optional<uint32_t> umask;
  std::map<int, std::pair<uint64_t, uint64_t>> limits;  // RLIMIT_* to soft and hard
  bool no_new_privileges = false;
  std::vector<uint64_t> filter;  // seccomp(2): each is a struct sock_filter
};

/// A file system of the guest kernel's own over the host's tree.
struct SandboxMount {
  enum class Kind : uint8_t { kProc, kSysfs, kDev, kDevPts, kTmpfs, kCgroup, kMqueue };
  Kind kind = Kind::kTmpfs;
  std::string path;
  uint32_t mode = 0755;  // of a tmpfs's root
  std::string data;      // of a tmpfs: its other options
  bool read_only = false;
};

/// What sockets reach: loopback alone; what the network namespace that we are in reaches, beside a
/// loopback of their own; or all of that namespace, its loopback too, which others may share.
enum class SandboxNetwork : uint8_t { kNone, kHost, kNamespace };

struct SandboxRequest {
  std::string root = "/";
  bool read_only = false;
  ProgramRequest program;
  // Empty: those of the host's UTS namespace that the sandbox lives in.
  std::string host_name;
  std::string domain_name;
  bool init_is_spared = true;  // see Kernel
  /// Its container is a pod's sandbox: the program is the init of a PID namespace below the
  /// kernel's own, so that no SIGKILL of a container that shares it ends the pod.
  bool holds_pod = false;
  std::vector<SandboxMount> mounts;  // in this order
  // Of files that the guest kernel has of its own: nothing is to be seen there, or changed. What is
  // not there is passed over.
  std::vector<std::string> masked_paths;
  std::vector<std::string> read_only_paths;
  size_t max_tasks = 4096;
  uint64_t memory_limit_bytes = 0;  // of the cgroup that it lives in; 0: none
  // Of its processors' time, in microseconds, as its cgroup has them; 0: no limit, the usual
  // period.
  uint64_t processor_quota_us = 0;
  uint64_t processor_period_us = 0;
  SandboxNetwork network = SandboxNetwork::kNone;
  bool strace = false;
  std::string log;  // a file for what is not supported, a line a call; empty: nowhere
};

/// What the process that makes a container's mounts saw there, for the sandbox that takes it in.
/// Namespaces of the host's are known by their numbers: who was given another's shares the guest
/// kernel's namespace with it as well.
struct Surroundings {
  std::string mounts;  // mountinfo
  uint64_t pid_namespace = 0;
  uint64_t ipc_namespace = 0;
  uint64_t uts_namespace = 0;
  std::string host_name;
  std::string domain_name;
};

/// A sandbox that is a container: made first, started later, entered by others.
struct ContainerRequest {
  SandboxRequest sandbox;
  sys::Fd ready;    // gets an error, its code and its sentence; closed without one: the gate waits
  sys::Fd gate;     // one byte starts the program, end of file ends the sandbox; invalid: no gate
  sys::Fd report;   // gets the sentence of the error that kept the program from starting
  sys::Fd strace;   // gets every system call, a line each; invalid: nobody
  sys::Fd log;      // gets what is not supported, a line each; invalid: nobody
  sys::Fd control;  // a listening socket: control.h
};

/// Runs it with our standard streams, confined; the status as wait(2) has it. For a program that
/// has one thread and does nothing else afterwards: the process stays confined.
Result<int> run_sandbox(const SandboxRequest& request);
/// The same for a container. Errors before the program runs are told through `ready` or `report`.
Result<int> run_container(ContainerRequest request);

}  // namespace fluyt::guest
