#include "guest/net/interfaces.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "guest/net/socket.h"

namespace fluyt::guest {
namespace {

uint32_t mask_of(uint8_t prefix) { return prefix == 0 ? 0 : ~uint32_t{0} << (32 - prefix); }

uint32_t v4_of(const Endpoint& at) {
  uint32_t out = 0;
  std::memcpy(&out, &at.address[12], sizeof out);
  return ntohl(out);
}

const Interface::Address* first_v4(const Interface& device) {
  for (const Interface::Address& address : device.addresses)
    if (address.at.is_v4()) return &address;
  return nullptr;
}

std::string hex(std::span<const uint8_t> bytes) {
  std::string out;
  char text[3];
  for (const uint8_t byte : bytes) {
    std::snprintf(text, sizeof text, "%02x", byte);
    out += text;
  }
  return out;
}

template <class... Values>
std::string format(const char* how, Values... values) {
  char line[512];
  const int length = std::snprintf(line, sizeof line, how, values...);
  return std::string(line, std::min(sizeof line - 1, static_cast<size_t>(std::max(length, 0))));
}

/// An address as /proc/net/tcp has it: words of the machine's order.
std::string raw_address(const Endpoint& at, bool six) {
  uint32_t words[4];
  std::memcpy(words, at.address.data(), sizeof words);
  if (!six) return format("%08X:%04X", words[3], at.port);
  return format("%08X%08X%08X%08X:%04X", words[0], words[1], words[2], words[3], at.port);
}

std::string inet_rows(Network& network, int family, int type) {
  const bool six = family == AF_INET6;
  std::string out =
      six ? "  sl  local_address                         remote_address                        st "
            "tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
          : "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
            "timeout inode\n";
  int at = 0;
  for (const SocketPtr& socket : network.sockets()) {
    if (socket->family() != family || socket->type() != type) continue;
    const Socket::Row row = socket->row();
    if (!row.listening && !row.connected) continue;
    out += format("%4d: %s %s %02X %08zX:%08zX 00:00000000 00000000 %5u        0 %lu 1\n", at++,
                  raw_address(row.local, six).c_str(), raw_address(row.peer, six).c_str(),
                  static_cast<unsigned>(row.state), row.sending, row.waiting, 0U,
                  static_cast<unsigned long>(socket->number()));
  }
  return out;
}

std::string unix_rows(Network& network) {
  std::string out = "Num       RefCount Protocol Flags    Type St Inode Path\n";
  for (const SocketPtr& socket : network.sockets()) {
    if (socket->family() != AF_UNIX) continue;
    const Socket::Row row = socket->row();
    out += format("%016x: %08X %08X %08X %04X %02X %5lu", 0U, 2U, 0U, row.listening ? 0x10000U : 0U,
                  static_cast<unsigned>(socket->type()), row.connected ? 3U : 1U,
                  static_cast<unsigned long>(socket->number()));
    if (!row.name.empty()) out += " " + row.name;
    out += "\n";
  }
  return out;
}

std::string devices(const Network& network) {
  std::string out =
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
      "drop "
      "fifo colls carrier compressed\n";
  for (const Interface& device : network.interfaces)
    out += format(
        "%6s:       0       0    0    0    0     0          0         0        0       0 "
        "   0    0    0     0       0          0\n",
        device.name.c_str());
  return out;
}

const char* name_of(const Network& network, int index) {
  for (const Interface& device : network.interfaces)
    if (device.index == index) return device.name.c_str();
  return "*";
}

std::string routes(const Network& network) {
  std::string out =
      "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
  for (const Route& route : network.routes) {
    if (!route.to.is_v4()) continue;
    const bool gateway = route.gateway.is_v4() && !route.gateway.is_any();
    out += format("%s\t%08X\t%08X\t%04X\t0\t0\t%u\t%08X\t0\t0\t0\n", name_of(network, route.index),
                  htonl(v4_of(route.to)), gateway ? htonl(v4_of(route.gateway)) : 0,
                  gateway ? 3U : 1U, route.metric, htonl(mask_of(route.prefix)));
  }
  return out;
}

std::string addresses6(const Network& network) {
  std::string out;
  for (const Interface& device : network.interfaces)
    for (const Interface::Address& address : device.addresses)
      if (!address.at.is_v4())
        out += format("%s %02x %02x %02x 80 %8s\n", hex(address.at.address).c_str(),
                      static_cast<unsigned>(device.index), address.prefix,
                      address.at.is_loopback() ? 0x10U : 0U, device.name.c_str());
  return out;
}

}  // namespace

Interface loopback() {
  Interface out;
  out.name = "lo";
  out.flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING | 0x10000 /* IFF_LOWER_UP */;
  out.addresses.push_back({Endpoint::v4(INADDR_LOOPBACK, 0), 8});
  Endpoint six;
  six.address[15] = 1;
  out.addresses.push_back({six, 128});
  return out;
}

ErrnoOr<uint64_t> interface_ioctl(const Network& network, Caller& caller, uint32_t request,
                                  uint64_t argument) {
  const auto copy_in = [&](auto& value) {
    const auto bytes = std::as_writable_bytes(std::span(&value, 1));
    return caller.memory->read(argument, bytes) == bytes.size() ? kOk : Errno(EFAULT);
  };
  const auto copy_out = [&](uint64_t address, std::span<const std::byte> bytes) {
    return caller.memory->write(address, bytes) == bytes.size() ? kOk : Errno(EFAULT);
  };
  const auto as_bytes = [](const auto& value) { return std::as_bytes(std::span(&value, 1)); };
  const auto put_v4 = [](sockaddr& to, uint32_t address) {
    sockaddr_in raw{};
    raw.sin_family = AF_INET;
    raw.sin_addr.s_addr = htonl(address);
    std::memcpy(&to, &raw, sizeof raw);
  };
  if (request == SIOCGIFCONF) {
    struct {
      int32_t length;
      uint32_t padding;
      uint64_t buffer;
    } asked{};
    GUEST_TRY(copy_in(asked));
    std::vector<ifreq> all;
    for (const Interface& device : network.interfaces)
      for (const Interface::Address& address : device.addresses) {
        if (!address.at.is_v4()) continue;
        ifreq one{};
        std::strncpy(one.ifr_name, device.name.c_str(), IFNAMSIZ - 1);
        put_v4(one.ifr_addr, v4_of(address.at));
        all.push_back(one);
      }
    size_t count = all.size();
    if (asked.buffer != 0) {
      if (asked.length < 0) return Errno(EINVAL);
      count = std::min(count, static_cast<size_t>(asked.length) / sizeof(ifreq));
      GUEST_TRY(copy_out(asked.buffer, std::as_bytes(std::span(all).first(count))));
    }
    asked.length = static_cast<int32_t>(count * sizeof(ifreq));
    GUEST_TRY(copy_out(argument, as_bytes(asked)));
    return uint64_t{0};
  }
  constexpr uint32_t kFirst = 0x8910;  // SIOCGIFNAME
  constexpr uint32_t kLast = 0x894f;
  if (request < kFirst || request > kLast) return Errno(ENOTTY);
  ifreq one{};
  GUEST_TRY(copy_in(one));
  one.ifr_name[IFNAMSIZ - 1] = 0;
  const auto found = std::ranges::find_if(network.interfaces, [&](const Interface& device) {
    return request == SIOCGIFNAME ? device.index == one.ifr_ifindex : device.name == one.ifr_name;
  });
  switch (request) {
    case SIOCGIFNAME:
    case SIOCGIFFLAGS:
    case SIOCGIFADDR:
    case SIOCGIFBRDADDR:
    case SIOCGIFDSTADDR:
    case SIOCGIFNETMASK:
    case SIOCGIFMTU:
    case SIOCGIFHWADDR:
    case SIOCGIFINDEX:
    case SIOCGIFTXQLEN:
    case SIOCGIFMETRIC:
      break;
    case SIOCSIFFLAGS:
    case SIOCSIFADDR:
    case SIOCSIFNETMASK:
    case SIOCSIFBRDADDR:
    case SIOCSIFMTU:
    case SIOCSIFHWADDR:
    case SIOCSIFNAME:
      return Errno(EPERM);
    default:
      return Errno(ENOTTY);
  }
  if (found == network.interfaces.end()) return Errno(ENODEV);
  const Interface& device = *found;
  const Interface::Address* address = first_v4(device);
  switch (request) {
    case SIOCGIFNAME:
      std::memset(one.ifr_name, 0, sizeof one.ifr_name);
      std::strncpy(one.ifr_name, device.name.c_str(), IFNAMSIZ - 1);
      break;
    case SIOCGIFFLAGS:
      one.ifr_flags = static_cast<short>(device.flags & 0xffff);
      break;
    case SIOCGIFMTU:
      one.ifr_mtu = static_cast<int>(device.mtu);
      break;
    case SIOCGIFINDEX:
      one.ifr_ifindex = device.index;
      break;
    case SIOCGIFTXQLEN:
      one.ifr_qlen = 1000;
      break;
    case SIOCGIFMETRIC:
      one.ifr_metric = 0;
      break;
    case SIOCGIFHWADDR:
      one.ifr_hwaddr = {};
      one.ifr_hwaddr.sa_family = device.kind;
      std::memcpy(one.ifr_hwaddr.sa_data, device.hardware.data(), device.hardware.size());
      break;
    default: {
      if (address == nullptr) return Errno(EADDRNOTAVAIL);
      uint32_t value = v4_of(address->at);
      if (request == SIOCGIFNETMASK) value = mask_of(address->prefix);
      if (request == SIOCGIFBRDADDR)
        value = (device.flags & IFF_LOOPBACK) != 0 ? 0 : value | ~mask_of(address->prefix);
      put_v4(one.ifr_addr, value);
    }
  }
  GUEST_TRY(copy_out(argument, as_bytes(one)));
  return uint64_t{0};
}

std::vector<std::string> proc_net_names() {
  return {"dev", "if_inet6", "route", "tcp", "tcp6", "udp", "udp6", "unix"};
}

std::string proc_net_text(Network& network, const std::string& name) {
  if (name == "dev") return devices(network);
  if (name == "if_inet6") return addresses6(network);
  if (name == "route") return routes(network);
  if (name == "tcp") return inet_rows(network, AF_INET, SOCK_STREAM);
  if (name == "tcp6") return inet_rows(network, AF_INET6, SOCK_STREAM);
  if (name == "udp") return inet_rows(network, AF_INET, SOCK_DGRAM);
  if (name == "udp6") return inet_rows(network, AF_INET6, SOCK_DGRAM);
  return unix_rows(network);
}

}  // namespace fluyt::guest
