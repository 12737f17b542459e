#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "guest/task/task.h"
#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// What of the host is shown as it is.
struct HostFacts {
  std::string cpuinfo;
  /// What is below /proc/sys by namespace, as those that the sandbox lives in have it: "net/..." to
  /// its text. Asked for when somebody looks into /proc/sys, which few programs do; null: none.
  std::function<std::map<std::string, std::string>()> settings;
  std::map<std::string, std::string> huge_pages;  // SysfsView's
};
/// Those of HostFacts::settings that are looked for.
std::vector<std::string> namespaced_settings();
/// What they say of POSIX message queues, or what is usual.
QueueLimits read_queue_limits(const std::map<std::string, std::string>& settings);

/// Of which PID namespace it shows the processes, and whose memory.
struct ProcView {
  Kernel& kernel;
  PidSpacePtr pids;
  std::weak_ptr<const Container> container;
};

/// proc(5). `self` is whoever asks: Task::current().
InodePtr make_procfs(const ProcView& view, HostFacts facts);

}  // namespace fluyt::guest
