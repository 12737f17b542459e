#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

/// IP addresses and prefixes as values, written as Go's net package writes them.
namespace fluyt::network {

struct Address {
  std::string bytes;  // 4 or 16 of them, in network order

  bool v4() const { return bytes.size() == 4; }
  unsigned bits() const { return static_cast<unsigned>(bytes.size() * 8); }
  uint8_t family() const;  // AF_INET, AF_INET6
  std::string text() const;
  /// The one behind it; the first one of all behind the last.
  Address next() const;
  bool operator==(const Address&) const = default;
  /// By number; IPv4 before IPv6.
  std::strong_ordering operator<=>(const Address& other) const;
};

/// An IPv4 address within IPv6 (::ffff:a.b.c.d) is an IPv4 address.
std::optional<Address> find_address(std::string_view text);

struct Prefix {
  Address address;  // host bits are kept
  unsigned length = 0;

  std::string text() const;
  Address network() const;  // host bits zero
  Address last() const;     // host bits one
  Address first() const;    // the one behind the network's; there are host bits
  bool contains(const Address& other) const;
  bool operator==(const Prefix&) const = default;
};

/// "10.88.0.5/16".
std::optional<Prefix> find_prefix(std::string_view text);

}  // namespace fluyt::network
