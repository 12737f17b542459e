#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "runtime/checkpoint/criu_message.h"
#include "runtime/container.h"
#include "sys/fd.h"

/// Checkpoint and restore of a container through CRIU. Single-threaded callers only.
namespace fluyt::runtime::checkpoint {

/// What the command lines of both verbs have in common.
struct Settings {
  std::string image_path;   // the archive's folder; made by a checkpoint
  std::string work_path;    // of CRIU's log; empty: the archive's folder
  std::string parent_path;  // a checkpoint before, relative to image_path
  bool leave_running = false;
  bool tcp_established = false;
  bool tcp_skip_in_flight = false;
  bool link_remap = false;
  bool ext_unix_sk = false;
  bool shell_job = false;
  bool file_locks = false;
  bool auto_dedup = false;
  bool lazy_pages = false;
  bool pre_dump = false;
  bool empty_network = false;
  CgroupMode cgroup_mode = CgroupMode::kIgnore;
  std::string page_server_address;
  int page_server_port = 0;
  int status_fd = -1;  // gets a zero byte once lazy pages are being served
  std::string lsm_profile;
  std::string lsm_mount_context;
};

/// What the container has from whoever created it: for each of its first three descriptors
/// "pipe:[7]" or "file[1f:2a]" as CRIU names it, or nothing.
using Descriptors = std::vector<std::string>;
Result<Descriptors> describe_descriptors();

struct DumpRequest {
  std::string id;
  std::string bundle;
  oci::Spec spec;
  pid_t init_pid = 0;
  CgroupRecord cgroup;
  Descriptors descriptors;
  Settings settings;
};
/// Writes the archive. Unless it was told to leave it running, the container has ended afterwards.
Result<> dump(const DumpRequest& request);

struct RestoreRequest {
  std::string id;
  std::string bundle;
  oci::Spec spec;
  Stdio stdio;
  cgroup::Driver cgroup_driver = cgroup::Driver::kCgroupfs;
  Settings settings;
  sys::FdRef stop = {};  // as CreateRequest's, while hooks run and before anything is let go
  /// Called before anything is restored, with CRIU's process, which the cgroup is marked with: the
  /// place to write down what Made says. Whoever ends that ends what is in the cgroup too.
  std::function<Result<>(const Made&)> on_made = {};
  /// Called with the container whole and verified, before any of its processes runs.
  std::function<Result<>(Created&)> on_ready;
};
/// Makes the container again from the archive. The first process becomes our child. Before anything
/// of it runs, what came out is compared with the specification, from the host: a process, mount or
/// file that has more than the specification gives is kPermissionDenied, and nothing is left.
Result<Created> restore(const RestoreRequest& request);

}  // namespace fluyt::runtime::checkpoint
