#include "cmd/runtime/caller_ids.h"

#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "base/program.h"
#include "base/strings.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/process.h"

namespace fluyt::commands {

namespace {

constexpr int64_t kProgramMs = 10'000;
constexpr size_t kMaxSaid = 4096;

std::string search_path() {
  const char* path = std::getenv("PATH");
  return cat("PATH=", path == nullptr ? "" : path, ":/usr/bin:/bin");
}

Result<> map_ids(const char* name, pid_t pid, const std::vector<sys::IdRange>& ranges) {
  const auto program = find_program(name, {search_path()}, [](const std::string& path) -> Result<> {
    if (access(path.c_str(), X_OK) == 0) return {};
    return Error::from_errno(errno, path);
  });
  if (!program.ok()) {
    return Error(program.error().code(),
                 cat(name,
                     " is not in $PATH or may not be executed: ids beyond the caller's own "
                     "take newuidmap(1) and newgidmap(1), of Debian's package uidmap"));
  }
  sys::SpawnOptions options;
  options.args = {*program, std::to_string(pid)};
  for (const sys::IdRange& range : ranges) {
    for (const uint32_t number : {range.inside, range.outside, range.count})
      options.args.push_back(std::to_string(number));
  }
  const auto done =
      FLUYT_TRY(sys::run(std::move(options), "", kMaxSaid, Deadline::after_ms(kProgramMs)));
  if (done.status.code == 0 && done.status.signal == 0) return {};
  return Error(Code::kPermissionDenied,
               cat(name, ": exit ", done.status.shell_code(), ": ", quote(trim(done.err), 512)));
}

/// Calls both programs, which only somebody outside of the new namespace can do: a child from
/// before it was made. What it says at its end is an error's text, or nothing.
class Helper {
 public:
  static Result<Helper> create(const std::vector<sys::IdRange>& uids,
                               const std::vector<sys::IdRange>& gids) {
    Helper out;
    sys::Pipe go = FLUYT_TRY(sys::make_pipe());
    sys::Pipe said = FLUYT_TRY(sys::make_pipe());
    const pid_t pid = getpid();
    auto child = FLUYT_TRY(sys::clone_process({}));
    if (!child) {
      go.write.reset();
      said.read.reset();
      const Result<> done = live(pid, go.read, uids, gids);
      if (!done.ok()) (void)sys::write_all(said.write, done.error().message());
      _exit(0);
    }
    out.child_ = std::move(*child);
    out.go_ = std::move(go.write);
    out.said_ = std::move(said.read);
    return out;
  }

  Result<> map() {
    FLUYT_TRY(sys::write_all(go_, "x"));
    const std::string said = FLUYT_TRY(sys::read_all(said_, kMaxSaid));
    FLUYT_TRY(child_.wait(Deadline::after_ms(kProgramMs)));
    return said.empty() ? Result<>() : Error(Code::kPermissionDenied, said);
  }

 private:
  static Result<> live(pid_t pid, sys::FdRef go, const std::vector<sys::IdRange>& uids,
                       const std::vector<sys::IdRange>& gids) {
    char word = 0;
    if (FLUYT_TRY(sys::read_some(go, {&word, 1})) != 1)
      return Error(Code::kCancelled, "nobody waits for it");
    FLUYT_TRY_CONTEXT(map_ids("newuidmap", pid, uids), "linux.uidMappings: without privileges");
    FLUYT_TRY_CONTEXT(map_ids("newgidmap", pid, gids), "linux.gidMappings: without privileges");
    return {};
  }

  sys::Process child_;
  sys::Fd go_;
  sys::Fd said_;
};

}  // namespace

Result<std::vector<sys::IdRange>> take_over(std::vector<oci::IdMapping>& mappings, uint32_t own) {
  std::vector<sys::IdRange> known = {{.inside = 0, .outside = own, .count = 1}};
  uint32_t next = 1;
  for (oci::IdMapping& mapping : mappings) {
    if (mapping.host_id == own && mapping.size == 1) {
      mapping.host_id = 0;
      continue;
    }
    if (mapping.size > UINT32_MAX - next)
      return Error(Code::kInvalidArgument,
                   cat("size: ", mapping.size, ": more ids than there are"));
    known.push_back({.inside = next, .outside = mapping.host_id, .count = mapping.size});
    mapping.host_id = next;
    next += mapping.size;
  }
  return known;
}

Result<> become_root_with(const std::vector<sys::IdRange>& uids,
                          const std::vector<sys::IdRange>& gids) {
  if (uids.size() == 1 && gids.size() == 1) {
    FLUYT_TRY_CONTEXT(sys::become_root_of_ourselves(), "without privileges");
    return {};
  }
  Helper helper = FLUYT_TRY(Helper::create(uids, gids));
  FLUYT_TRY_CONTEXT(sys::unshare_namespaces(CLONE_NEWUSER | CLONE_NEWNS), "without privileges");
  return helper.map();
}

}  // namespace fluyt::commands
