#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/blob/store.h"
#include "image/content_source.h"
#include "image/image_store.h"
#include "image/layer/store.h"
#include "image/layer/writer.h"

namespace fluyt::image {

using ProgressSink = std::function<void(const LayerProgress&)>;

/// Layers on their way into the layer store, each fetched once however many pulls want it.
/// Thread-safe.
class LayerFetches {
 public:
  LayerFetches(const LayerStore& store, const BlobStore& blobs) : store_(store), blobs_(blobs) {}

  struct Wanted {
    oci::Descriptor blob;
    oci::Digest diff_id;
    bool keep_blob = false;  // the bytes as they come are kept, too
  };
  /// Sees to it that all are in the store, `parallel` at a time, the largest first. The first
  /// failure sets `stop`, which ends the others, and is returned. Who pinned the layers keeps them.
  Result<std::vector<LayerInfo>> fetch_all(ContentSource& source, const std::vector<Wanted>& wanted,
                                           size_t parallel, const ProgressSink& progress,
                                           std::atomic<bool>& stop);

 private:
  struct Flight {
    bool done = false;
    std::optional<LayerInfo> info;  // nothing when it failed
    std::atomic<uint64_t> bytes{0};
  };
  Result<LayerInfo> ensure(ContentSource& source, const Wanted& wanted,
                           const ProgressSink& progress, const std::atomic<bool>& stop);
  /// Nothing when that flight failed: the caller tries by itself.
  Result<std::optional<LayerInfo>> wait_for(Flight& flight, const Wanted& wanted,
                                            const ProgressSink& progress,
                                            const std::atomic<bool>& stop);
  Result<LayerInfo> fly(Flight& flight, ContentSource& source, const Wanted& wanted,
                        const ProgressSink& progress, const std::atomic<bool>& stop);

  /// From the source into the store, from one server.
  Result<LayerInfo> fetch_once(ContentSource& source, const Wanted& wanted,
                               const std::optional<LayerInfo>& there, const std::atomic<bool>& stop,
                               const std::function<void(uint64_t)>& on_bytes);
  Result<bool> lacks_blob(const Wanted& wanted) const;

  const LayerStore& store_;
  const BlobStore& blobs_;
  std::mutex mutex_;
  std::condition_variable landed_;
  std::map<oci::Digest, std::shared_ptr<Flight>> flights_;  // by diff id
};

}  // namespace fluyt::image
