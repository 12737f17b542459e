#include <fcntl.h>
#include <sys/xattr.h>

#include <array>
#include <optional>
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

std::optional<std::string> read_mark(const std::string& directory, const char* name) {
  std::array<char, 64> value{};
  const ssize_t got = lgetxattr(directory.c_str(), name, value.data(), value.size());
  if (got <= 0) return std::nullopt;
  return std::string(value.data(), static_cast<size_t>(got));
}

// Whom its mark names, under the name that ours has: what a container can write itself, in a cgroup
// that it was given, does not count where we write the other.
std::string find_other(const std::string& directory, const char* name, std::string_view own,
                       int depth) {
  constexpr int kMaxDepth = 64;
  auto dir = sys::open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  auto names = dir.ok() ? sys::list_subdirs(*dir) : std::move(dir).error();
  if (!names.ok() || depth > kMaxDepth) return {};
  for (const std::string& child : *names) {
    std::string path = cat(directory, "/", child);
    const auto mark = read_mark(path, name);
    // One without processes is what a container left, and goes with the directory above.
    std::vector<pid_t> pids;
    if (mark && *mark != own && collect_pids(path, pids).ok() && !pids.empty()) return path;
    if (std::string below = find_other(path, name, own, depth + 1); !below.empty()) return below;
  }
  return {};
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
    if (read_mark(directory, name)) return find_other(directory, name, text_of(init), 0);
  }
  return {};
}

}  // namespace fluyt::runtime::cgroup
