#pragma once

#include <sys/types.h>

#include <functional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

/// A process beside the sentry that does one thing for it.
namespace fluyt::guest::host {

/// It dies with us, and when this goes. A socket pair of packets lies between the two.
class Child {
 public:
  /// What it does; never returns. It has its end of the pair, the descriptors that it was to keep
  /// and the standard streams, a session of its own, and can gain no privileges.
  using Life = std::function<void(sys::FdRef socket)>;
  /// Forks it. Before any thread exists. `name` is what ps shows, 15 bytes at most.
  static Result<Child> start(const char* name, const std::vector<sys::FdRef>& kept,
                             const Life& life);
  /// Nobody yet; or somebody else's child, by our end of its socket.
  Child() = default;
  explicit Child(sys::Fd socket) : socket_(std::move(socket)) {}
  /// It is not ended when this goes, but still dies with us.
  void leave_alone() { pid_ = 0; }
  Child(Child&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)), socket_(std::move(other.socket_)) {}
  Child& operator=(Child&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(socket_, other.socket_);
    return *this;
  }
  ~Child();

  sys::FdRef socket() const { return socket_; }
  /// 0: nobody, or somebody else's child.
  pid_t pid() const { return pid_; }

 private:
  Child(pid_t pid, sys::Fd socket) : pid_(pid), socket_(std::move(socket)) {}
  pid_t pid_ = 0;
  sys::Fd socket_;
};

}  // namespace fluyt::guest::host
