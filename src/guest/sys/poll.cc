#include <fcntl.h>
#include <poll.h>

#include <deque>

#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

struct PollEntry {
  int32_t fd = -1;
  int16_t events = 0;
  int16_t found = 0;
};

/// What has to be heard of for `wanted`: who wakes says one of the bits that mean the same, or all.
uint32_t heard_for(uint32_t wanted) {
  constexpr uint32_t kIn = POLLIN | POLLRDNORM | POLLRDBAND | POLLPRI | POLLRDHUP;
  constexpr uint32_t kOut = POLLOUT | POLLWRNORM | POLLWRBAND;
  return POLLERR | POLLHUP | ((wanted & kIn) != 0 ? kIn : 0) | ((wanted & kOut) != 0 ? kOut : 0);
}

/// Fills in `found`; the number of entries with something, or what ended the wait.
ErrnoOr<int> wait_for_any(Task& task, std::span<PollEntry> entries, const Deadline& deadline) {
  std::vector<FilePtr> files(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].fd < 0) continue;
    ErrnoOr<FilePtr> file = task.files->get(entries[i].fd);
    if (file.ok()) files[i] = std::move(file).value();
  }
  const auto look = [&] {
    int count = 0;
    for (size_t i = 0; i < entries.size(); ++i) {
      PollEntry& entry = entries[i];
      entry.found = 0;
      if (entry.fd < 0) continue;
      if (!files[i]) {
        entry.found = POLLNVAL;
      } else {
        const auto wanted = static_cast<uint16_t>(entry.events);
        entry.found = static_cast<int16_t>(files[i]->ready(wanted) & (wanted | POLLERR | POLLHUP));
      }
      if (entry.found != 0) ++count;
    }
    return count;
  };
  if (const int count = look(); count != 0) return count;
  if (deadline && *deadline <= Clock::now()) {
    // A signal that waits, perhaps under the mask of this call alone, is taken by a mere look too.
    if (task.would_take_signal()) return Errno(kRestartNoHand);
    return 0;
  }
  std::deque<WaitQueue::Entry> waiting;
  for (size_t i = 0; i < entries.size(); ++i)
    if (files[i] && files[i]->queue() != nullptr)
      waiting.emplace_back(*files[i]->queue(), task.sleeper,
                           heard_for(static_cast<uint16_t>(entries[i].events)));
  for (;;) {
    if (const int count = look(); count != 0) return count;
    switch (task.sleeper.sleep(deadline)) {
      case Sleeper::Outcome::kWoken:
        break;
      case Sleeper::Outcome::kTimedOut:
        return look();
      case Sleeper::Outcome::kInterrupted:
        return Errno(kRestartNoHand);
    }
  }
}

ErrnoOr<uint64_t> poll_files(Task& task, uint64_t address, uint64_t count,
                             const Deadline& deadline) {
  constexpr uint64_t kMaxEntries = 1 << 20;
  if (count > kMaxEntries) return Errno(EINVAL);
  std::vector<PollEntry> entries(static_cast<uint32_t>(count));
  GUEST_TRY(task.copy_in(address, std::as_writable_bytes(std::span(entries))));
  const int found = GUEST_TRY(wait_for_any(task, entries, deadline));
  // Only what was found is written: `events` may be shared by others.
  for (size_t i = 0; i < entries.size(); ++i)
    GUEST_TRY(
        task.put(address + i * sizeof(PollEntry) + offsetof(PollEntry, found), entries[i].found));
  return static_cast<uint64_t>(found);
}

ErrnoOr<uint64_t> select_files(Task& task, int count, uint64_t in, uint64_t out, uint64_t except,
                               const Deadline& deadline) {
  constexpr int kMax = 65536;
  if (count < 0) return Errno(EINVAL);
  count = std::min(count, kMax);
  const size_t words = (static_cast<size_t>(count) + 63) / 64;
  const uint64_t addresses[3] = {in, out, except};
  constexpr int16_t kEvents[3] = {POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR,
                                  POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR, POLLPRI};
  constexpr int16_t kWanted[3] = {POLLIN, POLLOUT, POLLPRI};
  std::vector<uint64_t> sets[3];
  for (int i = 0; i < 3; ++i) {
    if (addresses[i] == 0) continue;
    sets[i].resize(words);
    GUEST_TRY(task.copy_in(addresses[i], std::as_writable_bytes(std::span(sets[i]))));
  }
  std::vector<PollEntry> entries;
  for (int fd = 0; fd < count; ++fd) {
    int16_t events = 0;
    for (int i = 0; i < 3; ++i)
      if (!sets[i].empty() && (sets[i][static_cast<size_t>(fd) / 64] >> (fd % 64) & 1) != 0)
        events = static_cast<int16_t>(events | kWanted[i]);
    if (events == 0) continue;
    GUEST_TRY(task.files->get(fd));
    entries.push_back({fd, events, 0});
  }
  GUEST_TRY(wait_for_any(task, entries, deadline));
  uint64_t total = 0;
  std::vector<uint64_t> results[3];
  for (int i = 0; i < 3; ++i) {
    if (sets[i].empty()) continue;
    results[i].resize(words);
    for (const PollEntry& entry : entries) {
      const auto fd = static_cast<size_t>(entry.fd);
      if ((sets[i][fd / 64] >> (fd % 64) & 1) == 0 || (entry.found & kEvents[i]) == 0) continue;
      results[i][fd / 64] |= uint64_t{1} << (fd % 64);
      ++total;
    }
    GUEST_TRY(task.copy_out(addresses[i], std::as_bytes(std::span(results[i]))));
  }
  return total;
}

/// What is left goes back to the program, as Linux does it.
void put_left(Task& task, uint64_t address, const Deadline& deadline) {
  if (address == 0 || !deadline) return;
  const auto left = std::chrono::nanoseconds(*deadline - Clock::now()).count();
  task.put(address, from_ns(std::max<int64_t>(left, 0))).ignore("a read-only timeout is no error");
}

}  // namespace

ErrnoOr<Deadline> deadline_of(Task& task, uint64_t address) {
  if (address == 0) return Deadline();
  const GuestTime time = GUEST_TRY(get_time(task, address));
  return Deadline(after_ns(in_ns(time)));
}

ErrnoOr<uint64_t> sys_poll(Task& task, Arguments a) {
  const int timeout = as_int(a[2]);
  Deadline deadline;
  if (timeout >= 0) deadline = after_ns(int64_t{timeout} * 1'000'000);
  return poll_files(task, a[0], a[1], deadline);
}

ErrnoOr<uint64_t> sys_ppoll(Task& task, Arguments a) {
  const Deadline deadline = GUEST_TRY(deadline_of(task, a[2]));
  ErrnoOr<uint64_t> done =
      with_mask(task, a[3], a[4], [&] { return poll_files(task, a[0], a[1], deadline); });
  put_left(task, a[2], deadline);
  return done;
}

ErrnoOr<uint64_t> sys_select(Task& task, Arguments a) {
  struct {
    int64_t seconds, microseconds;
  } time{};
  Deadline deadline;
  if (a[4] != 0) {
    GUEST_TRY(task.copy_in(a[4], std::as_writable_bytes(std::span(&time, 1))));
    if (time.seconds < 0 || time.microseconds < 0) return Errno(EINVAL);
    deadline =
        after_ns(in_ns({time.seconds, std::min<int64_t>(time.microseconds, 999'999'999) * 1000}));
  }
  ErrnoOr<uint64_t> done = select_files(task, as_int(a[0]), a[1], a[2], a[3], deadline);
  if (deadline) {
    const auto left = std::max<int64_t>(
        std::chrono::microseconds(
            std::chrono::duration_cast<std::chrono::microseconds>(*deadline - Clock::now()))
            .count(),
        0);
    time = {left / 1'000'000, left % 1'000'000};
    task.put(a[4], time).ignore("a read-only timeout is no error");
  }
  return done;
}

ErrnoOr<uint64_t> sys_pselect6(Task& task, Arguments a) {
  const Deadline deadline = GUEST_TRY(deadline_of(task, a[4]));
  struct Mask {
    uint64_t address, size;
  } mask{};
  if (a[5] != 0) mask = GUEST_TRY(task.get<Mask>(a[5]));
  ErrnoOr<uint64_t> done = with_mask(task, mask.address, mask.size, [&] {
    return select_files(task, as_int(a[0]), a[1], a[2], a[3], deadline);
  });
  put_left(task, a[4], deadline);
  return done;
}

}  // namespace fluyt::guest
