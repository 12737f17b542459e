// What a layer may hold, byte for byte: the parser must neither crash nor read otherwise when the
// same bytes come in other pieces.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "image/layer/name.h"
#include "image/layer/tar.h"
#include "image/layer/tar_mutator.h"

namespace {

using namespace fluyt;

class Digest final : public image::TarSink {
 public:
  Result<> begin(image::TarEntry& entry) override {
    auto name = image::clean_name(entry.path);
    if (name.ok() && (name->starts_with('/') || name->find("..") == 0)) {
      if (*name == ".." || name->starts_with("../") || name->starts_with('/')) std::abort();
    }
    if (name.ok()) image::classify(*name).ignore("only that it comes back");
    note(entry.path);
    note(entry.link);
    end_ = 0;
    size_ = entry.size;
    return {};
  }
  Result<> data(uint64_t offset, std::string_view bytes) override {
    if (offset < end_ || bytes.size() > size_ || offset > size_ - bytes.size()) std::abort();
    end_ = offset + bytes.size();
    note(bytes);
    return {};
  }
  Result<> end() override { return {}; }
  uint64_t value() const { return value_; }

 private:
  void note(std::string_view bytes) {
    for (const char c : bytes) value_ = value_ * 1'000'003 + static_cast<unsigned char>(c);
  }
  uint64_t value_ = 1;
  uint64_t end_ = 0;
  uint64_t size_ = 0;
};

struct Outcome {
  bool ok;
  uint64_t digest;
};

Outcome parse(std::string_view bytes, size_t piece) {
  Digest digest;
  image::TarParser parser(digest);
  while (!bytes.empty()) {
    if (!parser.push(bytes.substr(0, piece)).ok()) return {false, 0};
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  return {parser.finish().ok(), digest.value()};
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  return image::mutate_tar(data, size, max_size, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Outcome whole = parse(bytes, SIZE_MAX);
  const Outcome pieces = parse(bytes, 333);
  if (whole.ok != pieces.ok || whole.digest != pieces.digest) std::abort();
  image::parse_pax(bytes).ignore("only that it comes back");
  return 0;
}
