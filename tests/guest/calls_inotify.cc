#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <map>
#include <vector>

#include "calls.h"

namespace calls {
namespace {

std::string names_of(uint32_t mask) {
  const std::pair<uint32_t, const char*> names[] = {{IN_ACCESS, "ACCESS"},
                                                    {IN_MODIFY, "MODIFY"},
                                                    {IN_ATTRIB, "ATTRIB"},
                                                    {IN_CLOSE_WRITE, "CLOSE_WRITE"},
                                                    {IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"},
                                                    {IN_OPEN, "OPEN"},
                                                    {IN_MOVED_FROM, "MOVED_FROM"},
                                                    {IN_MOVED_TO, "MOVED_TO"},
                                                    {IN_CREATE, "CREATE"},
                                                    {IN_DELETE, "DELETE"},
                                                    {IN_DELETE_SELF, "DELETE_SELF"},
                                                    {IN_MOVE_SELF, "MOVE_SELF"},
                                                    {IN_UNMOUNT, "UNMOUNT"},
                                                    {IN_Q_OVERFLOW, "Q_OVERFLOW"},
                                                    {IN_IGNORED, "IGNORED"},
                                                    {IN_ISDIR, "ISDIR"}};
  std::string out;
  for (const auto& [bit, name] : names) {
    if ((mask & bit) == 0) continue;
    out += (out.empty() ? "" : "|") + std::string(name);
    mask &= ~bit;
  }
  if (mask != 0) out += "|" + std::to_string(mask);
  return out;
}

struct Event {
  int watch = 0;
  uint32_t mask = 0;
  uint32_t cookie = 0;
  uint32_t length = 0;
  std::string name;
};

std::vector<Event> parse(const char* buffer, ssize_t length) {
  std::vector<Event> out;
  for (ssize_t at = 0; at < length;) {
    inotify_event head{};
    std::memcpy(&head, buffer + at, sizeof head);
    Event event{head.wd, head.mask, head.cookie, head.len, {}};
    if (head.len != 0) event.name = buffer + at + sizeof head;
    at += static_cast<ssize_t>(sizeof head + head.len);
    out.push_back(std::move(event));
  }
  return out;
}

/// What waits, in order. Cookies are numbered as they come.
std::string drain(int fd) {
  std::string out;
  std::map<uint32_t, int> cookies;
  for (;;) {
    alignas(inotify_event) char buffer[65536];
    const ssize_t length = read(fd, buffer, sizeof buffer);
    if (length <= 0) break;
    for (const Event& event : parse(buffer, length)) {
      out += "[" + std::to_string(event.watch) + " " + names_of(event.mask);
      if (event.length != 0) out += " " + event.name + "/" + std::to_string(event.length);
      if (event.cookie != 0)
        out +=
            " #" +
            std::to_string(
                cookies.emplace(event.cookie, static_cast<int>(cookies.size()) + 1).first->second);
      out += "]";
    }
  }
  return out.empty() ? "nothing" : out;
}

int make(const char* name, int flags = O_RDWR) { return open(name, O_CREAT | flags, 0644); }
void touch(const char* name) { close(make(name)); }

void instances() {
  begin("inotify_init1");
  value("unknown flags", inotify_init1(1));
  const int plain = inotify_init();
  truth("inotify_init", plain >= 0);
  value("no flags", fcntl(plain, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
  value("not close-on-exec", fcntl(plain, F_GETFD));
  const int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  value("flags", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  value("close-on-exec", fcntl(fd, F_GETFD));
  char link[64] = {};
  value("its link", readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), link, sizeof link));
  line("its name", link);
  char buffer[256];
  value("nothing to read", read(fd, buffer, sizeof buffer));
  value("write", write(fd, buffer, 4));
  value("unknown ioctl", ioctl(fd, 0x5432, buffer));
  close(plain);

  begin("inotify_add_watch");
  touch("file");
  mkdir("dir", 0755);
  symlink("file", "link");
  value("first", inotify_add_watch(fd, "file", IN_MODIFY));
  value("second", inotify_add_watch(fd, "dir", IN_CREATE));
  value("the same file again", inotify_add_watch(fd, "./dir/../file", IN_MODIFY));
  value("through a link", inotify_add_watch(fd, "link", IN_MODIFY));
  value("the link itself", inotify_add_watch(fd, "link", IN_ATTRIB | IN_DONT_FOLLOW));
  value("missing", inotify_add_watch(fd, "none", IN_MODIFY));
  value("empty path", inotify_add_watch(fd, "", IN_MODIFY));
  value("bad path", inotify_add_watch(fd, reinterpret_cast<char*>(8), IN_MODIFY));
  value("no events", inotify_add_watch(fd, "file", 0));
  value("unknown bits", inotify_add_watch(fd, "file", IN_MODIFY | 0x10000));
  value("options alone", inotify_add_watch(fd, "dir", IN_ONLYDIR | IN_MASK_ADD));
  value("a file where a directory is to be", inotify_add_watch(fd, "file", IN_MODIFY | IN_ONLYDIR));
  value("add and create at once",
        inotify_add_watch(fd, "file", IN_MODIFY | IN_MASK_ADD | IN_MASK_CREATE));
  value("create what is there", inotify_add_watch(fd, "file", IN_MODIFY | IN_MASK_CREATE));
  value("closed", inotify_add_watch(99, "file", IN_MODIFY));
  const int other = open("file", O_RDONLY);
  value("not inotify", inotify_add_watch(other, "file", IN_MODIFY));
  value("not inotify, removal", inotify_rm_watch(other, 1));
  const int path = open("file", O_PATH);
  value("O_PATH", inotify_add_watch(path, "file", IN_MODIFY));
  close(path);
  close(other);
  line("without permission", in_child([&] {
         if (chmod("file", 0200) != 0 || setuid(1234) != 0) return 1;
         value("watch", inotify_add_watch(fd, "file", IN_MODIFY));
         return 0;
       }));
  value("remove", inotify_rm_watch(fd, 2));
  value("remove again", inotify_rm_watch(fd, 2));
  value("remove what never was", inotify_rm_watch(fd, 77));
  value("closed, removal", inotify_rm_watch(99, 1));
  line("the removed one's last", drain(fd));
  value("numbers are not used again", inotify_add_watch(fd, "dir", IN_CREATE));
  close(fd);
  unlink("file");
  unlink("link");
  rmdir("dir");
}

void files_of_a_directory() {
  begin("inotify directory");
  mkdir("watched", 0755);
  const int fd = inotify_init1(IN_NONBLOCK);
  value("watch", inotify_add_watch(fd, "watched", IN_ALL_EVENTS));
  const int file = make("watched/f");
  line("create", drain(fd));
  write(file, "12345", 5);
  line("write", drain(fd));
  write(file, "", 0);
  line("write of nothing", drain(fd));
  write(file, reinterpret_cast<char*>(8), 4);
  line("write that fails", drain(fd));
  char buffer[4096];
  pread(file, buffer, 2, 0);
  line("pread", drain(fd));
  read(file, buffer, 10);
  line("read at the end", drain(fd));
  pwrite(file, "x", 1, 1);
  line("pwrite", drain(fd));
  ftruncate(file, 3);
  line("ftruncate", drain(fd));
  fchmod(file, 0600);
  line("fchmod", drain(fd));
  chmod("watched/f", 0644);
  line("chmod", drain(fd));
  chmod("watched/none", 0644);
  line("chmod that fails", drain(fd));
  fchown(file, 1, 1);
  line("fchown", drain(fd));
  chown("watched/f", 0, static_cast<gid_t>(-1));
  line("chown", drain(fd));
  chown("watched/f", static_cast<uid_t>(-1), static_cast<gid_t>(-1));
  line("chown of nothing", drain(fd));
  utimensat(AT_FDCWD, "watched/f", nullptr, 0);
  line("utimensat", drain(fd));
  timespec times[2] = {{1, 0}, {0, UTIME_OMIT}};
  utimensat(AT_FDCWD, "watched/f", times, 0);
  line("time of access", drain(fd));
  times[0].tv_nsec = UTIME_OMIT;
  times[1] = {1, 0};
  futimens(file, times);
  line("time of change", drain(fd));
  truncate("watched/f", 100);
  line("truncate", drain(fd));
  setxattr("watched/f", "user.x", "1", 1, 0);
  line("setxattr", drain(fd));
  fremovexattr(file, "user.x");
  line("fremovexattr", drain(fd));
  const int copy = dup(file);
  close(file);
  line("close of one of two", drain(fd));
  close(copy);
  line("close", drain(fd));
  const int reader = open("watched/f", O_RDONLY);
  line("open", drain(fd));
  close(reader);
  line("close of a reader", drain(fd));
  close(open("watched/f", O_PATH));
  line("O_PATH", drain(fd));
  struct stat stat{};
  ::stat("watched/f", &stat);
  access("watched/f", R_OK);
  line("stat and access", drain(fd));
  link("watched/f", "watched/second");
  line("link", drain(fd));
  symlink("f", "watched/link");
  line("symlink", drain(fd));
  readlink("watched/link", buffer, sizeof buffer);
  line("readlink", drain(fd));
  mkfifo("watched/fifo", 0644);
  line("mkfifo", drain(fd));
  // What goes through it directories were told of by older kernels alone.
  close(open("watched/fifo", O_RDWR));
  line("a FIFO's life", drain(fd));
  const int bound = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{AF_UNIX, "watched/socket"};
  bind(bound, reinterpret_cast<sockaddr*>(&address), sizeof address);
  close(bound);
  line("bind", drain(fd));
  mkdir("watched/sub", 0755);
  line("mkdir", drain(fd));
  touch("watched/sub/deep");
  line("below it", drain(fd));
  unlink("watched/sub/deep");
  DIR* listed = opendir("watched/sub");
  line("opendir", drain(fd));
  while (readdir(listed) != nullptr) {
  }
  line("readdir", drain(fd));
  closedir(listed);
  line("closedir", drain(fd));
  chmod("watched/sub", 0700);
  line("chmod of a directory", drain(fd));
  chmod("watched", 0700);
  line("chmod of itself", drain(fd));
  rmdir("watched/sub");
  line("rmdir", drain(fd));
  unlink("watched/second");
  line("unlink of one of two names", drain(fd));
  for (const char* name : {"f", "link", "fifo", "socket"})
    unlink(("watched/" + std::string(name)).c_str());
  line("unlink", drain(fd));
  unlink("watched/none");
  line("unlink that fails", drain(fd));
  mkdir("watched", 0755);
  line("mkdir of what is there", drain(fd));
  touch("watched/a-name-of-15-by");
  touch("watched/a-name-of-16-byt");
  inotify_rm_watch(fd, 1);
  line("names are padded", drain(fd));
  unlink("watched/a-name-of-15-by");
  unlink("watched/a-name-of-16-byt");
  line("without a watch", drain(fd));

  begin("inotify bytes");
  value("watch", inotify_add_watch(fd, "watched", IN_ACCESS | IN_MODIFY));
  const int from = make("watched/from");
  const int to = make("watched/to");
  write(from, "0123456789", 10);
  line("write", drain(fd));
  off_t offset = 0;
  sendfile(to, from, &offset, 5);
  line("sendfile", drain(fd));
  off_t in = 0;
  copy_file_range(from, &in, to, nullptr, 5, 0);
  line("copy_file_range", drain(fd));
  fallocate(to, 0, 0, 4096);
  line("fallocate", drain(fd));
  iovec vectors[2] = {{buffer, 2}, {buffer + 2, 2}};
  preadv(from, vectors, 2, 0);
  line("preadv", drain(fd));
  writev(to, vectors, 2);
  line("writev", drain(fd));
  close(open("watched/to", O_WRONLY | O_TRUNC));
  line("O_TRUNC", drain(fd));
  line("in a child", in_child([&] { return write(to, "x", 1) == 1 ? 0 : 1; }));
  line("what it wrote", drain(fd));
  close(from);
  close(to);
  unlink("watched/from");
  unlink("watched/to");
  close(fd);
  rmdir("watched");
}

void files_themselves() {
  begin("inotify file");
  const int fd = inotify_init1(IN_NONBLOCK);
  mkdir("up", 0755);
  touch("up/f");
  value("directory", inotify_add_watch(fd, "up", IN_ALL_EVENTS));
  value("file", inotify_add_watch(fd, "up/f", IN_ALL_EVENTS));
  close(open("up/f", O_RDONLY));
  line("both hear", drain(fd));
  link("up/f", "other");
  line("a second name", drain(fd));
  chmod("other", 0600);
  line("through the second name", drain(fd));
  unlink("other");
  line("without it", drain(fd));
  int file = open("up/f", O_WRONLY);
  drain(fd);
  unlink("up/f");
  line("unlink while open", drain(fd));
  write(file, "x", 1);
  line("write without name", drain(fd));
  close(file);
  line("the last close", drain(fd));
  touch("up/f");
  line("another of the name", drain(fd));
  value("watch", inotify_add_watch(fd, "up/f", IN_DELETE_SELF));
  unlink("up/f");
  line("unlink", drain(fd));

  begin("inotify IN_EXCL_UNLINK");
  value("watch", inotify_add_watch(fd, "up", IN_ALL_EVENTS | IN_EXCL_UNLINK));
  file = make("up/f", O_WRONLY);
  unlink("up/f");
  drain(fd);
  write(file, "x", 1);
  close(file);
  line("without name", drain(fd));

  begin("inotify directories");
  mkdir("up/d", 0755);
  drain(fd);
  value("watch", inotify_add_watch(fd, "up/d", IN_ALL_EVENTS));
  struct stat stat{};
  ::stat("up/d/none", &stat);
  rmdir("up/d");
  line("rmdir", drain(fd));
  mkdir("up/d", 0755);
  value("watch", inotify_add_watch(fd, "up/d", IN_DELETE_SELF | IN_CREATE));
  const int kept = open("up/d", O_RDONLY | O_DIRECTORY);
  drain(fd);
  rmdir("up/d");
  line("rmdir while open", drain(fd));
  close(kept);
  line("close", drain(fd));
  close(fd);
  rmdir("up");
}

void moves() {
  begin("inotify rename");
  const int fd = inotify_init1(IN_NONBLOCK);
  mkdir("one", 0755);
  mkdir("two", 0755);
  touch("one/f");
  touch("two/g");
  mkdir("one/d", 0755);
  value("one", inotify_add_watch(fd, "one", IN_ALL_EVENTS));
  value("two", inotify_add_watch(fd, "two", IN_ALL_EVENTS));
  value("file", inotify_add_watch(fd, "one/f", IN_ALL_EVENTS));
  rename("one/f", "one/h");
  line("in a directory", drain(fd));
  rename("one/h", "two/h");
  line("to another", drain(fd));
  close(open("two/h", O_RDONLY));
  line("its name is new", drain(fd));
  rename("two/h", "outside");
  line("to where nobody watches", drain(fd));
  rename("outside", "two/f");
  line("from there", drain(fd));
  value("replaced", inotify_add_watch(fd, "two/g", IN_ALL_EVENTS));
  rename("two/f", "two/g");
  line("over another", drain(fd));
  rename("two/g", "two/g");
  line("to itself", drain(fd));
  rename("two/none", "two/g");
  line("that fails", drain(fd));
  value("directory", inotify_add_watch(fd, "one/d", IN_ALL_EVENTS));
  rename("one/d", "two/d");
  line("of a directory", drain(fd));
  touch("one/x");
  drain(fd);
  renameat2(AT_FDCWD, "one/x", AT_FDCWD, "two/d", RENAME_EXCHANGE);
  line("exchange", drain(fd));
  renameat2(AT_FDCWD, "two/d", AT_FDCWD, "two/g", RENAME_NOREPLACE);
  line("without replacing", drain(fd));
  mkdir("one/e", 0755);
  drain(fd);
  rename("one/e", "one/x");
  line("over an empty directory", drain(fd));
  rename("one/x", "one/y");
  rename("one/y", "one/x");
  line("there and back", drain(fd));
  close(fd);
  for (const char* name : {"two/d", "two/g"}) unlink(name);
  for (const char* name : {"one/x", "one", "two"}) rmdir(name);
}

void masks() {
  begin("inotify masks");
  const int fd = inotify_init1(IN_NONBLOCK);
  mkdir("m", 0755);
  value("watch", inotify_add_watch(fd, "m", IN_CREATE));
  touch("m/f");
  line("creation alone", drain(fd));
  value("add", inotify_add_watch(fd, "m", IN_DELETE | IN_MASK_ADD));
  unlink("m/f");
  touch("m/f");
  line("both", drain(fd));
  value("replace", inotify_add_watch(fd, "m", IN_DELETE));
  unlink("m/f");
  touch("m/f");
  line("the other alone", drain(fd));
  value("once", inotify_add_watch(fd, "m", IN_DELETE | IN_CREATE | IN_ONESHOT));
  unlink("m/f");
  touch("m/f");
  line("once and no more", drain(fd));
  value("gone", inotify_rm_watch(fd, 1));
  value("create", inotify_add_watch(fd, "m", IN_ALL_EVENTS | IN_MASK_CREATE));
  const int second = inotify_init1(IN_NONBLOCK);
  value("another instance", inotify_add_watch(second, "m", IN_DELETE));
  unlink("m/f");
  line("first", drain(fd));
  line("second", drain(second));
  close(fd);
  touch("m/f");
  unlink("m/f");
  line("second alone", drain(second));
  close(second);
  rmdir("m");
}

void reading() {
  begin("inotify read");
  const int fd = inotify_init();
  ok("directory", mkdir("heard", 0755));
  value("watch", inotify_add_watch(fd, "heard", IN_CREATE | IN_DELETE));
  int bytes = -1;
  value("FIONREAD", ioctl(fd, FIONREAD, &bytes));
  value("bytes", bytes);
  pollfd polled{fd, POLLIN | POLLOUT, 0};
  value("poll", poll(&polled, 1, 0));
  for (const char* name : {"heard/a", "heard/b", "heard/c"}) touch(name);
  value("poll with events", poll(&polled, 1, 0));
  value("what holds", polled.revents);
  ioctl(fd, FIONREAD, &bytes);
  value("bytes of three", bytes);
  value("FIONREAD to nowhere", ioctl(fd, FIONREAD, 8));
  char buffer[4096];
  value("too little room", read(fd, buffer, 31));
  value("room for one", read(fd, buffer, 32));
  value("room for one and a half", read(fd, buffer, 50));
  value("room for all", read(fd, buffer, sizeof buffer));
  const int poller = epoll_create1(0);
  epoll_event interest{EPOLLIN | EPOLLET, {}};
  value("epoll", epoll_ctl(poller, EPOLL_CTL_ADD, fd, &interest));
  epoll_event got{};
  value("epoll, nothing", epoll_wait(poller, &got, 1, 0));
  unlink("heard/a");
  value("epoll, an event", epoll_wait(poller, &got, 1, 1000));
  value("no new one", epoll_wait(poller, &got, 1, 0));
  unlink("heard/b");
  value("a second event", epoll_wait(poller, &got, 1, 1000));
  value("both", read(fd, buffer, sizeof buffer));
  close(poller);
  const pid_t child = fork();
  if (child == 0) {
    usleep(50000);
    _exit(unlink("heard/c"));
  }
  value("sleeps until there is one", read(fd, buffer, sizeof buffer));
  waitpid(child, nullptr, 0);
  struct sigaction action{};
  action.sa_handler = [](int) {};
  sigaction(SIGALRM, &action, nullptr);
  ualarm(50000, 0);
  value("interrupted", read(fd, buffer, sizeof buffer));
  signal(SIGALRM, SIG_DFL);

  begin("inotify merging");
  fcntl(fd, F_SETFL, O_NONBLOCK);
  const int file = make("heard/f");
  drain(fd);
  value("watch", inotify_add_watch(fd, "heard", IN_MODIFY | IN_ATTRIB));
  for (int i = 0; i < 5; ++i) write(file, "x", 1);
  ioctl(fd, FIONREAD, &bytes);
  value("five writes", bytes);
  fchmod(file, 0600);
  for (int i = 0; i < 5; ++i) write(file, "x", 1);
  line("with something between", drain(fd));

  begin("inotify overflow");
  std::string limit(32, '\0');
  const int setting = open("/proc/sys/fs/inotify/max_queued_events", O_RDONLY);
  limit.resize(static_cast<size_t>(std::max<ssize_t>(read(setting, limit.data(), 32), 0)));
  close(setting);
  const int most = std::atoi(limit.c_str());
  truth("a limit", most > 0);
  for (int i = 0; i < most + 10; i += 2) {
    fchmod(file, 0600);
    write(file, "x", 1);
  }
  int count = 0;
  uint32_t last = 0;
  int last_watch = 0;
  std::vector<char> large(262144);
  for (;;) {
    const ssize_t length = read(fd, large.data(), large.size() - 16);
    if (length <= 0) break;
    for (const Event& event : parse(large.data(), length)) {
      ++count;
      last = event.mask;
      last_watch = event.watch;
    }
  }
  value("events beyond the limit", count - most);
  line("the last", names_of(last));
  truth("of no watch", last_watch == -1);
  write(file, "x", 1);
  line("and on", drain(fd));
  close(file);
  close(fd);
  unlink("heard/f");
  rmdir("heard");
}

}  // namespace

void inotify() {
  instances();
  files_of_a_directory();
  files_themselves();
  moves();
  masks();
  reading();
}

}  // namespace calls
