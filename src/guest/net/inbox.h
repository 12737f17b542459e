#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "guest/net/address.h"
#include "guest/net/network.h"
#include "guest/net/packet.h"

namespace fluyt::guest {

/// struct ucred.
struct PeerIds {
  int32_t pid = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  bool operator==(const PeerIds&) const = default;
};

/// What one send put there, or several that nothing tells apart.
struct Segment {
  std::vector<std::byte> data;
  size_t taken = 0;
  SocketAddress from;
  std::vector<FilePtr> files;
  PeerIds sender;
  std::optional<Packet> packet;  // of the Internet families
  int64_t came_ns = 0;           // of CLOCK_REALTIME; 0: nobody asked
  uint32_t dropped = 0;          // datagrams that the socket had no room for until then
  size_t left() const { return data.size() - taken; }
};

/// What waits to be received. Its owner's lock guards it.
class Inbox {
 public:
  explicit Inbox(std::shared_ptr<Network> network) : network_(std::move(network)) {}
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;
  ~Inbox() { clear(); }

  bool empty() const { return segments_.empty(); }
  size_t bytes() const { return bytes_; }      // of data
  size_t charged() const { return charged_; }  // with what keeping them costs
  size_t count() const { return segments_.size(); }
  Segment& front() { return segments_.front(); }
  std::deque<Segment>& segments() { return segments_; }

  /// Behind the last; ENOBUFS, ETOOMANYREFS.
  Errno push(Segment segment);
  /// Bytes that join the last segment when nothing tells them apart.
  Errno push_bytes(std::span<const std::byte> data, const PeerIds& sender);
  /// Bytes that were taken and could not be stored, before the first segment.
  void put_back(std::span<const std::byte> data, const PeerIds& sender);
  /// Bytes of the first segment were received.
  void take(size_t count);
  /// The first segment, whole.
  Segment pop();
  /// The files of the first segment: they are the receiver's now.
  std::vector<FilePtr> take_files();
  /// Files whose end must wait until no lock is held.
  void clear();

  /// Whoever is to accept the connection that it belongs to; null: it has a reader, or none to
  /// come. For those who look for what is unreachable, who compare it alone.
  void wait_for(const void* listener) { listener_.store(listener); }
  const void* listener() const { return listener_.load(); }

 private:
  static constexpr size_t kOverhead = 256;
  std::shared_ptr<Network> network_;
  std::atomic<const void*> listener_{nullptr};
  std::deque<Segment> segments_;
  size_t bytes_ = 0;
  size_t charged_ = 0;
};

}  // namespace fluyt::guest
