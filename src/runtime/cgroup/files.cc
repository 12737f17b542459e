#include "runtime/cgroup/files.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/strings.h"
#include "sys/dir_stack.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

bool gone(const Error& error) {
  return error.errno_value() == ENOENT || error.errno_value() == ENODEV;
}

namespace {

Result<> add_pids(sys::FdRef dir, std::vector<pid_t>& out) {
  auto text = sys::read_file(dir, "cgroup.procs", kMaxFileBytes);
  if (!text.ok()) {
    // EOPNOTSUPP: a threaded v2 cgroup, whose processes its domain lists.
    const bool none = gone(text.error()) || text.error().errno_value() == EOPNOTSUPP;
    return none ? Result<>() : Result<>(std::move(text).error());
  }
  for (const std::string_view line : split(*text, '\n')) {
    if (const auto pid = parse_number<pid_t>(line); pid && *pid > 0) out.push_back(*pid);
  }
  return {};
}

// The next one below, entered; false where the walk stands at the end of the first.
Result<bool> enter_next(sys::DirStack& at) {
  while (true) {
    const auto entry = at.read();
    if (!entry.ok() && !gone(entry.error())) return entry.error();
    if (!entry.ok() || *entry == nullptr) {
      if (at.depth() == 1) return false;
      const auto left = at.leave();
      // One was removed meanwhile, with those below it: the walk goes on beside it.
      if (!left.ok() && left.error().code() != Code::kAborted) return left.error();
      continue;
    }
    if ((*entry)->d_type != DT_DIR) continue;
    auto entered = at.enter();
    if (entered.ok()) return true;
    if (!gone(entered.error())) return std::move(entered).error();
  }
}

}  // namespace

Result<std::string> read_value(const std::string& directory, std::string_view file) {
  auto text = sys::read_file(cat(directory, "/", file), kMaxFileBytes);
  if (!text.ok() && text.error().errno_value() == ENODEV) {
    return std::move(text).error().with_code(Code::kNotFound);
  }
  return text;
}

const std::string* find_legacy(const CgroupRecord& record, std::string_view controller) {
  for (const auto& [name, directory] : record.legacy) {
    if (name == controller) return &directory;
  }
  return nullptr;
}

std::vector<std::string> legacy_directories(const CgroupRecord& record) {
  std::vector<std::string> out;
  for (const auto& [name, directory] : record.legacy) {
    if (std::ranges::find(out, directory) == out.end()) out.push_back(directory);
  }
  return out;
}

std::vector<std::string> all_directories(const CgroupRecord& record) {
  std::vector<std::string> out = legacy_directories(record);
  if (!record.unified.empty()) out.insert(out.begin(), record.unified);
  return out;
}

Result<> walk(const std::string& directory,
              const std::function<Result<bool>(sys::FdRef dir)>& visit) {
  const auto top = sys::open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!top.ok()) return gone(top.error()) ? Result<>() : Result<>(top.error());
  auto at = sys::DirStack::open(*top, ".");
  if (!at.ok()) return gone(at.error()) ? Result<>() : Result<>(at.error());
  while (FLUYT_TRY(visit(at->dir()))) {
    if (!FLUYT_TRY(enter_next(*at))) break;
  }
  return {};
}

Result<> collect_pids(const std::string& directory, std::vector<pid_t>& out) {
  return walk(directory, [&](sys::FdRef dir) -> Result<bool> {
    FLUYT_TRY(add_pids(dir, out));
    return true;
  });
}

Result<bool> event_flag(std::string_view events, std::string_view key) {
  for (const std::string_view line : split(events, '\n')) {
    const auto words = split_words(line);
    if (words.size() == 2 && words[0] == key) return words[1] == "1";
  }
  return Error(Code::kInternal, cat("cgroup.events: no ", quote(key), " in ", quote(events)));
}

Result<bool> wait_event(const std::string& directory, std::string_view key, bool value,
                        Deadline deadline) {
  auto file = sys::open(cat(directory, "/cgroup.events"), O_RDONLY);
  if (!file.ok() && gone(file.error())) return true;
  if (!file.ok()) return std::move(file).error();
  std::array<char, 256> buffer{};
  while (true) {
    const ssize_t got = pread(file->raw(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == ENODEV) return true;
    if (got < 0) return Error::from_errno(errno, cat("read(", quote(directory), "/cgroup.events)"));
    const std::string_view text(buffer.data(), static_cast<size_t>(got));
    if (FLUYT_TRY(event_flag(text, key)) == value) return true;
    // A change between the read and the poll is not lost: kernfs compares against what we last
    // read.
    pollfd entry{.fd = file->raw(), .events = POLLPRI, .revents = 0};
    const int ready = poll(&entry, 1, deadline.poll_timeout_ms());
    if (ready == 0) return false;
    if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "poll(cgroup.events)");
  }
}

Result<bool> retry(Deadline deadline, const std::function<Result<bool>()>& done) {
  int64_t pause_us = 500;
  while (true) {
    if (FLUYT_TRY(done())) return true;
    if (deadline.passed()) return false;
    usleep(static_cast<useconds_t>(pause_us));
    pause_us = std::min<int64_t>(pause_us * 2, 20'000);
  }
}

}  // namespace fluyt::runtime::cgroup
