#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#include <cstdint>
#include <vector>

#include "calls.h"

namespace calls {
namespace {

void* const kBad = reinterpret_cast<void*>(8);

int control(int epoll, int what, int fd, uint32_t events, uint64_t data = 0) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  return epoll_ctl(epoll, what, fd, &event);
}

std::string bits(uint32_t events) {
  std::string out;
  const auto name = [&](uint32_t bit, const char* text) {
    if ((events & bit) != 0) out += out.empty() ? text : std::string("|") + text;
  };
  name(EPOLLIN, "IN");
  name(EPOLLPRI, "PRI");
  name(EPOLLOUT, "OUT");
  name(EPOLLERR, "ERR");
  name(EPOLLHUP, "HUP");
  name(EPOLLRDHUP, "RDHUP");
  return out.empty() ? "none" : out;
}

/// What one look finds: "data:bits" each, or the errno.
void waits(const std::string& what, int epoll, int most = 8, int timeout = 0) {
  epoll_event events[8];
  const int count = epoll_wait(epoll, events, most, timeout);
  if (count < 0) return line(what, result_of(count));
  std::string out = std::to_string(count);
  for (int i = 0; i < count; ++i)
    out += " " + std::to_string(events[i].data.u64) + ":" + bits(events[i].events);
  line(what, out);
}

void arguments() {
  begin("epoll_create1");
  value("unknown flags", epoll_create1(1));
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  value("close on exec", fcntl(epoll, F_GETFD));
  value("size of 0", epoll_create(0));
  const int other = epoll_create(1);
  value("not close on exec", fcntl(other, F_GETFD));
  close(other);
  char link[64] = {};
  const ssize_t length =
      readlink(("/proc/self/fd/" + std::to_string(epoll)).c_str(), link, sizeof link - 1);
  line("its link", std::string(link, static_cast<size_t>(length > 0 ? length : 0)));
  value("read", read(epoll, link, 8));
  value("write", write(epoll, link, 8));

  begin("epoll_ctl");
  int pipe_ends[2];
  ok("pipe", pipe(pipe_ends));
  value("epoll is closed", control(999, EPOLL_CTL_ADD, pipe_ends[0], EPOLLIN));
  value("file is closed", control(epoll, EPOLL_CTL_ADD, 999, EPOLLIN));
  value("not an epoll", control(pipe_ends[0], EPOLL_CTL_ADD, pipe_ends[1], EPOLLIN));
  value("itself", control(epoll, EPOLL_CTL_ADD, epoll, EPOLLIN));
  value("unknown operation", control(epoll, 9, pipe_ends[0], EPOLLIN));
  value("bad event",
        epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_ends[0], static_cast<epoll_event*>(kBad)));
  const int regular = open("epoll-file", O_CREAT | O_RDWR, 0600);
  value("regular file", control(epoll, EPOLL_CTL_ADD, regular, EPOLLIN));
  const int directory = open(".", O_RDONLY);
  value("directory", control(epoll, EPOLL_CTL_ADD, directory, EPOLLIN));
  const int path = open("epoll-file", O_PATH);
  value("O_PATH", control(epoll, EPOLL_CTL_ADD, path, EPOLLIN));
  value("modify what is not there", control(epoll, EPOLL_CTL_MOD, pipe_ends[0], EPOLLIN));
  value("remove what is not there", control(epoll, EPOLL_CTL_DEL, pipe_ends[0], EPOLLIN));
  value("add", control(epoll, EPOLL_CTL_ADD, pipe_ends[0], EPOLLIN, 1));
  value("add again", control(epoll, EPOLL_CTL_ADD, pipe_ends[0], EPOLLIN, 1));
  const int copy = dup(pipe_ends[0]);
  value("add its duplicate", control(epoll, EPOLL_CTL_ADD, copy, EPOLLIN, 2));
  value("remove without an event", epoll_ctl(epoll, EPOLL_CTL_DEL, copy, nullptr));
  value("exclusive by modify",
        control(epoll, EPOLL_CTL_MOD, pipe_ends[0], EPOLLIN | EPOLLEXCLUSIVE));
  value("exclusive one-shot",
        control(epoll, EPOLL_CTL_ADD, copy, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT));
  value("exclusive", control(epoll, EPOLL_CTL_ADD, copy, EPOLLIN | EPOLLEXCLUSIVE, 3));
  value("modify an exclusive one", control(epoll, EPOLL_CTL_MOD, copy, EPOLLIN));

  begin("epoll_wait");
  epoll_event events[2];
  value("no room", epoll_wait(epoll, events, 0, 0));
  value("negative room", epoll_wait(epoll, events, -1, 0));
  value("too much room", epoll_wait(epoll, events, 0x7fffffff, 0));
  value("not an epoll", epoll_wait(pipe_ends[0], events, 1, 0));
  waits("nothing", epoll);
  ok("write", write(pipe_ends[1], "abc", 3));
  value("bad events", epoll_wait(epoll, static_cast<epoll_event*>(kBad), 1, 0));
  waits("both descriptors", epoll);
  waits("one at a time", epoll, 1);
  waits("the other one's turn", epoll, 1);
  close(pipe_ends[0]);
  waits("closed but open by its duplicate", epoll);
  close(copy);
  waits("closed", epoll);
  const int again = dup(pipe_ends[1]);
  value("the number again", control(epoll, EPOLL_CTL_ADD, again, EPOLLOUT, 4));
  waits("no reader", epoll);
  for (const int fd : {again, pipe_ends[1], regular, directory, path, epoll}) close(fd);
}

void triggers() {
  begin("epoll triggers");
  const int epoll = epoll_create1(0);
  int ends[2];
  ok("pipe", pipe2(ends, O_NONBLOCK));
  char buffer[65536];
  ok("level", control(epoll, EPOLL_CTL_ADD, ends[0], EPOLLIN, 1));
  ok("write", write(ends[1], "ab", 2));
  waits("level", epoll);
  waits("level again", epoll);
  value("read one", read(ends[0], buffer, 1));
  waits("level with a byte left", epoll);
  ok("to edge", control(epoll, EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLET, 2));
  waits("edge: what was there", epoll);
  waits("edge: nothing new", epoll);
  ok("write", write(ends[1], "cd", 2));
  waits("edge: new bytes", epoll);
  value("read one", read(ends[0], buffer, 1));
  waits("edge: reading is not an event", epoll);
  ok("one shot", control(epoll, EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT, 3));
  waits("one shot", epoll);
  ok("write", write(ends[1], "e", 1));
  waits("one shot: fired", epoll);
  ok("again", control(epoll, EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT, 4));
  waits("one shot: set again", epoll);
  ok("no events", control(epoll, EPOLL_CTL_MOD, ends[0], 0, 5));
  waits("nothing is wanted", epoll);
  ok("writer", control(epoll, EPOLL_CTL_ADD, ends[1], EPOLLOUT | EPOLLET, 6));
  waits("writable", epoll);
  waits("edge: still writable", epoll);
  while (write(ends[1], buffer, sizeof buffer) > 0) {
  }
  while (read(ends[0], buffer, sizeof buffer) > 0) {
  }
  waits("edge: room again", epoll);
  close(ends[1]);
  waits("hang-up though nothing is wanted", epoll);
  close(ends[0]);
  close(epoll);
}

void nested() {
  begin("nested epoll");
  int epolls[8];
  for (int& epoll : epolls) epoll = epoll_create1(0);
  const int event = eventfd(0, 0);
  value("inner holds an event", control(epolls[0], EPOLL_CTL_ADD, event, EPOLLIN, 1));
  for (int i = 1; i < 7; ++i)
    value("level " + std::to_string(i),
          control(epolls[i], EPOLL_CTL_ADD, epolls[i - 1], EPOLLIN, static_cast<uint64_t>(i) + 1));
  value("circle", control(epolls[0], EPOLL_CTL_ADD, epolls[2], EPOLLIN));
  value("exclusive", control(epolls[7], EPOLL_CTL_ADD, epolls[0], EPOLLIN | EPOLLEXCLUSIVE));
  waits("outer: nothing", epolls[3]);
  pollfd entry{epolls[0], POLLIN, 0};
  value("poll: nothing", poll(&entry, 1, 0));
  const uint64_t one = 1;
  ok("write", write(event, &one, 8));
  waits("outer", epolls[3]);
  waits("outer again", epolls[3]);
  waits("inner", epolls[0]);
  value("poll", poll(&entry, 1, 0));
  value("poll: what", entry.revents);
  uint64_t count = 0;
  ok("read", read(event, &count, 8));
  waits("outer: nothing again", epolls[3]);
  close(epolls[1]);
  ok("write", write(event, &one, 8));
  waits("outer: a link is closed", epolls[3]);
  value("a circle no more", control(epolls[0], EPOLL_CTL_ADD, epolls[2], EPOLLIN));
  for (const int epoll : epolls) close(epoll);
  // From the top, with the depth above what is added.
  for (int& epoll : epolls) epoll = epoll_create1(0);
  for (int i = 0; i < 7; ++i)
    value("downwards " + std::to_string(i),
          control(epolls[i], EPOLL_CTL_ADD, epolls[i + 1], EPOLLIN));
  for (const int epoll : epolls) close(epoll);
  close(event);
}

void* write_later(void* raw) {
  usleep(30'000);
  const uint64_t one = 1;
  if (write(*static_cast<int*>(raw), &one, 8) != 8) _exit(9);
  return nullptr;
}
void nothing(int) {}

void sleeping() {
  begin("epoll sleeping");
  const int epoll = epoll_create1(0);
  int event = eventfd(0, EFD_NONBLOCK);
  ok("add", control(epoll, EPOLL_CTL_ADD, event, EPOLLIN | EPOLLET, 7));
  pthread_t thread;
  pthread_create(&thread, nullptr, write_later, &event);
  waits("woken", epoll, 8, 5000);
  pthread_join(thread, nullptr);
  waits("timed out", epoll, 8, 20);
  pthread_create(&thread, nullptr, write_later, &event);
  waits("woken for ever", epoll, 8, -1);
  pthread_join(thread, nullptr);
  // A nested one is woken through the inner one.
  const int outer = epoll_create1(0);
  const int inner = epoll_create1(0);
  ok("inner", control(inner, EPOLL_CTL_ADD, event, EPOLLIN | EPOLLET, 8));
  ok("outer", control(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 9));
  waits("inner: what was there", inner);
  pthread_create(&thread, nullptr, write_later, &event);
  waits("outer woken", outer, 8, 5000);
  pthread_join(thread, nullptr);
  close(outer);
  close(inner);

  begin("epoll_pwait");
  struct sigaction action{};
  action.sa_handler = nothing;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  sigset_t blocked;
  sigset_t open_mask;
  sigemptyset(&open_mask);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigprocmask(SIG_BLOCK, &blocked, nullptr);
  raise(SIGUSR1);
  epoll_event events[2];
  uint64_t count = 0;
  value("drained", read(event, &count, 8));
  value("blocked", epoll_wait(epoll, events, 2, 10));
  value("under another mask", epoll_pwait(epoll, events, 2, 5000, &open_mask));
  value("bad mask size", syscall(SYS_epoll_pwait, epoll, events, 2, 0, &open_mask, 4));
  value("bad mask", syscall(SYS_epoll_pwait, epoll, events, 2, 0, kBad, 8));
  sigset_t now;
  sigprocmask(SIG_UNBLOCK, &blocked, &now);
  truth("the mask is back", sigismember(&now, SIGUSR1) == 1);
  timespec wait{0, 5'000'000};
  value("pwait2 times out", syscall(SYS_epoll_pwait2, epoll, events, 2, &wait, nullptr, 8));
  wait.tv_nsec = -1;
  value("pwait2 of a bad time", syscall(SYS_epoll_pwait2, epoll, events, 2, &wait, nullptr, 8));
  const uint64_t one = 1;
  ok("write", write(event, &one, 8));
  value("pwait2 for ever", syscall(SYS_epoll_pwait2, epoll, events, 2, nullptr, nullptr, 8));
  close(event);
  close(epoll);
}

void events() {
  begin("eventfd");
  value("unknown flags", eventfd(0, 0x10));
  int fd = eventfd(3, EFD_NONBLOCK | EFD_SEMAPHORE | EFD_CLOEXEC);
  uint64_t count = 0;
  for (int i = 0; i < 4; ++i) {
    count = 0;
    value("semaphore read", read(fd, &count, 8));
    value("semaphore count", static_cast<long>(count));
  }
  close(fd);
  fd = eventfd(5, EFD_NONBLOCK);
  value("short read", read(fd, &count, 4));
  value("short write", write(fd, &count, 4));
  count = ~uint64_t{0};
  value("write of the highest", write(fd, &count, 8));
  count = ~uint64_t{0} - 6;
  value("up to the limit", write(fd, &count, 8));
  pollfd entry{fd, POLLIN | POLLOUT, 0};
  poll(&entry, 1, 0);
  value("full: what", entry.revents);
  count = 1;
  value("beyond the limit", write(fd, &count, 8));
  value("read", read(fd, &count, 8));
  truth("all of it", count == ~uint64_t{0} - 1);
  poll(&entry, 1, 0);
  value("empty: what", entry.revents);
  value("read of nothing", read(fd, &count, 8));
  value("seek", lseek(fd, 0, SEEK_SET));
  value("pread", pread(fd, &count, 8, 0));
  close(fd);
  value("old call", close(static_cast<int>(syscall(SYS_eventfd, 1))));
}

void timers() {
  begin("timerfd");
  value("unknown clock", timerfd_create(77, 0));
  value("processor time", timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
  value("unknown flags", timerfd_create(CLOCK_MONOTONIC, 1));
  for (const int clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME}) {
    const int fd = timerfd_create(clock, TFD_NONBLOCK | TFD_CLOEXEC);
    line("clock", std::to_string(clock));
    uint64_t count = 0;
    value("read of an unarmed one", read(fd, &count, 8));
    itimerspec spec{};
    spec.it_value.tv_nsec = 1'000'000'000;
    value("bad time", timerfd_settime(fd, 0, &spec, nullptr));
    spec.it_value.tv_nsec = 20'000'000;
    value("unknown flags", timerfd_settime(fd, 8, &spec, nullptr));
    value("bad pointer", timerfd_settime(fd, 0, static_cast<itimerspec*>(kBad), nullptr));
    value("set", timerfd_settime(fd, 0, &spec, nullptr));
    value("not yet", read(fd, &count, 8));
    itimerspec left{};
    value("get", timerfd_gettime(fd, &left));
    truth("some is left", left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 20'000'000);
    pollfd entry{fd, POLLIN, 0};
    value("poll", poll(&entry, 1, 5000));
    value("short read", read(fd, &count, 4));
    value("read", read(fd, &count, 8));
    value("expirations", static_cast<long>(count));
    value("once", read(fd, &count, 8));
    value("get", timerfd_gettime(fd, &left));
    value("nothing is left", left.it_value.tv_nsec);
    // A time that has passed fires at once; each interval counts.
    timespec now{};
    clock_gettime(clock, &now);
    spec.it_value = now;
    spec.it_value.tv_sec -= 1;
    spec.it_interval.tv_nsec = 100'000'000;
    value("absolute", timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, &left));
    value("poll", poll(&entry, 1, 5000));
    value("read", read(fd, &count, 8));
    truth("ten and more", count >= 10 && count < 100);
    value("get", timerfd_gettime(fd, &left));
    value("interval", left.it_interval.tv_nsec);
    truth("the next one is near",
          left.it_value.tv_sec == 0 && left.it_value.tv_nsec <= 100'000'000);
    spec.it_value = {};
    value("disarm", timerfd_settime(fd, 0, &spec, &left));
    value("what was the interval", left.it_interval.tv_nsec);
    value("disarmed", poll(&entry, 1, 150));
    close(fd);
  }
  const int fd = timerfd_create(CLOCK_MONOTONIC, 0);
  itimerspec spec{};
  spec.it_value.tv_nsec = 10'000'000;
  spec.it_interval.tv_nsec = 10'000'000;
  ok("periodic", timerfd_settime(fd, 0, &spec, nullptr));
  uint64_t count = 0;
  value("blocking read", read(fd, &count, 8));
  truth("at least one", count >= 1);
  value("write", write(fd, &count, 8));
  const int epoll = epoll_create1(0);
  ok("watch", control(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
  waits("in an epoll", epoll, 8, 5000);
  close(epoll);
  close(fd);
  int ends[2];
  ok("pipe", pipe(ends));
  value("settime of a pipe", timerfd_settime(ends[0], 0, &spec, nullptr));
  value("gettime of a pipe", timerfd_gettime(ends[0], &spec));
  value("settime of none", timerfd_settime(999, 0, &spec, nullptr));
  close(ends[0]);
  close(ends[1]);
}

void signals_as_files() {
  begin("signalfd");
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR1);
  sigaddset(&mask, SIGRTMIN + 1);
  sigaddset(&mask, SIGCHLD);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  value("unknown flags", signalfd(-1, &mask, 1));
  value("bad descriptor", signalfd(999, &mask, 0));
  value("not a signalfd", signalfd(0, &mask, 0));
  value("bad size", syscall(SYS_signalfd4, -1, &mask, 4, 0));
  value("bad mask", syscall(SYS_signalfd4, -1, kBad, 8, 0));
  const int fd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
  signalfd_siginfo info[4] = {};
  value("nothing", read(fd, info, sizeof info));
  value("no room", read(fd, info, 100));
  kill(getpid(), SIGUSR1);
  pollfd entry{fd, POLLIN, 0};
  value("poll", poll(&entry, 1, 0));
  value("read", read(fd, info, sizeof info));
  value("signal", info[0].ssi_signo);
  value("code", info[0].ssi_code);
  truth("sender",
        info[0].ssi_pid == static_cast<uint32_t>(getpid()) && info[0].ssi_uid == getuid());
  sigval payload{};
  payload.sival_int = 42;
  sigqueue(getpid(), SIGRTMIN + 1, payload);
  payload.sival_int = 43;
  sigqueue(getpid(), SIGRTMIN + 1, payload);
  value("two", read(fd, info, sizeof info));
  value("first", info[0].ssi_int);
  value("second", info[1].ssi_int);
  value("code", info[1].ssi_code);
  line("a child", in_child([] { return 5; }));
  value("its end", read(fd, info, sizeof info));
  value("signal", info[0].ssi_signo);
  value("code", info[0].ssi_code);
  value("status", info[0].ssi_status);
  const int epoll = epoll_create1(0);
  ok("watch", control(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
  waits("none", epoll);
  raise(SIGUSR1);
  waits("raised", epoll, 8, 1000);
  value("read", read(fd, info, sizeof info));
  // From another process, to one that sleeps.
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) {
    usleep(30'000);
    kill(parent, SIGUSR1);
    _exit(0);
  }
  waits("woken", epoll, 8, 5000);
  value("read", read(fd, info, 128));
  truth("sender", info[0].ssi_pid == static_cast<uint32_t>(child));
  waitpid(child, nullptr, 0);
  sigset_t other;
  sigemptyset(&other);
  sigaddset(&other, SIGUSR2);
  truth("another mask", signalfd(fd, &other, 0) == fd);
  raise(SIGUSR1);
  value("not asked for any more", poll(&entry, 1, 0));
  signalfd(fd, &mask, 0);
  value("asked for again", poll(&entry, 1, 0));
  while (read(fd, info, sizeof info) > 0) {
  }
  sigprocmask(SIG_UNBLOCK, &mask, nullptr);
  close(epoll);
  close(fd);
}

}  // namespace

void epolls() {
  arguments();
  triggers();
  nested();
  sleeping();
  events();
  timers();
  signals_as_files();
}

}  // namespace calls
