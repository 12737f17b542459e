#include <fcntl.h>
#include <sys/xattr.h>

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/files.h"
#include "sys/file.h"

// Whose a cgroup is. Its path does not tell: another container may have been given the same one
// once no process was left in it, or one below.
namespace fluyt::runtime::cgroup {

namespace {

// The second is for who has no rights over the host; Linux 5.7 is the first to have it here.
constexpr std::array kNames{"trusted.fluyt.init", "user.fluyt.init"};

std::string text_of(const Init& init) { return cat(init.pid, " ", init.start_time); }

// One hierarchy is enough: make() refuses a cgroup that holds processes in any.
std::string marked_directory(const CgroupRecord& record) {
  if (!record.unified.empty() || record.legacy.empty()) return record.unified;
  return record.legacy.front().second;
}

std::optional<std::string> read_mark(sys::FdRef dir, const char* name) {
  std::array<char, 64> value{};
  const ssize_t got = fgetxattr(dir.raw(), name, value.data(), value.size());
  if (got <= 0) return std::nullopt;
  return std::string(value.data(), static_cast<size_t>(got));
}

std::optional<std::string> read_mark(const std::string& directory, const char* name) {
  const auto dir = sys::open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  return dir.ok() ? read_mark(*dir, name) : std::nullopt;
}

bool has_processes(const std::string& directory) {
  std::vector<pid_t> pids;
  return collect_pids(directory, pids).ok() && !pids.empty();
}

// Whom its mark names, under the name that ours has: what a container can write itself, in a cgroup
// that it was given, does not count where we write the other.
std::string find_other(const std::string& directory, const char* name, std::string_view own) {
  std::string found;
  bool below = false;
  walk(directory, [&](sys::FdRef dir) -> Result<bool> {
    if (!std::exchange(below, true)) return true;
    const auto mark = read_mark(dir, name);
    if (!mark || *mark == own) return true;
    // One without processes is what a container left, and goes with the directory above.
    const std::string path = cat("/proc/self/fd/", dir.raw());
    if (!has_processes(path + "/.")) return true;
    found = sys::read_link(sys::kCwd, path).value_or(directory);
    return false;
  }).ignore("what cannot be read is not another's");
  return found;
}

}  // namespace

void mark(const CgroupRecord& record, const Init& init) {
  const std::string directory = marked_directory(record);
  if (directory.empty()) return;
  const std::string text = text_of(init);
  for (const char* name : kNames) {
    if (lsetxattr(directory.c_str(), name, text.data(), text.size(), 0) == 0) return;
  }
}

bool is_marked(const CgroupRecord& record, const Init& init) {
  const std::string directory = marked_directory(record);
  for (const char* name : kNames) {
    if (const auto mark = read_mark(directory, name)) return *mark == text_of(init);
  }
  return false;
}

std::string find_other_below(const CgroupRecord& record, const Init& init) {
  const std::string directory = marked_directory(record);
  for (const char* name : kNames) {
    if (read_mark(directory, name)) return find_other(directory, name, text_of(init));
  }
  return {};
}

}  // namespace fluyt::runtime::cgroup
