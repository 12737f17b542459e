#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cmath>

#include "guest/platform/host/io.h"
#include "guest/task/task.h"

// Processor time. What guest code takes is the stub's; what the sentry takes on behalf of a guest
// thread counts as the system's.
namespace fluyt::guest {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kNever = INT64_MAX;

/// Takes a timer that is due on; true when it fires.
bool advance(ProcessorTimer& timer, int64_t now) {
  if (timer.due_ns == 0 || now < timer.due_ns) return false;
  if (timer.interval_ns == 0) {
    timer.due_ns = 0;
  } else {
    const int64_t missed = (now - timer.due_ns) / timer.interval_ns;
    timer.due_ns += (missed + 1) * timer.interval_ns;
    timer.overrun = static_cast<int>(std::min<int64_t>(missed, INT32_MAX));
  }
  return true;
}

}  // namespace

void Task::begin_usage() {
  clockid_t clock{};
  if (pthread_getcpuclockid(pthread_self(), &clock) != 0) return;
  const int64_t now = host::clock_ns(clock);
  std::lock_guard guard(kernel.lock);
  sentry_clock_ = clock;
  sentry_base_ns_ = now;
}

int64_t Task::system_ns() const {
  return sentry_clock_ == 0 ? 0 : host::clock_ns(sentry_clock_) - sentry_base_ns_;
}

void Process::end_image(Mm& mm) {
  user_before_ns += std::max<int64_t>(mm.space().processor_ns() - user_base_ns, 0);
  user_base_ns = 0;
}

Usage Process::usage() const {
  Usage out{user_before_ns, system_before_ns};
  bool counted = false;
  for (const Task* task : threads) {
    out.system_ns += task->system_ns();
    if (counted || !task->mm) continue;
    out.user_ns += std::max<int64_t>(task->mm->space().processor_ns() - user_base_ns, 0);
    counted = true;
  }
  return out;
}

Usage Kernel::usage() const {
  Usage out = ended_usage;
  for (const auto& [pid, process] : processes) {
    if (process->zombie) continue;
    const Usage own = process->usage();
    out.user_ns += own.user_ns;
    out.system_ns += own.system_ns;
  }
  return out;
}

LoadAverage::Values LoadAverage::look(int64_t now_ns, int64_t used_ns) {
  constexpr std::array<double, 3> kSeconds = {60, 300, 900};
  const auto passed = static_cast<double>(now_ns - seen_ns_);
  if (passed <= 0) return values_;
  const double mean = std::max(static_cast<double>(used_ns - used_ns_), 0.0) / passed;
  for (size_t i = 0; i < kSeconds.size(); ++i)
    values_[i] = mean + (values_[i] - mean) * std::exp(-passed / 1e9 / kSeconds[i]);
  seen_ns_ = now_ns;
  used_ns_ = std::max(used_ns, used_ns_);
  return values_;
}

LoadAverage::Values Kernel::load() {
  if (!load_) load_.emplace(booted_ns);
  const Usage used = usage();
  return load_->look(host::clock_ns(CLOCK_BOOTTIME), used.user_ns + used.system_ns);
}

size_t Kernel::running() const {
  const auto in_guest =
      std::ranges::count_if(tasks, [](const auto& entry) { return entry.second->is_running(); });
  return static_cast<size_t>(in_guest) + 1;
}

void Kernel::watch_processor_time(const ProcessPtr& process) {
  if (process->processor_watch || process->zombie) return;
  process->processor_watch = true;
  check_processor_time(process);
}

void Kernel::check_processor_time(const ProcessPtr& process) {
  const Usage used = process->usage();
  const int64_t total = used.user_ns + used.system_ns;
  int64_t nearest = kNever;
  const auto look = [&](ProcessorTimer& timer, int64_t now, auto fire) {
    if (advance(timer, now)) fire();
    if (timer.due_ns != 0) nearest = std::min(nearest, timer.due_ns - now);
  };
  look(process->virtual_timer, used.user_ns,
       [&] { send(*process, make_signal(SIGVTALRM, SI_KERNEL)); });
  look(process->profile_timer, total, [&] { send(*process, make_signal(SIGPROF, SI_KERNEL)); });
  for (auto& [id, timer] : process->timers) {
    if (!timer.processor_time) continue;
    look(timer.by_processor, total, [&, number = id, &posix = timer] {
      posix.overrun = posix.by_processor.overrun;
      fire_timer(*process, number, posix);
    });
  }
  // RLIMIT_CPU: a signal a second from the soft limit on, the end at the hard one.
  const Limit limit = process->limits[0];
  const auto in_ns = [](uint64_t seconds) {
    constexpr uint64_t kMost = INT64_MAX / kSecond;
    return seconds > kMost ? kNever
                           : static_cast<int64_t>(std::max<uint64_t>(seconds, 1)) * kSecond;
  };
  if (const int64_t hard = in_ns(limit.hard); hard != kNever) {
    if (total >= hard) {
      send(*process, make_signal(SIGKILL, SI_KERNEL));
      return;
    }
    nearest = std::min(nearest, hard - total);
  }
  if (int64_t soft = in_ns(limit.soft); soft != kNever) {
    soft = std::max(soft, process->next_xcpu_ns);
    if (total >= soft) {
      send(*process, make_signal(SIGXCPU, SI_KERNEL));
      soft = process->next_xcpu_ns = total + kSecond;
    }
    nearest = std::min(nearest, soft - total);
  }
  if (nearest == kNever || process->zombie || process->exiting) {
    process->processor_watch = false;
    return;
  }
  // At the earliest when all of its threads had run since.
  const auto threads = static_cast<int64_t>(std::max<size_t>(process->threads.size(), 1));
  const int64_t wait = std::clamp<int64_t>(nearest / threads, 1'000'000, kSecond / 4);
  timers.at(Clock::now() + std::chrono::nanoseconds(wait),
            [this, weak = std::weak_ptr<Process>(process)] {
              const ProcessPtr again = weak.lock();
              if (!again) return;
              std::lock_guard guard(lock);
              if (again->zombie)
                again->processor_watch = false;
              else
                check_processor_time(again);
            });
}

void Kernel::fire_timer(Process& process, int id, const Process::PosixTimer& timer) {
  if (timer.notify == SIGEV_NONE) return;
  SignalInfo info = make_signal(timer.signal, SI_TIMER);
  info.payload[0] = static_cast<uint32_t>(id) | uint64_t{static_cast<uint32_t>(timer.overrun)}
                                                    << 32;
  info.payload[1] = timer.value;
  if (timer.thread != 0) {
    const auto thread = tasks.find(timer.thread);
    if (thread != tasks.end() && thread->second->process.get() == &process) {
      send_to(*thread->second, info);
      return;
    }
  }
  send(process, info);
}

}  // namespace fluyt::guest
