// Compressed bytes as a registry may send them: no crash, and the same in pieces as in one.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "image/layer/inflate.h"

namespace {

using namespace fluyt;

constexpr size_t kEnough = 1U << 20U;

bool inflate(std::string_view bytes, size_t piece, std::string& out) {
  image::Inflater inflater([&](std::string_view some) -> Result<> {
    if (out.size() + some.size() > kEnough) return Error(Code::kResourceExhausted, "enough");
    out += some;
    return {};
  });
  while (!bytes.empty()) {
    if (!inflater.push(bytes.substr(0, piece)).ok()) return false;
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  return inflater.finish().ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::string whole;
  std::string pieces;
  const bool whole_ok = inflate(bytes, SIZE_MAX, whole);
  const bool pieces_ok = inflate(bytes, 7, pieces);
  if (whole_ok != pieces_ok || (whole_ok && whole != pieces)) std::abort();
  return 0;
}
