#pragma once

#include <vector>

#include "guest/net/socket.h"

namespace fluyt::guest {

/// A socket that receives whole messages from anyone, or from its peer alone.
class DatagramSocket : public Socket {
 public:
  DatagramSocket(std::shared_ptr<Network> network, int family, int type, int protocol, int flags);
  ~DatagramSocket() override;

  ErrnoOr<Incoming> receive(Caller& caller, std::span<std::byte> to, int flags) override;
  uint32_t ready(uint32_t wanted) override;
  void drop_received() override;

 protected:
  enum class Full : uint8_t { kDrop, kRefuse, kExceed };
  /// Puts a message into the queue; EAGAIN when there is no room and it is to be refused then.
  Errno deliver(Segment segment, Full when_full);
  virtual bool full() const = 0;  // under mutex_
  /// A message was taken, or nothing comes any more: those who wait to send.
  virtual void room_made() {}
  virtual bool can_send() { return true; }
  int take_error() override;
  ErrnoOr<size_t> readable_bytes() override;
  void set_error(int error);
  /// What else is told of a message; under mutex_.
  using Socket::describe;
  virtual void describe(const Segment& /*segment*/, Incoming& /*in*/) {}

  std::mutex mutex_;
  // Under it:
  Inbox received_;
  int error_ = 0;
  bool no_receiving_ = false;
  bool no_sending_ = false;
  uint32_t dropped_ = 0;
};

}  // namespace fluyt::guest
