#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <csignal>
#include <ctime>

#include "calls.h"

namespace calls {
namespace {

struct flock lock_of(short type, off_t start, off_t length, short whence = SEEK_SET) {
  struct flock out{};
  out.l_type = type;
  out.l_whence = whence;
  out.l_start = start;
  out.l_len = length;
  return out;
}
long set(int fd, int command, short type, off_t start, off_t length, short whence = SEEK_SET) {
  struct flock lock = lock_of(type, start, length, whence);
  return fcntl(fd, command, &lock);
}
std::string ask(int fd, int command, short type, off_t start, off_t length, pid_t holder = 0) {
  struct flock lock = lock_of(type, start, length);
  if (fcntl(fd, command, &lock) != 0) return result_of(-1);
  const char* kind = lock.l_type == F_UNLCK ? "free" : lock.l_type == F_WRLCK ? "write" : "read";
  std::string out = kind;
  if (lock.l_type != F_UNLCK) {
    out += " " + std::to_string(lock.l_start) + " " + std::to_string(lock.l_len) + " whence " +
           std::to_string(lock.l_whence);
    out += lock.l_pid == holder ? " holder" : lock.l_pid == -1 ? " description" : " somebody";
  }
  return out;
}

void of_processes() {
  begin("fcntl locks");
  const int fd = open("lock", O_CREAT | O_RDWR, 0644);
  ok("size", ftruncate(fd, 100));
  value("write 10+10", set(fd, F_SETLK, F_WRLCK, 10, 10));
  value("own ranges never conflict", set(fd, F_SETLK, F_RDLCK, 12, 2));
  value("from the end", set(fd, F_SETLK, F_WRLCK, -10, 0, SEEK_END));
  lseek(fd, 50, SEEK_SET);
  value("backwards from here", set(fd, F_SETLK, F_WRLCK, 0, -5, SEEK_CUR));
  value("before the beginning", set(fd, F_SETLK, F_WRLCK, -1, 5));
  value("backwards over the beginning", set(fd, F_SETLK, F_WRLCK, 3, -5));
  value("bad type", set(fd, F_SETLK, 9, 0, 1));
  value("bad whence", set(fd, F_SETLK, F_RDLCK, 0, 1, 9));
  value("question about nothing", set(fd, F_GETLK, F_UNLCK, 0, 1));
  value("bad pointer", fcntl(fd, F_SETLK, 8));
  const pid_t self = getpid();
  line("seen by a child", in_child([&] {
         line("whole", ask(fd, F_GETLK, F_WRLCK, 0, 0, self));
         line("read under write", ask(fd, F_GETLK, F_RDLCK, 10, 1, self));
         line("read under read", ask(fd, F_GETLK, F_RDLCK, 12, 1, self));
         line("end", ask(fd, F_GETLK, F_RDLCK, 95, 1, self));
         line("beyond the end", ask(fd, F_GETLK, F_RDLCK, 95000, 1, self));
         line("backwards", ask(fd, F_GETLK, F_WRLCK, 40, 9, self));
         line("free", ask(fd, F_GETLK, F_WRLCK, 20, 5, self));
         value("refused", set(fd, F_SETLK, F_WRLCK, 15, 1));
         value("granted", set(fd, F_SETLK, F_WRLCK, 20, 5));
         return 0;
       }));
  line("children do not inherit", in_child([&] {
         value("unlocking changes nothing", set(fd, F_SETLK, F_UNLCK, 0, 0));
         line("still", ask(fd, F_GETLK, F_RDLCK, 10, 1, self));
         return 0;
       }));
  close(dup(fd));
  line("closing any descriptor lets go", in_child([&] {
         line("whole", ask(fd, F_GETLK, F_WRLCK, 0, 0, self));
         return 0;
       }));
  const int reader = open("lock", O_RDONLY);
  const int writer = open("lock", O_WRONLY);
  value("write lock without write", set(reader, F_SETLK, F_WRLCK, 0, 1));
  value("read lock without read", set(writer, F_SETLK, F_RDLCK, 0, 1));
  const int path = open("lock", O_PATH);
  value("O_PATH", set(path, F_SETLK, F_RDLCK, 0, 1));
  value("closed", set(99, F_SETLK, F_RDLCK, 0, 1));
  close(reader);
  close(writer);
  close(path);

  begin("fcntl waiting");
  int report[2];
  if (pipe(report) != 0) return;
  set(fd, F_SETLK, F_WRLCK, 0, 1);
  const pid_t child = fork();
  if (child == 0) {
    const long done = set(fd, F_SETLKW, F_WRLCK, 0, 1);
    _exit(done == 0 ? 0 : 1);
  }
  usleep(50000);
  truth("it waits", waitpid(child, nullptr, WNOHANG) == 0);
  set(fd, F_SETLK, F_UNLCK, 0, 1);
  int status = 0;
  waitpid(child, &status, 0);
  value("granted", WEXITSTATUS(status));
  line("interrupted", in_child([&] {
         const pid_t holder = fork();
         if (holder == 0) {
           set(fd, F_SETLK, F_WRLCK, 0, 1);
           if (write(report[1], "x", 1) != 1) _exit(9);
           for (;;) pause();
         }
         char byte = 0;
         if (read(report[0], &byte, 1) != 1) return 9;
         struct sigaction action{};
         action.sa_handler = [](int) {};
         sigaction(SIGALRM, &action, nullptr);
         ualarm(50000, 50000);
         value("F_SETLKW", set(fd, F_SETLKW, F_WRLCK, 0, 1));
         ualarm(0, 0);
         kill(holder, SIGKILL);
         waitpid(holder, nullptr, 0);
         return 0;
       }));
  line("deadlock", in_child([&] {
         set(fd, F_SETLK, F_WRLCK, 0, 1);
         const pid_t other = fork();
         if (other == 0) {
           set(fd, F_SETLK, F_WRLCK, 1, 1);
           if (write(report[1], "x", 1) != 1) _exit(9);
           _exit(set(fd, F_SETLKW, F_WRLCK, 0, 1) == 0 ? 0 : errno);
         }
         char byte = 0;
         if (read(report[0], &byte, 1) != 1) return 9;
         usleep(50000);
         value("closing the circle", set(fd, F_SETLKW, F_WRLCK, 1, 1));
         set(fd, F_SETLK, F_UNLCK, 0, 0);
         int end = 0;
         waitpid(other, &end, 0);
         return WEXITSTATUS(end);
       }));
  line("a table that is nobody else's keeps them", in_child([&] {
         set(fd, F_SETLK, F_WRLCK, 0, 1);
         if (close_range(900, 901, CLOSE_RANGE_UNSHARE) != 0) return 99;
         const pid_t owner = getpid();
         line("seen by a child", in_child([&] {
                line("held", ask(fd, F_GETLK, F_WRLCK, 0, 1, owner));
                return 0;
              }));
         return 0;
       }));
  line("exit lets go", in_child([&] {
         if (fork() == 0) _exit(set(fd, F_SETLK, F_WRLCK, 0, 0) == 0 ? 0 : 1);
         wait(nullptr);
         value("after it", set(fd, F_SETLK, F_WRLCK, 0, 0));
         return 0;
       }));
  close(report[0]);
  close(report[1]);
  close(fd);
}

void of_descriptions() {
  begin("open file description locks");
  const int one = open("lock", O_RDWR);
  const int two = open("lock", O_RDWR);
  value("write", set(one, F_OFD_SETLK, F_WRLCK, 0, 10));
  value("another description", set(two, F_OFD_SETLK, F_WRLCK, 5, 1));
  line("asked", ask(two, F_OFD_GETLK, F_RDLCK, 0, 100));
  value("conflicts with the process's own", set(two, F_SETLK, F_WRLCK, 5, 1));
  struct flock lock = lock_of(F_RDLCK, 0, 1);
  lock.l_pid = 5;
  value("a pid", fcntl(two, F_OFD_SETLK, &lock));
  const int copy = dup(one);
  close(copy);
  value("closing a duplicate keeps it", set(two, F_OFD_SETLK, F_WRLCK, 5, 1));
  line("a child has it",
       in_child([&] { return set(one, F_OFD_SETLK, F_RDLCK, 0, 10) == 0 ? 0 : 1; }));
  value("and changed it", set(two, F_OFD_SETLK, F_RDLCK, 5, 1));
  close(one);
  value("the last close lets go", set(two, F_OFD_SETLK, F_WRLCK, 0, 0));
  close(two);
}

void of_files() {
  begin("flock");
  const int one = open("lock", O_RDWR);
  const int two = open("lock", O_RDONLY);
  value("shared", flock(one, LOCK_SH));
  value("shared too", flock(two, LOCK_SH | LOCK_NB));
  value("exclusive", flock(two, LOCK_EX | LOCK_NB));
  value("unlock", flock(one, LOCK_UN));
  value("exclusive, read only", flock(two, LOCK_EX | LOCK_NB));
  value("shared beside it", flock(one, LOCK_SH | LOCK_NB));
  value("nonsense", flock(one, 0));
  value("two at once", flock(one, LOCK_SH | LOCK_EX));
  value("closed", flock(99, LOCK_SH));
  value("fcntl is another matter", set(one, F_SETLK, F_WRLCK, 0, 0));
  line("a child shares the description",
       in_child([&] { return flock(two, LOCK_UN) == 0 ? 0 : 1; }));
  value("now free", flock(one, LOCK_EX | LOCK_NB));
  const pid_t child = fork();
  if (child == 0) {
    close(one);  // the description would live on here
    _exit(flock(open("lock", O_RDONLY), LOCK_SH) == 0 ? 0 : errno);
  }
  usleep(50000);
  truth("it waits", waitpid(child, nullptr, WNOHANG) == 0);
  close(one);
  int status = 0;
  waitpid(child, &status, 0);
  value("until the close", WEXITSTATUS(status));
  const int path = open("lock", O_PATH);
  value("O_PATH", flock(path, LOCK_SH));
  close(path);
  const int memory = memfd_create("m", 0);
  value("memfd", flock(memory, LOCK_EX));
  close(memory);
  close(two);
}

}  // namespace

void locks() {
  of_processes();
  of_descriptions();
  of_files();
  unlink("lock");
}

}  // namespace calls
