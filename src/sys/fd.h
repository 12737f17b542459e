#pragma once

#include <utility>

namespace fluyt::sys {

/// A borrowed file descriptor: valid as long as the Fd it came from.
class FdRef {
 public:
  constexpr FdRef() = default;
  constexpr explicit FdRef(int raw) : raw_(raw) {}
  constexpr int raw() const { return raw_; }
  constexpr bool valid() const { return raw_ >= 0; }

 private:
  int raw_ = -1;
};

/// AT_FDCWD, for calls that take a directory: the path is then absolute or relative to the working
/// directory. Never for paths inside an image or container.
inline constexpr FdRef kCwd{-100};

/// An owned file descriptor, closed once. Everything that makes one sets close-on-exec.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int raw) : raw_(raw) {}
  Fd(Fd&& other) noexcept : raw_(std::exchange(other.raw_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      raw_ = std::exchange(other.raw_, -1);
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  bool valid() const { return raw_ >= 0; }
  int raw() const { return raw_; }
  FdRef ref() const { return FdRef(raw_); }
  operator FdRef() const {
    return FdRef(raw_);
  }  // NOLINT(google-explicit-constructor): lending is what an Fd is for
  /// Gives the descriptor away.
  int release() { return std::exchange(raw_, -1); }
  /// Closes now. Errors of close(2) are of no use here: data that matters is synced by name.
  void reset();

 private:
  int raw_ = -1;
};

}  // namespace fluyt::sys
