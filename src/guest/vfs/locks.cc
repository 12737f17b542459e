#include "guest/vfs/locks.h"

#include <algorithm>
#include <cstdio>

namespace fluyt::guest {

const FileLocks::Range* FileLocks::conflict(const File& file, const Range& wanted) const {
  for (const Range& have : file.ranges) {
    if (have.owner == wanted.owner || have.last < wanted.first || have.first > wanted.last)
      continue;
    if (have.mode == Mode::kWrite || wanted.mode == Mode::kWrite) return &have;
  }
  return nullptr;
}

std::optional<FileLocks::Range> FileLocks::find_conflict(const Key& key, const Range& wanted) {
  std::lock_guard guard(mutex_);
  const auto file = files_.find(key);
  if (file == files_.end()) return std::nullopt;
  const Range* found = conflict(file->second, wanted);
  if (found == nullptr) return std::nullopt;
  return *found;
}

void FileLocks::cut(File& file, const void* owner, int64_t first, int64_t last) {
  std::vector<Range> kept;
  for (const Range& have : file.ranges) {
    if (have.owner != owner || have.last < first || have.first > last) {
      kept.push_back(have);
      continue;
    }
    if (have.first < first) {
      kept.push_back(have);
      kept.back().last = first - 1;
    }
    if (have.last > last) {
      kept.push_back(have);
      kept.back().first = last + 1;
    }
  }
  file.ranges = std::move(kept);
}

void FileLocks::set(File& file, const Range& wanted) {
  cut(file, wanted.owner, wanted.first, wanted.last);
  Range whole = wanted;
  // Neighbours of the same kind become one.
  std::erase_if(file.ranges, [&](const Range& have) {
    if (have.owner != whole.owner || have.mode != whole.mode) return false;
    const bool before = have.last != kEnd && have.last + 1 == whole.first;
    const bool behind = whole.last != kEnd && whole.last + 1 == have.first;
    if (!before && !behind) return false;
    whole.first = std::min(whole.first, have.first);
    whole.last = std::max(whole.last, have.last);
    return true;
  });
  file.ranges.push_back(whole);
}

bool FileLocks::would_deadlock(const void* waiter, const void* holder) const {
  // As many steps as there are waiting: a longer way is a circle of others.
  for (size_t step = 0; step <= waits_for_.size(); ++step) {
    if (holder == waiter) return true;
    const auto next = waits_for_.find(holder);
    if (next == waits_for_.end()) return false;
    holder = next->second;
  }
  return false;
}

Errno FileLocks::lock(const Key& key, const Range& wanted, Sleeper* sleeper) {
  const auto attempt = [&]() -> Errno {
    std::lock_guard guard(mutex_);
    waits_for_.erase(wanted.owner);
    File& file = files_[key];
    const Range* held = conflict(file, wanted);
    if (held == nullptr) {
      set(file, wanted);
      return kOk;
    }
    if (sleeper == nullptr) return Errno(EAGAIN);
    if (wanted.kind == Kind::kProcess && held->kind == Kind::kProcess) {
      if (would_deadlock(wanted.owner, held->owner)) return Errno(EDEADLK);
      waits_for_[wanted.owner] = held->owner;
    }
    return Errno(EAGAIN);
  };
  Errno done = kOk;
  if (sleeper == nullptr) {
    done = attempt();
  } else {
    const Errno waited = wait_until(changed_, *sleeper, {}, [&] {
      done = attempt();
      return done.value() != EAGAIN;
    });
    if (!waited.ok()) {
      std::lock_guard guard(mutex_);
      waits_for_.erase(wanted.owner);
      done = waited;
    }
  }
  // What was converted to less may let others in.
  if (done.ok())
    changed_.wake_all();
  else
    forget_if_empty(key);
  return done;
}

void FileLocks::forget_if_empty(const Key& key) {
  std::lock_guard guard(mutex_);
  const auto file = files_.find(key);
  if (file != files_.end() && file->second.empty()) files_.erase(file);
}

void FileLocks::unlock(const Key& key, const void* owner, int64_t first, int64_t last) {
  {
    std::lock_guard guard(mutex_);
    const auto file = files_.find(key);
    if (file == files_.end()) return;
    cut(file->second, owner, first, last);
    if (file->second.empty()) files_.erase(file);
  }
  changed_.wake_all();
}

Errno FileLocks::lock_whole(const Key& key, const void* owner, Mode mode, int32_t pid,
                            Sleeper* sleeper) {
  {
    std::lock_guard guard(mutex_);
    const auto file = files_.find(key);
    if (file != files_.end()) {
      for (const Whole& have : file->second.wholes)
        if (have.owner == owner && have.mode == mode) return kOk;
    }
  }
  unlock_whole(key, owner);
  const auto attempt = [&] {
    std::lock_guard guard(mutex_);
    std::vector<Whole>& wholes = files_[key].wholes;
    const bool refused = std::any_of(wholes.begin(), wholes.end(), [&](const Whole& have) {
      return have.owner != owner && (have.mode == Mode::kWrite || mode == Mode::kWrite);
    });
    if (!refused) wholes.push_back({owner, mode, pid});
    return !refused;
  };
  if (sleeper == nullptr) {
    if (attempt()) return kOk;
    forget_if_empty(key);
    return Errno(EWOULDBLOCK);
  }
  const Errno waited = wait_until(changed_, *sleeper, {}, attempt);
  if (!waited.ok()) forget_if_empty(key);
  return waited;
}

void FileLocks::unlock_whole(const Key& key, const void* owner) {
  {
    std::lock_guard guard(mutex_);
    const auto file = files_.find(key);
    if (file == files_.end()) return;
    if (std::erase_if(file->second.wholes,
                      [&](const Whole& have) { return have.owner == owner; }) == 0)
      return;
    if (file->second.empty()) files_.erase(file);
  }
  changed_.wake_all();
}

void FileLocks::release(const Key& key, const void* owner) { unlock(key, owner, 0, kEnd); }

void FileLocks::release_all(const void* owner) {
  {
    std::lock_guard guard(mutex_);
    for (auto file = files_.begin(); file != files_.end();) {
      std::erase_if(file->second.ranges, [&](const Range& have) { return have.owner == owner; });
      std::erase_if(file->second.wholes, [&](const Whole& have) { return have.owner == owner; });
      file = file->second.empty() ? files_.erase(file) : std::next(file);
    }
  }
  changed_.wake_all();
}

std::string FileLocks::describe(const std::function<int32_t(int32_t)>& shown) {
  std::lock_guard guard(mutex_);
  std::string out;
  int number = 0;
  const auto add = [&](const Key& key, const char* kind, Mode mode, int32_t pid, int64_t first,
                       int64_t last) {
    char line[160];
    const std::string end = last == kEnd ? "EOF" : std::to_string(last);
    std::snprintf(line, sizeof line, "%d: %s  ADVISORY  %s %d %02x:%02x:%lu %ld %s\n", ++number,
                  kind, mode == Mode::kWrite ? "WRITE" : "READ ", pid > 0 ? shown(pid) : pid,
                  static_cast<unsigned>(key.first >> 8 & 0xfff),
                  static_cast<unsigned>(key.first & 0xff), key.second, first, end.c_str());
    out += line;
  };
  for (const auto& [key, file] : files_) {
    for (const Whole& whole : file.wholes) add(key, "FLOCK", whole.mode, whole.pid, 0, kEnd);
    for (const Range& range : file.ranges)
      add(key, range.kind == Kind::kProcess ? "POSIX" : "OFDLCK", range.mode,
          range.kind == Kind::kProcess ? range.pid : -1, range.first, range.last);
  }
  return out;
}

}  // namespace fluyt::guest
