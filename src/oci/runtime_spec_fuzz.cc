#include <cstdint>
#include <cstdlib>

#include "oci/runtime_spec.h"

/// Printing and reading are inverse for whatever is taken.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace oci = fluyt::oci;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto spec = oci::parse_spec(text); spec.ok()) {
    const auto again = oci::parse_spec(oci::to_json(*spec));
    if (!again.ok() || !(*again == *spec)) {
      abort();
    }
  }
  if (const auto process = oci::parse_process(text); process.ok()) {
    const auto again = oci::parse_process(oci::to_json(*process));
    if (!again.ok() || !(*again == *process)) {
      abort();
    }
  }
  return 0;
}
