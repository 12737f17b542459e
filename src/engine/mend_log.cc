#include "engine/mend_log.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <future>
#include <memory>
#include <thread>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

// A line of a log: its head and 16 KiB of text, and some.
constexpr off_t kLongestLine = 20L << 10U;

}  // namespace

Result<> mend_log(const std::string& directory, const std::string& path) {
  auto folder = sys::open(directory, O_PATH | O_DIRECTORY);
  if (!folder.ok() && folder.error().code() == Code::kNotFound) return {};
  const sys::Fd top = FLUYT_TRY(std::move(folder));
  auto opened = sys::open_in(top, path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0,
                             sys::Resolve::kBeneath, RESOLVE_NO_SYMLINKS);
  if (!opened.ok() && opened.error().code() == Code::kNotFound) return {};
  const sys::Fd file = FLUYT_TRY(std::move(opened));
  const auto stat = FLUYT_TRY(sys::stat_of(file));
  if (!S_ISREG(stat.st_mode) || stat.st_size == 0) return {};
  const off_t from = std::max<off_t>(0, stat.st_size - kLongestLine);
  std::string end(static_cast<size_t>(stat.st_size - from), '\0');
  const ssize_t got = ::pread(file.raw(), end.data(), end.size(), from);
  if (got < 0) return Error::from_errno(errno, cat("pread(", quote(path), ")"));
  end.resize(static_cast<size_t>(got));
  const size_t newline = end.rfind('\n');
  if (newline == std::string::npos && from != 0) {
    return Error(Code::kDataLoss, cat(quote(path), ": no line ends in its last ", kLongestLine,
                                      " bytes: it is left as it is"));
  }
  const off_t whole = newline == std::string::npos ? 0 : from + static_cast<off_t>(newline) + 1;
  if (whole == stat.st_size) return {};
  if (::ftruncate(file.raw(), whole) != 0)
    return Error::from_errno(errno, cat("ftruncate(", quote(path), ")"));
  return {};
}

Result<> mend_log_soon(const std::string& directory, const std::string& path, int64_t wait_ms) {
  auto promise = std::make_shared<std::promise<Result<>>>();
  auto mended = promise->get_future();
  std::thread([promise, directory, path] {
    promise->set_value(mend_log(directory, path));
  }).detach();
  if (mended.wait_for(std::chrono::milliseconds(wait_ms)) != std::future_status::ready)
    return Error(Code::kDeadlineExceeded, cat(quote(path), ": its file system does not answer"));
  return mended.get();
}

}  // namespace fluyt::engine
