// The bare kernel work of running /bin/true from the specification that `runc spec` writes: the
// same namespaces, cgroups, device rules, mounts, nodes, masks, limits and capabilities, and
// nothing that is a runtime's own: no JSON, no command line, no state, no way to report an error
// but to stop. What it takes is what no runtime can do without. cgroup v1 (the folders below
// /sys/fs/cgroup), as root.
//
//   floor run ROOTFS NAME COMMAND...   a container in the cgroup /bench/NAME
//   floor hold ROOTFS NAME COMMAND...  the same, not waited for: prints the pid, for exec
//   floor exec PID NAME COMMAND...     one more process in it: cgroup joins, setns by pidfd, fork
//                                      and execve
//   floor gone NAME                    removes the cgroups that hold left
//
// bench/run.py compares what the program inside sees with what it sees under the runtimes.

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace {

constexpr const char* kCgroups = "/sys/fs/cgroup";
constexpr int kMaxHierarchies = 16;
constexpr unsigned long kQuiet = MS_NOSUID | MS_NOEXEC | MS_NODEV;

void check(bool good, const char* what) {
  if (good) return;
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  _exit(127);
}

void write_text(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  check(fd >= 0, path);
  check(write(fd, text, strlen(text)) >= 0, path);
  close(fd);
}

struct Hierarchies {
  int count = 0;
  char names[kMaxHierarchies][32] = {};
};

Hierarchies find_hierarchies() {
  Hierarchies out;
  DIR* dir = opendir(kCgroups);
  check(dir != nullptr, kCgroups);
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_type != DT_DIR || entry->d_name[0] == '.' || out.count == kMaxHierarchies)
      continue;
    char path[300];
    snprintf(path, sizeof path, "%s/%s", kCgroups, entry->d_name);
    struct statfs info{};
    if (statfs(path, &info) != 0 || info.f_type != CGROUP_SUPER_MAGIC) continue;
    snprintf(out.names[out.count++], sizeof out.names[0], "%.31s", entry->d_name);
  }
  closedir(dir);
  return out;
}

void cgroup_path(char (&out)[256], const char* hierarchy, const char* name, const char* file) {
  snprintf(out, sizeof out, "%s/%s/bench/%s%s%s", kCgroups, hierarchy, name, *file != 0 ? "/" : "",
           file);
}

void copy_cpuset(const char* name, const char* file) {
  char path[256];
  char text[128] = {};
  snprintf(path, sizeof path, "%s/cpuset/bench/%s", kCgroups, file);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  check(fd >= 0 && read(fd, text, sizeof text - 1) >= 0, path);
  close(fd);
  cgroup_path(path, "cpuset", name, file);
  write_text(path, text);
}

void limit_devices(const char* name) {
  char path[256];
  cgroup_path(path, "devices", name, "devices.deny");
  write_text(path, "a");
  cgroup_path(path, "devices", name, "devices.allow");
  for (const char* rule : {"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                           "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"}) {
    write_text(path, rule);
  }
}

void make_cgroups(const Hierarchies& all, const char* name) {
  char path[256];
  for (int i = 0; i < all.count; ++i) {
    cgroup_path(path, all.names[i], name, "");
    check(mkdir(path, 0755) == 0, path);
    if (strcmp(all.names[i], "cpuset") == 0) {
      copy_cpuset(name, "cpuset.cpus");
      copy_cpuset(name, "cpuset.mems");
    }
  }
  limit_devices(name);
}

void join_cgroups(const Hierarchies& all, const char* name, pid_t pid) {
  char path[256];
  char text[16];
  snprintf(text, sizeof text, "%d", pid);
  for (int i = 0; i < all.count; ++i) {
    cgroup_path(path, all.names[i], name, "cgroup.procs");
    write_text(path, text);
  }
}

void remove_cgroups(const Hierarchies& all, const char* name) {
  char path[256];
  for (int i = 0; i < all.count; ++i) {
    cgroup_path(path, all.names[i], name, "");
    while (rmdir(path) != 0 && errno == EBUSY) usleep(100);
  }
}

void mount_at(const char* type, const char* target, unsigned long flags, const char* data) {
  check(mount(type, target, type, flags, data) == 0, target);
}

void bind_read_only(const char* path) {
  if (mount(path, path, nullptr, MS_BIND | MS_REC, nullptr) != 0 && errno == ENOENT) return;
  check(mount(nullptr, path, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0, path);
}

void mount_cgroups(const Hierarchies& all, const char* name) {
  mount_at("tmpfs", "sys/fs/cgroup", kQuiet, "mode=755");
  for (int i = 0; i < all.count; ++i) {
    char source[256];
    char target[64];
    cgroup_path(source, all.names[i], name, "");
    snprintf(target, sizeof target, "sys/fs/cgroup/%s", all.names[i]);
    check(mkdir(target, 0755) == 0, target);
    check(mount(source, target, nullptr, MS_BIND, nullptr) == 0, target);
    check(mount(nullptr, target, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kQuiet | MS_RELATIME,
                nullptr) == 0,
          target);
  }
  check(mount(nullptr, "sys/fs/cgroup", nullptr,
              MS_REMOUNT | MS_BIND | MS_RDONLY | kQuiet | MS_RELATIME, nullptr) == 0,
        "sys/fs/cgroup");
}

void make_dev() {
  struct Node {
    const char* path;
    unsigned major, minor;
  };
  umask(0);
  for (const Node& node : {Node{"dev/null", 1, 3},
                           {"dev/zero", 1, 5},
                           {"dev/full", 1, 7},
                           {"dev/random", 1, 8},
                           {"dev/urandom", 1, 9},
                           {"dev/tty", 5, 0}}) {
    check(mknod(node.path, S_IFCHR | 0666, makedev(node.major, node.minor)) == 0, node.path);
  }
  struct Link {
    const char *path, *text;
  };
  for (const Link& link : {Link{"dev/ptmx", "pts/ptmx"},
                           {"dev/fd", "/proc/self/fd"},
                           {"dev/core", "/proc/kcore"},
                           {"dev/stdin", "/proc/self/fd/0"},
                           {"dev/stdout", "/proc/self/fd/1"},
                           {"dev/stderr", "/proc/self/fd/2"}}) {
    check(symlink(link.text, link.path) == 0, link.path);
  }
}

void mask() {
  for (const char* path :
       {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}) {
    bind_read_only(path);
  }
  for (const char* path : {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                           "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                           "/proc/sched_debug", "/sys/firmware", "/proc/scsi"}) {
    struct stat info{};
    if (stat(path, &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) {
      mount_at("tmpfs", path, MS_RDONLY, "nr_blocks=1,nr_inodes=1");
    } else {
      check(mount("/dev/null", path, nullptr, MS_BIND, nullptr) == 0, path);
    }
  }
}

void loopback_up() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  check(fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0, "loopback");
  close(fd);
}

void set_capabilities() {
  constexpr unsigned kKept = 1U << CAP_AUDIT_WRITE | 1U << CAP_KILL | 1U << CAP_NET_BIND_SERVICE;
  for (int cap = 0; cap <= CAP_LAST_CAP; ++cap) {
    if (cap < 32 && (kKept >> cap & 1U) != 0) continue;
    check(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0, "PR_CAPBSET_DROP");
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {{kKept, kKept, 0}, {0, 0, 0}};
  check(syscall(SYS_capset, &header, data) == 0, "capset");
}

[[noreturn]] void run_program(char** command) {
  char* env[] = {
      const_cast<char*>("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
      const_cast<char*>("TERM=xterm"), const_cast<char*>("HOME=/"), nullptr};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  execve(command[0], command, env);
  check(false, command[0]);
  _exit(127);
}

[[noreturn]] void live(const Hierarchies& all, const char* root, const char* name, int gate,
                       char** command) {
  char byte = 0;
  check(read(gate, &byte, 1) == 1, "gate");
  check(unshare(CLONE_NEWCGROUP) == 0, "cgroup namespace");
  loopback_up();
  check(mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr) == 0, "/");
  check(mount(root, root, nullptr, MS_BIND | MS_REC, nullptr) == 0 && chdir(root) == 0, root);
  mount_at("proc", "proc", 0, nullptr);
  mount_at("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
  for (const char* path : {"dev/pts", "dev/shm", "dev/mqueue"}) check(mkdir(path, 0755) == 0, path);
  mount_at("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
  check(mount("shm", "dev/shm", "tmpfs", kQuiet, "mode=1777,size=65536k") == 0, "dev/shm");
  mount_at("mqueue", "dev/mqueue", kQuiet, nullptr);
  mount_at("sysfs", "sys", kQuiet | MS_RDONLY, nullptr);
  mount_cgroups(all, name);
  make_dev();
  check(syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 && chdir("/") == 0,
        "pivot_root");
  check(sethostname("runc", 4) == 0, "sethostname");
  check(mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0, "/");
  mask();
  syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "_ses.floor");
  const rlimit files{1024, 1024};
  check(setrlimit(RLIMIT_NOFILE, &files) == 0, "RLIMIT_NOFILE");
  setsid();
  umask(022);
  set_capabilities();
  run_program(command);
}

pid_t start(const Hierarchies& all, const char* root, const char* name, char** command) {
  make_cgroups(all, name);
  int gate[2];
  check(pipe2(gate, O_CLOEXEC) == 0, "pipe");
  const long pid = syscall(
      SYS_clone, SIGCHLD | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC,
      0, 0, 0, 0);
  check(pid >= 0, "clone");
  if (pid == 0) {
    close(gate[1]);
    live(all, root, name, gate[0], command);
  }
  join_cgroups(all, name, static_cast<pid_t>(pid));
  check(write(gate[1], "x", 1) == 1, "gate");
  return static_cast<pid_t>(pid);
}

int wait_for(pid_t pid) {
  int status = 0;
  check(waitpid(pid, &status, 0) == pid, "waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int exec_in(pid_t target, const char* name, char** command) {
  const Hierarchies all = find_hierarchies();
  join_cgroups(all, name, getpid());
  const long pidfd = syscall(SYS_pidfd_open, target, 0);
  check(pidfd >= 0, "pidfd_open");
  check(setns(static_cast<int>(pidfd), CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS |
                                           CLONE_NEWIPC | CLONE_NEWCGROUP) == 0 &&
            chdir("/") == 0,
        "setns");
  const pid_t pid = fork();
  check(pid >= 0, "fork");
  if (pid != 0) return wait_for(pid);
  close(static_cast<int>(pidfd));
  syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "_ses.floor");
  const rlimit files{1024, 1024};
  check(setrlimit(RLIMIT_NOFILE, &files) == 0, "RLIMIT_NOFILE");
  setsid();
  set_capabilities();
  run_program(command);
}

bool is(const char* word, const char* name) { return strcmp(word, name) == 0; }

}  // namespace

int main(int argc, char** argv) {
  if (argc >= 5 && (is(argv[1], "run") || is(argv[1], "hold"))) {
    const Hierarchies all = find_hierarchies();
    const pid_t pid = start(all, argv[2], argv[3], argv + 4);
    if (is(argv[1], "hold")) return printf("%d\n", pid) > 0 ? 0 : 1;
    const int status = wait_for(pid);
    remove_cgroups(all, argv[3]);
    return status;
  }
  if (argc >= 5 && is(argv[1], "exec")) return exec_in(atoi(argv[2]), argv[3], argv + 4);
  if (argc == 3 && is(argv[1], "gone")) {
    remove_cgroups(find_hierarchies(), argv[2]);
    return 0;
  }
  fputs("usage: floor run|hold ROOTFS NAME COMMAND... | exec PID NAME COMMAND... | gone NAME\n",
        stderr);
  return 2;
}
