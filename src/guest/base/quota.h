#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace fluyt::guest {

/// So many of something, bytes mostly, and not more; within another quota where it has one. Any
/// thread may use it.
class Quota {
 public:
  static constexpr uint64_t kUnlimited = ~uint64_t{0};
  explicit Quota(uint64_t limit = kUnlimited, std::shared_ptr<Quota> within = nullptr)
      : limit_(limit), within_(std::move(within)) {}
  /// What one of several holders may have of `of`, however many they are: no more once it has as
  /// many as are left for all the others. One alone gets half; of n who take what they can each has
  /// one part of n + 1, and one is left for who comes next.
  static std::shared_ptr<Quota> share_of(std::shared_ptr<Quota> of) {
    auto share = std::make_shared<Quota>(kUnlimited, std::move(of));
    share->is_share_ = true;
    return share;
  }
  Quota(const Quota&) = delete;
  Quota& operator=(const Quota&) = delete;

  /// All or nothing.
  bool take(uint64_t amount) {
    uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      const uint64_t limit = this->limit();
      if (used > limit || amount > limit - used) return false;
    } while (!used_.compare_exchange_weak(used, used + amount, std::memory_order_relaxed));
    if (within_ == nullptr || within_->take(amount)) return true;
    used_.fetch_sub(amount, std::memory_order_relaxed);
    return false;
  }
  void give_back(uint64_t amount) {
    used_.fetch_sub(amount, std::memory_order_relaxed);
    if (within_ != nullptr) within_->give_back(amount);
  }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  /// A share's is what is left outside it at the moment.
  uint64_t limit() const {
    return is_share_ ? within_->left() : limit_.load(std::memory_order_relaxed);
  }
  /// What may still be taken, its own outer quota looked at too.
  uint64_t left() const {
    const uint64_t used = this->used();
    const uint64_t limit = this->limit();
    const uint64_t own = used < limit ? limit - used : 0;
    return within_ == nullptr ? own : std::min(own, within_->left());
  }
  /// May be below what is used: then nothing more is to be had.
  void set_limit(uint64_t limit) { limit_.store(limit, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> used_{0};
  std::atomic<uint64_t> limit_;
  const std::shared_ptr<Quota> within_;
  bool is_share_ = false;
};

/// What one holder has taken of a quota; given back when it goes. For one thread at a time.
class Charge {
 public:
  /// Without a quota everything is to be had.
  explicit Charge(std::shared_ptr<Quota> of = nullptr) : of_(std::move(of)) {}
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  ~Charge() { (void)set(0); }
  /// False: there is not so much, and nothing changes.
  bool set(uint64_t amount) {
    if (of_ != nullptr) {
      if (amount > amount_ && !of_->take(amount - amount_)) return false;
      if (amount < amount_) of_->give_back(amount_ - amount);
    }
    amount_ = amount;
    return true;
  }
  uint64_t amount() const { return amount_; }
  uint64_t left() const { return of_ == nullptr ? Quota::kUnlimited : of_->left(); }

 private:
  std::shared_ptr<Quota> of_;
  uint64_t amount_ = 0;
};

}  // namespace fluyt::guest
