#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "monitor/process/container_io.h"
#include "monitor/process/loop.h"
#include "monitor/process/requests.h"
#include "monitor/protocol/cgroup.h"
#include "monitor/protocol/messages.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/stats.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::monitor {

/// A container of the sandbox, from the worker's reply on.
///
///   created ──gate opened──> starting ──execve──> running ──> reaped ──output ended──> exited
///      └────────────killed─────────┴──could not exec──────────^
///
/// `info.state` is what is told: it says exited only when the record lies in the state folder.
struct Container {
  ContainerInfo info;
  bool own_pid_namespace = true;
  std::string log_directory;
  std::string log_path;
  sys::Process init;
  bool gated = true;  // false: a runtime program starts it
  sys::Fd gate;       // until it is started
  sys::Fd report;     // until execve
  std::string report_text;
  std::unique_ptr<ContainerIo> io;
  std::optional<runtime::cgroup::OomWatch> oom;

  bool starting = false;                      // a worker has the program start it
  std::optional<sys::ExitStatus> early_exit;  // that came before the worker's word
  std::vector<RequestKey> starters;
  Loop::TimerId start_timer = Loop::kNoTimer;
  bool reaped = false;
  Loop::TimerId drain_timer = Loop::kNoTimer;
  bool checkpointing = false;
  Loop::TimerId checkpoint_timer = Loop::kNoTimer;
  bool cgroup_removed = false;
  bool being_removed = false;
  std::vector<RequestKey> removers;

  runtime::CgroupRecord cgroup() const { return cgroup_in<runtime::CgroupRecord>(info); }
};

}  // namespace fluyt::monitor
