#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstring>
#include <string>

#include "calls.h"

namespace calls {
namespace {

long open_how(int dir, const char* path, uint64_t flags, uint64_t resolve, uint64_t mode = 0,
              size_t size = sizeof(struct open_how)) {
  struct {
    struct open_how how;
    uint64_t more = 0;
  } request{};
  request.how.flags = flags;
  request.how.resolve = resolve;
  request.how.mode = mode;
  return syscall(SYS_openat2, dir, path, &request, size);
}
/// Opened, or why not.
void opens(const char* what, int dir, const char* path, uint64_t resolve,
           uint64_t flags = O_RDONLY) {
  const long fd = open_how(dir, path, flags, resolve);
  line(what, fd == -1 ? result_of(-1) : "opens");
  if (fd >= 0) close(static_cast<int>(fd));
}

void resolving() {
  begin("openat2");
  mkdir("tree", 0755);
  mkdir("tree/inner", 0755);
  close(open("tree/file", O_CREAT | O_WRONLY, 0644));
  close(open("outside", O_CREAT | O_WRONLY, 0644));
  symlink("file", "tree/link");
  symlink("../outside", "tree/out");
  symlink("/file", "tree/absolute");
  symlink("inner/../file", "tree/around");
  symlink("/proc/self/cwd", "tree/magic");
  const int dir = open("tree", O_RDONLY | O_DIRECTORY);
  opens("plain", dir, "file", 0);
  opens("through a link", dir, "link", 0);
  opens("out", dir, "out", 0);
  value("too small", open_how(dir, "file", 0, 0, 0, 8));
  line("larger",
       open_how(dir, "file", 0, 0, 0, sizeof(struct open_how) + 8) >= 0 ? "opens" : result_of(-1));
  value("too large", open_how(dir, "file", 0, 0, 0, 5000));
  value("unknown flags", open_how(dir, "file", 1ULL << 40, 0));
  value("unknown ways", open_how(dir, "file", 0, 1 << 20));
  value("a mode for nothing", open_how(dir, "file", 0, 0, 0644));
  value("a wild mode", open_how(dir, "new", O_CREAT | O_WRONLY, 0, 0100000));
  value("two ways", open_how(dir, "file", 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT));
  value("path and more", open_how(dir, "file", O_PATH | O_RDWR, 0));
  opens("beneath", dir, "inner/../file", RESOLVE_BENEATH);
  opens("beneath, through a link", dir, "link", RESOLVE_BENEATH);
  opens("beneath, around", dir, "around", RESOLVE_BENEATH);
  opens("beneath, up", dir, "../outside", RESOLVE_BENEATH);
  opens("beneath, out", dir, "out", RESOLVE_BENEATH);
  opens("beneath, absolute", dir, "/file", RESOLVE_BENEATH);
  opens("beneath, an absolute link", dir, "absolute", RESOLVE_BENEATH);
  opens("beneath, by magic", dir, "magic/outside", RESOLVE_BENEATH);
  opens("in root, up", dir, "../../file", RESOLVE_IN_ROOT);
  opens("in root, out", dir, "out", RESOLVE_IN_ROOT);
  opens("in root, absolute", dir, "/file", RESOLVE_IN_ROOT);
  opens("in root, an absolute link", dir, "absolute", RESOLVE_IN_ROOT);
  opens("no links", dir, "file", RESOLVE_NO_SYMLINKS);
  opens("no links, one", dir, "link", RESOLVE_NO_SYMLINKS);
  opens("no links, kept", dir, "link", RESOLVE_NO_SYMLINKS, O_PATH | O_NOFOLLOW);
  opens("no links, created", dir, "link", RESOLVE_NO_SYMLINKS, O_WRONLY);
  opens("no magic", dir, "link", RESOLVE_NO_MAGICLINKS);
  opens("no magic, magic", AT_FDCWD, "/proc/self/cwd/outside", RESOLVE_NO_MAGICLINKS);
  opens("one mount", dir, "inner/../../outside", RESOLVE_NO_XDEV);
  opens("another mount", AT_FDCWD, "/proc/self/stat", RESOLVE_NO_XDEV);
  opens("a file as the root", open("tree/file", O_RDONLY), "x", RESOLVE_BENEATH);
  const long made = open_how(dir, "new", O_CREAT | O_WRONLY, RESOLVE_BENEATH, 0640);
  truth("created", made >= 0);
  opens("created out of it", dir, "../new", RESOLVE_BENEATH, O_CREAT | O_WRONLY);
  close(static_cast<int>(made));
  close(dir);
}

void unnamed() {
  begin("O_TMPFILE");
  value("read-only", open(".", O_TMPFILE | O_RDONLY, 0600));
  value("in a file", open("outside", O_TMPFILE | O_RDWR, 0600));
  value("in nothing", open("nowhere", O_TMPFILE | O_RDWR, 0600));
  const int fd = open(".", O_TMPFILE | O_RDWR, 0640);
  truth("opens", fd >= 0);
  struct stat s{};
  fstat(fd, &s);
  value("names", static_cast<long>(s.st_nlink));
  value("mode", s.st_mode & 0777);
  value("write", write(fd, "unnamed", 7));
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  value("named", linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
  fstat(fd, &s);
  value("names then", static_cast<long>(s.st_nlink));
  const int again = open("named", O_RDONLY);
  char bytes[16] = {};
  value("read", read(again, bytes, sizeof bytes));
  line("is", bytes);
  value("named again", linkat(fd, "", AT_FDCWD, "named too", AT_EMPTY_PATH));
  const int never = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
  value("never to be named", linkat(never, "", AT_FDCWD, "never", AT_EMPTY_PATH));
  unlink("named");
  unlink("named too");
  fstat(fd, &s);
  value("names at last", static_cast<long>(s.st_nlink));
  value("after its last", linkat(fd, "", AT_FDCWD, "late", AT_EMPTY_PATH));
  line("where nothing may be made", in_child([] {
         mkdir("closed", 0555);
         if (setuid(1000) != 0) return 99;
         return open("closed", O_TMPFILE | O_RDWR, 0600) == -1 ? errno : 0;
       }));
  close(fd);
  close(again);
  close(never);
}

long map(int fd, int protection, int flags) {
  void* at = mmap(nullptr, 4096, protection, flags, fd, 0);
  if (at == MAP_FAILED) return -1;
  munmap(at, 4096);
  return 0;
}

void seals() {
  begin("seals");
  const int plain = memfd_create("plain", 0);
  value("of one without", fcntl(plain, F_GET_SEALS));
  value("added to it", fcntl(plain, F_ADD_SEALS, F_SEAL_GROW));
  const int file = open("outside", O_RDWR);
  value("of a file", fcntl(file, F_GET_SEALS));
  value("added to a file", fcntl(file, F_ADD_SEALS, F_SEAL_GROW));
  const int fd = memfd_create("sealed", MFD_ALLOW_SEALING);
  value("none", fcntl(fd, F_GET_SEALS));
  value("unknown", fcntl(fd, F_ADD_SEALS, 1 << 20));
  value("size", ftruncate(fd, 8192));
  value("grow", fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
  value("larger", ftruncate(fd, 12288));
  value("smaller", ftruncate(fd, 4096));
  char bytes[8192] = {};
  value("write in it", pwrite(fd, bytes, 100, 0));
  value("write behind it", pwrite(fd, bytes, 100, 4096));
  value("write over its end", pwrite(fd, bytes, 100, 4090));
  value("allocated behind it", fallocate(fd, 0, 0, 8192));
  value("allocated in it", fallocate(fd, 0, 0, 4096));
  value("shrink", fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
  value("smaller", ftruncate(fd, 100));
  value("as it is", ftruncate(fd, 4096));
  void* at = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  value("write, mapped", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
  line("write, mapped by a child", in_child([&] {
         const pid_t child = fork();
         if (child == 0) {
           pause();
           _exit(0);
         }
         munmap(at, 4096);
         const int why = fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 ? errno : 0;
         kill(child, SIGKILL);
         waitpid(child, nullptr, 0);
         return why;
       }));
  munmap(at, 4096);
  at = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  value("write, mapped to be read", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
  munmap(at, 4096);
  at = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  std::memcpy(at, "before", 6);
  value("future writes", fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
  std::memcpy(at, "during", 6);
  munmap(at, 4096);
  value("pwrite", pwrite(fd, bytes, 1, 0));
  value("map to write", map(fd, PROT_READ | PROT_WRITE, MAP_SHARED));
  value("map to read", map(fd, PROT_READ, MAP_SHARED));
  value("map a copy", map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE));
  at = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  value("to be written after all", mprotect(at, 4096, PROT_READ | PROT_WRITE));
  line("is", std::string(static_cast<char*>(at), 6));
  value("write", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
  value("a hole", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
  value("all", fcntl(fd, F_GET_SEALS));
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const int reader = open(path, O_RDONLY);
  truth("opened again", reader >= 0);
  value("through what cannot write", fcntl(reader, F_ADD_SEALS, F_SEAL_SEAL));
  value("seal", fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
  value("no more", fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
  value("all then", fcntl(reader, F_GET_SEALS));
  munmap(at, 4096);
  constexpr unsigned kNoExec = 8;
  const int data = memfd_create("data", kNoExec);
  struct stat s{};
  fstat(data, &s);
  value("mode of data", s.st_mode & 0777);
  value("seals of data", fcntl(data, F_GET_SEALS));
  value("to be executed", fchmod(data, 0777));
  value("both ways", memfd_create("x", kNoExec | 16));
  for (const int one : {plain, file, fd, reader, data}) close(one);
}

}  // namespace

void opening_ways() {
  resolving();
  unnamed();
  seals();
}

}  // namespace calls
