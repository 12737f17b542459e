#include "guest/net/netlink.h"

#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "guest/net/datagram.h"
#include "guest/net/interfaces.h"

namespace fluyt::guest {
namespace {

// The wire, as rtnetlink(7) has it.
struct Name {
  uint16_t family = AF_NETLINK;
  uint16_t padding = 0;
  uint32_t port = 0;
  uint32_t groups = 0;
};
struct Header {
  uint32_t length = 0;
  uint16_t type = 0;
  uint16_t flags = 0;
  uint32_t sequence = 0;
  uint32_t port = 0;
};
struct LinkMessage {
  uint8_t family = 0;
  uint8_t padding = 0;
  uint16_t kind = 0;
  int32_t index = 0;
  uint32_t flags = 0;
  uint32_t change = 0;
};
struct AddressMessage {
  uint8_t family = 0;
  uint8_t prefix = 0;
  uint8_t flags = 0;
  uint8_t scope = 0;
  uint32_t index = 0;
};
struct RouteMessage {
  uint8_t family = 0;
  uint8_t to_bits = 0;
  uint8_t from_bits = 0;
  uint8_t tos = 0;
  uint8_t table = 254;  // RT_TABLE_MAIN
  uint8_t protocol = 3;
  uint8_t scope = 0;
  uint8_t type = 1;
  uint32_t flags = 0;
};
constexpr uint16_t kError = 2;
constexpr uint16_t kDone = 3;
constexpr uint16_t kMulti = 2;
constexpr uint16_t kAcknowledge = 4;
constexpr uint16_t kDump = 0x300;
constexpr uint16_t kNewLink = 16, kGetLink = 18;
constexpr uint16_t kNewAddress = 20, kGetAddress = 22;
constexpr uint16_t kNewRoute = 24, kGetRoute = 26;
constexpr uint16_t kFirstOfRoute = 16, kLastOfRoute = 120;

constexpr size_t aligned(size_t length) { return (length + 3) & ~size_t{3}; }

/// One message after the other, with attributes.
class Writer {
 public:
  template <class T>
  void begin(uint16_t type, uint16_t flags, const Header& asked, uint32_t port, const T& fixed) {
    at_ = bytes_.size();
    Header header;
    header.type = type;
    header.flags = flags;
    header.sequence = asked.sequence;
    header.port = port;
    raw(header);
    raw(fixed);
  }
  void attribute(uint16_t type, std::span<const std::byte> value) {
    const uint16_t head[2] = {static_cast<uint16_t>(4 + value.size()), type};
    raw(head);
    bytes_.insert(bytes_.end(), value.begin(), value.end());
    bytes_.resize(aligned(bytes_.size()));
  }
  template <class T>
  void attribute(uint16_t type, const T& value) {
    attribute(type, std::as_bytes(std::span(&value, 1)));
  }
  void text(uint16_t type, const std::string& value) {
    attribute(type, std::as_bytes(std::span(value.c_str(), value.size() + 1)));
  }
  void address(uint16_t type, const Endpoint& at) {
    const auto all = std::as_bytes(std::span(at.address));
    attribute(type, at.is_v4() ? all.subspan(12) : all);
  }
  void end() {
    const auto length = static_cast<uint32_t>(bytes_.size() - at_);
    std::memcpy(&bytes_[at_], &length, sizeof length);
    bytes_.resize(aligned(bytes_.size()));
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  template <class T>
  void raw(const T& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  std::vector<std::byte> bytes_;
  size_t at_ = 0;
};

uint8_t family_of(const Endpoint& at) { return at.is_v4() ? AF_INET : AF_INET6; }
uint8_t scope_of(const Endpoint& at) {
  if (at.is_loopback()) return 254;  // host
  return !at.is_v4() && at.address[0] == 0xfe && (at.address[1] & 0xc0) == 0x80 ? 253 : 0;
}

class NetlinkSocket final : public DatagramSocket {
 public:
  NetlinkSocket(std::shared_ptr<Network> network, int type, int flags)
      : DatagramSocket(std::move(network), AF_NETLINK, type, 0, flags) {}

  Errno bind(Caller& caller, const Places&, const SocketAddress& address) override {
    const Name name = GUEST_TRY(parse(address));
    std::lock_guard lock(naming_);
    if (port_ != 0 && name.port != 0 && name.port != port_) return Errno(EINVAL);
    if (port_ == 0) port_ = name.port != 0 ? name.port : choose(caller);
    groups_ = name.groups;  // of what never changes nothing is told
    return kOk;
  }
  Errno connect(Caller& caller, const Places&, const SocketAddress& address) override {
    const Name name = GUEST_TRY(parse(address));
    if (name.port != 0) return Errno(ECONNREFUSED);
    std::lock_guard lock(naming_);
    if (port_ == 0) port_ = choose(caller);
    return kOk;
  }
  ErrnoOr<size_t> send(Caller& caller, const Places*, const Outgoing& out) override {
    if (out.to != nullptr && out.to->length != 0) {
      const Name name = GUEST_TRY(parse(*out.to));
      if (name.port != 0) return Errno(ECONNREFUSED);  // other programs are not there
    }
    uint32_t port = 0;
    {
      std::lock_guard lock(naming_);
      if (port_ == 0) port_ = choose(caller);
      port = port_;
    }
    std::span<const std::byte> left = out.data;
    while (left.size() >= sizeof(Header)) {
      Header header;
      std::memcpy(&header, left.data(), sizeof header);
      if (header.length < sizeof header || header.length > left.size()) break;
      GUEST_TRY(answer(header, left.subspan(sizeof header, header.length - sizeof header), port));
      left = left.subspan(std::min(left.size(), aligned(header.length)));
    }
    return out.data.size();
  }
  Errno tell(std::vector<std::byte> bytes) { return reply(std::move(bytes), Full::kExceed); }
  Errno shutdown(int) override { return Errno(EOPNOTSUPP); }
  ErrnoOr<SocketAddress> name() override {
    std::lock_guard lock(naming_);
    return address_of(port_, groups_);
  }
  ErrnoOr<SocketAddress> peer_name() override { return address_of(0, 0); }
  size_t longest() const override { return static_cast<size_t>(send_buffer_.load()) - 32; }
  Errno set_option(Caller& caller, int level, int option,
                   std::span<const std::byte> value) override {
    if (level == SOL_SOCKET) return Socket::set_option(caller, level, option, value);
    constexpr int kSolNetlink = 270;
    if (level != kSolNetlink) return Errno(ENOPROTOOPT);
    // ADD_MEMBERSHIP, DROP_MEMBERSHIP: nothing is ever told. EXT_ACK, GET_STRICT_CHK: answers are
    // the same with them.
    GUEST_TRY(as_number(value));
    return option == 1 || option == 2 || option == 11 || option == 12 ? kOk : Errno(ENOPROTOOPT);
  }

 protected:
  bool full() const override {
    return received_.charged() >= static_cast<size_t>(receive_buffer_.load());
  }

 private:
  static ErrnoOr<Name> parse(const SocketAddress& address) {
    Name out;
    if (address.length < sizeof out) return Errno(EINVAL);
    std::memcpy(&out, address.bytes.data(), sizeof out);
    if (out.family != AF_NETLINK) return Errno(EINVAL);
    return out;
  }
  static SocketAddress address_of(uint32_t port, uint32_t groups) {
    Name name;
    name.port = port;
    name.groups = groups;
    SocketAddress out;
    std::memcpy(out.bytes.data(), &name, sizeof name);
    out.length = sizeof name;
    return out;
  }
  /// The process's id for its first, as Linux; then numbers that no process has.
  uint32_t choose(const Caller& caller) const {
    bool first = true;
    for (const SocketPtr& socket : network_->sockets()) {
      if (socket.get() == this || socket->family() != AF_NETLINK) continue;
      first = first &&
              static_cast<NetlinkSocket&>(*socket).chosen_ != static_cast<uint32_t>(caller.pid);
    }
    const uint32_t port =
        first ? static_cast<uint32_t>(caller.pid) : 0x80000000U | static_cast<uint32_t>(number());
    chosen_ = port;
    return port;
  }

  Errno reply(std::vector<std::byte> bytes, Full when_full = Full::kRefuse) {
    Segment segment;
    segment.data = std::move(bytes);
    segment.from = address_of(0, 0);
    const Errno done = deliver(std::move(segment), when_full);
    return done.value() == EAGAIN ? Errno(ENOBUFS) : done;
  }
  Errno error(const Header& asked, uint32_t port, int number) {
    struct {
      int32_t error;
      Header asked;
    } body{-number, asked};
    Writer writer;
    writer.begin(kError, 0, asked, port, body);
    writer.end();
    return reply(writer.take());
  }

  Errno answer(const Header& asked, std::span<const std::byte> body, uint32_t port) {
    if (asked.type < kFirstOfRoute) return kOk;  // control messages are not answered
    if (asked.type > kLastOfRoute) return error(asked, port, EOPNOTSUPP);
    // The second of four says what is asked: new, delete, get, set.
    if (asked.type % 4 != 2) return error(asked, port, EPERM);
    const uint8_t family = body.empty() ? 0 : static_cast<uint8_t>(body[0]);
    const bool dump = (asked.flags & kDump) != 0;
    Writer writer;
    bool any = false;
    const uint16_t flags = dump ? kMulti : 0;
    switch (asked.type) {
      case kGetLink: {
        LinkMessage wanted;
        std::string name;
        if (!dump) {
          if (body.size() < sizeof wanted) return error(asked, port, EINVAL);
          std::memcpy(&wanted, body.data(), sizeof wanted);
          constexpr uint16_t kIfName = 3;
          name = attribute_text(body.subspan(sizeof wanted), kIfName);
        }
        for (const Interface& device : network_->interfaces) {
          if (!dump && (wanted.index != 0 ? device.index != wanted.index : device.name != name))
            continue;
          write_link(writer, asked, port, flags, device);
          any = true;
        }
        break;
      }
      case kGetAddress:
        if (!dump) return error(asked, port, EOPNOTSUPP);
        for (const Interface& device : network_->interfaces)
          for (const Interface::Address& address : device.addresses)
            if (family == 0 || family == family_of(address.at))
              write_address(writer, asked, port, flags, device, address);
        break;
      case kGetRoute:
        if (!dump) return find_route(asked, body, port);
        for (const Route& route : network_->routes)
          if (family == 0 || family == family_of(route.to))
            write_route(writer, asked, port, flags, route);
        break;
      default:
        // Neighbours, rules and the like: there are none.
        if (!dump) return error(asked, port, EOPNOTSUPP);
    }
    if (!dump) {
      if (!any) return error(asked, port, ENODEV);
      GUEST_TRY(reply(writer.take()));
      return (asked.flags & kAcknowledge) != 0 ? error(asked, port, 0) : kOk;
    }
    std::vector<std::byte> bytes = writer.take();
    if (!bytes.empty()) GUEST_TRY(reply(std::move(bytes)));
    Writer last;
    last.begin(kDone, kMulti, asked, port, int32_t{0});
    last.end();
    return reply(last.take());
  }

  static std::string attribute_text(std::span<const std::byte> at, uint16_t type) {
    const std::span<const std::byte> value = attribute(at, type);
    const auto* text = reinterpret_cast<const char*>(value.data());
    return std::string(text, strnlen(text, value.size()));
  }
  static std::span<const std::byte> attribute(std::span<const std::byte> at, uint16_t type) {
    while (at.size() >= 4) {
      uint16_t head[2];
      std::memcpy(head, at.data(), sizeof head);
      if (head[0] < 4 || head[0] > at.size()) break;
      if ((head[1] & 0x3fff) == type) return at.subspan(4, head[0] - 4U);
      at = at.subspan(std::min(at.size(), aligned(head[0])));
    }
    return {};
  }

  static void write_link(Writer& writer, const Header& asked, uint32_t port, uint16_t flags,
                         const Interface& device) {
    LinkMessage link;
    link.kind = device.kind;
    link.index = device.index;
    link.flags = device.flags;
    writer.begin(kNewLink, flags, asked, port, link);
    writer.text(3, device.name);           // IFLA_IFNAME
    writer.attribute(13, uint32_t{1000});  // IFLA_TXQLEN
    const bool loop = (device.flags & IFF_LOOPBACK) != 0;
    // Unknown, up, down (RFC 2863).
    const uint8_t state = loop ? 0 : (device.flags & IFF_RUNNING) != 0 ? 6 : 2;
    writer.attribute(16, state);           // IFLA_OPERSTATE
    writer.attribute(17, uint8_t{0});      // IFLA_LINKMODE
    writer.attribute(4, device.mtu);       // IFLA_MTU
    writer.attribute(27, uint32_t{0});     // IFLA_GROUP
    writer.text(6, "noqueue");             // IFLA_QDISC
    writer.attribute(1, device.hardware);  // IFLA_ADDRESS
    std::array<uint8_t, 6> everyone{};
    if (!loop) everyone.fill(0xff);
    writer.attribute(2, everyone);  // IFLA_BROADCAST
    writer.end();
  }
  static void write_address(Writer& writer, const Header& asked, uint32_t port, uint16_t flags,
                            const Interface& device, const Interface::Address& address) {
    AddressMessage message;
    message.family = family_of(address.at);
    message.prefix = address.prefix;
    message.flags = 0x80;  // permanent
    message.scope = scope_of(address.at);
    message.index = static_cast<uint32_t>(device.index);
    writer.begin(kNewAddress, flags, asked, port, message);
    writer.address(1, address.at);  // IFA_ADDRESS
    if (address.at.is_v4()) {
      writer.address(2, address.at);  // IFA_LOCAL
      writer.text(3, device.name);    // IFA_LABEL
    }
    writer.attribute(8, uint32_t{0x80});  // IFA_FLAGS
    const uint32_t cache[4] = {~0U, ~0U, 0, 0};
    writer.attribute(6, cache);  // IFA_CACHEINFO: for ever
    writer.end();
  }
  static void write_route(Writer& writer, const Header& asked, uint32_t port, uint16_t flags,
                          const Route& route) {
    RouteMessage message;
    message.family = family_of(route.to);
    message.to_bits = route.prefix;
    const bool gateway = !route.gateway.is_any();
    message.scope = gateway ? 0 : 253;
    writer.begin(kNewRoute, flags, asked, port, message);
    writer.attribute(15, uint32_t{254});                       // RTA_TABLE
    if (route.prefix != 0) writer.address(1, route.to);        // RTA_DST
    if (gateway) writer.address(5, route.gateway);             // RTA_GATEWAY
    writer.attribute(4, static_cast<uint32_t>(route.index));   // RTA_OIF
    if (route.metric != 0) writer.attribute(6, route.metric);  // RTA_PRIORITY
    writer.end();
  }

  /// Which way a packet would go (ip route get).
  Errno find_route(const Header& asked, std::span<const std::byte> body, uint32_t port) {
    RouteMessage wanted;
    if (body.size() < sizeof wanted) return error(asked, port, EINVAL);
    std::memcpy(&wanted, body.data(), sizeof wanted);
    const std::span<const std::byte> raw = attribute(body.subspan(sizeof wanted), 1);
    Endpoint to;
    if (wanted.family == AF_INET && raw.size() == 4) {
      to = Endpoint::v4(0, 0);
      std::memcpy(&to.address[12], raw.data(), 4);
    } else if (wanted.family == AF_INET6 && raw.size() == 16) {
      std::memcpy(to.address.data(), raw.data(), 16);
    } else {
      return error(asked, port, EINVAL);
    }
    const auto covers = [&](const Endpoint& net, unsigned bits) {
      const unsigned skip = net.is_v4() ? 96 : 0;
      for (unsigned bit = skip; bit < skip + bits; ++bit)
        if (((net.address[bit / 8] ^ to.address[bit / 8]) >> (7 - bit % 8) & 1) != 0) return false;
      return net.is_v4() == to.is_v4();
    };
    RouteMessage message;
    message.family = wanted.family;
    message.to_bits = static_cast<uint8_t>(raw.size() * 8);
    Writer writer;
    if (to.is_loopback()) {
      message.table = 255;  // local
      message.type = 2;
      message.flags = 0x80000000 >> 22;  // RTM_F_CLONED
      writer.begin(kNewRoute, 0, asked, port, message);
      writer.address(1, to);
      writer.attribute(4, uint32_t{1});
      writer.address(7, to);  // RTA_PREFSRC
      writer.end();
      return reply(writer.take());
    }
    const Route* best = nullptr;
    for (const Route& route : network_->routes)
      if (covers(route.to, route.prefix) && (best == nullptr || route.prefix > best->prefix))
        best = &route;
    if (best == nullptr) return error(asked, port, ENETUNREACH);
    writer.begin(kNewRoute, 0, asked, port, message);
    writer.address(1, to);
    if (!best->gateway.is_any()) writer.address(5, best->gateway);
    writer.attribute(4, static_cast<uint32_t>(best->index));
    for (const Interface& device : network_->interfaces)
      for (const Interface::Address& address : device.addresses)
        if (device.index == best->index && address.at.is_v4() == to.is_v4() &&
            scope_of(address.at) == 0) {
          writer.address(7, address.at);
          writer.end();
          return reply(writer.take());
        }
    writer.end();
    return reply(writer.take());
  }

  std::mutex naming_;
  uint32_t port_ = 0;
  uint32_t groups_ = 0;
  mutable std::atomic<uint32_t> chosen_{0};
};

}  // namespace

ErrnoOr<SocketPtr> make_netlink_socket(const std::shared_ptr<Network>& network, int type,
                                       int protocol, int flags) {
  if (type != SOCK_RAW && type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
  constexpr int kRoute = 0;
  if (protocol != kRoute) return Errno(EPROTONOSUPPORT);
  return SocketPtr(std::make_shared<NetlinkSocket>(network, type, flags));
}

Errno tell_netlink(Socket& socket, std::vector<std::byte> bytes) {
  auto* netlink = dynamic_cast<NetlinkSocket*>(&socket);
  return netlink == nullptr ? Errno(EINVAL) : netlink->tell(std::move(bytes));
}

}  // namespace fluyt::guest
