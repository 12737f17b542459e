#include "image/layer/worker.h"

#include <poll.h>

#include <array>
#include <cerrno>

#include "base/strings.h"
#include "image/layer/unpack.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr int kCancelCheckMs = 100;
constexpr size_t kReadBytes = 64UL << 10U;

}  // namespace

Result<> wait_for_worker(sys::FdRef fd, short events, const std::atomic<bool>* cancelled) {
  while (true) {
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed))
      return Error(Code::kCancelled, "cancelled by the caller");
    pollfd entry{.fd = fd.raw(), .events = events, .revents = 0};
    const int ready = poll(&entry, 1, cancelled != nullptr ? kCancelCheckMs : -1);
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "poll(unpacker)");
  }
}

Result<std::string> read_report(sys::FdRef report, const std::atomic<bool>* cancelled) {
  std::string text;
  std::array<char, kReadBytes> buffer;
  while (true) {
    FLUYT_TRY(wait_for_worker(report, POLLIN, cancelled));
    const size_t got = FLUYT_TRY(sys::read_some(report, buffer));
    if (got == 0) return text;
    text.append(buffer.data(), got);
    if (text.size() > kMaxReportBytes)
      return Error(Code::kInternal, cat("the unpacker's report is longer than ", kMaxReportBytes));
  }
}

}  // namespace fluyt::image
