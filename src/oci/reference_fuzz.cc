#include <cstdint>
#include <cstdlib>

#include "oci/digest.h"
#include "oci/reference.h"

/// Whatever is taken is a fixed point: its own text means the same image again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using fluyt::oci::Reference;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto reference = Reference::parse(text);
  if (!reference.ok()) {
    return 0;
  }
  for (const std::string& again : {reference->text(), reference->familiar()}) {
    const auto second = Reference::parse(again);
    if (!second.ok() || !(*second == *reference)) {
      abort();
    }
  }
  if (reference->tag.empty() && !reference->digest) {
    abort();
  }
  return 0;
}
