#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/result.h"
#include "sys/fd.h"

/// Calls of milliseconds before work of seconds, on a machine with few processors: who begins a
/// call says so on a page in memory, and work looks there between its steps, in this process or
/// in one that was handed the page. Nothing depends on it but time: who lies there slows work down
/// to a third.
namespace fluyt::sys {

/// What lies on the page; all zero at first.
struct PrecedencePage {
  std::atomic<uint32_t> calls;            // under way; a futex(2)
  std::atomic<uint32_t> works;            // under way
  std::atomic<int64_t> last_call_begins;  // CLOCK_BOOTTIME, ns
};

class Precedence {
 public:
  /// kInternal when there is no memory for it.
  static Result<std::shared_ptr<Precedence>> create();
  ~Precedence();
  Precedence(const Precedence&) = delete;
  Precedence& operator=(const Precedence&) = delete;

  /// Counts for as long as it lives.
  class Count {
   public:
    Count(std::shared_ptr<Precedence> of, std::atomic<uint32_t>& count);
    Count(Count&& other) noexcept
        : of_(std::move(other.of_)), count_(std::exchange(other.count_, nullptr)) {}
    Count& operator=(Count&&) = delete;
    ~Count();

   private:
    std::shared_ptr<Precedence> of_;
    std::atomic<uint32_t>* count_;
  };
  static Count begin_call(const std::shared_ptr<Precedence>& of);
  static Count begin_work(const std::shared_ptr<Precedence>& of);

  /// To be handed to another process; sealed: it can be read there and not written to.
  FdRef page() const { return fd_; }

 private:
  friend class GiveWay;
  Precedence(Fd fd, PrecedencePage* page) : fd_(std::move(fd)), page_(page) {}
  Fd fd_;
  PrecedencePage* page_;
};

/// The side of one piece of work.
class GiveWay {
 public:
  GiveWay() = default;  // to nobody
  explicit GiveWay(std::shared_ptr<const Precedence> to);
  /// To the calls of the process that made the page; it stays mapped for good.
  static Result<GiveWay> open(FdRef page);

  /// Between two steps of some milliseconds: waits while calls are under way, at most kMostMs, and
  /// not again for half of that time. A call counts for kCallMs, for some hang; none does where the
  /// machine has more than kThreadsOfWork processors for each piece of work. True when there was
  /// one to wait for.
  bool between_steps();

  static constexpr int64_t kMostMs = 50;
  static constexpr int64_t kCallMs = 1000;
  static constexpr long kThreadsOfWork = 4;  // a fetch, and the three of an unpacker

 private:
  std::shared_ptr<const Precedence> to_;
  const PrecedencePage* page_ = nullptr;
  long processors_ = 1;
  int64_t free_until_ns_ = 0;
};

}  // namespace fluyt::sys
