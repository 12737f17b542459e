#include "monitor/protocol/frame.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/strings.h"
#include "sys/socket.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kHeaderBytes = 4;
constexpr size_t kMaxUnclaimedFds = 32;

uint32_t length_at(const char* bytes) {
  uint32_t length = 0;
  for (size_t i = 0; i < kHeaderBytes; ++i)
    length = (length << 8U) | static_cast<unsigned char>(bytes[i]);
  return length;
}

std::string framed(std::string_view json) {
  std::string bytes;
  bytes.reserve(kHeaderBytes + json.size());
  for (unsigned shift = 32; shift != 0; shift -= 8) {
    bytes += static_cast<char>((json.size() >> (shift - 8U)) & 0xFFU);
  }
  bytes += json;
  return bytes;
}

// One sendmsg(2) that does not wait: how many bytes went. The descriptors go with the first of
// them.
Result<size_t> send_now(sys::FdRef socket, std::string_view data, const std::vector<sys::Fd>& fds) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * sys::kMaxPassedFds)> control{};
  iovec piece{const_cast<char*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    for (size_t i = 0; i < fds.size(); ++i) {
      const int raw = fds[i].raw();
      memcpy(CMSG_DATA(header) + i * sizeof(int), &raw, sizeof raw);
    }
  }
  while (true) {
    const ssize_t sent = sendmsg(socket.raw(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return size_t{0};
    return Error::from_errno(errno, "sendmsg()");
  }
}

}  // namespace

Result<> FrameReader::feed(std::string_view bytes, std::vector<sys::Fd> fds) {
  buffer_ += bytes;
  for (sys::Fd& fd : fds) fds_.push_back(std::move(fd));
  if (fds_.size() > kMaxUnclaimedFds) {
    return Error(Code::kInvalidArgument, "more descriptors were sent than frames claim");
  }
  return {};
}

Result<std::optional<std::string>> FrameReader::next() {
  const size_t available = buffer_.size() - start_;
  if (available < kHeaderBytes) return std::optional<std::string>();
  const size_t length = length_at(buffer_.data() + start_);
  if (length == 0 || length > kMaxFrameBytes) {
    return Error(Code::kInvalidArgument,
                 cat("frame of ", length, " bytes: expected 1 to ", kMaxFrameBytes));
  }
  if (available - kHeaderBytes < length) return std::optional<std::string>();
  std::optional<std::string> frame(buffer_.substr(start_ + kHeaderBytes, length));
  start_ += kHeaderBytes + length;
  if (start_ == buffer_.size()) {
    // An idle connection keeps no memory.
    buffer_ = std::string();
    start_ = 0;
  }
  return frame;
}

Result<std::vector<sys::Fd>> FrameReader::take_fds(size_t count) {
  if (count > fds_.size()) {
    return Error(Code::kInvalidArgument,
                 cat("frame claims ", count, " descriptors, ", fds_.size(), " came"));
  }
  std::vector<sys::Fd> taken;
  for (; count != 0; --count) {
    taken.push_back(std::move(fds_.front()));
    fds_.pop_front();
  }
  return taken;
}

Result<FrameReader::Read> FrameReader::read_from(sys::FdRef socket) {
  if (start_ > 0) {
    buffer_.erase(0, start_);
    start_ = 0;
  }
  std::array<char, 16384> chunk;
  auto received = sys::receive_with_fds(socket, chunk.data(), chunk.size());
  if (!received.ok()) {
    if (received.error().errno_value() == EAGAIN) return Read::kNothing;
    return std::move(received).error();
  }
  if (received->size == 0) return Read::kEnd;
  FLUYT_TRY(feed(std::string_view(chunk.data(), received->size), std::move(received->fds)));
  return Read::kData;
}

bool FrameWriter::push(std::string_view json, std::vector<sys::Fd> fds) {
  if (json.size() > kMaxFrameBytes || queued_bytes_ + json.size() > limit_bytes_ + kHeaderBytes)
    return false;
  Frame frame{framed(json), 0, std::move(fds)};
  queued_bytes_ += frame.bytes.size();
  queue_.push_back(std::move(frame));
  return true;
}

Result<> FrameWriter::flush(sys::FdRef socket) {
  while (!queue_.empty()) {
    Frame& frame = queue_.front();
    const auto rest = std::string_view(frame.bytes).substr(frame.sent);
    const size_t sent = FLUYT_TRY(send_now(socket, rest, frame.fds));
    if (sent == 0) return {};
    frame.fds.clear();
    frame.sent += sent;
    queued_bytes_ -= sent;
    if (frame.sent == frame.bytes.size()) queue_.pop_front();
  }
  return {};
}

}  // namespace fluyt::monitor
