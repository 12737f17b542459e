// user_namespaces(7) and cgroup_namespaces(7): maps, ids, capabilities and what they reach.
#include <fcntl.h>
#include <grp.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "calls.h"

namespace calls {
namespace {

constexpr uid_t kSailor = 1000;
constexpr uid_t kCook = 2000;

/// A child that runs `body`, which prints lines of its own.
void apart(const std::function<void()>& body) {
  const std::string end = in_child([&] {
    body();
    return 0;
  });
  if (end != "exit 0") line("a child", end);
}

std::string text_of(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return result_of(-1);
  char text[8192];
  const ssize_t length = read(fd, text, sizeof text);
  close(fd);
  return length < 0 ? result_of(-1) : std::string(text, static_cast<size_t>(length));
}

/// Words with one space in between.
std::string words_of(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\t' || c == '\n';
    if (!space)
      out += c;
    else if (!out.empty() && out.back() != ' ')
      out += ' ';
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

/// A line of /proc/PID/status.
std::string status_of(const std::string& who, const std::string& name) {
  const std::string text = "\n" + text_of("/proc/" + who + "/status");
  const size_t at = text.find("\n" + name + ":");
  if (at == std::string::npos) return "none";
  const size_t begin = at + name.size() + 2;
  return words_of(text.substr(begin, text.find('\n', begin) - begin));
}

std::string write_to(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return "open " + result_of(-1);
  const ssize_t done = write(fd, text.data(), text.size());
  const std::string out = done == static_cast<ssize_t>(text.size()) ? "ok" : result_of(done);
  close(fd);
  return out;
}

bool become(uid_t id) {
  return setgroups(0, nullptr) == 0 && setresgid(id, id, id) == 0 && setresuid(id, id, id) == 0 &&
         prctl(PR_SET_DUMPABLE, 1) == 0;
}

std::string ids() {
  uid_t uid[3];
  gid_t gid[3];
  if (getresuid(&uid[0], &uid[1], &uid[2]) != 0 || getresgid(&gid[0], &gid[1], &gid[2]) != 0)
    return result_of(-1);
  return std::to_string(uid[0]) + " " + std::to_string(uid[1]) + " " + std::to_string(uid[2]) +
         " " + std::to_string(gid[0]) + " " + std::to_string(gid[1]) + " " + std::to_string(gid[2]);
}

std::string owner_of(const std::string& path) {
  struct stat got;
  if (lstat(path.c_str(), &got) != 0) return result_of(-1);
  return std::to_string(got.st_uid) + " " + std::to_string(got.st_gid);
}

/// One that waits in a user namespace of its own until it is told.
class Waiting {
 public:
  /// Before `body` the maker can write its maps.
  explicit Waiting(const std::function<void()>& body, int flags = CLONE_NEWUSER) {
    if (pipe2(made_, O_CLOEXEC) != 0 || pipe2(go_, O_CLOEXEC) != 0) return;
    pid = fork();
    if (pid == 0) {
      close(go_[1]);
      char byte = unshare(flags) == 0 ? 1 : 0;
      if (write(made_[1], &byte, 1) != 1 || byte == 0 || read(go_[0], &byte, 1) != 1) _exit(99);
      body();
      _exit(0);
    }
    char byte = 0;
    is_there = read(made_[0], &byte, 1) == 1 && byte == 1;
  }
  ~Waiting() {
    for (const int fd : {made_[0], made_[1], go_[0], go_[1]}) close(fd);
    if (!is_over_) waitpid(pid, nullptr, 0);
  }
  std::string file(const char* name) const { return "/proc/" + std::to_string(pid) + "/" + name; }
  void map(const char* users, const char* groups) {
    line("its map of users", write_to(file("uid_map"), users));
    line("its map of groups", write_to(file("gid_map"), groups));
  }
  void go() {
    char byte = 1;
    if (write(go_[1], &byte, 1) != 1) return;
    int status = 0;
    waitpid(pid, &status, 0);
    is_over_ = true;
    if (status != 0) line("its end", std::to_string(status));
  }
  pid_t pid = -1;
  bool is_there = false;

 private:
  int made_[2], go_[2];
  bool is_over_ = false;
};

constexpr const char* kUsers = "0 1000 1\n1 2000 10\n";

void unmapped() {
  begin("a user namespace without maps");
  apart([] {
    setgroups(0, nullptr);
    value("unshare", unshare(CLONE_NEWUSER));
    line("ids", ids());
    line("map of users", "[" + text_of("/proc/self/uid_map") + "]");
    line("map of groups", "[" + text_of("/proc/self/gid_map") + "]");
    for (const char* name : {"CapInh", "CapAmb"}) line(name, status_of("self", name));
    truth("all capabilities", status_of("self", "CapEff") == status_of("self", "CapBnd") &&
                                  status_of("self", "CapEff") == status_of("self", "CapPrm"));
    value("setuid to its own", setuid(0));
    value("setgroups", setgroups(0, nullptr));
    value("another within", unshare(CLONE_NEWUSER));
    value("what is made", open("nobodys", O_CREAT | O_WRONLY, 0600) >= 0 ? 0 : -1);
    line("whose it is", owner_of("nobodys"));
  });
  line("whose it was", owner_of("nobodys"));
  unlink("nobodys");
  apart([] {
    if (chroot(".") != 0) _exit(99);
    value("in a chroot", unshare(CLONE_NEWUSER));
  });
  apart([] {
    const long got = syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0);
    value("with CLONE_FS", got);
    value("of a thread",
          syscall(SYS_clone, CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0));
  });
  apart([] {
    int depth = 0;
    std::string last;
    for (; depth < 50; ++depth) {
      if (unshare(CLONE_NEWUSER) != 0) break;
      last = write_to("/proc/self/uid_map", "0 0 1");
      last += write_to("/proc/self/setgroups", "deny");
      last += write_to("/proc/self/gid_map", "0 0 1");
      if (last != "okokok") break;
    }
    line("how deep", std::to_string(depth) + " " + last + " " + result_of(-1));
  });
}

void writing_maps() {
  begin("uid_map");
  std::string many;
  for (int i = 0; i < 341; ++i) many += std::to_string(i) + " " + std::to_string(i * 2) + " 1\n";
  const std::string most = many.substr(0, many.rfind("340 "));
  const std::pair<const char*, std::string> texts[] = {
      {"one", "0 1000 1"},
      {"a line", "0 1000 1\n"},
      {"spaces", "  0\t1000   1  \n"},
      {"two", "0 1000 10\n20 5000 3\n"},
      {"all", "0 0 4294967295"},
      {"nothing but a line", "\n"},
      {"two numbers", "0 1000"},
      {"no count", "0 1000 0"},
      {"four numbers", "0 1000 1 1"},
      {"no numbers", "a b c"},
      {"negative", "-1 0 1"},
      {"the last id", "4294967295 0 1"},
      {"beyond the last", "1 0 4294967295"},
      {"overlap inside", "0 1000 10\n9 5000 1\n"},
      {"overlap outside", "0 1000 10\n20 1009 1\n"},
      {"an empty line", "0 1000 1\n\n"},
      {"340 lines", most},
      {"341 lines", many},
      {"a page", std::string(4096, ' ')},
  };
  for (const auto& [what, text] : texts) {
    Waiting child([] {});
    const std::string written = write_to(child.file("uid_map"), text);
    line(what, written + " [" + words_of(text_of(child.file("uid_map"))).substr(0, 60) + "]");
    child.go();
  }
  {
    Waiting child([] {});
    const int fd = open(child.file("uid_map").c_str(), O_WRONLY | O_CLOEXEC);
    value("at an offset", lseek(fd, 1, SEEK_SET) == 1 ? write(fd, "0 0 1", 5) : -1);
    lseek(fd, 0, SEEK_SET);
    value("first", write(fd, "0 0 1", 5));
    value("again", write(fd, "0 0 1", 5));
    close(fd);
    line("once more", write_to(child.file("uid_map"), "0 0 1"));
    child.go();
  }
  line("of the first", write_to("/proc/self/uid_map", "0 0 1"));
  {
    Waiting child([] {});
    line("six lines",
         write_to(child.file("gid_map"), "9 9 1\n8 8 1\n7 7 1\n6 6 1\n5 5 1\n4 4 1\n"));
    line("in order", words_of(text_of(child.file("gid_map"))));
    child.go();
  }
  begin("uid_map of one's own");
  apart([] {
    if (unshare(CLONE_NEWUSER) != 0) _exit(99);
    line("two ids", write_to("/proc/self/uid_map", "0 0 2"));
    line("another's", write_to("/proc/self/uid_map", "0 1000 1"));
    line("one's own", write_to("/proc/self/uid_map", "5 0 1"));
    line("groups", write_to("/proc/self/gid_map", "5 0 1"));
    line("setgroups", words_of(text_of("/proc/self/setgroups")));
    line("junk", write_to("/proc/self/setgroups", "maybe"));
    line("deny and junk", write_to("/proc/self/setgroups", "deny x"));
    line("long", write_to("/proc/self/setgroups", "deny    "));
    line("deny", write_to("/proc/self/setgroups", "deny\n"));
    line("allow", write_to("/proc/self/setgroups", "allow"));
    line("setgroups now", words_of(text_of("/proc/self/setgroups")));
    line("groups now", write_to("/proc/self/gid_map", "5 0 1"));
    line("deny once more", write_to("/proc/self/setgroups", "deny"));
    line("ids", ids());
    value("setgroups(2)", setgroups(0, nullptr));
  });
  begin("uid_map of nobody's");
  apart([] {
    if (!become(kSailor) || unshare(CLONE_NEWUSER) != 0) _exit(99);
    line("root's", write_to("/proc/self/uid_map", "0 0 1"));
    line("two ids", write_to("/proc/self/uid_map", "0 1000 2"));
    line("one's own", write_to("/proc/self/uid_map", "0 1000 1"));
    line("setgroups", write_to("/proc/self/setgroups", "deny"));
    line("a group", write_to("/proc/self/gid_map", "0 5 1"));
    line("one's group", write_to("/proc/self/gid_map", "0 1000 1"));
    line("ids", ids());
    line("map", words_of(text_of("/proc/self/uid_map")));
    truth("all capabilities", status_of("self", "CapEff") == status_of("self", "CapBnd"));
    value("another within", unshare(CLONE_NEWUSER));
    line("its map", write_to("/proc/self/uid_map", "7 0 1"));
    line("as it sees it", words_of(text_of("/proc/self/uid_map")));
    line("ids there", ids());
    line("uid in status", status_of("self", "Uid"));
  });
  apart([] {
    if (!become(kSailor)) _exit(99);
    Waiting child([] {});
    line("its maker may", write_to(child.file("uid_map"), "0 1000 1"));
    child.go();
  });
  {
    Waiting child([] {
      if (!become(0)) _exit(98);
    });
    // Whoever opens it must be allowed to as well as who writes.
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return;
    const std::string path = child.file("uid_map");
    apart([&] {
      if (!become(kSailor)) _exit(99);
      value("opened by another", open(path.c_str(), O_WRONLY));
    });
    child.map("0 0 1", "0 0 1");
    child.go();
    close(ends[0]);
    close(ends[1]);
  }
}

void identities() {
  begin("ids in a user namespace");
  for (const char* name : {"of-root", "of-sailor", "of-cook", "shared"}) {
    close(open(name, O_CREAT | O_WRONLY, 0600));
    chmod(name, 0600);
  }
  if (chown("of-sailor", kSailor, kSailor) != 0 || chown("of-cook", kCook, kCook) != 0 ||
      chown("shared", kSailor, 5) != 0)
    return line("chown", result_of(-1));
  Waiting child([] {
    line("before", ids());
    value("setresuid", setresuid(0, 0, 0));
    value("setresgid", setresgid(0, 0, 0));
    line("after", ids());
    value("setuid to nobody's", setuid(500));
    value("setgid to nobody's", setgid(500));
    value("setreuid to nobody's", setreuid(static_cast<uid_t>(-1), 500));
    value("setresgid to nobody's", setresgid(static_cast<gid_t>(-1), 500, 0));
    value("setfsuid to nobody's", syscall(SYS_setfsuid, 500));
    value("setfsuid", syscall(SYS_setfsuid, 0));
    const gid_t groups[] = {1, 2};
    const gid_t nobodys[] = {1, 500};
    value("setgroups", setgroups(2, groups));
    value("setgroups to nobody's", setgroups(2, nobodys));
    gid_t got[2] = {};
    value("getgroups", getgroups(2, got));
    line("groups", std::to_string(got[0]) + " " + std::to_string(got[1]));
    line("Uid", status_of("self", "Uid"));
    line("Gid", status_of("self", "Gid"));
    line("Groups", status_of("self", "Groups"));
    line("a file of root's", owner_of("of-root"));
    line("a file of its root's", owner_of("of-sailor"));
    line("a file of another's", owner_of("of-cook"));
    value("open root's", open("of-root", O_RDONLY));
    truth("open its root's", open("of-sailor", O_RDWR) >= 0);
    truth("open another's", open("of-cook", O_RDWR) >= 0);
    value("access root's", access("of-root", R_OK));
    value("chmod root's", chmod("of-root", 0644));
    value("chmod another's", chmod("of-cook", 0640));
    value("utimensat root's", utimensat(AT_FDCWD, "of-root", nullptr, 0));
    value("chown root's", chown("of-root", 0, 0));
    value("chown another's", chown("of-cook", 3, 4));
    value("chown to nobody's", chown("of-cook", 500, static_cast<gid_t>(-1)));
    value("chgrp to nobody's", chown("of-cook", static_cast<uid_t>(-1), 500));
    value("chown with nobody's group", chown("shared", 1, static_cast<gid_t>(-1)));
    truth("make", open("made", O_CREAT | O_WRONLY, 0600) >= 0);
    line("made", owner_of("made"));
    struct statx more;
    value("statx", statx(AT_FDCWD, "of-cook", 0, STATX_BASIC_STATS, &more));
    line("as statx has it", std::to_string(more.stx_uid) + " " + std::to_string(more.stx_gid));
    value("mknod of a device", mknod("device", S_IFCHR | 0600, 0x103));
    value("trusted attributes", setxattr("of-sailor", "trusted.x", "1", 1, 0));
    value("setuid to another", setuid(1));
    line("as another", ids());
    truth("none left", status_of("self", "CapEff") == "0000000000000000");
  });
  child.map(kUsers, kUsers);
  line("Uid from outside", status_of(std::to_string(child.pid), "Uid"));
  child.go();
  line("another's now", owner_of("of-cook"));
  line("made", owner_of("made"));
  for (const char* name : {"of-root", "of-sailor", "of-cook", "shared", "made"}) unlink(name);
}

/// struct vfs_cap_data of CAP_NET_BIND_SERVICE, effective.
constexpr std::string_view kBind("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);

std::string attribute_of(const char* path) {
  char bytes[32];
  const ssize_t length = getxattr(path, "security.capability", bytes, sizeof bytes);
  if (length < 0) return result_of(-1);
  std::string out = std::to_string(length) + " bytes, version " + std::to_string(bytes[3]);
  if (length == 24) {
    uint32_t root = 0;
    std::memcpy(&root, bytes + 20, sizeof root);
    out += ", root " + std::to_string(root);
  }
  return out;
}

void capabilities() {
  begin("capabilities of a user namespace");
  close(open("privileged", O_CREAT | O_WRONLY, 0755));
  close(open("shared", O_CREAT | O_WRONLY, 0755));
  if (chown("privileged", kSailor, kSailor) != 0) return;
  setxattr("shared", "security.capability", kBind.data(), kBind.size(), 0);
  const pid_t outside = getpid();
  Waiting child([&] {
    if (setresuid(0, 0, 0) != 0 || setresgid(0, 0, 0) != 0) _exit(98);
    value("sethostname", sethostname("x", 1));
    value("mount", mount("x", ".", "tmpfs", 0, nullptr));
    value("umount", umount("/proc"));
    value("kill its maker", kill(outside, 0));
    value("chroot", chroot("/"));
    value("PR_CAPBSET_DROP", prctl(PR_CAPBSET_DROP, 0));
    value("file capabilities of nobody's",
          setxattr("shared", "security.capability", kBind.data(), kBind.size(), 0));
    value("file capabilities",
          setxattr("privileged", "security.capability", kBind.data(), kBind.size(), 0));
    line("as it sees them", attribute_of("privileged"));
    line("the first root's", attribute_of("shared"));
    value("unshare a UTS namespace", unshare(CLONE_NEWUTS));
    value("sethostname there", sethostname("inside", 6));
    value("unshare an IPC namespace", unshare(CLONE_NEWIPC));
    value("unshare a mount namespace", unshare(CLONE_NEWNS));
    value("a PID namespace", unshare(CLONE_NEWPID));
    value("a cgroup namespace", unshare(CLONE_NEWCGROUP));
  });
  child.map(kUsers, kUsers);
  child.go();
  line("from outside", attribute_of("privileged"));
  unlink("privileged");
  unlink("shared");
  apart([] {
    if (!become(kSailor)) _exit(99);
    value("UTS without", unshare(CLONE_NEWUTS));
    value("cgroups without", unshare(CLONE_NEWCGROUP));
    value("all at once", unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS |
                                 CLONE_NEWPID | CLONE_NEWCGROUP));
    value("sethostname", sethostname("ours", 4));
    line("ids", ids());
    const pid_t first = fork();
    if (first == 0)
      _exit(getpid() == 1 && syscall(SYS_kcmp, 1, 1, 1 /* KCMP_VM */, 0, 0) == 0 ? 3 : 4);
    int status = 0;
    waitpid(first, &status, 0);
    value("its first process", WEXITSTATUS(status));
  });
  apart([] {
    if (!become(kSailor)) _exit(99);
    const pid_t cloned = static_cast<pid_t>(
        syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0));
    if (cloned == 0) _exit(getpid() == 1 && getuid() == 65534 && sethostname("c", 1) == 0 ? 3 : 4);
    int status = 0;
    waitpid(cloned, &status, 0);
    line("cloned", std::to_string(WEXITSTATUS(status)));
  });
  apart([] {
    if (!become(kSailor)) _exit(99);
    const std::string maker = "/proc/" + std::to_string(getpid()) + "/";
    // The same ids, and yet another's.
    Waiting within([&] {
      for (const char* name : {"environ", "maps", "auxv"})
        value(std::string("its maker's ") + name, open((maker + name).c_str(), O_RDONLY));
      truth("its maker's status", open((maker + "status").c_str(), O_RDONLY) >= 0);
      char text[64];
      value("its maker's namespace", readlink((maker + "ns/user").c_str(), text, sizeof text));
      value("its maker's root", readlink((maker + "root").c_str(), text, sizeof text));
    });
    truth("its environment", open(within.file("environ").c_str(), O_RDONLY) >= 0);
    within.go();
  });
  apart([] {
    if (!become(kSailor)) _exit(99);
    value("not dumpable", prctl(PR_SET_DUMPABLE, 0));
    value("into a namespace", unshare(CLONE_NEWUSER));
    const pid_t maker = getpid();
    const auto looks = [maker] {
      return syscall(SYS_kcmp, maker, getpid(), 3 /* KCMP_FS */, 0, 0) < 0 ? errno : 0;
    };
    line("looked into by its root", in_child(looks));
    const pid_t other = fork();
    if (other == 0) {
      pause();
      _exit(0);
    }
    line("a child of it",
         in_child([other] { return syscall(SYS_kcmp, other, getpid(), 3, 0, 0) < 0 ? errno : 0; }));
    kill(other, SIGKILL);
    waitpid(other, nullptr, 0);
    value("dumpable", prctl(PR_SET_DUMPABLE, 1));
    line("then", in_child([maker] {
           return prctl(PR_SET_DUMPABLE, 1) != 0 || syscall(SYS_kcmp, maker, getpid(), 3, 0, 0) < 0
                      ? errno
                      : 0;
         }));
  });
  const auto executed = [](const char* what, uid_t as) {
    Waiting program([&] {
      if (setresgid(as, as, as) != 0 || setresuid(as, as, as) != 0) _exit(98);
      line(what, in_child([] {
             execl("/proc/self/exe", "guest_calls", "--capabilities", nullptr);
             return 97;
           }));
    });
    program.map(kUsers, kUsers);
    program.go();
  };
  executed("executed by its root", 0);
  executed("executed by another", 1);
}

void joining() {
  begin("setns to a user namespace");
  int own = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
  value("one's own", setns(own, CLONE_NEWUSER));
  value("NS_GET_NSTYPE", ioctl(own, NS_GET_NSTYPE) == CLONE_NEWUSER ? 0 : -1);
  value("NS_GET_USERNS of the first", ioctl(own, NS_GET_USERNS));
  value("NS_GET_PARENT of the first", ioctl(own, NS_GET_PARENT));
  uid_t owner = 77;
  value("NS_GET_OWNER_UID", ioctl(own, NS_GET_OWNER_UID, &owner));
  value("owner", owner);
  value("another request", ioctl(own, 0xb7ff));
  apart([own] {
    // As an owner that is not root: it comes in all the same.
    int ends[2];
    if (pipe(ends) != 0) _exit(99);
    Waiting child(
        [] {
          if (setresuid(0, 0, 0) != 0) _exit(98);
        },
        CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWCGROUP);
    child.map(kUsers, kUsers);
    const int inner = open(child.file("ns/user").c_str(), O_RDONLY | O_CLOEXEC);
    const int names = open(child.file("ns/uts").c_str(), O_RDONLY | O_CLOEXEC);
    const int cgroups = open(child.file("ns/cgroup").c_str(), O_RDONLY | O_CLOEXEC);
    uid_t maker = 77;
    value("owner of another", ioctl(inner, NS_GET_OWNER_UID, &maker) == 0 ? maker : -1);
    value("owner of what is none", ioctl(names, NS_GET_OWNER_UID, &maker));
    value("parent of what has none", ioctl(names, NS_GET_PARENT));
    struct stat a, b;
    const auto same = [&](int x, int y) {
      return fstat(x, &a) == 0 && fstat(y, &b) == 0 && a.st_ino == b.st_ino;
    };
    truth("its parent", same(ioctl(inner, NS_GET_PARENT), own));
    truth("where it lies", same(ioctl(inner, NS_GET_USERNS), own));
    truth("whose the names are", same(ioctl(names, NS_GET_USERNS), inner));
    truth("whose the cgroups are", same(ioctl(cgroups, NS_GET_USERNS), inner));
    apart([&] {
      value("a wrong kind", setns(inner, CLONE_NEWUTS));
      value("entered", setns(inner, CLONE_NEWUSER));
      line("ids", ids());
      truth("all capabilities", status_of("self", "CapEff") == status_of("self", "CapBnd"));
      value("again", setns(inner, CLONE_NEWUSER));
      value("back", setns(own, CLONE_NEWUSER));
      value("where its names are", setns(names, CLONE_NEWUTS));
      value("sethostname", sethostname("y", 1));
      value("its cgroups", setns(cgroups, CLONE_NEWCGROUP));
      value("parent from inside", ioctl(inner, NS_GET_PARENT));
    });
    apart([&] {
      const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, child.pid, 0));
      value("by pidfd", setns(pidfd, CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWCGROUP));
      value("setuid", setuid(0));
      line("ids by pidfd", ids());
    });
    apart([&] {
      if (!become(kCook)) _exit(97);
      value("by another", setns(inner, CLONE_NEWUSER));
    });
    apart([&] {
      const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
      value("nothing by pidfd", setns(pidfd, 0));
      value("the network by pidfd", setns(pidfd, CLONE_NEWNET));
    });
    child.go();
  });
  close(own);
  begin("cgroup namespaces");
  apart([] {
    char before[64] = {};
    char after[64] = {};
    if (readlink("/proc/self/ns/cgroup", before, 63) < 0) _exit(99);
    const int old = open("/proc/self/ns/cgroup", O_RDONLY);
    value("unshare", unshare(CLONE_NEWCGROUP));
    if (readlink("/proc/self/ns/cgroup", after, 63) < 0) _exit(98);
    truth("another", std::strcmp(before, after) != 0);
    const std::string text = text_of("/proc/self/cgroup");
    bool roots = !text.empty();
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      roots = roots && text.substr(at, end - at).ends_with(":/");
      at = end + 1;
    }
    truth("at its root", roots);
    value("back", setns(old, CLONE_NEWCGROUP));
    if (readlink("/proc/self/ns/cgroup", after, 63) < 0) _exit(97);
    truth("the same", std::strcmp(before, after) == 0);
  });
}

std::string receive_ids(int socket) {
  char byte = 0;
  iovec vector{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  if (recvmsg(socket, &header, 0) != 1) return result_of(-1);
  const cmsghdr* one = CMSG_FIRSTHDR(&header);
  if (one == nullptr) return "none";
  ucred got;
  std::memcpy(&got, CMSG_DATA(one), sizeof got);
  return std::to_string(got.uid) + " " + std::to_string(got.gid);
}

long send_ids(int socket, uid_t uid, gid_t gid) {
  char byte = 1;
  iovec vector{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))] = {};
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* one = CMSG_FIRSTHDR(&header);
  one->cmsg_level = SOL_SOCKET;
  one->cmsg_type = SCM_CREDENTIALS;
  one->cmsg_len = CMSG_LEN(sizeof(ucred));
  const ucred own{getpid(), uid, gid};
  std::memcpy(CMSG_DATA(one), &own, sizeof own);
  return sendmsg(socket, &header, 0);
}

void messages() {
  begin("who sends from a user namespace");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) != 0) return;
  const int on = 1;
  for (const int end : ends) setsockopt(end, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  const key_t key = 0x5a17;
  const int queue = msgget(key, IPC_CREAT | 0600);
  siginfo_t info{};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGCHLD);
  sigset_t old;
  sigprocmask(SIG_BLOCK, &set, &old);
  const pid_t outside = getpid();
  Waiting child([&] {
    if (setresuid(0, 0, 0) != 0 || setresgid(0, 0, 0) != 0) _exit(98);
    value("its own ids", send_ids(ends[1], 0, 0));
    value("another's ids", send_ids(ends[1], 1, 2));
    value("nobody's ids", send_ids(ends[1], 500, 0));
    line("from outside", receive_ids(ends[1]));
    ucred peer;
    socklen_t length = sizeof peer;
    getsockopt(ends[1], SOL_SOCKET, SO_PEERCRED, &peer, &length);
    line("its peer", std::to_string(peer.uid) + " " + std::to_string(peer.gid));
    msqid_ds about;
    value("IPC_STAT of root's", msgctl(queue, IPC_STAT, &about));
    value("IPC_RMID of root's", msgctl(queue, IPC_RMID, nullptr));
    value("kill", kill(outside, SIGUSR1));
    int ready[2];
    if (pipe(ready) != 0) _exit(96);
    const pid_t sibling = fork();
    if (sibling == 0) {
      if (setuid(1) != 0 || write(ready[1], "x", 1) != 1) _exit(1);
      for (;;) pause();
    }
    char byte = 0;
    if (read(ready[0], &byte, 1) != 1) _exit(95);
    close(ready[0]);
    close(ready[1]);
    value("kill another's", kill(sibling, SIGKILL));
    siginfo_t ended{};
    waitid(P_PID, static_cast<id_t>(sibling), &ended, WEXITED);
    value("waitid's uid", ended.si_uid);
    if (unshare(CLONE_NEWIPC) != 0) _exit(97);
    const int inner = msgget(IPC_PRIVATE, 0600);
    value("IPC_STAT", msgctl(inner, IPC_STAT, &about));
    line("its owner",
         std::to_string(about.msg_perm.uid) + " " + std::to_string(about.msg_perm.cuid));
    about.msg_perm.uid = 3;
    value("IPC_SET", msgctl(inner, IPC_SET, &about));
    about.msg_perm.uid = 500;
    value("IPC_SET to nobody's", msgctl(inner, IPC_SET, &about));
    value("IPC_STAT again", msgctl(inner, IPC_STAT, &about));
    line("its owner now", std::to_string(about.msg_perm.uid));
  });
  child.map(kUsers, kUsers);
  value("to it", send_ids(ends[0], 0, 0));
  child.go();
  line("its root", receive_ids(ends[0]));
  line("another", receive_ids(ends[0]));
  const timespec none{};
  msgctl(queue, IPC_RMID, nullptr);
  while (sigtimedwait(&set, &info, &none) > 0) {
  }
  const pid_t other = fork();
  if (other == 0) _exit(setuid(kCook) == 0 ? 5 : 6);
  siginfo_t waited{};
  waitid(P_PID, static_cast<id_t>(other), &waited, WEXITED);
  value("waitid's uid", waited.si_uid);
  value("SIGCHLD's", sigtimedwait(&set, &info, &none) == SIGCHLD ? info.si_uid : -1);
  sigprocmask(SIG_SETMASK, &old, nullptr);
  for (const int end : ends) close(end);
}

void mounting() {
  begin("mounts of a user namespace");
  apart([] {
    if (unshare(CLONE_NEWNS) != 0 || mount("x", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      _exit(99);
    for (const char* name : {"outer", "at", "there"})
      if (mkdir(name, 0777) != 0 || chmod(name, 0777) != 0) _exit(98);
    close(open("outer/covered", O_CREAT | O_WRONLY, 0666));
    if (mount("x", "outer", "tmpfs", MS_RDONLY | MS_NOSUID, nullptr) != 0) _exit(97);
    Waiting child(
        [] {
          if (setresuid(0, 0, 0) != 0 || setresgid(0, 0, 0) != 0) _exit(98);
          value("umount what it inherits", umount2("outer", MNT_DETACH));
          value("remount it", mount("x", "outer", nullptr, MS_REMOUNT | MS_BIND, nullptr));
          value("remount it writable",
                mount("x", "outer", nullptr, MS_REMOUNT | MS_BIND | MS_NOSUID, nullptr));
          value("remount its file system",
                mount("x", "outer", nullptr, MS_REMOUNT | MS_NOSUID | MS_RDONLY, nullptr));
          value("remount it stricter",
                mount("x", "outer", nullptr,
                      MS_REMOUNT | MS_BIND | MS_NOSUID | MS_RDONLY | MS_NODEV, nullptr));
          value("tmpfs", mount("x", "at", "tmpfs", 0, "mode=755"));
          line("its root", owner_of("at"));
          value("a file there", close(open("at/file", O_CREAT | O_WRONLY, 0600)));
          value("mknod there", mknod("at/device", S_IFCHR | 0600, 0x103));
          value("its size", mount("x", "at", nullptr, MS_REMOUNT, "size=64k"));
          value("umount", umount("at"));
          value("tmpfs of another", mount("x", "at", "tmpfs", 0, "uid=1,gid=2"));
          line("its root then", owner_of("at"));
          value("umount again", umount("at"));
          value("tmpfs of nobody's", mount("x", "at", "tmpfs", 0, "uid=500"));
          value("sysfs", mount("x", "at", "sysfs", 0, nullptr));
          value("proc", mount("x", "at", "proc", 0, nullptr));
          value("mqueue", mount("x", "at", "mqueue", 0, nullptr));
          value("bind of a folder", mount("there", "at", nullptr, MS_BIND, nullptr));
          value("umount the bind", umount("at"));
          value("bind of what hides", mount(".", "at", nullptr, MS_BIND, nullptr));
          value("with all of it", mount(".", "at", nullptr, MS_BIND | MS_REC, nullptr));
          value("umount a part", umount("at/outer"));
          const int held = open("at", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
          value("umount all", umount2("at", MNT_DETACH));
          value("what was covered", openat(held, "outer/covered", O_RDONLY));
          if (unshare(CLONE_NEWNS) != 0) _exit(96);
          value("in a copy", openat(held, "outer/covered", O_RDONLY));
          close(held);
          const pid_t first =
              static_cast<pid_t>(syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0));
          if (first == 0) _exit(mount("x", "at", "proc", 0, nullptr) == 0 ? 3 : errno);
          int status = 0;
          waitpid(first, &status, 0);
          value("proc of its own", WEXITSTATUS(status));
        },
        CLONE_NEWUSER | CLONE_NEWNS);
    child.map(kUsers, kUsers);
    child.go();
    umount2("outer", MNT_DETACH);
    unlink("outer/covered");
    for (const char* name : {"outer", "at", "there"}) rmdir(name);
  });
}

void becoming_others() {
  begin("set-user-id programs");
  const int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  const int copy = open("program", O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
  struct stat about;
  if (own < 0 || copy < 0 || fstat(own, &about) != 0) return line("open", result_of(-1));
  while (sendfile(copy, own, nullptr, static_cast<size_t>(about.st_size)) > 0) {
  }
  close(own);
  close(copy);
  const std::string_view text = "#!/proc/self/exe --whose\n";
  const int script = open("script", O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
  if (write(script, text.data(), text.size()) != static_cast<ssize_t>(text.size())) return;
  close(script);
  for (const char* name : {"program", "script"})
    if (chown(name, kCook, kCook) != 0 || chmod(name, 06755) != 0) return;
  const auto execute = [](const char* what, int from, const char* name) {
    line(what, in_child([&] {
           if (!become(kSailor)) return 99;
           const char* const arguments[] = {name, "--whose", nullptr};
           syscall(SYS_execveat, from, name, arguments, environ, 0);
           return 97;
         }));
  };
  execute("a program", AT_FDCWD, "program");
  execute("a script", AT_FDCWD, "script");
  apart([&] {
    const int here = open(".", O_PATH | O_DIRECTORY);
    if (unshare(CLONE_NEWNS) != 0) _exit(98);
    execute("a program of this mount namespace", AT_FDCWD, "program");
    execute("a program of another", here, "program");
  });
  unlink("program");
  unlink("script");
}

void pivoting() {
  begin("pivot_root");
  apart([] {
    if (!become(kSailor)) _exit(99);
    value("by another", syscall(SYS_pivot_root, ".", "."));
  });
  apart([] {
    if (unshare(CLONE_NEWNS) != 0 || mount("x", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      _exit(99);
    if (mkdir("new", 0755) != 0 || mkdir("aside", 0755) != 0) _exit(98);
    close(open("aside/file", O_CREAT | O_WRONLY, 0600));
    value("no mount", syscall(SYS_pivot_root, "new", "new"));
    value("mount", mount("x", "new", "tmpfs", 0, nullptr));
    value("mkdir", mkdir("new/old", 0755));
    value("the old root aside", syscall(SYS_pivot_root, "new", "aside"));
    value("the root itself", syscall(SYS_pivot_root, "/", "/"));
    value("nothing", syscall(SYS_pivot_root, "none", "none"));
    value("a file", syscall(SYS_pivot_root, "new", "aside/file"));
    char place[4096];
    if (getcwd(place, sizeof place) == nullptr) _exit(97);
    value("done", syscall(SYS_pivot_root, "new", "new/old"));
    struct stat root;
    truth("the new root", stat("/old", &root) == 0 && stat("/proc", &root) != 0);
    truth("the old one below", stat(("/old" + std::string(place) + "/aside").c_str(), &root) == 0);
    char now[4096];
    if (getcwd(now, sizeof now) == nullptr) _exit(96);
    truth("where it stands", now == "/old" + std::string(place));
    value("busy", umount("/old"));
    value("chdir", chdir("/"));
    value("the old one away", umount2("/old", MNT_DETACH));
    truth("nothing left", stat("/old/proc", &root) != 0 && errno == ENOENT);
    value("mkdir in it", mkdir("/again", 0755));
    value("a bind of itself", mount("/again", "/again", nullptr, MS_BIND, nullptr));
    value("into it", chdir("/again"));
    value("onto itself", syscall(SYS_pivot_root, ".", "."));
    value("and away", umount2(".", MNT_DETACH));
    truth("an empty root", stat("/again", &root) != 0 && stat("/", &root) == 0);
  });
  apart([] {
    if (unshare(CLONE_NEWNS) != 0 || mount("x", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      _exit(99);
    value("a mount over the root", mount("x", "/", "tmpfs", 0, nullptr));
    if (chdir("/..") != 0 || chroot(".") != 0) _exit(98);
    if (mkdir("new", 0755) != 0 || mount("x", "new", "tmpfs", 0, nullptr) != 0) _exit(97);
    if (mkdir("new/old", 0755) != 0) _exit(96);
    value("from there", syscall(SYS_pivot_root, "new", "new/old"));
    struct stat root;
    truth("moved along", stat("/old", &root) == 0 && stat("/new", &root) != 0);
  });
  rmdir("new");
  unlink("aside/file");
  rmdir("aside");
}

}  // namespace

void users() {
  if (mkdir("users", 0777) != 0 || chmod("users", 0777) != 0 || chdir("users") != 0)
    return line("mkdir", result_of(-1));
  unmapped();
  writing_maps();
  identities();
  capabilities();
  joining();
  messages();
  mounting();
  becoming_others();
  pivoting();
  if (chdir("..") != 0 || rmdir("users") != 0) line("rmdir", result_of(-1));
}

}  // namespace calls
