#include <fcntl.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <utime.h>

#include <cstring>
#include <string>

#include "calls.h"

namespace calls {
namespace {

long write_all(int fd, size_t bytes) {
  const std::string some(4096, 'x');
  size_t done = 0;
  while (done < bytes) {
    const ssize_t got = write(fd, some.data(), some.size());
    if (got < 0) break;
    done += static_cast<size_t>(got);
  }
  return static_cast<long>(done);
}

void show_room(const char* what) {
  struct statfs room{};
  statfs("limited", &room);
  line(what, std::to_string(room.f_bfree) + " of " + std::to_string(room.f_blocks) + " blocks, " +
                 std::to_string(room.f_ffree) + " of " + std::to_string(room.f_files) + " files");
}

int in_limits() {
  // Natively nobody else is to see the mount.
  if (unshare(CLONE_NEWNS) == 0) mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  mkdir("limited", 0755);
  value("bad size", mount("none", "limited", "tmpfs", 0, "size=x"));
  value("mount", mount("none", "limited", "tmpfs", 0, "size=64k,nr_inodes=5,mode=750"));
  struct stat s{};
  stat("limited", &s);
  value("mode", s.st_mode & 07777);
  show_room("empty");
  const int fd = open("limited/a", O_CREAT | O_RDWR, 0600);
  value("fill", write_all(fd, 1 << 20));
  value("more", write(fd, "x", 1));
  value("over what is there", pwrite(fd, "x", 1, 0));
  show_room("full");
  value("fallocate", fallocate(fd, 0, 65536, 4096));
  value("a hole", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192));
  show_room("with a hole");
  value("behind the end", pwrite(fd, "x", 1, 1 << 20));
  value("truncate", ftruncate(fd, 4096));
  show_room("truncated");
  long made = 0;
  while (made < 10 && open(("limited/" + std::to_string(made)).c_str(), O_CREAT, 0600) >= 0) ++made;
  value("files", made);
  value("one more", mkdir("limited/dir", 0755));
  value("a link to nothing", symlink("x", "limited/link"));
  value("another name", link("limited/a", "limited/b"));
  value("smaller", mount("none", "limited", nullptr, MS_REMOUNT, "nr_inodes=2"));
  value("larger", mount("none", "limited", nullptr, MS_REMOUNT, "nr_inodes=6,size=128k"));
  value("one more", mkdir("limited/dir", 0755));
  show_room("larger");
  unlink("limited/a");
  unlink("limited/b");
  value("fill what is open", write_all(fd, 1 << 20));
  close(fd);
  show_room("gone");
  return umount2("limited", MNT_DETACH);
}

std::string of_program(unsigned uid) {
  return in_child([uid] {
    if (uid != 0 && setuid(uid) != 0) return 99;
    char name[] = "./capable";
    char ask[] = "--capabilities";
    char* const words[] = {name, ask, nullptr};
    execv(name, words);
    return errno;
  });
}

/// struct vfs_cap_data, version 2.
struct FileCapabilities {
  uint32_t magic, permitted, inheritable, permitted_high, inheritable_high;
};

void of_files() {
  begin("capabilities of files");
  const int from = open("/proc/self/exe", O_RDONLY);
  const int to = open("capable", O_CREAT | O_TRUNC | O_WRONLY, 0755);
  char bytes[65536];
  for (ssize_t got = 0; (got = read(from, bytes, sizeof bytes)) > 0;)
    if (write(to, bytes, static_cast<size_t>(got)) != got) _exit(9);
  close(from);
  close(to);
  chmod("capable", 0755);
  const char* const name = "security.capability";
  line("none", of_program(1000));
  constexpr uint32_t kNetBind = 1 << 10;
  FileCapabilities wanted{0x02000001, kNetBind, 0, 0, 0};
  value("set", setxattr("capable", name, &wanted, sizeof wanted, 0));
  FileCapabilities kept{};
  value("get", getxattr("capable", name, &kept, sizeof kept));
  truth("as set", std::memcmp(&kept, &wanted, sizeof kept) == 0);
  line("of nobody", of_program(1000));
  wanted.magic = 0x02000000;
  setxattr("capable", name, &wanted, sizeof wanted, 0);
  line("not at once", of_program(1000));
  line("set as nobody", in_child([&] {
         if (setuid(1000) != 0) return 99;
         return setxattr("capable", name, &wanted, sizeof wanted, 0) == -1 ? errno : 0;
       }));
  value("removed", removexattr("capable", name));
  line("none again", of_program(1000));
  unlink("capable");
}

void old_times() {
  begin("utimes");
  close(open("timed", O_CREAT | O_WRONLY, 0644));
  struct stat s{};
  const timeval times[2] = {{100, 5}, {200, 6}};
  value("utimes", syscall(SYS_utimes, "timed", times));
  stat("timed", &s);
  truth("are so", s.st_atim.tv_sec == 100 && s.st_mtim.tv_sec == 200 && s.st_mtim.tv_nsec == 6000);
  const timeval wrong[2] = {{100, 5}, {200, 1'000'000}};
  value("too many microseconds", syscall(SYS_utimes, "timed", wrong));
  const utimbuf seconds{300, 400};
  value("utime", syscall(SYS_utime, "timed", &seconds));
  stat("timed", &s);
  truth("is so", s.st_atim.tv_sec == 300 && s.st_mtim.tv_sec == 400);
  value("of nothing", syscall(SYS_utime, "nothing", &seconds));
  value("bad memory", syscall(SYS_utime, "timed", 8));
  value("futimesat", syscall(SYS_futimesat, AT_FDCWD, "timed", times));
  const int fd = open("timed", O_RDONLY);
  value("of a descriptor", syscall(SYS_futimesat, fd, nullptr, times));
  value("now", syscall(SYS_utime, "timed", nullptr));
  begin("fchmodat2");
  constexpr long kFchmodat2 = 452;
  value("mode", syscall(kFchmodat2, AT_FDCWD, "timed", 0600, 0));
  value("of a descriptor", syscall(kFchmodat2, fd, "", 0640, AT_EMPTY_PATH));
  stat("timed", &s);
  value("is", s.st_mode & 0777);
  value("unknown flags", syscall(kFchmodat2, AT_FDCWD, "timed", 0600, 1));
  begin("syncs");
  value("syncfs", syncfs(fd));
  value("syncfs of nothing", syncfs(999));
  value("range", sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
  value("unknown flags", sync_file_range(fd, 0, 0, 8));
  value("before the start", sync_file_range(fd, -1, 0, 0));
  int ends[2];
  if (pipe(ends) != 0) _exit(9);
  value("of a pipe", sync_file_range(ends[0], 0, 0, 0));
  value("readahead", readahead(fd, 0, 100));
  value("readahead of a pipe", readahead(ends[0], 0, 100));
  value("readahead of what cannot be read", readahead(ends[1], 0, 100));
  close(fd);
  close(ends[0]);
  close(ends[1]);
}

void locked_memory() {
  begin("mlock");
  void* at = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  value("on fault", mlock2(at, 8192, MLOCK_ONFAULT));
  value("unknown flags", mlock2(at, 8192, 8));
  value("all", mlockall(MCL_CURRENT));
  value("all of nothing", mlockall(0));
  value("all, unknown", mlockall(64));
  value("on fault alone", mlockall(MCL_ONFAULT));
  value("none", munlockall());
  munmap(at, 8192);
  value("not mapped", mlock2(at, 8192, 0));
}

long compare(int type, long a, long b) { return syscall(SYS_kcmp, getpid(), getpid(), type, a, b); }

void comparisons() {
  begin("kcmp");
  int ends[2];
  if (pipe(ends) != 0) _exit(9);
  const int same = dup(ends[0]);
  value("the same file", compare(0, ends[0], same));
  truth("others", compare(0, ends[0], ends[1]) > 0);
  value("bad descriptor", compare(0, ends[0], 999));
  value("own memory", compare(1, 0, 0));
  value("unknown", compare(99, 0, 0));
  value("of nobody", syscall(SYS_kcmp, getpid(), 999999, 1, 0, 0));
  line("of another",
       in_child([] { return syscall(SYS_kcmp, getpid(), getppid(), 1, 0, 0) > 0 ? 1 : 0; }));
  for (const int fd : {ends[0], ends[1], same}) close(fd);
}

}  // namespace

int effective_capabilities() {
  struct {
    uint32_t version;
    int pid;
  } header{0x20080522, 0};
  uint32_t data[6] = {};
  syscall(SYS_capget, &header, data);
  return static_cast<int>((data[0] >> 10 & 1) | (data[1] >> 10 & 1) << 1 |
                          (getauxval(AT_SECURE) != 0 ? 4 : 0));
}

void tmpfs_limits() {
  begin("limits of tmpfs");
  line("end", in_child(in_limits));
  of_files();
  old_times();
  locked_memory();
  comparisons();
}

}  // namespace calls
