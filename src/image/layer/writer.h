#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/layer/info.h"
#include "image/layer/store.h"
#include "oci/digest.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::image {

/// What a layer is known to be before its bytes arrive.
struct LayerExpectation {
  std::optional<oci::Digest> blob_digest;  // from the manifest; none: whatever it turns out to be
  std::optional<uint64_t> blob_bytes;      // from the manifest
  std::optional<oci::Digest> diff_id;      // from the config; always given for what a registry sent
  std::string media_type;                  // recorded only: what the bytes are is sniffed
};

/// One layer on its way into the store, in one pass while it arrives: hashed, inflated, hashed
/// again and unpacked by a confined `fluyt-unpack` process that reads from our pipe. Used by one
/// thread at a time; it may move between threads. SIGPIPE must be ignored by the program.
///
///     auto writer = FLUYT_TRY(LayerWriter::create(store, expectation));
///     while (bytes arrive) FLUYT_TRY(writer.write(bytes));
///     LayerInfo info = FLUYT_TRY(writer.finish());
///
/// Dropped without finish(), or after any error, it ends the worker and removes what was staged.
class LayerWriter {
 public:
  /// `cancelled`, when given, is looked at during waits and must outlive the writer.
  static Result<LayerWriter> create(const LayerStore& store, LayerExpectation expectation,
                                    const std::atomic<bool>* cancelled = nullptr);
  LayerWriter(LayerWriter&&) noexcept;
  LayerWriter& operator=(LayerWriter&&) = delete;
  ~LayerWriter();

  /// Hands over the next bytes, small pieces in batches; waits while the worker has a mebibyte in
  /// hand. More bytes than the expectation has are kDataLoss at once. When the worker found the
  /// layer to be bad, the error says why.
  Result<> write(std::string_view bytes);

  /// Ends the stream, waits for the worker, compares digests and sizes with the expectation
  /// (kDataLoss names both), and renames the tree into place. A layer that another writer has put
  /// there first is success.
  Result<LayerInfo> finish();

 private:
  struct State;
  explicit LayerWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fluyt::image
