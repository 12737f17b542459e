#include "guest/net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

namespace fluyt::guest {
namespace {

template <class T>
T read_as(const SocketAddress& address) {
  T out;
  std::memcpy(&out, address.bytes.data(), sizeof out);
  return out;
}
template <class T>
SocketAddress write_as(const T& raw) {
  static_assert(sizeof raw <= SocketAddress::kMost);
  SocketAddress out;
  std::memcpy(out.bytes.data(), &raw, sizeof raw);
  out.length = sizeof raw;
  return out;
}

constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);

}  // namespace

uint16_t SocketAddress::family() const {
  uint16_t out = 0;
  if (length >= sizeof out) std::memcpy(&out, bytes.data(), sizeof out);
  return out;
}

bool SocketAddress::operator==(const SocketAddress& other) const {
  return std::ranges::equal(view(), other.view());
}

Endpoint Endpoint::v4(uint32_t address, uint16_t port) {
  Endpoint out;
  out.address[10] = out.address[11] = 0xff;
  const uint32_t network = htonl(address);
  std::memcpy(&out.address[12], &network, sizeof network);
  out.port = port;
  return out;
}

bool Endpoint::is_v4() const {
  return std::all_of(address.begin(), address.begin() + 10, [](uint8_t b) { return b == 0; }) &&
         address[10] == 0xff && address[11] == 0xff;
}

bool Endpoint::is_any() const {
  const auto begin = address.begin() + (is_v4() ? 12 : 0);
  return std::all_of(begin, address.end(), [](uint8_t b) { return b == 0; });
}

bool Endpoint::is_loopback() const {
  if (is_v4()) return address[12] == 127;
  return std::all_of(address.begin(), address.end() - 1, [](uint8_t b) { return b == 0; }) &&
         address[15] == 1;
}

bool Endpoint::is_multicast() const {
  return is_v4() ? (address[12] & 0xf0) == 0xe0 : address[0] == 0xff;
}

ErrnoOr<Endpoint> parse_endpoint(const SocketAddress& address, int family) {
  if (family == AF_INET) {
    if (address.length < sizeof(sockaddr_in)) return Errno(EINVAL);
    const auto raw = read_as<sockaddr_in>(address);
    if (raw.sin_family != AF_INET) return Errno(EAFNOSUPPORT);
    return Endpoint::v4(ntohl(raw.sin_addr.s_addr), ntohs(raw.sin_port));
  }
  constexpr size_t kShortest = 24;  // without the scope (RFC 2133)
  if (address.length < kShortest) return Errno(EINVAL);
  const auto raw = read_as<sockaddr_in6>(address);
  if (raw.sin6_family != AF_INET6) return Errno(EAFNOSUPPORT);
  Endpoint out;
  std::memcpy(out.address.data(), &raw.sin6_addr, sizeof out.address);
  out.port = ntohs(raw.sin6_port);
  if (address.length >= sizeof(sockaddr_in6)) out.scope = raw.sin6_scope_id;
  return out;
}

SocketAddress shown(const Endpoint& endpoint, int family) {
  if (family == AF_INET) {
    sockaddr_in raw{};
    raw.sin_family = AF_INET;
    raw.sin_port = htons(endpoint.port);
    if (endpoint.is_v4()) std::memcpy(&raw.sin_addr, &endpoint.address[12], 4);
    return write_as(raw);
  }
  sockaddr_in6 raw{};
  raw.sin6_family = AF_INET6;
  raw.sin6_port = htons(endpoint.port);
  raw.sin6_scope_id = endpoint.scope;
  std::memcpy(&raw.sin6_addr, endpoint.address.data(), endpoint.address.size());
  return write_as(raw);
}

ErrnoOr<UnixName> parse_unix(const SocketAddress& address) {
  if (address.length < sizeof(sa_family_t) || address.length > sizeof(sockaddr_un))
    return Errno(EINVAL);
  if (address.family() != AF_UNIX) return Errno(EINVAL);
  if (address.length <= kPathOffset) return UnixName{};
  const auto* path = reinterpret_cast<const char*>(address.bytes.data()) + kPathOffset;
  const size_t length = address.length - kPathOffset;
  if (path[0] == 0) return UnixName{std::string(path, length)};
  return UnixName{std::string(path, strnlen(path, length))};
}

SocketAddress shown(const UnixName& name) {
  SocketAddress out;
  const sa_family_t family = AF_UNIX;
  std::memcpy(out.bytes.data(), &family, sizeof family);
  out.length = kPathOffset;
  if (name.text.empty()) return out;
  const size_t count = std::min<size_t>(name.text.size(), sizeof(sockaddr_un::sun_path));
  std::memcpy(out.bytes.data() + kPathOffset, name.text.data(), count);
  out.length += static_cast<uint32_t>(count);
  // Linux shows the zero behind a path, even where the program gave none.
  if (!name.abstract() && out.length < SocketAddress::kMost) ++out.length;
  return out;
}

}  // namespace fluyt::guest
