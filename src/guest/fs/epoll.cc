#include "guest/fs/epoll.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "guest/fs/devices.h"

namespace fluyt::guest {
namespace {

constexpr int kMaxNesting = 4;         // epolls below an epoll, as Linux
constexpr size_t kMaxContainers = 32;  // of one epoll: a wake-up goes along every path upwards
constexpr size_t kMaxWatches = size_t{1} << 18;
constexpr uint32_t kInputBits = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;

std::mutex& nesting() {
  static std::mutex mutex;
  return mutex;
}
std::atomic<size_t>& watches() {
  static std::atomic<size_t> count{0};
  return count;
}

}  // namespace

/// One file under watch. Its listener is in the file's queue until it is retired.
class Epoll::Item final : public Waiter, public std::enable_shared_from_this<Item> {
 public:
  Item(Epoll& owner, int number, const FilePtr& watched)
      : owner_(owner), fd(number), file(watched) {
    watches().fetch_add(1);
  }
  ~Item() override { watches().fetch_sub(1); }
  Item(const Item&) = delete;
  Item& operator=(const Item&) = delete;

  void wake(uint32_t events, Wakes& wakes) override {
    if ((interest.load() & events & ~kInputBits) != 0) owner_.note(shared_from_this(), wakes);
  }
  /// What holds of what is wanted.
  uint32_t look(File& at) const {
    const uint32_t wanted = interest.load() & ~kInputBits;
    return wanted == 0 ? 0 : at.ready(wanted) & wanted;
  }
  void listen(WaitQueue& queue) { entry_.emplace(queue, *this); }
  void stop() { entry_.reset(); }

 private:
  Epoll& owner_;

 public:
  const int fd;
  const std::weak_ptr<File> file;
  std::atomic<uint32_t> interest{0};  // 0: a shot that was fired
  std::atomic<uint64_t> data{0};
  bool noted = false;                  // under ready_mutex_
  std::list<ItemPtr>::iterator place;  // when it is noted
  bool retired = false;                // under ready_mutex_

 private:
  std::optional<WaitQueue::Entry> entry_;
};

Epoll::Epoll(int flags) : File(nullptr, make_anonymous_inode(0600, 0), O_RDWR | flags) {}

Epoll::~Epoll() {
  std::map<Key, ItemPtr> items;
  {
    std::lock_guard lock(items_mutex_);
    items.swap(items_);
  }
  for (const auto& [key, item] : items) retire(item);
  // Until here wake-ups went through us, so that we had to be seen.
  std::lock_guard lock(nesting());
  for (Epoll* inner : contained_) inner->containers_.erase(inner->containers_.find(this));
  for (Epoll* container : containers_)
    container->contained_.erase(container->contained_.find(this));
}

void Epoll::note(const ItemPtr& item) {
  Wakes wakes;
  note(item, wakes);
}

void Epoll::note(const ItemPtr& item, Wakes& wakes) {
  {
    std::lock_guard lock(ready_mutex_);
    if (item->retired) return;
    if (!item->noted) item->place = ready_.insert(ready_.end(), item);
    item->noted = true;
  }
  queue_.wake_all(POLLIN | POLLRDNORM, wakes);
}

Epoll::ItemPtr Epoll::next_noted() {
  std::lock_guard lock(ready_mutex_);
  if (ready_.empty()) return nullptr;
  ItemPtr item = std::move(ready_.front());
  ready_.pop_front();
  item->noted = false;
  looked_at_.push_back(item);
  return item;
}

void Epoll::retire(const ItemPtr& item) {
  item->stop();
  std::lock_guard lock(ready_mutex_);
  item->retired = true;
  if (item->noted) ready_.erase(item->place);
  item->noted = false;
}

Epoll::ItemPtr Epoll::find(const Key& key) {
  std::lock_guard lock(items_mutex_);
  const auto at = items_.find(key);
  return at == items_.end() ? nullptr : at->second;
}

/// Files that were closed are forgotten here, at a cost that every addition shares.
void Epoll::prune() {
  std::vector<ItemPtr> gone;
  {
    std::lock_guard lock(items_mutex_);
    if (items_.size() < prune_at_) return;
    for (auto at = items_.begin(); at != items_.end();) {
      if (at->second->file.expired()) {
        gone.push_back(std::move(at->second));
        at = items_.erase(at);
      } else {
        ++at;
      }
    }
    prune_at_ = std::max<size_t>(64, items_.size() * 2);
  }
  for (const ItemPtr& item : gone) retire(item);
}

int Epoll::depth(Epoll& at, std::multiset<Epoll*> Epoll::* direction,
                 std::map<const Epoll*, int>& known) {
  if (const auto found = known.find(&at); found != known.end()) return found->second;
  int deepest = 0;
  for (Epoll* next : at.*direction) {
    const int found = next == this ? -1 : depth(*next, direction, known);
    if (found < 0) return known[&at] = -1;
    deepest = std::max(deepest, found + 1);
  }
  return known[&at] = deepest;
}

Errno Epoll::may_contain(Epoll& inner) {
  if (inner.containers_.size() >= kMaxContainers) return Errno(EINVAL);
  std::map<const Epoll*, int> below;
  std::map<const Epoll*, int> above;
  const int under = depth(inner, &Epoll::contained_, below);
  if (under < 0 || under + depth(*this, &Epoll::containers_, above) + 1 > kMaxNesting)
    return Errno(ELOOP);
  return kOk;
}

Errno Epoll::add(int fd, const FilePtr& file, const EpollEvent& event) {
  if (file->queue() == nullptr) return Errno(EPERM);
  if (file.get() == this) return Errno(EINVAL);
  auto* inner = dynamic_cast<Epoll*>(file.get());
  if ((event.events & EPOLLEXCLUSIVE) != 0) {
    constexpr uint32_t kWithExclusive =
        EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
    if (inner != nullptr || (event.events & ~kWithExclusive) != 0) return Errno(EINVAL);
  }
  prune();
  if (watches().load() >= kMaxWatches) return Errno(ENOSPC);
  const Key key(file.get(), fd);
  auto item = std::make_shared<Item>(*this, fd, file);
  item->data = event.data;
  item->interest = event.events | EPOLLERR | EPOLLHUP;
  {
    std::unique_lock nested(nesting(), std::defer_lock);
    if (inner != nullptr) {
      nested.lock();
      if (find(key)) return Errno(EEXIST);
      GUEST_TRY(may_contain(*inner));
    }
    {
      // A key whose file is gone cannot be there: the weak pointer keeps the address from reuse.
      std::lock_guard lock(items_mutex_);
      if (!items_.emplace(key, item).second) return Errno(EEXIST);
      item->listen(*file->queue());
    }
    if (inner != nullptr) {
      inner->containers_.insert(this);
      contained_.insert(inner);
    }
  }
  if (item->look(*file) != 0) note(item);
  return kOk;
}

Errno Epoll::modify(int fd, const FilePtr& file, const EpollEvent& event) {
  if (file->queue() == nullptr) return Errno(EPERM);
  if (file.get() == this) return Errno(EINVAL);
  const ItemPtr item = find({file.get(), fd});
  if ((event.events & EPOLLEXCLUSIVE) != 0) return Errno(EINVAL);
  if (!item) return Errno(ENOENT);
  std::lock_guard scanning(scan_);  // a shot that fires now must not undo this
  if ((item->interest.load() & EPOLLEXCLUSIVE) != 0) return Errno(EINVAL);
  item->data = event.data;
  item->interest = event.events | EPOLLERR | EPOLLHUP;
  if (item->look(*file) != 0) note(item);
  return kOk;
}

Errno Epoll::remove(int fd, const FilePtr& file) {
  if (file->queue() == nullptr) return Errno(EPERM);
  if (file.get() == this) return Errno(EINVAL);
  auto* inner = dynamic_cast<Epoll*>(file.get());
  // A link that is not seen any more must not wake any more: the next one may close a circle.
  std::unique_lock nested(nesting(), std::defer_lock);
  if (inner != nullptr) nested.lock();
  ItemPtr item;
  {
    std::lock_guard lock(items_mutex_);
    const auto at = items_.find({file.get(), fd});
    if (at == items_.end()) return Errno(ENOENT);
    item = std::move(at->second);
    items_.erase(at);
  }
  retire(item);
  if (inner != nullptr) {
    inner->containers_.erase(inner->containers_.find(this));
    contained_.erase(contained_.find(inner));
  }
  return kOk;
}

ErrnoOr<size_t> Epoll::collect(size_t most, const Deliver& deliver) {
  struct Found {
    ItemPtr item;
    uint32_t interest = 0;
  };
  std::vector<Found> found;
  std::vector<EpollEvent> events;
  std::lock_guard scanning(scan_);
  size_t left = 0;
  {
    std::lock_guard lock(ready_mutex_);
    left = ready_.size();
  }
  for (; left != 0 && events.size() < most; --left) {
    ItemPtr item = next_noted();
    if (!item) break;
    const FilePtr file = item->file.lock();
    if (!file) continue;
    const uint32_t interest = item->interest.load();
    const uint32_t holds = item->look(*file);
    if (holds == 0) continue;
    events.push_back({holds, item->data.load()});
    if ((interest & EPOLLONESHOT) != 0) item->interest = interest & kInputBits;
    found.push_back({std::move(item), interest});
  }
  const Errno delivered = found.empty() ? kOk : deliver(events);
  std::vector<ItemPtr> over;  // ends behind the locks
  std::lock_guard lock(ready_mutex_);
  over.swap(looked_at_);
  const auto put_back = [&](const ItemPtr& item, bool front) {
    if (item->noted || item->retired) return;
    item->noted = true;
    item->place = ready_.insert(front ? ready_.begin() : ready_.end(), item);
  };
  if (!delivered.ok()) {
    for (auto at = found.rbegin(); at != found.rend(); ++at) {
      at->item->interest = at->interest;
      put_back(at->item, true);
    }
    return delivered;
  }
  // What is still ready is found at the next look, behind those that were not reached.
  for (const Found& one : found)
    if ((one.interest & (EPOLLONESHOT | EPOLLET)) == 0) put_back(one.item, false);
  return events.size();
}

ErrnoOr<size_t> Epoll::wait(Sleeper& sleeper, size_t most, const Deadline& deadline,
                            const Deliver& deliver) {
  size_t count = GUEST_TRY(collect(most, deliver));
  if (count != 0 || (deadline && *deadline <= Clock::now())) return count;
  WaitQueue::Entry entry(queue_, sleeper);
  for (;;) {
    count = GUEST_TRY(collect(most, deliver));
    if (count != 0) return count;
    switch (sleeper.sleep(deadline)) {
      case Sleeper::Outcome::kWoken:
        break;
      case Sleeper::Outcome::kTimedOut:
        return collect(most, deliver);
      case Sleeper::Outcome::kInterrupted:
        return Errno(kRestartNoHand);
    }
  }
}

uint32_t Epoll::ready(uint32_t /*wanted*/) {
  // Without the lock of those who collect: whoever contains this epoll holds its own.
  std::vector<ItemPtr> noted;
  {
    std::lock_guard lock(ready_mutex_);
    noted = looked_at_;
    noted.insert(noted.end(), ready_.begin(), ready_.end());
  }
  for (const ItemPtr& item : noted) {
    const FilePtr file = item->file.lock();
    if (file && item->look(*file) != 0) return POLLIN | POLLRDNORM;
  }
  return 0;
}

}  // namespace fluyt::guest
