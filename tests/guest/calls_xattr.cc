#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <vector>

#include "calls.h"

namespace calls {
namespace {

std::string names_of(const char* path) {
  char buffer[1024];
  const ssize_t length = listxattr(path, buffer, sizeof buffer);
  if (length < 0) return result_of(-1);
  std::vector<std::string> names;
  for (ssize_t at = 0; at < length; at += static_cast<ssize_t>(names.back().size()) + 1)
    names.emplace_back(buffer + at);
  std::sort(names.begin(), names.end());
  std::string out;
  for (const std::string& name : names) out += name + " ";
  return out;
}

}  // namespace

void extended_attributes() {
  begin("xattr");
  char buffer[70000] = {};
  const int fd = open("with", O_CREAT | O_RDWR, 0644);
  value("none yet", getxattr("with", "user.x", buffer, sizeof buffer));
  line("list of none", names_of("with"));
  value("set", setxattr("with", "user.x", "12345", 5, 0));
  value("its length", getxattr("with", "user.x", nullptr, 0));
  value("get", getxattr("with", "user.x", buffer, sizeof buffer));
  line("value", std::string(buffer, 5));
  value("too little room", getxattr("with", "user.x", buffer, 3));
  value("create what is there", setxattr("with", "user.x", "1", 1, XATTR_CREATE));
  value("replace", fsetxattr(fd, "user.x", "67", 2, XATTR_REPLACE));
  value("replace what is not there", fsetxattr(fd, "user.none", "1", 1, XATTR_REPLACE));
  value("create", fsetxattr(fd, "user.empty", "", 0, XATTR_CREATE));
  value("by descriptor", fgetxattr(fd, "user.x", buffer, sizeof buffer));
  value("empty value", fgetxattr(fd, "user.empty", buffer, sizeof buffer));
  line("list", names_of("with"));
  value("list's length", flistxattr(fd, nullptr, 0));
  value("list without room", flistxattr(fd, buffer, 3));
  value("unknown flags", setxattr("with", "user.x", "1", 1, 8));
  value("no name", setxattr("with", "", "1", 1, 0));
  value("long name", setxattr("with", ("user." + std::string(300, 'n')).c_str(), "1", 1, 0));
  value("large value", setxattr("with", "user.large", buffer, 65537, 0));
  value("unknown kind", setxattr("with", "nobody.x", "1", 1, 0));
  value("unknown kind, get", getxattr("with", "nobody.x", buffer, 1));
  value("only the kind", setxattr("with", "user.", "1", 1, 0));
  value("bad value", setxattr("with", "user.bad", reinterpret_cast<void*>(8), 4, 0));
  value("bad name", setxattr("with", reinterpret_cast<char*>(8), "1", 1, 0));
  value("remove", removexattr("with", "user.x"));
  value("remove again", fremovexattr(fd, "user.x"));
  line("list after", names_of("with"));
  value("missing file", setxattr("none", "user.x", "1", 1, 0));
  value("closed", fgetxattr(99, "user.x", buffer, 1));
  const int path = open("with", O_PATH);
  value("O_PATH", fgetxattr(path, "user.x", buffer, 1));
  close(path);
  symlink("with", "link");
  value("through a link", getxattr("link", "user.empty", buffer, 1));
  value("of a link, set", lsetxattr("link", "user.x", "1", 1, 0));
  value("of a link, get", lgetxattr("link", "user.x", buffer, 1));
  value("of a link, list", llistxattr("link", buffer, 10));
  value("of a link, remove", lremovexattr("link", "user.x"));
  mkdir("dir-with", 0755);
  value("directory", setxattr("dir-with", "user.d", "1", 1, 0));
  line("directory's list", names_of("dir-with"));
  mkfifo("fifo-with", 0644);
  value("FIFO", setxattr("fifo-with", "user.x", "1", 1, 0));
  value("capability of none", getxattr("with", "security.capability", buffer, 100));
  line("without permission", in_child([] {
         if (chmod("with", 0600) != 0 || setuid(1234) != 0) return 1;
         char byte = 0;
         value("get", getxattr("with", "user.empty", &byte, 1));
         value("set", setxattr("with", "user.mine", "1", 1, 0));
         value("trusted, set", setxattr("with", "trusted.x", "1", 1, 0));
         value("trusted, get", getxattr("with", "trusted.x", &byte, 1));
         value("security, set", setxattr("with", "security.x", "1", 1, 0));
         return 0;
       }));
  close(fd);
  unlink("with");
  unlink("link");
  unlink("fifo-with");
  rmdir("dir-with");
}

}  // namespace calls
