#include <sys/time.h>
#include <sys/times.h>

#include <csignal>
#include <ctime>

#include "calls.h"

namespace calls {
namespace {

volatile sig_atomic_t fired;
void on_alarm(int) { fired = fired + 1; }
double seconds_now() {
  timespec t{};
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

}  // namespace

void times() {
  begin("clock_gettime");
  timespec t{};
  for (clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW,
                          CLOCK_REALTIME_COARSE, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID})
    value(std::to_string(clock), syscall(SYS_clock_gettime, clock, &t));
  value("unknown", syscall(SYS_clock_gettime, 77, &t));
  value("bad pointer", syscall(SYS_clock_gettime, 0, 8));
  value("resolution", syscall(SYS_clock_getres, CLOCK_MONOTONIC, &t));
  value("is", t.tv_nsec);
  timeval tv{};
  value("gettimeofday", syscall(SYS_gettimeofday, &tv, nullptr));
  truth("time agrees", syscall(SYS_time, nullptr) - tv.tv_sec <= 1);
  begin("nanosleep");
  timespec wrong{0, 1'000'000'000};
  value("bad", nanosleep(&wrong, nullptr));
  wrong = {-1, 0};
  value("negative", nanosleep(&wrong, nullptr));
  const timespec nap{0, 30'000'000};
  const double before = seconds_now();
  value("sleeps", nanosleep(&nap, nullptr));
  truth("long enough", seconds_now() - before >= 0.03);
  value("absolute past", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &nap, nullptr));
  value("unknown clock", clock_nanosleep(77, 0, &nap, nullptr));
  begin("setitimer");
  signal(SIGALRM, on_alarm);
  itimerval timer{};
  timer.it_value.tv_usec = 20'000;
  timer.it_interval.tv_usec = 20'000;
  value("real", setitimer(ITIMER_REAL, &timer, nullptr));
  while (fired < 3) pause();
  itimerval old{};
  timer = {};
  value("off", setitimer(ITIMER_REAL, &timer, &old));
  value("interval was", old.it_interval.tv_usec);
  value("unknown", syscall(SYS_setitimer, 9, &timer, nullptr));
  timer.it_value.tv_usec = 2'000'000;
  value("bad", setitimer(ITIMER_REAL, &timer, nullptr));
  value("getitimer", getitimer(ITIMER_REAL, &old));
  begin("alarm");
  value("none before", alarm(100));
  value("was", alarm(0));
  begin("timer_create");
  timer_t id{};
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGALRM;
  value("made", timer_create(CLOCK_MONOTONIC, &event, &id));
  itimerspec spec{};
  spec.it_value.tv_nsec = 10'000'000;
  fired = 0;
  value("set", timer_settime(id, 0, &spec, nullptr));
  while (fired == 0) pause();
  value("fired", fired);
  itimerspec left{};
  value("get", timer_gettime(id, &left));
  value("left", left.it_value.tv_nsec);
  value("delete", timer_delete(id));
  value("delete again", syscall(SYS_timer_delete, 0));
  event.sigev_signo = 99;
  value("bad signal", timer_create(CLOCK_MONOTONIC, &event, &id));
  value("unknown clock", timer_create(77, nullptr, &id));
  begin("times");
  tms buffer{};
  truth("ticks", ::times(&buffer) > 0);
}

}  // namespace calls
