#include "base/result.h"

#include <cerrno>
#include <cstring>

namespace fluyt {

namespace {

Code code_of_errno(int errno_value) {
  switch (errno_value) {
    case ENOENT:
    case ESRCH:
      return Code::kNotFound;
    case EEXIST:
      return Code::kAlreadyExists;
    case EPERM:
    case EACCES:
    case EROFS:
      return Code::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return Code::kResourceExhausted;
    case ETIMEDOUT:
      return Code::kDeadlineExceeded;
    case EAGAIN:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
      return Code::kUnavailable;
    case ENOSYS:
    case EOPNOTSUPP:
      return Code::kUnimplemented;
    default:
      return Code::kInternal;
  }
}

}  // namespace

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return "invalid argument";
    case Code::kNotFound:
      return "not found";
    case Code::kAlreadyExists:
      return "already exists";
    case Code::kFailedPrecondition:
      return "failed precondition";
    case Code::kPermissionDenied:
      return "permission denied";
    case Code::kUnauthenticated:
      return "unauthenticated";
    case Code::kResourceExhausted:
      return "resource exhausted";
    case Code::kDeadlineExceeded:
      return "deadline exceeded";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kUnimplemented:
      return "unimplemented";
    case Code::kAborted:
      return "aborted";
    case Code::kCancelled:
      return "cancelled";
    case Code::kDataLoss:
      return "data loss";
    case Code::kInternal:
      break;
  }
  return "internal";
}

Error::Error(Code code, std::string fact, const char* file, int line)
    : data_(new Data{code, 0, line, file, std::move(fact)}) {}

Error Error::from_errno(int errno_value, std::string_view call, const char* file, int line) {
  std::string message(call);
  const char* name = strerrorname_np(errno_value);
  message += " = ";
  message += name != nullptr ? name : std::to_string(errno_value);
  message += ": ";
  // strerrordesc_np gives the untranslated text from a constant table: no locale, no buffer.
  const char* text = strerrordesc_np(errno_value);
  message += text != nullptr ? text : "unknown error";
  Error error(code_of_errno(errno_value), std::move(message), file, line);
  error.data_->errno_value = errno_value;
  return error;
}

Error::Error(const Error& other) : data_(new Data(*other.data_)) {}

Error& Error::operator=(const Error& other) {
  if (this != &other) {
    data_ = std::make_unique<Data>(*other.data_);
  }
  return *this;
}

Error& Error::add_context(std::string_view context) & {
  std::string message(context);
  message += ": ";
  message += data_->message;
  data_->message = std::move(message);
  return *this;
}

Error&& Error::add_context(std::string_view context) && {
  add_context(context);
  return std::move(*this);
}

Error&& Error::with_code(Code code) && {
  data_->code = code;
  return std::move(*this);
}

}  // namespace fluyt
