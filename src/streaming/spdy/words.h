#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// Numbers as they are on the wire: big endian.
namespace fluyt::streaming::spdy {

inline void put_u16(std::string& to, uint16_t value) {
  to += static_cast<char>(value >> 8U);
  to += static_cast<char>(value & 0xffU);
}
inline void put_u32(std::string& to, uint32_t value) {
  put_u16(to, static_cast<uint16_t>(value >> 16U));
  put_u16(to, static_cast<uint16_t>(value & 0xffffU));
}
/// The four bytes at `at`, which must be there.
inline uint32_t get_u32(std::string_view from, size_t at) {
  uint32_t value = 0;
  for (size_t i = at; i < at + 4; ++i) value = value << 8U | static_cast<uint8_t>(from[i]);
  return value;
}

}  // namespace fluyt::streaming::spdy
