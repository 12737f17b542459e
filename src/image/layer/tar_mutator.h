#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "image/layer/tar_build.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

/// For fuzzers that read tars: libFuzzer changes bytes, and no header's checksum is right after
/// that by itself.
namespace fluyt::image {

inline constexpr size_t kTarBlockBytes = 512;

/// The bytes that follow a header in the archive, as far as its own block says.
inline uint64_t tar_body_bytes(std::string_view block) {
  constexpr std::string_view kWithBody = {"0\0007SxgLKDMVN", 13};
  if (kWithBody.find(block[156]) == std::string_view::npos) return 0;
  uint64_t size = 0;
  if ((static_cast<unsigned char>(block[124]) & 0x80U) != 0) {
    for (const char c : block.substr(128, 8)) size = size << 8U | static_cast<unsigned char>(c);
    return size;
  }
  for (const char c : block.substr(124, 12)) {
    if (c >= '0' && c <= '7') size = size << 3U | static_cast<unsigned>(c - '0');
  }
  return size;
}

/// Gives the headers of an archive, as they follow each other, their checksums.
inline void seal_tar(uint8_t* data, size_t size) {
  size_t at = 0;
  while (size - at >= kTarBlockBytes) {
    std::string block(reinterpret_cast<const char*>(data + at), kTarBlockBytes);
    at += kTarBlockBytes;
    if (block.find_first_not_of('\0') == std::string::npos) continue;
    TarBuild::seal(block);
    std::memcpy(data + at - kTarBlockBytes, block.data(), kTarBlockBytes);
    const uint64_t body = tar_body_bytes(block);
    if (body > size - at) return;
    at += std::min<uint64_t>(size - at,
                             (body + kTarBlockBytes - 1) / kTarBlockBytes * kTarBlockBytes);
  }
}

/// A LLVMFuzzerCustomMutator: blocks go, or come twice, or bytes change as libFuzzer has it.
inline size_t mutate_tar(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  const size_t blocks = size / kTarBlockBytes;
  const unsigned choice = seed % 8;
  if (choice == 0) return LLVMFuzzerMutate(data, size, max_size);  // broken sums, too
  if (choice <= 2 && blocks > 1) {
    uint8_t* const block = data + seed / 8 % blocks * kTarBlockBytes;
    const size_t behind = static_cast<size_t>(data + size - block);
    if (choice == 1) {
      std::memmove(block, block + kTarBlockBytes, behind - kTarBlockBytes);
      size -= kTarBlockBytes;
    } else if (size + kTarBlockBytes <= max_size) {
      std::memmove(block + kTarBlockBytes, block, behind);
      size += kTarBlockBytes;
    }
  } else {
    size = LLVMFuzzerMutate(data, size, max_size);
  }
  seal_tar(data, size);
  return size;
}

}  // namespace fluyt::image
