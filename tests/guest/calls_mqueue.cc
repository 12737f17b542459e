#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/rtnetlink.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#include <cstring>
#include <ctime>
#include <string>

#include "calls.h"

// By number, for the C library takes names apart and changes errors.
namespace calls {
namespace {

const void* const kBad = reinterpret_cast<const void*>(8);

long open_queue(const char* name, int flags, unsigned mode = 0600,
                const void* attributes = nullptr) {
  return syscall(SYS_mq_open, name, flags, mode, attributes);
}
long unlink_queue(const char* name) { return syscall(SYS_mq_unlink, name); }
long send(long queue, const char* text, unsigned priority, const timespec* until = nullptr) {
  return syscall(SYS_mq_timedsend, queue, text, std::strlen(text), priority, until);
}
long receive(long queue, char* text, size_t room, unsigned* priority = nullptr,
             const timespec* until = nullptr) {
  const long got = syscall(SYS_mq_timedreceive, queue, text, room, priority, until);
  if (got >= 0 && static_cast<size_t>(got) < room) text[got] = 0;
  return got;
}
long attributes_of(long queue, mq_attr* out) {
  return syscall(SYS_mq_getsetattr, queue, nullptr, out);
}
long messages_in(long queue) {
  mq_attr now{};
  return attributes_of(queue, &now) == 0 ? now.mq_curmsgs : -1;
}
mq_attr sized(long messages, long bytes) {
  mq_attr out{};
  out.mq_maxmsg = messages;
  out.mq_msgsize = bytes;
  return out;
}
timespec in_ms(long ms) {
  timespec out{};
  clock_gettime(CLOCK_REALTIME, &out);
  out.tv_nsec += ms % 1000 * 1'000'000;
  out.tv_sec += ms / 1000 + out.tv_nsec / 1'000'000'000;
  out.tv_nsec %= 1'000'000'000;
  return out;
}
void opening() {
  begin("mq_open");
  value("missing", open_queue("none", O_RDWR));
  value("bad name", open_queue(static_cast<const char*>(kBad), O_RDWR));
  value("empty name", open_queue("", O_RDWR | O_CREAT));
  value("with a slash", open_queue("/q", O_RDWR | O_CREAT));
  value("a dot", open_queue(".", O_RDWR | O_CREAT));
  value("two dots", open_queue("..", O_RDWR | O_CREAT));
  value("long name", open_queue(std::string(256, 'n').c_str(), O_RDWR | O_CREAT));
  value("longest name", open_queue(std::string(255, 'n').c_str(), O_RDWR | O_CREAT) >= 0);
  value("bad attributes", open_queue("q", O_RDWR | O_CREAT, 0600, kBad));
  value("bad attributes that nobody reads", open_queue("q", O_RDWR, 0600, kBad));
  for (const mq_attr& wrong : {sized(0, 8), sized(8, 0), sized(-1, 8), sized(8, -1),
                               sized(65537, 8), sized(8, (16 << 20) + 1)})
    value("wrong size", open_queue("q", O_RDWR | O_CREAT, 0600, &wrong));
  const mq_attr small = sized(3, 16);
  const long queue = ok("made", open_queue("q", O_RDWR | O_CREAT | O_EXCL, 0640, &small));
  value("exclusively again", open_queue("q", O_RDWR | O_CREAT | O_EXCL, 0600, &small));
  truth("again", open_queue("q", O_RDONLY | O_CREAT, 0600, nullptr) >= 0);
  value("to read and write at once", open_queue("q", O_WRONLY | O_RDWR));
  truth("closes on exec", (fcntl(static_cast<int>(queue), F_GETFD) & FD_CLOEXEC) != 0);
  mq_attr now{};
  value("attributes", attributes_of(queue, &now));
  line("are", std::to_string(now.mq_flags) + " " + std::to_string(now.mq_maxmsg) + " " +
                  std::to_string(now.mq_msgsize) + " " + std::to_string(now.mq_curmsgs));
  const long usual = ok("with the usual sizes", open_queue("usual", O_RDWR | O_CREAT));
  value("attributes", attributes_of(usual, &now));
  line("are", std::to_string(now.mq_maxmsg) + " " + std::to_string(now.mq_msgsize));
  umask(022);
  truth("under a umask", open_queue("masked", O_RDWR | O_CREAT, 0666) >= 0);
  struct stat file{};
  value("its file", fstat(static_cast<int>(open_queue("masked", O_RDWR)), &file));
  value("mode", file.st_mode);
  value("size", file.st_size);
  value("links", static_cast<long>(file.st_nlink));
  line("another's", in_child([] {
         if (setuid(1000) != 0) return 99;
         const bool reads = open_queue("masked", O_RDONLY) >= 0;
         const bool writes = open_queue("masked", O_WRONLY) >= 0;
         return (reads ? 1 : 0) + (writes ? 2 : 0) + (errno == EACCES ? 4 : 0);
       }));
  line("limits of a user's", in_child([] {
         if (setuid(1000) != 0) return 99;
         const mq_attr many = sized(11, 8);
         const mq_attr large = sized(10, 8193);
         const int both = (open_queue("m", O_RDWR | O_CREAT, 0600, &many) == -1 ? errno : 0) +
                          (open_queue("l", O_RDWR | O_CREAT, 0600, &large) == -1 ? errno : 0);
         return both;
       }));
  line("RLIMIT_MSGQUEUE", in_child([] {
         const rlimit little{1000, 1000};
         if (setrlimit(RLIMIT_MSGQUEUE, &little) != 0 || setuid(51234) != 0) return 99;
         const mq_attr fits = sized(5, 100);  // with what is counted for each: 980
         if (open_queue("fits", O_RDWR | O_CREAT, 0600, &fits) == -1) return 98;
         const mq_attr one = sized(1, 1);
         const int first = open_queue("more", O_RDWR | O_CREAT, 0600, &one) == -1 ? errno : 0;
         if (unlink_queue("fits") != 0) return 97;
         close(static_cast<int>(open_queue("fits", O_RDWR)));
         return first;
       }));
  line("no descriptor left", in_child([] {
         const rlimit none{3, 3};
         setrlimit(RLIMIT_NOFILE, &none);
         return open_queue("q", O_RDWR) == -1 ? errno : 0;
       }));

  begin("mq_unlink");
  value("missing", unlink_queue("none"));
  value("bad name", unlink_queue(static_cast<const char*>(kBad)));
  value("empty name", unlink_queue(""));
  value("with a slash", unlink_queue("/q"));
  line("another's", in_child([] {
         if (setuid(1000) != 0) return 99;
         return unlink_queue("q") == -1 ? errno : 0;
       }));
  value("ours", unlink_queue("q"));
  value("twice", unlink_queue("q"));
  value("it is there for who has it", send(queue, "still", 0));
  char text[32];
  value("and gives back", receive(queue, text, sizeof text));
  value("its file", fstat(static_cast<int>(queue), &file));
  value("links", static_cast<long>(file.st_nlink));
  truth("a new one of the name", open_queue("q", O_RDWR | O_CREAT, 0600, &small) >= 0);
  value("has nothing of it", messages_in(open_queue("q", O_RDONLY)));
  for (const char* name : {"q", "usual", "masked"}) unlink_queue(name);
  unlink_queue(std::string(255, 'n').c_str());
}

void moving() {
  const mq_attr small = sized(3, 16);
  const long queue = open_queue("q", O_RDWR | O_CREAT | O_NONBLOCK, 0600, &small);
  const long reader = open_queue("q", O_RDONLY);
  const long writer = open_queue("q", O_WRONLY);
  char text[64];
  unsigned priority = 0;
  begin("mq_timedsend");
  value("no queue", send(-1, "x", 0));
  value("a pipe's", send(1, "x", 0));
  value("to a reader's", send(reader, "x", 0));
  value("priority too high", send(queue, "x", 32768));
  value("too long", send(queue, "0123456789abcdefg", 0));
  value("from a bad place", syscall(SYS_mq_timedsend, queue, kBad, 4L, 0L, nullptr));
  const timespec wrong{0, 1'000'000'000};
  const timespec negative{-1, 0};
  value("wrong time", send(queue, "x", 0, &wrong));
  value("negative time", send(queue, "x", 0, &negative));
  value("time at a bad place", send(queue, "x", 0, static_cast<const timespec*>(kBad)));
  value("low", send(queue, "low", 1));
  value("high", send(queue, "high", 32767));
  value("low again", send(queue, "low again", 1));
  value("full", send(queue, "x", 1));
  value("full, from a bad place", syscall(SYS_mq_timedsend, queue, kBad, 4L, 0L, nullptr));
  value("full, too long", send(queue, "0123456789abcdefg", 0));
  const timespec soon = in_ms(20);
  value("full for a while", send(writer, "x", 1, &soon));
  value("full since long ago", send(writer, "x", 1, &soon));
  value("messages", messages_in(queue));

  begin("mq_timedreceive");
  value("no queue", receive(-1, text, sizeof text));
  value("a writer's", receive(writer, text, sizeof text));
  value("too little room", receive(queue, text, 15));
  value("the highest", receive(queue, text, 16, &priority));
  line("is", std::string(text) + " " + std::to_string(priority));
  value("the older", receive(queue, text, sizeof text, &priority));
  line("is", std::string(text) + " " + std::to_string(priority));
  value("the younger", receive(queue, text, sizeof text));
  line("is", text);
  value("nothing there", receive(queue, text, sizeof text));
  value("nothing for a while", receive(reader, text, sizeof text, nullptr, &soon));
  value("wrong time", receive(reader, text, sizeof text, nullptr, &wrong));
  value("empty message", send(queue, "", 5));
  value("and received", receive(queue, text, sizeof text, &priority));
  value("sent to be lost", send(queue, "lost", 0));
  value("to a bad place", syscall(SYS_mq_timedreceive, queue, kBad, 64L, nullptr, nullptr));
  value("messages", messages_in(queue));
  line("one who waits gets it", in_child([&] {
         const pid_t child = fork();
         if (child == 0) {
           char own[16];
           _exit(receive(reader, own, sizeof own) == 3 && std::strcmp(own, "you") == 0 ? 7 : 1);
         }
         send(queue, "you", 0);
         int status = 0;
         waitpid(child, &status, 0);
         return WEXITSTATUS(status) + static_cast<int>(messages_in(queue));
       }));
  line("one who waits for room", in_child([&] {
         for (const char* each : {"1", "2", "3"}) send(queue, each, 0);
         const pid_t child = fork();
         if (child == 0) _exit(send(writer, "4", 9) == 0 ? 7 : 1);
         char own[16];
         receive(queue, own, sizeof own);
         int status = 0;
         waitpid(child, &status, 0);
         const bool first = own[0] == '1';
         receive(queue, own, sizeof own);
         const bool then = own[0] == '4';
         while (receive(queue, own, sizeof own) >= 0) {
         }
         return WEXITSTATUS(status) + (first ? 10 : 0) + (then ? 20 : 0);
       }));
  line("a signal ends the wait", in_child([&] {
         struct sigaction action{};
         action.sa_handler = [](int) {};
         sigaction(SIGUSR1, &action, nullptr);
         const pid_t parent = getpid();
         const pid_t child = fork();
         if (child == 0) {
           for (;;) {
             kill(parent, SIGUSR1);
             usleep(5000);
           }
         }
         char own[16];
         const long got = receive(reader, own, sizeof own);
         const int why = errno;
         kill(child, SIGKILL);
         waitpid(child, nullptr, 0);
         return got == -1 ? why : 0;
       }));
  line("poll", in_child([&] {
         pollfd both{static_cast<int>(queue), POLLIN | POLLOUT, 0};
         poll(&both, 1, 0);
         const int empty = both.revents;
         for (const char* each : {"1", "2", "3"}) send(queue, each, 0);
         poll(&both, 1, 0);
         const int full = both.revents;
         char own[16];
         while (receive(queue, own, sizeof own) >= 0) {
         }
         return empty * 10 + full;
       }));
  line("poll is woken", in_child([&] {
         const pid_t child = fork();
         if (child == 0) {
           send(queue, "x", 0);
           _exit(0);
         }
         pollfd one{static_cast<int>(reader), POLLIN, 0};
         const int ready = poll(&one, 1, 20'000);
         waitpid(child, nullptr, 0);
         char own[16];
         return ready * 10 + static_cast<int>(receive(queue, own, sizeof own));
       }));

  begin("mq_getsetattr");
  mq_attr now{};
  mq_attr blocking{};
  mq_attr strange{};
  strange.mq_flags = O_APPEND;
  value("no queue", attributes_of(-1, &now));
  value("a pipe's", attributes_of(1, &now));
  value("to a bad place", syscall(SYS_mq_getsetattr, queue, nullptr, kBad));
  value("from a bad place", syscall(SYS_mq_getsetattr, queue, kBad, nullptr));
  value("strange flags", syscall(SYS_mq_getsetattr, queue, &strange, &now));
  value("neither", syscall(SYS_mq_getsetattr, queue, nullptr, nullptr));
  value("blocks from now on", syscall(SYS_mq_getsetattr, queue, &blocking, &now));
  truth("did not before", now.mq_flags == O_NONBLOCK);
  value("attributes", attributes_of(queue, &now));
  value("flags", now.mq_flags);
  truth("as fcntl has it", (fcntl(static_cast<int>(queue), F_GETFL) & O_NONBLOCK) == 0);
  value("sizes stay", now.mq_maxmsg);
  value("unlinked", unlink_queue("q"));
  for (const long each : {queue, reader, writer}) close(static_cast<int>(each));
}

siginfo_t told{};
volatile sig_atomic_t times_told = 0;

void telling() {
  begin("mq_notify");
  const mq_attr small = sized(3, 16);
  const long queue = open_queue("q", O_RDWR | O_CREAT | O_NONBLOCK, 0600, &small);
  char text[32];
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR2;
  event.sigev_value.sival_int = 77;
  const auto notify = [](long fd, const void* how) { return syscall(SYS_mq_notify, fd, how); };
  struct sigaction action{};
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    told = *info;
    times_told = times_told + 1;
  };
  sigaction(SIGUSR2, &action, nullptr);
  value("no queue", notify(-1, &event));
  value("a pipe's", notify(1, &event));
  value("from a bad place", notify(queue, kBad));
  value("nothing to take back", notify(queue, nullptr));
  event.sigev_notify = 9;
  value("in no way there is", notify(queue, &event));
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = 65;
  value("by no signal there is", notify(queue, &event));
  event.sigev_signo = SIGUSR2;
  value("by a signal", notify(queue, &event));
  value("twice", notify(queue, &event));
  line("another's", in_child([&] { return notify(queue, &event) == -1 ? errno : 0; }));
  const auto show = [&] {
    char shown[128] = {};
    lseek(static_cast<int>(queue), 0, SEEK_SET);
    const ssize_t got = read(static_cast<int>(queue), shown, sizeof shown - 1);
    std::string out(shown, got > 0 ? static_cast<size_t>(got) : 0);
    const size_t pid = out.find("NOTIFY_PID:");
    if (pid == std::string::npos) return out;
    const bool ours = std::atoi(out.c_str() + pid + 11) == getpid();
    return out.substr(0, pid) + (ours ? "ours" : out.substr(pid, out.size() - pid - 1));
  };
  line("as read shows it", show());
  value("write", write(static_cast<int>(queue), "x", 1));
  value("sent", send(queue, "one", 0));
  truth("told", times_told == 1);
  truth("by the queue", told.si_code == SI_MESGQ && told.si_signo == SIGUSR2);
  value("with the value", told.si_value.sival_int);
  truth("and by whom", told.si_pid == getpid() && told.si_uid == getuid());
  line("as read shows it", show());
  value("once alone", notify(queue, &event));
  value("not of a second message", send(queue, "two", 0));
  truth("not told", times_told == 1);
  while (receive(queue, text, sizeof text) >= 0) {
  }
  value("taken back", notify(queue, nullptr));
  value("sent", send(queue, "three", 0));
  truth("not told", times_told == 1);
  receive(queue, text, sizeof text);
  value("of a process that ends", notify(queue, nullptr));
  line("ends", in_child([&] { return notify(queue, &event) == 0 ? 5 : 1; }));
  value("is free", notify(queue, &event));
  const int second = dup(static_cast<int>(queue));
  close(second);
  line("closing a descriptor takes it back",
       in_child([&] { return notify(queue, &event) == 0 ? 5 : 1; }));
  event.sigev_notify = SIGEV_NONE;
  value("by nothing", notify(queue, &event));
  value("sent", send(queue, "four", 0));
  truth("not told", times_told == 1);
  line("is over", show());
  receive(queue, text, sizeof text);
  event.sigev_notify = SIGEV_SIGNAL;
  line("not when somebody waits", in_child([&] {
         const long waiting = open_queue("q", O_RDONLY);
         // Nothing says when the child waits: now and then it does in time.
         for (int i = 0; i < 200; ++i) {
           times_told = 0;
           const pid_t child = fork();
           if (child == 0) {
             char own[16];
             _exit(receive(waiting, own, sizeof own) == 1 ? 7 : 1);
           }
           usleep(1000 * i);
           if (notify(queue, &event) != 0) return 99;
           send(queue, "x", 0);
           int status = 0;
           waitpid(child, &status, 0);
           if (WEXITSTATUS(status) != 7) return 98;
           if (times_told == 0) return 7;
         }
         return 97;
       }));
  line("by a thread of the C library's", in_child([&] {
         static int ends[2];
         if (pipe(ends) != 0) return 99;
         sigevent threaded{};
         threaded.sigev_notify = SIGEV_THREAD;
         threaded.sigev_value.sival_int = 5;
         threaded.sigev_notify_function = [](sigval given) {
           const char byte = static_cast<char>(given.sival_int);
           if (write(ends[1], &byte, 1) != 1) _exit(98);
         };
         if (mq_notify(static_cast<mqd_t>(queue), &threaded) != 0) return errno;
         send(queue, "x", 0);
         char byte = 0;
         return read(ends[0], &byte, 1) == 1 ? byte : 97;
       }));
  while (receive(queue, text, sizeof text) >= 0) {
  }
  event.sigev_signo = 0;
  value("by signal 0", notify(queue, &event));
  line("as read shows it", show());
  value("sent", send(queue, "five", 0));
  line("is over", show());
  receive(queue, text, sizeof text);
  value("unlinked", unlink_queue("q"));
  close(static_cast<int>(queue));
}

int wait_for(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 100 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// Whose notice it is, and until when.
void owning_notices() {
  begin("mq_notify's owner");
  const mq_attr small = sized(3, 16);
  const int queue =
      static_cast<int>(open_queue("owned", O_RDWR | O_CREAT | O_NONBLOCK, 0600, &small));
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;  // ends who hears it
  const auto notify = [&] { return syscall(SYS_mq_notify, queue, &event); };
  const auto is_busy = [&] {
    if (notify() == -1) return errno == EBUSY ? 1 : 90;
    return syscall(SYS_mq_notify, queue, nullptr) == 0 ? 0 : 91;
  };
  const auto share = [] { return syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0); };

  // A child that asks and executes another program; -1 where that does not come to say so.
  const auto asks_and_executes = [&](bool keeps_queue) -> pid_t {
    int ends[2];
    if (pipe(ends) != 0) return -1;
    const pid_t child = fork();
    if (child == 0) {
      dup2(ends[1], 1);
      if (keeps_queue) fcntl(queue, F_SETFD, 0);
      if (notify() != 0) _exit(98);
      char* words[] = {const_cast<char*>("guest_calls"), const_cast<char*>("--stay"), nullptr};
      execv("/proc/self/exe", words);
      _exit(97);
    }
    close(ends[1]);
    char byte = 0;
    return read(ends[0], &byte, 1) == 1 ? child : -1;
  };

  line("the next program is not told", in_child([&] {
         const pid_t child = asks_and_executes(true);
         if (child < 0) return 96;
         const int busy = is_busy();
         send(queue, "x", 0);
         const int after = is_busy();
         char text[16];
         receive(queue, text, sizeof text);
         kill(child, SIGTERM);
         return busy * 10 + after * 100 + (wait_for(child) == 100 + SIGTERM ? 1 : 0);
       }));
  line("exec that closes it", in_child([&] {
         const pid_t child = asks_and_executes(false);
         if (child < 0) return 96;
         const int busy = is_busy();
         kill(child, SIGTERM);
         return busy * 10 + (wait_for(child) == 100 + SIGTERM ? 1 : 0);
       }));
  line("closed by who shares descriptors", in_child([&] {
         if (notify() != 0) return 99;
         const int second = dup(queue);
         const long child = share();
         if (child == 0) _exit(close(second) == 0 ? 5 : 1);
         const int closed = wait_for(static_cast<pid_t>(child));
         return closed + (fcntl(second, F_GETFD) == -1 ? 10 : 0) + 100 * is_busy();
       }));
  line("closed in another table", in_child([&] {
         int ends[2];
         if (pipe(ends) != 0 || notify() != 0) return 99;
         const long child = share();
         if (child == 0) {
           char byte = 0;
           _exit(read(ends[0], &byte, 1) == 1 ? 5 : 1);
         }
         if (unshare(CLONE_FILES) != 0) return 98;
         const int before = is_busy();
         close(dup(queue));
         const int after = is_busy();
         if (write(ends[1], "x", 1) != 1) return 97;
         return wait_for(static_cast<pid_t>(child)) + before * 10 + after * 100;
       }));
  line("a table that is nobody else's stays", in_child([&] {
         if (notify() != 0) return 99;
         if (close_range(900, 901, CLOSE_RANGE_UNSHARE) != 0) return 98;
         return is_busy();
       }));
  line("a socket that is full", in_child([&] {
         const int socket = ::socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
         const int little = 1;
         setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
         const char cookie[32] = "the queue's own word";
         sigevent threaded{};
         threaded.sigev_notify = SIGEV_THREAD;
         threaded.sigev_signo = socket;
         threaded.sigev_value.sival_ptr = const_cast<char*>(cookie);
         if (syscall(SYS_mq_notify, queue, &threaded) != 0) return errno;
         struct {
           nlmsghdr header;
           ifinfomsg body;
         } asked{};
         asked.header.nlmsg_len = sizeof asked;
         asked.header.nlmsg_type = RTM_GETLINK;
         asked.header.nlmsg_flags = NLM_F_REQUEST;
         asked.body.ifi_index = 123456;  // there is none: an answer that says so
         for (int i = 0; i < 100; ++i) ::send(socket, &asked, sizeof asked, MSG_DONTWAIT);
         send(queue, "x", 0);
         int heard = 0;
         for (int i = 0; i < 200; ++i) {
           char text[256];
           const ssize_t got = recv(socket, text, sizeof text, MSG_DONTWAIT);
           if (got == -1 && errno == EAGAIN) break;
           if (got == 32 && std::strcmp(text, cookie) == 0) heard = text[31];
         }
         return heard;
       }));
  unlink_queue("owned");
  close(queue);
}

void mounted() {
  begin("mqueue");
  mkdir("queues", 0755);
  value("mount", mount("queues", "queues", "mqueue", 0, nullptr));
  struct statfs system{};
  value("statfs", statfs("queues", &system));
  truth("type", system.f_type == 0x19800202);
  struct stat file{};
  value("its root", stat("queues", &file));
  value("mode", file.st_mode);
  value("size", file.st_size);
  const int by_name = open("queues/file", O_RDWR | O_CREAT, 0600);
  truth("made by name", by_name >= 0);
  truth("is a queue", open_queue("file", O_RDWR) >= 0);
  value("and can be used as one", send(by_name, "x", 0));
  close(by_name);  // an open file keeps the mount
  line("RLIMIT_MSGQUEUE", in_child([] {
         const rlimit little{1000, 1000};
         if (setrlimit(RLIMIT_MSGQUEUE, &little) != 0) return 99;
         const int opened = open("queues/more", O_RDWR | O_CREAT, 0600) == -1 ? errno : 0;
         const int made = mknod("queues/more", S_IFREG | 0600, 0) == -1 ? errno : 0;
         return opened == made ? opened : 98;
       }));
  value("exclusively", open("queues/file", O_RDWR | O_CREAT | O_EXCL, 0600));
  truth("a queue's file",
        open_queue("queue", O_RDWR | O_CREAT) >= 0 && stat("queues/queue", &file) == 0);
  value("size", file.st_size);
  value("of its folder", (stat("queues", &file), file.st_size));
  value("folder", mkdir("queues/folder", 0755));
  value("fifo", mknod("queues/fifo", S_IFIFO | 0600, 0));
  value("symlink", symlink("queue", "queues/link"));
  value("link", link("queues/queue", "queues/again"));
  value("rename", rename("queues/queue", "queues/other"));
  value("chmod", chmod("queues/queue", 0640));
  value("mode", (stat("queues/queue", &file), file.st_mode));
  value("removed", unlink("queues/file"));
  value("is gone", open_queue("file", O_RDWR));
  value("unlinked", unlink_queue("queue"));
  value("is gone", stat("queues/queue", &file));
  char target[64] = {};
  const long fd = open_queue("shown", O_RDWR | O_CREAT);
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  value("in /proc/self/fd", readlink(path.c_str(), target, sizeof target - 1));
  line("is", target);
  unlink_queue("shown");
  std::memset(target, 0, sizeof target);
  value("without a name", readlink(path.c_str(), target, sizeof target - 1));
  line("is", target);
  value("umount", umount("queues"));
}

std::string setting(const char* name) {
  char text[32] = {};
  const int fd = open((std::string("/proc/sys/fs/mqueue/") + name).c_str(), O_RDONLY);
  const ssize_t got = read(fd, text, sizeof text - 1);
  close(fd);
  return got < 0 ? "none" : std::string(text, static_cast<size_t>(got > 0 ? got - 1 : 0));
}
long set(const char* name, const char* text) {
  const int fd = open((std::string("/proc/sys/fs/mqueue/") + name).c_str(), O_WRONLY);
  const long done = write(fd, text, std::strlen(text));
  const int why = errno;
  close(fd);
  errno = why;
  return done;
}

void limits() {
  begin("/proc/sys/fs/mqueue");
  for (const char* name :
       {"queues_max", "msg_max", "msgsize_max", "msg_default", "msgsize_default"})
    line(name, setting(name));
  value("no number", set("msg_max", "many\n"));
  value("too many", set("msg_max", "65537\n"));
  value("too few", set("msg_max", "0\n"));
  value("too small", set("msgsize_max", "127\n"));
  value("more", set("msg_max", "20\n"));
  line("are", setting("msg_max"));
  value("usual", set("msg_default", "15"));
  const long queue = open_queue("q", O_RDWR | O_CREAT);
  mq_attr now{};
  attributes_of(queue, &now);
  value("of a new one", now.mq_maxmsg);
  line("a user's", in_child([] {
         if (setuid(1000) != 0) return 99;
         const mq_attr many = sized(20, 8);
         return open_queue("m", O_RDWR | O_CREAT, 0600, &many) >= 0 ? 1 : 0;
       }));
  value("few queues", set("queues_max", "2"));
  line("are enough", in_child([] {
         if (setuid(1000) != 0) return 99;
         return open_queue("third", O_RDWR | O_CREAT, 0600, nullptr) == -1 ? errno : 0;
       }));
  line("whatever the size", in_child([] {
         if (setuid(1000) != 0) return 99;
         const mq_attr wrong = sized(0, 8);
         return open_queue("third", O_RDWR | O_CREAT, 0600, &wrong) == -1 ? errno : 0;
       }));
  for (const char* name : {"q", "m"}) unlink_queue(name);
}

}  // namespace

void message_queues() {
  // In a namespace of their own: nobody else's queues, and the limits that Linux begins with.
  begin("mq");
  line("in a new namespace", in_child([] {
         if (unshare(CLONE_NEWIPC | CLONE_NEWNS) != 0) return errno;
         mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
         opening();
         moving();
         telling();
         owning_notices();
         mounted();
         limits();
         return 0;
       }));
}

}  // namespace calls
