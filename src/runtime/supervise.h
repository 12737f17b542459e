#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "runtime/channel.h"
#include "runtime/container.h"
#include "runtime/plan.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::runtime {

/// The maker's side of the channel: answers the first process until it is ready.
struct Supervision {
  const Plan& plan;
  ParentOf parent = ParentOf::kCaller;
  Deadline deadline = Deadline::never();
  sys::FdRef stop = {};  // as CreateRequest::stop
  Newlines newlines = Newlines::kToNewLine;
  bool until_executed = false;  // no gate: ready is not enough, the channel must close by execve(2)
  /// The process that runs the program was forked; it goes on when this returns.
  std::function<Result<>(pid_t forked)> on_forked;
  std::function<Result<>(pid_t init)> move_devices = {};
  std::function<Result<>(pid_t init)> run_hooks;
  std::function<Result<sys::Fd>(pid_t init, size_t place, sys::FdRef source)> bind = {};
  std::function<Result<>(pid_t init, sys::FdRef listener)> hand_over_listener;
};
struct Supervised {
  sys::Process process;  // the one that runs the program
  sys::Fd console;
  std::vector<std::string> warnings;
};
/// Takes over `first`. On an error nothing of it runs any more, and what was ours to reap is
/// reaped.
Result<Supervised> supervise(const Supervision& how, sys::Process first, sys::FdRef channel);

/// Before kGo: oom_score_adj, limits that a user namespace may not raise by itself.
Result<> set_from_outside(const Plan& plan, pid_t pid);

/// The part of it that any process may get at any time.
Result<> set_oom_score(const Plan& plan, pid_t pid);

/// Sends the seccomp listener to who listens at `path` (runtime-spec, "seccomp listener").
Result<> send_listener(const std::string& path, const std::string& metadata, pid_t pid,
                       const std::string& state_json, sys::FdRef listener);

}  // namespace fluyt::runtime
