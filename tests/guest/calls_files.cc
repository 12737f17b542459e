#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "calls.h"

namespace calls {
namespace {

char buffer[8192];
void* const kBad = reinterpret_cast<void*>(8);
const char* const kBadPath = reinterpret_cast<const char*>(8);

int make(const char* name, const char* text = "") {
  const int fd = open(name, O_CREAT | O_TRUNC | O_RDWR, 0644);
  if (write(fd, text, std::strlen(text)) < 0) return -1;
  lseek(fd, 0, SEEK_SET);
  return fd;
}
std::string mode_of(const char* name) {
  struct stat s;
  if (lstat(name, &s) != 0) return result_of(-1);
  char text[32];
  std::snprintf(text, sizeof text, "%o", s.st_mode);
  return text;
}

void opening() {
  begin("open");
  value("missing", open("none", O_RDONLY));
  ok("create", close(open("a", O_CREAT | O_EXCL | O_WRONLY, 0640)));
  value("exclusive again", open("a", O_CREAT | O_EXCL | O_WRONLY, 0640));
  line("mode under umask 022", mode_of("a"));
  value("directory for writing", open(".", O_RDWR));
  value("directory with O_CREAT", open(".", O_CREAT | O_RDONLY, 0600));
  value("O_DIRECTORY on a file", open("a", O_DIRECTORY));
  value("below a file", open("a/b", O_RDONLY));
  value("trailing slash on a file", open("a/", O_RDONLY));
  value("trailing slash with O_CREAT", open("new/", O_CREAT | O_WRONLY, 0600));
  value("empty", open("", O_RDONLY));
  value("bad pointer", open(kBadPath, O_RDONLY));
  value("long name", open(std::string(300, 'x').c_str(), O_RDONLY));
  value("long path", open(std::string(5000, 'x').c_str(), O_RDONLY));
  ok("symlink", symlink("a", "l"));
  ok("through a link", close(open("l", O_RDONLY)));
  value("O_NOFOLLOW", open("l", O_RDONLY | O_NOFOLLOW));
  ok("link to itself", symlink("loop", "loop"));
  value("loop", open("loop", O_RDONLY));
  ok("dangling", symlink("target", "dangling"));
  value("O_EXCL on a dangling link", open("dangling", O_CREAT | O_EXCL | O_RDWR, 0600));
  ok("O_CREAT through a dangling link", close(open("dangling", O_CREAT | O_RDWR, 0600)));
  ok("target exists", access("target", F_OK));
  const int path = open("a", O_PATH);
  value("read of O_PATH", read(path, buffer, 1));
  value("fstat of O_PATH", fstat(path, reinterpret_cast<struct stat*>(buffer)));
  value("F_GETFL of O_PATH", fcntl(path, F_GETFL) & O_PATH);
  close(path);
  const int fd = open("a", O_WRONLY | O_APPEND);
  value("F_GETFL", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND));
  value("read of write-only", read(fd, buffer, 1));
  close(fd);
  const int read_only = open("a", O_RDONLY);
  value("write of read-only", write(read_only, "x", 1));
  close(read_only);
  value("openat with a bad directory", openat(999, "a", O_RDONLY));
  const int file = open("a", O_RDONLY);
  value("openat below a file", openat(file, "a", O_RDONLY));
  ok("openat absolute ignores it", close(openat(file, "/", O_RDONLY)));
  close(file);
  make("t", "text");
  close(open("t", O_WRONLY | O_TRUNC));
  struct stat s{};
  stat("t", &s);
  value("O_TRUNC leaves", s.st_size);
  ok("creat", close(creat("c", 0600)));
}

void reading() {
  begin("read");
  const int fd = make("r", "0123456789");
  value("all", read(fd, buffer, 100));
  value("at the end", read(fd, buffer, 100));
  value("bad descriptor", read(999, buffer, 1));
  lseek(fd, 0, SEEK_SET);
  value("bad pointer", read(fd, kBad, 4));
  value("nothing", read(fd, kBad, 0));
  value("position kept", lseek(fd, 0, SEEK_CUR));
  const int dir = open(".", O_RDONLY);
  value("directory", read(dir, buffer, 10));
  close(dir);
  begin("pread");
  value("middle", pread(fd, buffer, 3, 4));
  line("bytes", std::string(buffer, 3));
  value("behind the end", pread(fd, buffer, 3, 100));
  value("negative", pread(fd, buffer, 3, -1));
  value("position kept", lseek(fd, 0, SEEK_CUR));
  int ends[2];
  ok("pipe", pipe(ends));
  value("of a pipe", pread(ends[0], buffer, 1, 0));
  begin("write");
  value("bytes", pwrite(fd, "AB", 2, 1));
  value("bad pointer", write(fd, kBad, 4));
  value("bad descriptor", write(-1, "x", 1));
  value("hole", pwrite(fd, "Z", 1, 20));
  value("size", lseek(fd, 0, SEEK_END));
  pread(fd, buffer, 21, 0);
  truth("hole is zeros", buffer[15] == 0 && buffer[20] == 'Z' && buffer[1] == 'A');
  begin("readv");
  lseek(fd, 0, SEEK_SET);
  iovec two[2] = {{buffer, 3}, {buffer + 100, 4}};
  value("two", readv(fd, two, 2));
  value("none", readv(fd, two, 0));
  value("too many", readv(fd, two, 1025));
  value("negative", readv(fd, two, -1));
  two[1].iov_len = static_cast<size_t>(-1);
  value("a huge one", readv(fd, two, 2));
  begin("writev");
  iovec parts[3] = {{const_cast<char*>("a"), 1}, {kBad, 0}, {const_cast<char*>("bc"), 2}};
  value("parts", writev(fd, parts, 3));
  begin("lseek");
  value("SEEK_SET", lseek(fd, 5, SEEK_SET));
  value("SEEK_CUR", lseek(fd, -2, SEEK_CUR));
  value("before the start", lseek(fd, -20, SEEK_CUR));
  value("beyond the end", lseek(fd, 100, SEEK_END));
  value("bad whence", lseek(fd, 0, 9));
  value("pipe", lseek(ends[0], 0, SEEK_SET));
  value("SEEK_DATA behind the end", lseek(fd, 1000, SEEK_DATA));
  value("bad descriptor", lseek(999, 0, SEEK_SET));
  begin("ftruncate");
  value("shorter", ftruncate(fd, 3));
  value("size", lseek(fd, 0, SEEK_END));
  value("longer", ftruncate(fd, 300));
  value("size again", lseek(fd, 0, SEEK_END));
  value("negative", ftruncate(fd, -1));
  value("pipe", ftruncate(ends[1], 0));
  const int read_only = open("r", O_RDONLY);
  value("read-only", ftruncate(read_only, 0));
  begin("truncate");
  value("missing", truncate("none", 0));
  value("directory", truncate(".", 0));
  value("negative", truncate("r", -1));
  value("file", truncate("r", 7));
  begin("fsync");
  value("file", fsync(fd));
  value("pipe", fsync(ends[0]));
  value("bad descriptor", fsync(999));
  value("fdatasync", fdatasync(fd));
  begin("fallocate");
  value("grows", fallocate(fd, 0, 0, 5000));
  value("size", lseek(fd, 0, SEEK_END));
  value("no length", fallocate(fd, 0, 0, 0));
  value("read-only", fallocate(read_only, 0, 0, 10));
  begin("fadvise");
  value("file", posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
  value("bad advice", posix_fadvise(fd, 0, 0, 77));
  value("pipe", posix_fadvise(ends[0], 0, 0, 0));
  begin("append");
  const int append = open("r", O_WRONLY | O_APPEND);
  lseek(append, 0, SEEK_SET);
  value("goes to the end", write(append, "end", 3));
  value("and stays there", lseek(append, 0, SEEK_CUR));
  begin("sendfile");
  const int to = make("s");
  off_t from = 0;
  value("with an offset", sendfile(to, fd, &from, 4));
  value("offset", from);
  value("from a pipe", sendfile(to, ends[0], nullptr, 1));
  value("to read-only", sendfile(read_only, fd, nullptr, 1));
  line("to nobody", in_child([fd] {
         int broken[2];
         if (pipe(broken) != 0) return 99;
         close(broken[0]);
         off_t beginning = 0;
         return sendfile(broken[1], fd, &beginning, 4) == -1 ? errno : 0;
       }));
  begin("copy_file_range");
  loff_t in = 0;
  loff_t out = 10;
  value("bytes", copy_file_range(fd, &in, to, &out, 5, 0));
  value("in", in);
  value("out", out);
  value("flags", copy_file_range(fd, &in, to, &out, 5, 1));
  in = 0;
  out = 1;
  value("overlap", copy_file_range(fd, &in, fd, &out, 5, 0));
  for (int each : {fd, ends[0], ends[1], read_only, append, to}) close(each);
}

void descriptors() {
  begin("dup");
  const int fd = make("d", "xyz");
  const int copy = dup(fd);
  truth("lowest", copy > fd);
  lseek(copy, 2, SEEK_SET);
  value("shares the position", lseek(fd, 0, SEEK_CUR));
  value("bad", dup(999));
  begin("dup2");
  value("to a number", dup2(fd, 50));
  value("itself", dup2(fd, fd) - fd);
  value("bad source", dup2(999, 51));
  value("bad source itself", dup2(999, 999));
  value("bad target", dup2(fd, -1));
  value("huge target", dup2(fd, 1 << 28));
  begin("dup3");
  value("cloexec", dup3(fd, 52, O_CLOEXEC));
  value("has it", fcntl(52, F_GETFD));
  value("same", dup3(fd, fd, 0));
  value("bad flags", dup3(fd, 53, O_APPEND));
  begin("fcntl");
  value("F_DUPFD", fcntl(fd, F_DUPFD, 60));
  value("F_DUPFD_CLOEXEC", fcntl(fd, F_DUPFD_CLOEXEC, 60));
  value("its flag", fcntl(61, F_GETFD));
  value("F_DUPFD negative", fcntl(fd, F_DUPFD, -1));
  value("F_SETFD", fcntl(fd, F_SETFD, FD_CLOEXEC));
  value("F_GETFD", fcntl(fd, F_GETFD));
  value("F_SETFL", fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND));
  value("F_GETFL", fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND | O_ACCMODE));
  value("unknown", fcntl(fd, 9999));
  value("bad descriptor", fcntl(999, F_GETFD));
  begin("close_range");
  value("some", close_range(50, 70, 0));
  value("are gone", fcntl(52, F_GETFD));
  value("bad order", close_range(5, 4, 0));
  value("bad flags", close_range(100, 200, 1 << 10));
  begin("close");
  value("once", close(copy));
  value("twice", close(copy));
  begin("flock");
  value("exclusive", flock(fd, LOCK_EX | LOCK_NB));
  value("unlock", flock(fd, LOCK_UN));
  value("bad", flock(fd, 77));
  begin("ioctl");
  int count = 0;
  value("FIONREAD of nothing", ioctl(999, FIONREAD, &count));
  value("TCGETS of a file", ioctl(fd, TCGETS, buffer));
  int on = 1;
  value("FIONBIO", ioctl(fd, FIONBIO, &on));
  close(fd);
}

void pipes() {
  begin("pipe");
  int ends[2];
  value("bad pointer", pipe(static_cast<int*>(kBad)));
  value("bad flags", pipe2(ends, 1));
  value("made", pipe2(ends, O_NONBLOCK | O_CLOEXEC));
  value("cloexec", fcntl(ends[0], F_GETFD));
  value("empty", read(ends[0], buffer, 1));
  value("write", write(ends[1], "hello", 5));
  int count = 0;
  ioctl(ends[0], FIONREAD, &count);
  value("FIONREAD", count);
  value("to a bad pointer", read(ends[0], kBad, 5));
  void* const fixed =
      mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);  // can be read alone
  value("to memory that cannot be written", read(ends[0], fixed, 5));
  munmap(fixed, 4096);
  ioctl(ends[0], FIONREAD, &count);
  value("FIONREAD then", count);
  value("short read", read(ends[0], buffer, 3));
  line("the first of what is left", std::string(buffer, 3));
  value("rest", read(ends[0], buffer, 100));
  value("read of the write end", read(ends[1], buffer, 1));
  value("write of the read end", write(ends[0], "x", 1));
  size_t filled = 0;
  for (ssize_t done = 0; (done = write(ends[1], buffer, 4096)) > 0;)
    filled += static_cast<size_t>(done);
  value("full", static_cast<long>(filled));
  value("one more byte", write(ends[1], "x", 1));
  value("F_GETPIPE_SZ", fcntl(ends[0], F_GETPIPE_SZ));
  value("F_SETPIPE_SZ", fcntl(ends[0], F_SETPIPE_SZ, 200000));
  pollfd entry{ends[1], POLLOUT, 0};
  value("poll for room", poll(&entry, 1, 0));
  close(ends[1]);
  entry = {ends[0], POLLIN, 0};
  value("poll with data and no writer", poll(&entry, 1, 0));
  value("events", entry.revents);
  while (read(ends[0], buffer, sizeof buffer) > 0) {
  }
  value("end of file", read(ends[0], buffer, 1));
  close(ends[0]);
  ok("another", pipe(ends));
  close(ends[0]);
  signal(SIGPIPE, SIG_IGN);
  value("no reader", write(ends[1], "x", 1));
  signal(SIGPIPE, SIG_DFL);
  line("SIGPIPE kills", in_child([&] { return static_cast<int>(write(ends[1], "x", 1)); }));
  close(ends[1]);
  begin("fifo");
  value("made", mkfifo("fifo", 0600));
  value("again", mkfifo("fifo", 0600));
  value("writer without reader", open("fifo", O_WRONLY | O_NONBLOCK));
  const int reader = open("fifo", O_RDONLY | O_NONBLOCK);
  const int writer = open("fifo", O_WRONLY | O_NONBLOCK);
  value("through it", write(writer, "abc", 3));
  value("comes out", read(reader, buffer, 10));
  close(reader);
  close(writer);
  begin("eventfd");
  const int event = eventfd(3, EFD_NONBLOCK);
  uint64_t number = 0;
  value("read", read(event, &number, 8));
  value("counted", static_cast<long>(number));
  value("empty", read(event, &number, 8));
  value("short", read(event, &number, 4));
  number = ~uint64_t{0};
  value("too much", write(event, &number, 8));
  value("bad flags", eventfd(0, 1 << 20));
  close(event);
}

void names() {
  begin("mkdir");
  value("made", mkdir("dir", 0755));
  value("again", mkdir("dir", 0755));
  value("below nothing", mkdir("none/dir", 0755));
  value("below a file", mkdir("a/dir", 0755));
  value("trailing slash", mkdir("dir2/", 0700));
  line("mode", mode_of("dir2"));
  value("dot", mkdir(".", 0755));
  value("root", mkdir("/", 0755));
  value("bad pointer", mkdir(kBadPath, 0755));
  begin("rmdir");
  value("missing", rmdir("none"));
  value("file", rmdir("a"));
  make("dir/f");
  value("not empty", rmdir("dir"));
  value("dot", rmdir("dir/."));
  value("dot dot", rmdir("dir/.."));
  value("empty one", rmdir("dir2"));
  begin("unlink");
  value("directory", unlink("dir"));
  value("missing", unlink("none"));
  value("file", unlink("dir/f"));
  value("unlinkat flags", unlinkat(AT_FDCWD, "dir", 77));
  value("unlinkat directory", unlinkat(AT_FDCWD, "dir", AT_REMOVEDIR));
  const int fd = make("gone", "still here");
  unlink("gone");
  value("open file lives", read(fd, buffer, 100));
  struct stat s{};
  fstat(fd, &s);
  value("its links", static_cast<long>(s.st_nlink));
  close(fd);
  begin("link");
  make("one", "1");
  value("made", link("one", "two"));
  value("again", link("one", "two"));
  value("missing", link("none", "three"));
  value("directory", link(".", "three"));
  stat("one", &s);
  value("links", static_cast<long>(s.st_nlink));
  value("linkat flags", linkat(AT_FDCWD, "one", AT_FDCWD, "three", 77));
  begin("symlink");
  value("made", symlink("one", "sym"));
  value("again", symlink("one", "sym"));
  value("empty target", symlink("", "sym2"));
  value("below nothing", symlink("one", "none/sym"));
  begin("readlink");
  value("length", readlink("sym", buffer, 100));
  value("cut", readlink("sym", buffer, 2));
  value("no room", readlink("sym", buffer, 0));
  value("file", readlink("one", buffer, 100));
  value("missing", readlink("none", buffer, 100));
  value("bad pointer", readlink("sym", static_cast<char*>(kBad), 100));
  begin("rename");
  value("file over file", rename("two", "three"));
  mkdir("da", 0755);
  mkdir("db", 0755);
  make("db/f");
  value("file over directory", rename("one", "da"));
  value("directory over file", rename("da", "one"));
  value("directory over full one", rename("da", "db"));
  value("directory over empty one", rename("db", "da"));
  value("below itself", rename("da", "da/x"));
  value("missing", rename("none", "x"));
  value("dot", rename("da/.", "x"));
  value("hard links of one file", rename("one", "three"));
  ok("both stay", access("one", F_OK));
  value("no replace", renameat2(AT_FDCWD, "one", AT_FDCWD, "sym", RENAME_NOREPLACE));
  value("exchange", renameat2(AT_FDCWD, "one", AT_FDCWD, "da", RENAME_EXCHANGE));
  truth("exchanged", S_ISDIR(std::stoul(mode_of("one"), nullptr, 8)));
  value("bad flags", renameat2(AT_FDCWD, "one", AT_FDCWD, "x", 77));
}

void attributes() {
  begin("stat");
  struct stat s{};
  make("st", "12345");
  value("file", stat("st", &s));
  value("size", s.st_size);
  truth("regular", S_ISREG(s.st_mode));
  value("missing", stat("none", &s));
  value("bad buffer", stat("st", static_cast<struct stat*>(kBad)));
  value("lstat of a link", lstat("sym", &s));
  truth("link", S_ISLNK(s.st_mode));
  value("fstatat flags", fstatat(AT_FDCWD, "st", &s, 1));
  value("empty path", fstatat(AT_FDCWD, "", &s, AT_EMPTY_PATH));
  truth("is the directory", S_ISDIR(s.st_mode));
  value("empty path alone", fstatat(AT_FDCWD, "", &s, 0));
  value("fstat bad", fstat(999, &s));
  struct statx x{};
  value("statx", statx(AT_FDCWD, "st", 0, STATX_BASIC_STATS, &x));
  value("statx size", static_cast<long>(x.stx_size));
  value("statx flags", statx(AT_FDCWD, "st", 0x6000, STATX_BASIC_STATS, &x));
  begin("chmod");
  value("file", chmod("st", 0600));
  line("mode", mode_of("st"));
  value("all bits", chmod("st", 07777));
  line("mode", mode_of("st"));
  value("missing", chmod("none", 0600));
  const int fd = open("st", O_RDWR);
  value("fchmod", fchmod(fd, 0644));
  value("fchmod bad", fchmod(999, 0644));
  value("fchmodat", fchmodat(AT_FDCWD, "st", 0640, 0));
  line("mode", mode_of("st"));
  begin("chown");
  value("same", chown("st", 0, 0));
  value("others", chown("st", 12, 34));
  stat("st", &s);
  line("are", std::to_string(s.st_uid) + " " + std::to_string(s.st_gid));
  value("keep both", chown("st", static_cast<uid_t>(-1), static_cast<gid_t>(-1)));
  value("fchown", fchown(fd, 0, 0));
  value("lchown of a link", lchown("sym", 1, 1));
  value("missing", chown("none", 0, 0));
  chmod("st", 06755);
  chown("st", 5, 5);
  line("set-id bits go", mode_of("st"));
  begin("access");
  value("exists", access("st", F_OK));
  value("read", access("st", R_OK));
  value("missing", access("none", F_OK));
  value("bad mode", access("st", 77));
  value("faccessat2 flags", syscall(SYS_faccessat2, AT_FDCWD, "st", 0, 1));
  chmod("st", 0600);
  value("root executes nothing unmarked", access("st", X_OK));
  line("others", in_child([] {
         if (setgid(65534) != 0 || setuid(65534) != 0) return 99;
         return access("st", R_OK) == -1 && errno == EACCES ? 1 : 0;
       }));
  begin("utimensat");
  timespec when[2] = {{1000, 5}, {2000, 7}};
  value("set", utimensat(AT_FDCWD, "st", when, 0));
  stat("st", &s);
  line("are", std::to_string(s.st_atim.tv_sec) + " " + std::to_string(s.st_mtim.tv_sec) + " " +
                  std::to_string(s.st_mtim.tv_nsec));
  when[0].tv_nsec = UTIME_OMIT;
  when[1] = {3000, 0};
  value("one", utimensat(AT_FDCWD, "st", when, 0));
  stat("st", &s);
  line("are", std::to_string(s.st_atim.tv_sec) + " " + std::to_string(s.st_mtim.tv_sec));
  when[1].tv_nsec = 2000000000;
  value("bad", utimensat(AT_FDCWD, "st", when, 0));
  value("futimens", futimens(fd, nullptr));
  value("missing", utimensat(AT_FDCWD, "none", nullptr, 0));
  begin("umask");
  value("old", umask(077));
  close(open("masked", O_CREAT | O_WRONLY, 0666));
  line("mode", mode_of("masked"));
  value("back", umask(022));
  begin("statfs");
  struct statfs f{};
  value("here", statfs(".", &f));
  truth("block size", f.f_bsize > 0);
  value("missing", statfs("none", &f));
  value("fstatfs", fstatfs(fd, &f));
  begin("xattr");
  value("missing", static_cast<long>(getxattr("none", "user.x", buffer, 10)));
  close(fd);
}

void descriptors_in_proc() {
  begin("/proc/self/fdinfo");
  const int fd = open("info", O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
  write(fd, "12345", 5);
  lseek(fd, 3, SEEK_SET);
  const int info = open(("/proc/self/fdinfo/" + std::to_string(fd)).c_str(), O_RDONLY);
  char text[256] = {};
  read(info, text, sizeof text - 1);
  long position = -1;
  unsigned flags = 0;
  value("lines that count", std::sscanf(text, "pos: %ld flags: 0%o", &position, &flags));
  value("position", position);
  value("flags", static_cast<long>(flags));
  close(info);
  close(fd);
  value("closed", open(("/proc/self/fdinfo/" + std::to_string(fd)).c_str(), O_RDONLY) < 0 ? -1 : 0);
  unlink("info");
}

void directories() {
  begin("getdents");
  mkdir("list", 0755);
  for (int i = 0; i < 300; ++i)
    close(open(("list/file-with-a-name-" + std::to_string(i)).c_str(), O_CREAT | O_RDWR, 0600));
  DIR* dir = opendir("list");
  long count = 0;
  std::vector<std::string> seen;
  for (dirent* entry = nullptr; (entry = readdir(dir)) != nullptr; ++count)
    seen.emplace_back(entry->d_name);
  value("entries", count);
  std::sort(seen.begin(), seen.end());
  line("first", seen[0] + " " + seen[1] + " " + seen[2]);
  rewinddir(dir);
  unlink("list/file-with-a-name-7");
  rewinddir(dir);
  count = 0;
  while (readdir(dir) != nullptr) ++count;
  value("after one went", count);
  closedir(dir);
  const int fd = open("st", O_RDONLY);
  value("file", syscall(SYS_getdents64, fd, buffer, sizeof buffer));
  close(fd);
  const int list = open("list", O_RDONLY);
  value("no room", syscall(SYS_getdents64, list, buffer, 8));
  close(list);
  begin("chdir");
  value("there", chdir("list"));
  ok("getcwd", getcwd(buffer, sizeof buffer) != nullptr ? 0 : -1);
  truth("ends in it", std::string(buffer).ends_with("/list"));
  value("short getcwd", syscall(SYS_getcwd, buffer, 1));
  value("missing", chdir("none"));
  value("file", chdir("file-with-a-name-1"));
  value("back", chdir(".."));
  const int here = open(".", O_RDONLY);
  value("fchdir", fchdir(here));
  value("fchdir bad", fchdir(999));
  close(here);
  mkdir("lost", 0755);
  line("removed under us", in_child([] {
         if (chdir("lost") != 0 || rmdir("../lost") != 0) return 99;
         return getcwd(buffer, sizeof buffer) == nullptr && errno == ENOENT ? 1 : 0;
       }));
  line("creating in it", in_child([] {
         mkdir("lost", 0755);
         if (chdir("lost") != 0 || rmdir("../lost") != 0) return 99;
         return open("x", O_CREAT | O_RDWR, 0600) == -1 && errno == ENOENT ? 1 : 0;
       }));
  begin("chroot");
  line("keeps in", in_child([] {
         if (chroot("list") != 0 || chdir("/") != 0) return 99;
         return access("/../../file-with-a-name-1", F_OK) == 0 && access("/st", F_OK) != 0 ? 1 : 0;
       }));
  begin("mknod");
  value("file", mknod("node", S_IFREG | 0600, 0));
  value("again", mknod("node", S_IFREG | 0600, 0));
  value("directory", mknod("node2", S_IFDIR | 0600, 0));
}

void waiting() {
  begin("poll");
  int ends[2];
  ok("pipe", pipe(ends));
  pollfd entries[3] = {{ends[0], POLLIN, 0}, {999, POLLIN, 0}, {-1, POLLIN, 0}};
  value("bad descriptor", poll(entries, 3, 0));
  value("says so", entries[1].revents);
  entries[1].fd = -1;
  value("nothing", poll(entries, 3, 10));
  ok("write", write(ends[1], "x", 1));
  value("readable", poll(entries, 3, -1));
  value("bad pointer", poll(static_cast<pollfd*>(kBad), 1, 0));
  begin("select");
  fd_set set;
  FD_ZERO(&set);
  FD_SET(ends[0], &set);
  timeval none{0, 0};
  value("readable", select(ends[0] + 1, &set, nullptr, nullptr, &none));
  FD_ZERO(&set);
  // Below 64, which every table of descriptors has room for: select(2) passes over what is beyond
  // it.
  FD_SET(60, &set);
  value("bad descriptor", select(61, &set, nullptr, nullptr, &none));
  value("negative", select(-1, nullptr, nullptr, nullptr, &none));
  timespec bad{0, 2000000000};
  value("bad time", pselect(0, nullptr, nullptr, nullptr, &bad, nullptr));
  close(ends[0]);
  close(ends[1]);
}

}  // namespace

void files() {
  opening();
  reading();
  descriptors();
  pipes();
  names();
  attributes();
  descriptors_in_proc();
  directories();
  waiting();
}

}  // namespace calls
