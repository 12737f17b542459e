#include <fcntl.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <time.h>

#include <algorithm>

#include "guest/fs/devices.h"
#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

constexpr int64_t kLongest = int64_t{100} * 365 * 86400 * 1'000'000'000;  // as after_ns

/// timerfd_create(2). Expirations are counted when they are asked for; the kernel's timer only
/// wakes those who wait, once, until the next read or setting.
class TimerFile final : public File, public std::enable_shared_from_this<TimerFile> {
 public:
  TimerFile(int flags, int clock, Timers& timers)
      : File(nullptr, make_anonymous_inode(0600, 0), O_RDWR | flags),
        clock_(clock),
        timers_(timers) {}
  ~TimerFile() override { timers_.cancel(timer_); }

  int clock() const { return clock_; }

  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t*) override {
    if (to.size() < sizeof(uint64_t)) return Errno(EINVAL);
    uint64_t count = 0;
    const auto take = [&] {
      std::lock_guard lock(mutex_);
      count = pass(Clock::now());
      if (count != 0) arm();
      return count != 0;
    };
    if (!take()) {
      if (nonblocking()) return Errno(EAGAIN);
      GUEST_TRY(wait_until(queue_, caller.sleeper, {}, take));
    }
    std::copy_n(std::as_bytes(std::span(&count, 1)).data(), sizeof count, to.data());
    return sizeof count;
  }
  uint32_t ready(uint32_t) override {
    std::lock_guard lock(mutex_);
    return due_ && *due_ <= Clock::now() ? POLLIN | POLLRDNORM : 0;
  }
  WaitQueue* queue() override { return &queue_; }
  ErrnoOr<int64_t> seek(int64_t, int) override { return int64_t{0}; }
  std::string describe() const override { return "anon_inode:[timerfd]"; }

  /// Nanoseconds until the next expiration (0: none) and between expirations.
  struct Setting {
    int64_t left_ns = 0;
    int64_t interval_ns = 0;
  };
  Setting get() {
    std::lock_guard lock(mutex_);
    return now_set();
  }
  Setting set(const Setting& wanted, bool armed) {
    std::lock_guard lock(mutex_);
    const Setting before = now_set();
    timers_.cancel(timer_);
    timer_ = 0;
    interval_ns_ = std::min(wanted.interval_ns, kLongest);
    due_.reset();
    if (armed) due_ = after_ns(wanted.left_ns);
    arm();
    return before;
  }

 private:
  /// Moves the next expiration past `now`; how many were passed.
  uint64_t pass(Clock::time_point now) {
    if (!due_ || *due_ > now) return 0;
    if (interval_ns_ == 0) {
      due_.reset();
      return 1;
    }
    const int64_t late = std::chrono::nanoseconds(now - *due_).count();
    const int64_t count = late / interval_ns_ + 1;
    *due_ += std::chrono::nanoseconds(count * interval_ns_);
    return static_cast<uint64_t>(count);
  }
  Setting now_set() const {
    Setting out{0, interval_ns_};
    if (!due_) return out;
    out.left_ns = std::chrono::nanoseconds(*due_ - Clock::now()).count();
    if (out.left_ns <= 0)
      out.left_ns = interval_ns_ == 0 ? 0 : interval_ns_ - -out.left_ns % interval_ns_;
    return out;
  }
  void arm() {
    if (!due_) return;
    timer_ = timers_.at(*due_, [weak = weak_from_this()] {
      if (const std::shared_ptr<TimerFile> self = weak.lock())
        self->queue_.wake_all(POLLIN | POLLRDNORM);
    });
  }

  const int clock_;
  Timers& timers_;
  std::mutex mutex_;
  Timers::Id timer_ = 0;
  std::optional<Clock::time_point> due_;
  int64_t interval_ns_ = 0;
  WaitQueue queue_;
};

struct TimerAt {
  FilePtr file;
  TimerFile* timer = nullptr;
};
ErrnoOr<TimerAt> get_timer(Task& task, uint64_t fd) {
  TimerAt out;
  out.file = GUEST_TRY(task.files->get(as_int(fd)));
  out.timer = dynamic_cast<TimerFile*>(out.file.get());
  if (out.timer == nullptr) return Errno(EINVAL);
  return out;
}

GuestInterval shown(const TimerFile::Setting& setting) {
  return {from_ns(setting.interval_ns), from_ns(setting.left_ns)};
}

}  // namespace

ErrnoOr<uint64_t> sys_timerfd_create(Task& task, Arguments a) {
  const int clock = as_int(a[0]);
  const int flags = as_int(a[1]);
  if ((flags & ~(TFD_CLOEXEC | TFD_NONBLOCK)) != 0) return Errno(EINVAL);
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME &&
      clock != CLOCK_REALTIME_ALARM && clock != CLOCK_BOOTTIME_ALARM)
    return Errno(EINVAL);
  // Alarms wake a machine that sleeps; that is not a guest's to do.
  if (clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM) return Errno(EPERM);
  return add_file(task,
                  std::make_shared<TimerFile>(flags & TFD_NONBLOCK, clock, task.kernel.timers),
                  (flags & TFD_CLOEXEC) != 0);
}

ErrnoOr<uint64_t> sys_timerfd_settime(Task& task, Arguments a) {
  const int flags = as_int(a[1]);
  const GuestInterval wanted = GUEST_TRY(task.get<GuestInterval>(a[2]));
  for (const GuestTime& time : {wanted.interval, wanted.value})
    if (time.seconds < 0 || time.nanoseconds < 0 || time.nanoseconds >= 1'000'000'000)
      return Errno(EINVAL);
  if ((flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) != 0) return Errno(EINVAL);
  const TimerAt at = GUEST_TRY(get_timer(task, a[0]));
  TimerFile::Setting setting{in_ns(wanted.value), in_ns(wanted.interval)};
  const bool armed = setting.left_ns != 0;
  if ((flags & TFD_TIMER_ABSTIME) != 0)
    setting.left_ns -= host::clock_ns(at.timer->clock());  // below 0: expirations have passed
  const TimerFile::Setting before = at.timer->set(setting, armed);
  if (a[3] != 0) GUEST_TRY(task.put(a[3], shown(before)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_timerfd_gettime(Task& task, Arguments a) {
  const TimerAt at = GUEST_TRY(get_timer(task, a[0]));
  GUEST_TRY(task.put(a[1], shown(at.timer->get())));
  return uint64_t{0};
}

}  // namespace fluyt::guest
