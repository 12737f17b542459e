#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "guest/vfs/file.h"

namespace fluyt::guest {

/// struct epoll_event of x86-64.
struct [[gnu::packed]] EpollEvent {
  uint32_t events = 0;
  uint64_t data = 0;
};
static_assert(sizeof(EpollEvent) == 12);

/// epoll(7). It listens in the queues of the files: what wakes a queue puts the file on the list of
/// those that may be ready, and only these are looked at.
///
/// Locks, outermost first: the nesting lock (all epolls of the process; who contains whom),
/// `scan_` (looking at files), then a file's own, a queue's, `ready_mutex_`, and the queue of this
/// epoll with whatever contains it. `items_mutex_` is held over a queue's lock at most.
class Epoll final : public File {
 public:
  explicit Epoll(int flags);
  ~Epoll() override;

  Errno add(int fd, const FilePtr& file, const EpollEvent& event);
  Errno modify(int fd, const FilePtr& file, const EpollEvent& event);
  Errno remove(int fd, const FilePtr& file);
  /// Hands over up to `most` events and says how many; none when the deadline came first. When
  /// `deliver` fails they stay where they were.
  using Deliver = std::function<Errno(std::span<const EpollEvent>)>;
  ErrnoOr<size_t> wait(Sleeper& sleeper, size_t most, const Deadline& deadline,
                       const Deliver& deliver);

  uint32_t ready(uint32_t wanted) override;
  WaitQueue* queue() override { return &queue_; }
  ErrnoOr<int64_t> seek(int64_t, int) override { return int64_t{0}; }
  std::string describe() const override { return "anon_inode:[eventpoll]"; }

 private:
  class Item;
  using ItemPtr = std::shared_ptr<Item>;
  using Key = std::pair<const File*, int>;

  /// May `inner` be put into this one: no circle, and not too deep. Under the nesting lock.
  Errno may_contain(Epoll& inner);
  /// How many epolls follow one another in one direction; -1 when this one is among them.
  int depth(Epoll& at, std::multiset<Epoll*> Epoll::* direction,
            std::map<const Epoll*, int>& known);
  void prune();
  ItemPtr find(const Key& key);
  void note(const ItemPtr& item);
  void note(const ItemPtr& item, Wakes& wakes);
  ItemPtr next_noted();
  ErrnoOr<size_t> collect(size_t most, const Deliver& deliver);
  /// Takes it out of every list, and its listener out of the file's queue.
  void retire(const ItemPtr& item);

  std::mutex scan_;
  std::mutex items_mutex_;
  std::map<Key, ItemPtr> items_;
  size_t prune_at_ = 64;
  // Under the nesting lock; each leaves the other's list before it is gone.
  std::multiset<Epoll*> containers_;
  std::multiset<Epoll*> contained_;

  std::mutex ready_mutex_;
  std::list<ItemPtr> ready_;
  std::vector<ItemPtr> looked_at_;  // taken from it by a look under way
  WaitQueue queue_;
};

}  // namespace fluyt::guest
