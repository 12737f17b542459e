#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "guest/abi/errno.h"

/// Addresses of sockets: as programs write them, and as values.
namespace fluyt::guest {

/// A struct sockaddr of any family, copied in once.
struct SocketAddress {
  static constexpr uint32_t kMost = 128;  // struct sockaddr_storage
  std::array<std::byte, kMost> bytes{};
  uint32_t length = 0;

  uint16_t family() const;
  std::span<const std::byte> view() const { return std::span(bytes).first(length); }
  bool operator==(const SocketAddress& other) const;
};

/// An address of the Internet families; one of IPv4 is mapped (::ffff:0:0/96).
struct Endpoint {
  std::array<uint8_t, 16> address{};
  uint16_t port = 0;
  uint32_t scope = 0;

  static Endpoint v4(uint32_t address, uint16_t port);  // host order
  static Endpoint v6_any(uint16_t port) { return {{}, port, 0}; }
  bool is_v4() const;
  bool is_any() const;
  bool is_loopback() const;   // 127.0.0.0/8, ::1
  bool is_multicast() const;  // 224.0.0.0/4, ff00::/8
  bool operator==(const Endpoint&) const = default;
};

/// EINVAL when it is too short, EAFNOSUPPORT when it is of another family than the socket's.
ErrnoOr<Endpoint> parse_endpoint(const SocketAddress& address, int family);
SocketAddress shown(const Endpoint& endpoint, int family);

/// A unix(7) name: a path, an abstract name (its first byte is 0), or none.
struct UnixName {
  std::string text;
  bool abstract() const { return !text.empty() && text[0] == 0; }
};
ErrnoOr<UnixName> parse_unix(const SocketAddress& address);
SocketAddress shown(const UnixName& name);

}  // namespace fluyt::guest
