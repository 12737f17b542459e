#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "guest/abi/control.h"
#include "guest/net/address.h"
#include "guest/net/network.h"

namespace fluyt::guest {

struct Caller;

/// What a packet says besides its bytes.
struct Packet {
  Endpoint to;     // where it was sent
  int device = 1;  // index of the network device that it came by
  uint8_t hops = 64;
  uint8_t traffic_class = 0;
};

/// An option of a number.
struct OptionRule {
  enum How : uint8_t {
    kRange,     // EINVAL outside of it; -1, where it is the lowest, stands for the initial value
    kBool,      // anything but 0 is 1
    kNotZero,   // kRange without 0
    kByte,      // what does not fit is cut off
    kFixed,     // EINVAL for every value
    kReadOnly,  // ENOPROTOOPT
  };
  int level, option;
  How how;
  int lowest, highest, initial;
};
/// The number that is kept when a program sets `value`. One byte will do for the options of IP.
ErrnoOr<int> checked(const OptionRule& rule, std::span<const std::byte> value);

/// The options of one socket at the levels of IP and IPv6 (ip(7), ipv6(7), RFC 3542), its multicast
/// groups, and what both mean for its packets. Has a lock of its own, held for no call.
class PacketOptions {
 public:
  PacketOptions(std::shared_ptr<Network> network, int family, int type)
      : network_(std::move(network)), family_(family), type_(type) {}
  PacketOptions(const PacketOptions&) = delete;
  PacketOptions& operator=(const PacketOptions&) = delete;
  ~PacketOptions();

  /// ENOPROTOOPT when it is none of these.
  Errno set(const Caller& caller, int level, int option, std::span<const std::byte> value);
  ErrnoOr<std::vector<std::byte>> get(int level, int option);
  void copy_from(PacketOptions& other);

  /// What a sender asked for: by options, and by control messages for one packet.
  struct Asked {
    int hops = 64;
    int traffic_class = 0;
    int device = 0;  // 0: any
    std::optional<Endpoint> source;
  };
  /// EINVAL, EPERM, ENODEV as ip_cmsg_send and its sibling of IPv6 have it.
  ErrnoOr<Asked> ask(const Endpoint& to, std::span<const ControlMessage> control);
  /// By which device a packet to a group leaves; null: there is none.
  const Interface* device_for_group(const Endpoint& group, const Asked& asked,
                                    const Endpoint& local);
  /// Whether a packet to a group that came by `device` is for this socket.
  bool hears_group(const Endpoint& group, int device);
  /// The control messages that go with a packet.
  void describe(const Packet& packet, std::vector<ControlMessage>& out) const;
  bool describes() const { return wants_.load() != 0; }

  /// What a socket of the host's behind this one is to be told.
  struct Setting {
    int level = 0;
    int option = 0;
    std::vector<std::byte> value;
  };
  std::vector<Setting> for_host();

 private:
  struct Number {
    int level = 0;
    int option = 0;
    int value = 0;
  };
  struct Membership {
    Endpoint group;
    int device = 0;
  };
  Number* find_number(int level, int option);  // under mutex_; null: it was not set
  int number(int level, int option);
  Errno set_device(int level, int option, std::span<const std::byte> value);
  Errno change_group(int level, int option, std::span<const std::byte> value);
  Errno join(const Endpoint& group, int device);
  Errno leave(const Endpoint& group, int device);
  bool is_stream() const;
  void renew_wants();

  const std::shared_ptr<Network> network_;
  const int family_;
  const int type_;
  std::atomic<uint32_t> wants_{0};
  std::mutex mutex_;
  // Under it:
  std::vector<Number> numbers_;  // that were set; few, and a map would be ten times as large
  std::vector<Membership> memberships_;
  std::vector<Membership> left_;  // of which the host is still to be told
  int group_device_[2] = {};      // IP_MULTICAST_IF, IPV6_MULTICAST_IF
  int device_[2] = {};            // IP_UNICAST_IF, IPV6_UNICAST_IF
  uint32_t group_source_ = 0;     // what IP_MULTICAST_IF shows
};

}  // namespace fluyt::guest
