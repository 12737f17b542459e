#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sstream>

#include "commands.h"

namespace fluyt::hostile {

namespace {

constexpr long kProcMagic = 0x9fa0;
constexpr int kTries = 100'000;

int faults = 0;

void bad(const std::string& what) {
  ++faults;
  std::printf("bad: %s\n", what.c_str());
}

bool is_null(const struct stat& info) {
  return S_ISCHR(info.st_mode) && info.st_rdev == makedev(1, 3);
}

// procfs, held by a descriptor: at /proc, or where an image that is being changed has moved its
// mount point since. While the two are exchanged each may be the other at the wrong moment.
int open_proc() {
  for (int i = 0; i < kTries; ++i) {
    for (const char* path : {"/proc", "/proc.swapped"}) {
      const int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      struct statfs system{};
      if (fd >= 0 && fstatfs(fd, &system) == 0 && system.f_type == kProcMagic) return fd;
      if (fd >= 0) close(fd);
    }
  }
  return -1;
}

std::string text_at(int dir, const std::string& path) {
  const int fd = openat(dir, path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  std::string text;
  std::array<char, 65536> buffer;
  ssize_t got = 0;
  while ((got = read(fd, buffer.data(), buffer.size())) > 0)
    text.append(buffer.data(), static_cast<size_t>(got));
  close(fd);
  return text;
}

// Masked means: /dev/null itself, or an empty read-only folder.
void check_masked(int dir, const std::string& path) {
  const int fd = openat(dir, path.c_str(), O_PATH | O_CLOEXEC);
  struct stat info{};
  if (fd < 0 || fstat(fd, &info) != 0) return;
  struct statvfs system{};
  if (!S_ISDIR(info.st_mode)) {
    if (!is_null(info)) bad(path + " is not masked");
  } else if (fstatvfs(fd, &system) != 0 || (system.f_flag & ST_RDONLY) == 0 || info.st_nlink > 2) {
    bad(path + " is not masked, or can be written");
  }
  close(fd);
}

void check_closed(int dir, const std::string& path) {
  const int fd = openat(dir, path.c_str(), O_WRONLY | O_CLOEXEC);
  struct stat info{};
  if (fd >= 0) {
    // Masked is as good.
    if (fstat(fd, &info) != 0 || !is_null(info)) bad(path + " can be written");
    close(fd);
  } else if (errno != EROFS && errno != EACCES && errno != EPERM && errno != ENOENT) {
    bad(path + ": " + strerror(errno));
  }
}

// Of the fields of mountinfo the fourth: the part of its file system that is mounted.
bool is_mounted(int proc, std::string_view part) {
  std::istringstream mounts(text_at(proc, "self/mountinfo"));
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string field;
    for (int i = 0; i < 4; ++i) fields >> field;
    if (field.starts_with(part)) return true;
  }
  return false;
}

}  // namespace

// audit HOST-FOLDER MASKED... +MOUNTED...: from inside, whether the container is as it was asked
// for, and whether the host's folder, known by the file in it, can be seen. A folder of its name
// may well be there: where a link of the image led.
int audit(Arguments args) {
  if (args.empty()) return 2;
  const std::string folder = args[0];
  const int proc = open_proc();
  if (proc < 0) bad("there is no procfs");
  check_closed(proc, "sys/kernel/core_pattern");
  check_closed(proc, "sysrq-trigger");
  for (const std::string path : args.subspan(1)) {
    if (path.starts_with('+')) {
      if (!is_mounted(proc, path.substr(1))) bad(path.substr(1) + " is mounted nowhere");
    } else if (path.starts_with("/proc/")) {
      check_masked(proc, path.substr(strlen("/proc/")));
    } else {
      check_masked(AT_FDCWD, path);
    }
  }
  const std::string file = folder + "/file";
  for (const std::string& way :
       {file, "self/root/../../../../.." + file, "1/root/../../.." + file}) {
    if (!text_at(proc, way).empty()) bad("the host's folder is at " + way);
  }
  if (is_mounted(proc, folder)) bad("the host's folder is mounted");
  std::puts(faults == 0 ? "sound" : "unsound");
  return faults == 0 ? 0 : 3;
}

}  // namespace fluyt::hostile
