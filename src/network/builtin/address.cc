#include "network/builtin/address.h"

#include <arpa/inet.h>

#include <array>
#include <cstring>

#include "base/strings.h"

namespace fluyt::network {

namespace {

constexpr std::string_view kMapped("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);

unsigned byte_at(const std::string& bytes, size_t i) { return static_cast<uint8_t>(bytes[i]); }

// The bits of byte `i` that belong to a network of `length` bits.
unsigned mask_at(unsigned length, size_t i) {
  const auto before = static_cast<unsigned>(i * 8);
  if (length <= before) return 0;
  const unsigned here = length - before;
  return here >= 8 ? 0xFFU : (0xFF00U >> here) & 0xFFU;
}

}  // namespace

uint8_t Address::family() const { return v4() ? AF_INET : AF_INET6; }

std::string Address::text() const {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  if (inet_ntop(family(), bytes.data(), buffer.data(), buffer.size()) == nullptr) return "";
  return buffer.data();
}

Address Address::next() const {
  Address out = *this;
  for (size_t i = out.bytes.size(); i-- > 0;) {
    const unsigned sum = byte_at(out.bytes, i) + 1;
    out.bytes[i] = static_cast<char>(sum & 0xFFU);
    if (sum <= 0xFF) break;
  }
  return out;
}

std::strong_ordering Address::operator<=>(const Address& other) const {
  if (bytes.size() != other.bytes.size()) return bytes.size() <=> other.bytes.size();
  return memcmp(bytes.data(), other.bytes.data(), bytes.size()) <=> 0;
}

std::optional<Address> find_address(std::string_view text) {
  const std::string copy(text);
  std::array<char, 16> buffer{};
  if (copy.find('\0') != std::string::npos) return std::nullopt;
  if (inet_pton(AF_INET, copy.c_str(), buffer.data()) == 1) {
    return Address{std::string(buffer.data(), 4)};
  }
  if (inet_pton(AF_INET6, copy.c_str(), buffer.data()) != 1) return std::nullopt;
  std::string bytes(buffer.data(), 16);
  if (bytes.starts_with(kMapped)) bytes.erase(0, kMapped.size());
  return Address{std::move(bytes)};
}

std::string Prefix::text() const { return cat(address.text(), "/", length); }

Address Prefix::network() const {
  Address out = address;
  for (size_t i = 0; i < out.bytes.size(); ++i) {
    out.bytes[i] = static_cast<char>(byte_at(out.bytes, i) & mask_at(length, i));
  }
  return out;
}

Address Prefix::first() const {
  Address out = network();
  out.bytes.back() = static_cast<char>(out.bytes.back() | 1);
  return out;
}

Address Prefix::last() const {
  Address out = address;
  for (size_t i = 0; i < out.bytes.size(); ++i) {
    out.bytes[i] = static_cast<char>(byte_at(out.bytes, i) | (~mask_at(length, i) & 0xFFU));
  }
  return out;
}

bool Prefix::contains(const Address& other) const {
  return other.bytes.size() == address.bytes.size() && Prefix{other, length}.network() == network();
}

std::optional<Prefix> find_prefix(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  auto address = find_address(text.substr(0, slash));
  const auto length = parse_number<unsigned>(text.substr(slash + 1));
  if (!address || !length || *length > address->bits()) return std::nullopt;
  return Prefix{.address = std::move(*address), .length = *length};
}

}  // namespace fluyt::network
