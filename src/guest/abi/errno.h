#pragma once

#include <cerrno>
#include <cstdint>
#include <utility>

/// What the guest program will see of a failure: four bytes, and a value or those four bytes.
namespace fluyt::guest {

/// An errno, or none. The restart codes of Linux (512 and up) never reach a program: signal
/// delivery turns them into EINTR or makes the call again.
class [[nodiscard]] Errno {
 public:
  constexpr Errno() = default;
  constexpr explicit Errno(int value) : value_(value) {}
  constexpr bool ok() const { return value_ == 0; }
  constexpr int value() const { return value_; }
  constexpr bool operator==(const Errno&) const = default;
  void ignore(const char* /*reason*/) const {}

 private:
  int value_ = 0;
};

inline constexpr Errno kOk{};
/// Made again after a handler installed with SA_RESTART, else EINTR.
inline constexpr int kRestartSys = 512;
/// Made again whatever handler ran.
inline constexpr int kRestartNoIntr = 513;
/// Made again unless a handler ran: then EINTR (pause, sigsuspend, nanosleep, poll).
inline constexpr int kRestartNoHand = 514;

/// A value, or why there is none. For values that have a default, so that it stays small.
template <class T>
class [[nodiscard]] ErrnoOr {
 public:
  using Value = T;
  ErrnoOr(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  ErrnoOr(Errno error) : error_(error) {}         // NOLINT(google-explicit-constructor)
  bool ok() const { return error_.ok(); }
  Errno error() const { return error_; }
  T& value() & { return value_; }
  const T& value() const& { return value_; }
  T&& value() && { return std::move(value_); }
  T* operator->() { return &value_; }
  T& operator*() & { return value_; }
  T&& operator*() && { return std::move(value_); }

 private:
  T value_{};
  Errno error_;
};

namespace internal {
template <class T>
T unwrap(ErrnoOr<T>&& result) {
  return std::move(result).value();
}
inline void unwrap(Errno) {}
template <class T>
Errno error_of(const ErrnoOr<T>& result) {
  return result.error();
}
inline Errno error_of(Errno error) { return error; }
}  // namespace internal

#define GUEST_CAT2(a, b) a##b
#define GUEST_CAT(a, b) GUEST_CAT2(a, b)
#define GUEST_TRY_AS(name, expr)                       \
  __extension__({                                      \
    auto name = (expr);                                \
    if (!name.ok()) [[unlikely]]                       \
      return ::fluyt::guest::internal::error_of(name); \
    ::fluyt::guest::internal::unwrap(std::move(name)); \
  })
/// Unwraps an ErrnoOr, or passes an Errno; returns the error from this function.
#define GUEST_TRY(...) GUEST_TRY_AS(GUEST_CAT(guest_result_, __COUNTER__), (__VA_ARGS__))

}  // namespace fluyt::guest
