#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"
#include "sys/fd.h"

namespace fluyt::image {

/// Small content kept by its digest: manifests and configs, `<root>/<algorithm>/<hex>`. What is
/// written is durable before put() returns; what is read is verified before get() returns.
/// Thread-safe, and safe against a crash at any point: a name holds whole content or is not there.
class BlobStore {
 public:
  /// Opens or makes the folder `root` (0700) and sweeps temporary files that a dead process left.
  static Result<BlobStore> open(const std::string& root);

  /// Stores `data` under `digest`; kDataLoss when it does not match. Present already: success, the
  /// stored bytes are verified and rewritten when they are damaged.
  Result<> put(const oci::Digest& digest, std::string_view data) const;
  /// The content; kNotFound when absent, kDataLoss when the bytes on disk do not match their name,
  /// kResourceExhausted when there are more than `limit`.
  Result<std::string> get(const oci::Digest& digest, size_t limit) const;
  /// Whether the name is there (its bytes are only verified by get()).
  Result<bool> has(const oci::Digest& digest) const;
  /// Absent is success.
  Result<> remove(const oci::Digest& digest) const;
  /// Every digest stored, sorted.
  Result<std::vector<oci::Digest>> list() const;

 private:
  explicit BlobStore(sys::Fd root) : root_(std::move(root)) {}
  sys::Fd root_;
};

}  // namespace fluyt::image
