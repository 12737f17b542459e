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

/// How many layers are fetched at a time.
struct FetchBounds {
  size_t of_pull = 3;
  size_t of_all = 8;  // pulls together; each has one whatever the others do
};

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
  /// Sees to it that all are in the store, the largest first. The first failure sets `stop`, which
  /// ends the others, and is returned. Who pinned the layers keeps them.
  Result<std::vector<LayerInfo>> fetch_all(ContentSource& source, const std::vector<Wanted>& wanted,
                                           const FetchBounds& bounds, const ProgressSink& progress,
                                           std::atomic<bool>& stop);

 private:
  struct Flight {
    bool done = false;
    std::optional<LayerInfo> info;  // nothing when it failed
    std::atomic<uint64_t> bytes{0};
  };
  /// One of the fetches at a time; who waits for another's has none.
  class Place {
   public:
    explicit Place(LayerFetches& fetches) : fetches_(fetches) {}
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() { leave(); }
    void take();  // at once
    /// When fewer than `most` are taken; false when `is_over` before.
    bool wait(size_t most, const std::function<bool()>& is_over);
    void leave();

   private:
    LayerFetches& fetches_;
    bool taken_ = false;
  };
  Result<LayerInfo> ensure(ContentSource& source, const Wanted& wanted, Place& place,
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
  size_t places_taken_ = 0;
  std::map<oci::Digest, std::shared_ptr<Flight>> flights_;  // by diff id
};

}  // namespace fluyt::image
