#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/blob/hasher.h"
#include "oci/digest.h"
#include "sys/fd.h"

namespace fluyt::image {

/// A blob on its way in, of any size: hashed as it is written, and there under its digest only once
/// finish() has returned. Dropped before, it leaves nothing. Of one thread at a time.
class BlobWriter {
 public:
  BlobWriter(BlobWriter&& other) noexcept;
  BlobWriter& operator=(BlobWriter&&) = delete;
  ~BlobWriter();

  /// More than the size that was announced is kDataLoss.
  Result<> write(std::string_view bytes);
  /// Compares size and digest (kDataLoss names both), makes the bytes durable and gives them their
  /// name.
  Result<> finish();

 private:
  friend class BlobStore;
  BlobWriter(sys::FdRef root, oci::Digest digest, uint64_t size, std::string temporary,
             sys::Fd file, Hasher hasher);
  sys::FdRef root_;
  oci::Digest digest_;
  uint64_t size_;
  std::string temporary_;  // below root_; empty once it has its name
  sys::Fd file_;
  Hasher hasher_;
  uint64_t written_ = 0;
};

/// Content kept by its digest, `<root>/<algorithm>/<hex>`: manifests, configs, and the layers'
/// blobs that somebody may want to send on. What is written is durable before put() or finish()
/// returns; what get() reads is verified before it returns. Thread-safe, and safe against a crash
/// at any point: a name holds whole content or is not there.
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
  /// For what is too large for put(). The store outlives the writer.
  Result<BlobWriter> create(const oci::Digest& digest, uint64_t size) const;
  /// Open for reading; kNotFound when absent. Whoever reads compares the digest.
  Result<sys::Fd> open_blob(const oci::Digest& digest) const;
  /// Bytes of the file; nothing when the name is not there. (The bytes themselves are verified by
  /// get() and check() alone.)
  Result<std::optional<uint64_t>> find_size(const oci::Digest& digest) const;
  /// Reads all of it: kDataLoss when the bytes do not match their name. An error of
  /// `between_steps`, of 256 KiB each, ends it; it may be empty.
  Result<> check(const oci::Digest& digest,
                 const std::function<Result<>()>& between_steps = {}) const;
  /// Absent is success.
  Result<> remove(const oci::Digest& digest) const;
  /// Every digest stored, sorted.
  Result<std::vector<oci::Digest>> list() const;

 private:
  explicit BlobStore(sys::Fd root) : root_(std::move(root)) {}
  sys::Fd root_;
};

}  // namespace fluyt::image
