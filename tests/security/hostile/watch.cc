#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <set>

#include "commands.h"

namespace fluyt::hostile {

namespace {

// By its name: what enters is still called as it was outside.
bool is_of_the_image(const std::string& name) {
  return name == "hostile\n" || name == "sleep\n" || name == "sh\n" || name == "true\n" ||
         name == "busybox\n" || name.empty();
}

struct Watch {
  Arguments marks;
  std::string self = std::to_string(getpid());
  std::set<std::string> said;
  std::set<std::string>
      entering;  // processes that were seen before they became a program of the image
  size_t looks = 0;

  void tell(const std::string& what) {
    if (said.insert(what).second && said.size() < 100) {
      std::printf("leak: %s\n", what.c_str());
      std::fflush(stdout);
    }
  }
  void look_at(const std::string& where, const std::string& text) {
    for (const char* mark : marks) {
      if (text.find(mark) != std::string::npos) tell(where + " shows " + mark);
    }
  }
  void links_of(const std::string& folder);
  void reach(const std::string& where, const std::string& folder);
  void process(const std::string& pid);
};

// A folder that is not of the image leads to the rest of the host.
void Watch::reach(const std::string& where, const std::string& folder) {
  struct stat info{};
  for (const char* mark : marks) {
    if (mark[0] == '/' && stat((folder + mark).c_str(), &info) == 0)
      tell(where + " reaches " + mark);
    if (mark[0] == '/' && stat((folder + "/../../../../../.." + mark).c_str(), &info) == 0)
      tell(where + " reaches " + mark + " from above");
  }
}

void Watch::links_of(const std::string& folder) {
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return;
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    const std::string path = folder + "/" + entry->d_name;
    look_at("fd", link_text(path));
    struct stat info{};
    if (stat(path.c_str(), &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) tell("fd is a folder: " + link_text(path));
    if (S_ISREG(info.st_mode)) tell("fd is a file: " + link_text(path));
    if (S_ISDIR(info.st_mode)) reach("fd", path);
  }
  closedir(dir);
}

void Watch::process(const std::string& pid) {
  const std::string proc = "/proc/" + pid;
  if (!is_of_the_image(file_text(proc + "/comm", 64))) entering.insert(pid);
  for (const char* file : {"/environ", "/cmdline", "/maps"}) look_at(file, file_text(proc + file));
  for (const char* link : {"/root", "/cwd", "/exe"}) look_at(link, link_text(proc + link));
  reach("/root", proc + "/root");
  reach("/cwd", proc + "/cwd");
  links_of(proc + "/fd");
  ++looks;
}

// Whether we may look into a process at all: the kernel shows what it executes to nobody else. A
// program of the image may have come in the meantime, which is no secret.
void peek(Watch& watch, const std::string& pid) {
  const std::string proc = "/proc/" + pid;
  const std::string exe = link_text(proc + "/exe");
  if (!is_of_the_image(file_text(proc + "/comm", 64))) watch.entering.insert(pid);
  if (!exe.empty() && !exe.starts_with("/bin/")) watch.tell("/exe can be seen: " + exe);
  ++watch.looks;
}

void until_end(const Watch& watch, const std::function<void(const std::string&)>& look) {
  fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
  std::puts("watching");
  std::fflush(stdout);
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) != 0) {
    for (const std::string& pid : processes()) {
      if (pid != watch.self) look(pid);
    }
  }
  std::printf("looked %zu times, at %zu processes before their program\n", watch.looks,
              watch.entering.size());
}

}  // namespace

// watch MARK...: looks at every process of this PID namespace for as long as standard input is
// open, and tells of each mark that it finds, each path among them that it can reach, and each
// folder or file that another process holds.
int watch(Arguments args) {
  Watch watch{.marks = args};
  until_end(watch, [&](const std::string& pid) { watch.process(pid); });
  return watch.said.empty() ? 0 : 3;
}

// peek: the same for one that may not trace others, and tells whether it could look at all.
int peek(Arguments args) {
  Watch watch{.marks = args};
  until_end(watch, [&](const std::string& pid) { peek(watch, pid); });
  return watch.said.empty() ? 0 : 3;
}

}  // namespace fluyt::hostile
