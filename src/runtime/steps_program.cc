#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <unordered_set>

#include "base/program.h"
#include "base/strings.h"
#include "runtime/first_process.h"
#include "runtime/target.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/pty.h"

namespace fluyt::runtime {

namespace {

// Every variable once, with the last value it was given: programs disagree about which one counts.
std::vector<std::string> each_once(const std::vector<std::string>& env) {
  std::unordered_set<std::string_view> seen;
  std::vector<std::string> out;
  for (auto entry = env.rbegin(); entry != env.rend(); ++entry) {
    if (seen.insert(std::string_view(*entry).substr(0, entry->find('='))).second)
      out.push_back(*entry);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

// The home of `uid` in the image's /etc/passwd: a file of the image's, so of a limited size, a
// regular one, and only read.
std::string home_of(uid_t uid) {
  // Looked at before it is opened: opening a device has effects.
  auto place = sys::open("/etc/passwd", O_PATH);
  if (!place.ok()) return "/";
  auto kind = sys::stat_of(*place);
  if (!kind.ok() || !S_ISREG(kind->st_mode)) return "/";
  auto file = sys::open("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!file.ok()) return "/";
  auto info = sys::stat_of(*file);
  if (!info.ok() || !S_ISREG(info->st_mode)) return "/";
  auto text = sys::read_all(*file, kMaxPasswdBytes);
  return text.ok() ? find_home(*text, uid) : "/";
}

}  // namespace

Result<> enter_directory(Inside& in) {
  if (in.plan.cwd == "/") {
    in.directory_entered = true;
    return sys::change_directory_to("/");
  }
  // A missing one is made, as every runtime does; only in a root that this container just got.
  if (in.root.valid()) {
    auto there = sys::open_in(in.root, in.plan.cwd, O_PATH);
    if (!there.ok() && there.error().errno_value() == ENOENT) {
      FLUYT_TRY_CONTEXT(open_target(in.root, in.plan.cwd, TargetKind::kDirectory), "process.cwd");
    }
  }
  auto entered = sys::change_directory_to(in.plan.cwd);
  in.directory_entered = entered.ok();
  // It may be open to the container's user alone, on a file system that does not trust root: once
  // more in verify_directory().
  if (!entered.ok() && entered.error().errno_value() != EACCES) {
    return std::move(entered).error().add_context("process.cwd");
  }
  return {};
}

Result<> verify_directory(Inside& in) {
  in.root.reset();
  if (!in.directory_entered)
    FLUYT_TRY_CONTEXT(sys::change_directory_to(in.plan.cwd), "process.cwd");
  // CVE-2024-21626: a directory of the host, reached through a descriptor's link, has no path here.
  auto where = sys::working_directory();
  if (!where.ok() || !where->starts_with('/')) {
    return Error(Code::kPermissionDenied, cat("process.cwd: ", quote(in.plan.cwd, 1024),
                                              ": lies outside the container's root"));
  }
  return {};
}

Result<> find_program(Inside& in) {
  if (in.p.program.file.valid()) {
    in.env = in.plan.env;
    in.program = in.plan.args[0];
    return {};
  }
  in.env = each_once(in.plan.env);
  if (std::erase(in.env, "HOME=") != 0 || find_variable(in.env, "HOME") == nullptr)
    in.env.push_back(cat("HOME=", home_of(in.plan.identity.uid)));
  in.program = FLUYT_TRY(fluyt::find_program(in.plan.args[0], in.env, sys::check_executable));
  return {};
}

Result<> start_session(Inside& in) {
  FLUYT_TRY(sys::new_session());
  if (in.plan.terminal) {
    FLUYT_TRY(sys::set_controlling_terminal(in.console));
    for (int number = 0; number < 3; ++number) FLUYT_TRY(sys::place_descriptor(in.console, number));
    in.console.reset();
    in.host.null.reset();
    return {};
  }
  const Stdio& stdio = in.p.stdio;
  if (stdio.in.raw() == 0 && stdio.out.raw() == 1 && stdio.err.raw() == 2) {
    for (int number = 0; number < 3; ++number)
      FLUYT_TRY(sys::place_descriptor(sys::FdRef(number), number));
    in.host.null.reset();
    return {};
  }
  const auto or_null = [&](sys::FdRef fd) { return fd.valid() ? fd : in.host.null.ref(); };
  // Copies first: a source may have the number of a target.
  sys::Fd copies[3];
  copies[0] = FLUYT_TRY(sys::duplicate(or_null(stdio.in)));
  copies[1] = FLUYT_TRY(sys::duplicate(or_null(stdio.out)));
  copies[2] = FLUYT_TRY(sys::duplicate(or_null(stdio.err)));
  for (int number = 0; number < 3; ++number)
    FLUYT_TRY(sys::place_descriptor(copies[number], number));
  // Nobody shall find more than the program has in a container that waits at its gate.
  in.host.null.reset();
  return {};
}

Result<> close_descriptors(Inside& in) {
  FLUYT_TRY(sys::close_on_exec_from(3 + in.plan.preserve_fds));
  for (const sys::FdRef fd : in.p.program.descriptors) FLUYT_TRY(sys::keep_on_exec(fd));
  return {};
}

}  // namespace fluyt::runtime
