#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <utility>

#include "guest/base/wait.h"
#include "guest/mm/mm.h"

namespace fluyt::guest {

/// Who waits on which word of guest memory (futex(2)).
class Futexes {
 public:
  static Mm::SharedPlace private_place(Mm& mm, uint64_t address) { return {&mm, address}; }

  Errno wait(Mm& mm, const Mm::SharedPlace& place, uint64_t address, uint32_t expected,
             uint32_t bits, Sleeper& sleeper, const Deadline& deadline);
  int wake(const Mm::SharedPlace& place, int count, uint32_t bits);
  /// Wakes `count`, moves up to `move` of the rest to `to`. With `expected`, only while the word at
  /// `address` is that (EAGAIN). Gives the number woken, and moved as well when it was compared.
  ErrnoOr<int> requeue(Mm& mm, const Mm::SharedPlace& from, uint64_t address,
                       const uint32_t* expected, int count, const Mm::SharedPlace& to, int move);
  ErrnoOr<int> wake_op(Mm& mm, const Mm::SharedPlace& first, int count,
                       const Mm::SharedPlace& second, uint64_t address, int second_count,
                       uint32_t op);

 private:
  using Key = std::pair<const void*, uint64_t>;
  struct Waiter {
    Sleeper* sleeper = nullptr;
    uint32_t bits = 0;
    bool woken = false;
    Key key;
    std::list<Waiter*>::iterator at;
  };
  int wake_locked(const Key& key, int count, uint32_t bits);
  void leave(Waiter& waiter);

  std::mutex mutex_;
  std::map<Key, std::list<Waiter*>> queues_;
};

}  // namespace fluyt::guest
