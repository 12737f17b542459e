#include "guest/vfs/watches.h"

#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "guest/vfs/tree.h"

namespace fluyt::guest {
namespace {
constexpr uint32_t kKept = IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT;

/// Names are padded with zeros, one at least.
size_t shown_name(const std::string& name) {
  return name.empty() ? 0 : (name.size() / sizeof(inotify_event) + 1) * sizeof(inotify_event);
}
}  // namespace

size_t Watcher::Event::size() const { return sizeof(inotify_event) + shown_name(name); }

ErrnoOr<std::shared_ptr<Watcher>> Watches::make_watcher() {
  std::lock_guard lock(mutex_);
  if (watchers_ == kMaxWatchers) return Errno(EMFILE);
  ++watchers_;
  return std::make_shared<Watcher>();
}

void Watches::close(Watcher& watcher) {
  Ended ended;
  std::lock_guard lock(mutex_);
  for (const auto& [number, key] : watcher.watches_) {
    const auto at = watches_.find(key);
    std::erase_if(at->second, [&](Watch& watch) {
      if (watch.watcher != &watcher) return false;
      ended.push_back(std::move(watch.inode));
      return true;
    });
    if (at->second.empty()) watches_.erase(at);
  }
  count_ -= watcher.watches_.size();
  watcher.watches_.clear();
  while (!watcher.events_.empty()) pop(watcher);
  --watchers_;
}

ErrnoOr<int32_t> Watches::add(Watcher& watcher, const InodePtr& inode, uint32_t mask) {
  const FileKey key = GUEST_TRY(inode->key());
  std::lock_guard lock(mutex_);
  const auto known = watches_.find(key);
  if (known != watches_.end()) {
    for (Watch& watch : known->second) {
      if (watch.watcher != &watcher) continue;
      if ((mask & IN_MASK_CREATE) != 0) return Errno(EEXIST);
      if ((mask & IN_MASK_ADD) == 0) watch.mask = 0;
      watch.mask |= mask & kKept;
      return watch.number;
    }
  }
  if (count_.load() == kMaxWatches || watcher.last_watch_ == INT_MAX) return Errno(ENOSPC);
  const int32_t number = ++watcher.last_watch_;
  watcher.watches_[number] = key;
  watches_[key].push_back({&watcher, number, mask & kKept, inode});
  ++count_;
  return number;
}

Errno Watches::remove(Watcher& watcher, int32_t watch) {
  Ended ended;
  std::lock_guard lock(mutex_);
  const auto known = watcher.watches_.find(watch);
  if (known == watcher.watches_.end()) return Errno(EINVAL);
  const auto at = watches_.find(known->second);
  for (size_t i = 0; i < at->second.size(); ++i) {
    if (at->second[i].watcher != &watcher) continue;
    end(at->second, i, ended);
    break;
  }
  if (at->second.empty()) watches_.erase(at);
  return kOk;
}

void Watches::end(std::vector<Watch>& of, size_t at, Ended& ended) {
  Watch& watch = of[at];
  watch.watcher->watches_.erase(watch.number);
  put(*watch.watcher, {watch.number, IN_IGNORED, 0, {}});
  ended.push_back(std::move(watch.inode));
  of.erase(of.begin() + static_cast<std::ptrdiff_t>(at));
  --count_;
}

void Watches::put(Watcher& to, Watcher::Event event) {
  if (to.events_.size() >= kMaxEvents || bytes_ + event.cost() > kMaxBytes) {
    if (to.overflowed_) return;
    to.overflowed_ = true;
    event = {-1, IN_Q_OVERFLOW, 0, {}};
  } else if (!to.events_.empty()) {
    const Watcher::Event& last = to.events_.back();
    if ((last.mask & IN_IGNORED) == 0 && last.mask == event.mask && last.watch == event.watch &&
        last.name == event.name)
      return;
  }
  to.shown_bytes_ += event.size();
  bytes_ += event.cost();
  to.events_.push_back(std::move(event));
  to.queue_.wake_all(POLLIN | POLLRDNORM);
}

void Watches::pop(Watcher& from) {
  const Watcher::Event& first = from.events_.front();
  from.shown_bytes_ -= first.size();
  bytes_ -= first.cost();
  if ((first.mask & IN_Q_OVERFLOW) != 0) from.overflowed_ = false;
  from.events_.pop_front();
}

ErrnoOr<size_t> Watches::take(Watcher& watcher, std::span<std::byte> to) {
  std::lock_guard lock(mutex_);
  size_t done = 0;
  while (!watcher.events_.empty()) {
    const Watcher::Event& event = watcher.events_.front();
    const size_t size = event.size();
    if (size > to.size() - done) {
      if (done == 0) return Errno(EINVAL);
      break;
    }
    const std::span<std::byte> place = to.subspan(done, size);
    std::fill(place.begin(), place.end(), std::byte{0});
    inotify_event header{};
    header.wd = event.watch;
    header.mask = event.mask;
    header.cookie = event.cookie;
    header.len = static_cast<uint32_t>(shown_name(event.name));
    std::memcpy(place.data(), &header, sizeof header);
    std::memcpy(place.data() + sizeof header, event.name.data(), event.name.size());
    done += size;
    pop(watcher);
  }
  return done;
}

size_t Watches::waiting_bytes(Watcher& watcher) {
  std::lock_guard lock(mutex_);
  return watcher.shown_bytes_;
}

void Watches::deliver(const FileKey& key, uint32_t event, uint32_t cookie, const std::string& name,
                      bool nameless, Ended& ended) {
  const auto at = watches_.find(key);
  if (at == watches_.end()) return;
  for (size_t i = 0; i < at->second.size();) {
    const Watch& watch = at->second[i];
    const bool wanted = (watch.mask & event & IN_ALL_EVENTS) != 0 &&
                        !(nameless && (watch.mask & IN_EXCL_UNLINK) != 0);
    if (wanted) put(*watch.watcher, {watch.number, event, cookie, name});
    if (wanted && (watch.mask & IN_ONESHOT) != 0)
      end(at->second, i, ended);
    else
      ++i;
  }
  if (at->second.empty()) watches_.erase(at);
}

void Watches::tell(const DentryPtr& at, uint32_t event, By by) {
  DentryPtr dir;
  std::string name;
  {
    std::lock_guard lock(names);
    dir = at->parent;
    if (dir) name = at->name;
  }
  if (at->inode->is_dir()) event |= IN_ISDIR;
  const bool nameless = by == By::kOpenFile && at->removed;
  // When somebody types is not for everyone who may read /dev.
  const uint32_t type = at->inode->type();
  const bool secret = !S_ISREG(type) && !S_ISDIR(type) && (event & (IN_ACCESS | IN_MODIFY)) != 0;
  const ErrnoOr<FileKey> above = dir && !secret ? dir->inode->key() : Errno(ENOENT);
  const ErrnoOr<FileKey> self = at->inode->key();
  Ended ended;
  std::lock_guard lock(mutex_);
  if (above.ok()) deliver(above.value(), event, 0, name, nameless, ended);
  if (self.ok()) deliver(self.value(), event, 0, {}, nameless, ended);
}

void Watches::tell_file(Inode& inode, uint32_t event) {
  const ErrnoOr<FileKey> key = inode.key();
  if (!key.ok()) return;
  // Linux says of no other event of a directory's own whether it is one.
  if (inode.is_dir() && (event & (IN_MOVE_SELF | IN_DELETE_SELF)) == 0) event |= IN_ISDIR;
  Ended ended;
  std::lock_guard lock(mutex_);
  deliver(key.value(), event, 0, {}, false, ended);
}

void Watches::tell_directory(Inode& dir, const std::string& name, uint32_t event, uint32_t cookie) {
  const ErrnoOr<FileKey> key = dir.key();
  if (!key.ok()) return;
  Ended ended;
  std::lock_guard lock(mutex_);
  deliver(key.value(), event, cookie, name, false, ended);
}

void Watches::tell_gone(Inode& inode) {
  tell_file(inode, IN_DELETE_SELF);
  const ErrnoOr<FileKey> key = inode.key();
  if (!key.ok()) return;
  Ended ended;
  std::lock_guard lock(mutex_);
  const auto at = watches_.find(key.value());
  if (at == watches_.end()) return;
  while (!at->second.empty()) end(at->second, 0, ended);
  watches_.erase(at);
}

}  // namespace fluyt::guest
