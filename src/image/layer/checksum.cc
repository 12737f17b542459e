#include "image/layer/checksum.h"

#if __has_include(<isa-l/crc64.h>) && !defined(FLUYT_USE_ZLIB)
#include <isa-l/crc64.h>
#define FLUYT_HAVE_ISAL_CRC 1
#else
#include <array>
#endif

namespace fluyt::image {

namespace {

constexpr uint64_t kPolynomial = 0xC96C5795D7870F42;  // the highest bit is the coefficient of x^0
constexpr uint64_t kOne = 1ULL << 63U;
constexpr uint64_t kByte = kOne >> 8U;  // x^8: what one zero byte multiplies a remainder by

constexpr uint64_t times_x(uint64_t value) {
  return (value >> 1U) ^ ((value & 1U) != 0 ? kPolynomial : 0);
}

constexpr uint64_t multiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  for (; a != 0; a <<= 1U) {
    if ((a & kOne) != 0) product ^= b;
    b = times_x(b);
  }
  return product;
}

#ifndef FLUYT_HAVE_ISAL_CRC
constexpr auto kTable = [] {
  std::array<uint64_t, 256> table{};
  for (uint64_t byte = 0; byte < table.size(); ++byte) {
    uint64_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = times_x(value);
    table[byte] = value;
  }
  return table;
}();
#endif

}  // namespace

void Checksum::update(std::string_view bytes) {
#ifdef FLUYT_HAVE_ISAL_CRC
  value_ =
      crc64_ecma_refl(value_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
#else
  value_ = ~value_;
  for (const char c : bytes)
    value_ = (value_ >> 8U) ^ kTable[(value_ ^ static_cast<unsigned char>(c)) & 0xFFU];
  value_ = ~value_;
#endif
}

void Checksum::zeros(uint64_t count) {
  uint64_t factor = kOne;
  for (uint64_t square = kByte; count != 0; count >>= 1U) {
    if ((count & 1U) != 0) factor = multiply(factor, square);
    square = multiply(square, square);
  }
  value_ = ~multiply(~value_, factor);
}

}  // namespace fluyt::image
