#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace fluyt {

/// What a caller can do about an error. The front ends map these, in one table each, to gRPC codes,
/// HTTP statuses and exit statuses.
enum class Code {
  kInvalidArgument,     // the request is wrong whatever the state: names field, value, expectation
  kNotFound,            // no such object
  kAlreadyExists,       // the name is taken
  kFailedPrecondition,  // the object is in the wrong state for this request
  kPermissionDenied,    // the host or a policy refuses
  kUnauthenticated,     // credentials are missing or wrong
  kResourceExhausted,   // a limit, a quota or the disk is reached
  kDeadlineExceeded,    // given up at the deadline
  kUnavailable,         // try again: the other side is away
  kUnimplemented,       // fluyt does not do this, and says so
  kAborted,             // a concurrent request won
  kCancelled,           // the caller went away
  kDataLoss,            // bytes do not match their digest, a record is broken
  kInternal,            // everything else, including most failed system calls
};

/// The name of a code as logs and JSON show it, such as "not found".
std::string_view code_name(Code code);

/// Why something failed: a code for programs, a sentence for people, and where it was noticed.
/// The sentence is made of short contexts, outermost first, and the fact itself last.
class Error {
 public:
  Error(Code code, std::string fact, const char* file = __builtin_FILE(),
        int line = __builtin_LINE());

  /// A failed system call: `call` is the call with its arguments, `errno_value` what it set.
  /// The code is derived from the errno (ENOENT is kNotFound, EPERM kPermissionDenied, ...).
  static Error from_errno(int errno_value, std::string_view call,
                          const char* file = __builtin_FILE(), int line = __builtin_LINE());

  Error(const Error& other);
  Error& operator=(const Error& other);
  Error(Error&&) noexcept = default;
  Error& operator=(Error&&) noexcept = default;
  ~Error() = default;

  Code code() const { return data_->code; }
  /// The errno of the system call at the bottom, 0 when there was none.
  int errno_value() const { return data_->errno_value; }
  /// The whole sentence: contexts and fact, joined by ": ".
  const std::string& message() const { return data_->message; }
  const char* file() const { return data_->file; }
  int line() const { return data_->line; }

  /// Adds what the callee did not know, in front. Lower case, no "failed to".
  Error& add_context(std::string_view context) &;
  Error&& add_context(std::string_view context) &&;
  /// The same error under another code, where a caller knows better what it means.
  Error&& with_code(Code code) &&;

 private:
  struct Data {
    Code code;
    int errno_value;
    int line;
    const char* file;
    std::string message;
  };
  std::unique_ptr<Data> data_;  // one pointer, so that a Result<int> stays small
};

/// A value or an Error. Dropping one is an error of the compiler; drop with `ignore("reason")`.
template <class T = void>
class [[nodiscard]] Result {
 public:
  using Value = T;
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {
  }  // NOLINT(google-explicit-constructor): `return value;` is the point
  Result(Error error)
      : state_(std::in_place_index<1>, std::move(error)) {
  }  // NOLINT(google-explicit-constructor): `return error;` is the point

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return *std::get_if<0>(&state_); }
  const T& value() const& { return *std::get_if<0>(&state_); }
  T&& value() && { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() { return std::get_if<0>(&state_); }
  const T* operator->() const { return std::get_if<0>(&state_); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }

  const Error& error() const& { return *std::get_if<1>(&state_); }
  Error&& error() && { return std::move(*std::get_if<1>(&state_)); }

  T value_or(T other) && { return ok() ? std::move(*this).value() : std::move(other); }
  void ignore(std::string_view /*reason*/) const {}

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using Value = void;
  Result() = default;
  Result(Error error)
      : error_(std::make_unique<Error>(std::move(error))) {
  }  // NOLINT(google-explicit-constructor): `return error;` is the point

  bool ok() const { return error_ == nullptr; }
  explicit operator bool() const { return ok(); }
  void value() const {}
  const Error& error() const& { return *error_; }
  Error&& error() && { return std::move(*error_); }
  void ignore(std::string_view /*reason*/) const {}

 private:
  std::unique_ptr<Error> error_;
};

namespace internal {
template <class T>
T take(Result<T>&& result) {
  return std::move(result).value();
}
inline void take(Result<void>&& /*result*/) {}
}  // namespace internal

#define FLUYT_CAT2(a, b) a##b
#define FLUYT_CAT(a, b) FLUYT_CAT2(a, b)

#define FLUYT_TRY_AS(name, expr)              \
  __extension__({                             \
    auto name = (expr);                       \
    if (!name.ok()) [[unlikely]]              \
      return std::move(name).error();         \
    ::fluyt::internal::take(std::move(name)); \
  })
#define FLUYT_TRY_CONTEXT_AS(name, expr, context)          \
  __extension__({                                          \
    auto name = (expr);                                    \
    if (!name.ok()) [[unlikely]]                           \
      return std::move(name).error().add_context(context); \
    ::fluyt::internal::take(std::move(name));              \
  })

/// `auto fd = FLUYT_TRY(open(...));` unwraps the value, or returns the error from this function.
#define FLUYT_TRY(...) FLUYT_TRY_AS(FLUYT_CAT(fluyt_result_, __COUNTER__), (__VA_ARGS__))
/// The same, adding a context (evaluated only on failure) in front of the error's sentence.
#define FLUYT_TRY_CONTEXT(expr, context) \
  FLUYT_TRY_CONTEXT_AS(FLUYT_CAT(fluyt_result_, __COUNTER__), (expr), (context))

}  // namespace fluyt
