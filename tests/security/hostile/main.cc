#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <utility>

#include "commands.h"

namespace fluyt::hostile {

std::string link_text(const std::string& path) {
  std::array<char, 4096> buffer;
  const ssize_t got = readlink(path.c_str(), buffer.data(), buffer.size());
  return got < 0 ? std::string() : std::string(buffer.data(), static_cast<size_t>(got));
}

std::string file_text(const std::string& path, size_t limit) {
  std::string text;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  std::array<char, 65536> buffer;
  ssize_t got = 0;
  while (text.size() < limit && (got = read(fd, buffer.data(), buffer.size())) > 0) {
    text.append(buffer.data(), static_cast<size_t>(got));
  }
  close(fd);
  return text;
}

std::vector<std::string> processes() {
  std::vector<std::string> out;
  DIR* dir = opendir("/proc");
  if (dir == nullptr) return out;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (std::ranges::all_of(name, [](unsigned char c) { return std::isdigit(c) != 0; }))
      out.push_back(name);
  }
  closedir(dir);
  return out;
}

// What this process was given, one "NUMBER LINK" a line.
int descriptors(Arguments /*args*/) {
  for (int fd = 0; fd < 1024; ++fd) {
    const std::string text = link_text("/proc/self/fd/" + std::to_string(fd));
    if (!text.empty()) std::printf("%d %s\n", fd, text.c_str());
  }
  return 0;
}

}  // namespace fluyt::hostile

int main(int argc, char** argv) {
  using namespace fluyt::hostile;
  constexpr std::array kCommands = std::to_array<std::pair<std::string_view, int (*)(Arguments)>>({
      {"audit", audit},
      {"descriptors", descriptors},
      {"overwrite", overwrite},
      {"peek", peek},
      {"race", race},
      {"socketcall", socketcall},
      {"watch", watch},
  });
  for (const auto& [name, function] : kCommands) {
    if (argc > 1 && name == argv[1]) return function({argv + 2, static_cast<size_t>(argc) - 2});
  }
  std::fputs("hostile: expected a command\n", stderr);
  return 2;
}
