#pragma once

#include <mutex>
#include <set>

#include "sys/fd.h"

namespace fluyt::guest {

/// The numbers in our descriptor table of seccomp listeners (seccomp_unotify(2)) that somebody of
/// ours has. Stubs share the table, and say which listener is theirs by a number in memory that a
/// guest can write: none that is known here can be taken for it.
class ListenerTable {
 public:
  /// The table of this process, which has one.
  static ListenerTable& own();
  using Lock = std::unique_lock<std::mutex>;
  /// While it is held nothing is claimed: for whoever receives a listener in a message.
  Lock hold() { return Lock(mutex_); }
  /// True: `number` is a listener that nobody had. It is known from then on.
  bool claim(int number);

 private:
  friend class KnownListener;
  void close(sys::Fd fd);
  std::mutex mutex_;
  std::set<int> known_;
};

/// A listener that is in the table for as long as it is open.
class KnownListener {
 public:
  KnownListener() = default;
  /// One that has just been received, under the table's lock.
  KnownListener(sys::Fd fd, const ListenerTable::Lock& lock);
  /// One that was claimed.
  static KnownListener claimed(int number);
  KnownListener(KnownListener&&) noexcept = default;
  KnownListener& operator=(KnownListener&& other) noexcept;
  KnownListener(const KnownListener&) = delete;
  KnownListener& operator=(const KnownListener&) = delete;
  ~KnownListener();
  int raw() const { return fd_.raw(); }
  bool valid() const { return fd_.valid(); }
  operator sys::FdRef() const { return fd_; }  // NOLINT(google-explicit-constructor): as of Fd

 private:
  sys::Fd fd_;
};

}  // namespace fluyt::guest
