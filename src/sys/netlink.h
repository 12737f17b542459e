#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

/// Network devices with their counters, addresses and routes by rtnetlink(7).
namespace fluyt::sys {

struct LinkCounters {
  uint64_t rx_packets = 0;
  uint64_t tx_packets = 0;
  uint64_t rx_bytes = 0;
  uint64_t tx_bytes = 0;
  uint64_t rx_errors = 0;
  uint64_t tx_errors = 0;
  uint64_t rx_dropped = 0;
  uint64_t tx_dropped = 0;
};

struct Link {
  int index = 0;
  std::string name;
  bool up = false;
  LinkCounters counters;
};

struct LinkAddress {
  uint8_t family = 0;  // AF_INET, AF_INET6
  uint8_t prefix_length = 0;
  uint8_t scope = 0;      // RT_SCOPE_*
  uint32_t flags = 0;     // IFA_F_*
  std::string address;    // bytes; of the peer on a point-to-point device
  std::string local;      // bytes; empty where the family has none
  std::string broadcast;  // bytes; may be empty
  bool operator==(const LinkAddress&) const = default;
};

/// More of one device than a dump of all is kept for.
struct LinkDetails {
  int index = 0;
  std::string name;
  bool up = false;           // IFF_UP
  bool running = false;      // operational state IF_OPER_UP
  bool promiscuous = false;  // by IFF_PROMISC: asked for, not a bridge's port
  bool all_multicast = false;
  std::string mac;   // bytes
  std::string kind;  // "veth", "bridge", ...; empty for hardware and lo
  uint32_t mtu = 0;
  uint32_t queue_length = 0;
  uint16_t vlan = 0;  // of kind "vlan"
  uint32_t mode = 0;  // of kinds "macvlan" and "ipvlan"
  int master = 0;     // the bridge's index; 0: none
  int peer = 0;       // IFLA_LINK: a veth's other end, a child's parent, in its namespace
};

struct NewVeth {
  std::string name, peer_name;
  uint32_t mtu = 0;  // of both; 0: the kernel's
  int master = 0;    // bridge that `name` becomes a port of; 0: none
  FdRef peer_network;
  std::string peer_mac;  // bytes; empty: random
};

/// A device on top of another one, born in its place with its name and without a queue. Not up.
struct NewChild {
  std::string name;
  int parent = 0;    // in our namespace
  uint32_t mtu = 0;  // 0: the parent's
  FdRef network;
  std::string mac;  // bytes; empty: the kernel's
};

/// tc-tbf(8), in what the kernel counts in.
struct TokenBucket {
  uint64_t rate = 0;    // bytes a second
  uint32_t buffer = 0;  // ticks of psched_ticks()
  uint32_t limit = 0;   // bytes that may wait
};
/// A packet scheduler of a device, as far as we make them.
struct Qdisc {
  std::string kind;
  uint32_t parent = 0;  // TC_H_ROOT, TC_H_INGRESS, ...
  TokenBucket bucket;   // of "tbf"
};
/// How many ticks of the packet scheduler a microsecond has (/proc/net/psched).
Result<double> psched_ticks();

enum class Switch { kOff, kOn };

struct Route {
  uint8_t family = 0;       // AF_INET, AF_INET6
  std::string destination;  // bytes; empty with prefix_length 0
  uint8_t prefix_length = 0;
  std::string gateway;  // bytes; empty: none
  int device = 0;
  std::string source;            // bytes; empty: none
  std::optional<uint8_t> scope;  // RT_SCOPE_*; nothing: what fits the gateway
  bool operator==(const Route&) const = default;
};

/// One socket in one network namespace, for one thread. Every request waits for the kernel's
/// answer; errors carry what the kernel said.
class Netlink {
 public:
  /// In our own network namespace.
  static Result<Netlink> open();
  /// In another one. The thread is there for a moment: single-threaded programs only.
  static Result<Netlink> open_in(FdRef network);

  Result<std::vector<Link>> links();
  /// Nothing when there is no such device.
  Result<std::optional<Link>> find_link(const std::string& name);
  Result<std::vector<LinkAddress>> addresses(int index);
  Result<> add_address(int index, const LinkAddress& address);
  /// The device goes to `network` and is called `name` there; `%d` in it becomes a free number.
  Result<> move_link(int index, FdRef network, const std::string& name);
  Result<> set_up(int index);
  Result<> set_down(int index);

  /// One device by name; nothing when there is none.
  Result<std::optional<LinkDetails>> find_details(const std::string& name);
  Result<std::string> name_of(int index);
  /// kAlreadyExists when the name is taken. Not up.
  Result<> add_bridge(const std::string& name, uint32_t mtu);
  /// Both ends at once, each in its place and with its name, without queues; the end here is up,
  /// the other is not.
  Result<> add_veth(const NewVeth& veth);
  /// With what is stacked on it. kNotFound when it is gone.
  Result<> delete_link(int index);
  /// The same in the calling thread's network namespace, and back as soon as the device is gone:
  /// the kernel tells of that some 20 ms before it answers, for the answer waits for callbacks of
  /// RCU. A thread of its own takes it.
  static Result<> remove_link_here(int index);
  Result<> set_mac(int index, const std::string& mac);
  Result<> set_promiscuous(int index, Switch to);
  Result<> set_all_multicast(int index, Switch to);
  Result<> set_mtu(int index, uint32_t mtu);
  Result<> set_queue_length(int index, uint32_t packets);
  Result<> add_macvlan(const NewChild& child, uint32_t mode);  // MACVLAN_MODE_*
  Result<> add_ipvlan(const NewChild& child, uint16_t mode);   // IPVLAN_MODE_*
  Result<> add_vlan(const NewChild& child, uint16_t id);
  Result<> add_ifb(const std::string& name, uint32_t mtu);
  Result<std::optional<LinkDetails>> find_details(int index);

  /// Outgoing packets go through a token bucket; another root scheduler is kAlreadyExists.
  Result<> add_token_bucket(int index, const TokenBucket& bucket);
  /// Incoming packets leave by `target` instead.
  Result<> redirect_ingress(int index, int target);
  Result<std::vector<Qdisc>> qdiscs(int index);
  /// Of a bridge's port: whether frames go back out where they came in.
  Result<> set_hairpin(int index);
  Result<> delete_address(int index, const LinkAddress& address);

  /// kAlreadyExists when there is one like it.
  Result<> add_route(const Route& route);
  /// kNotFound when there is none like it.
  Result<> delete_route(const Route& route);
  /// Of the main table.
  Result<std::vector<Route>> routes(uint8_t family);
  /// The index of the device that has the main table's default route of IPv4; 0: none.
  Result<int> default_device();
  /// The index of the device that packets to `address` leave by.
  Result<int> device_towards(uint8_t family, const std::string& address);

 private:
  explicit Netlink(Fd socket) : socket_(std::move(socket)) {}
  struct Request;
  struct Answer;
  Result<> add_child(const NewChild& child, const std::string& kind, uint16_t attribute,
                     std::string_view value);
  Result<std::optional<LinkDetails>> one_link(Request& request, const std::string& what);
  Result<std::vector<Answer>> ask(Request& request, const std::string& what);
  Fd socket_;
  uint32_t sequence_ = 0;
};

}  // namespace fluyt::sys
