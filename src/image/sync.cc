#include <algorithm>

#include "base/strings.h"
#include "image/store.h"

namespace fluyt::image {

Result<> Store::sync_now() {
  const std::lock_guard<std::mutex> one_at_a_time(syncing_);
  if (lost_writes_) FLUYT_TRY(discard_unsynced());
  CatalogChange change;
  renewed_.lock()->clear();
  catalog_->read([&](const CatalogState& state) {
    for (const auto& [diff_id, row] : state.layers) {
      if (!row.durable) change.durable_layers.push_back(diff_id);
    }
    return 0;
  });
  if (change.durable_layers.empty()) return {};
  auto synced = layers_->sync();
  if (!synced.ok()) {
    lost_writes_ = true;
    if (auto discarded = discard_unsynced(); !discarded.ok()) {
      logger_.error(cat("after lost writes: ", discarded.error().message()));
    }
    return std::move(synced).error().add_context(
        "layers could not be made durable and are discarded");
  }
  // Removed and pulled again meanwhile: that is not what was synced.
  auto renewed = renewed_.lock();
  std::erase_if(change.durable_layers, [&](const auto& layer) { return renewed->contains(layer); });
  return catalog_->commit(change);
}

// The kernel tells once that pages were lost, not whose, and the same sync again would succeed over
// them. So all that was written since the last good sync goes: what the catalog has, and what is on
// its way into it. A disk that loses writes may not take the catalog's either: then the trees are
// gone all the same, and whoever pulls next tries again.
Result<> Store::discard_unsynced() {
  const std::unique_lock<std::shared_mutex> nothing_arrives(arrivals_);
  CatalogChange change;
  std::set<oci::Digest> in_roots;
  catalog_->read([&](const CatalogState& state) {
    std::set<oci::Digest> lost;
    for (const auto& [diff_id, row] : state.layers) {
      if (!row.durable) lost.insert(diff_id);
    }
    for (const auto& [id, row] : state.images) {
      const bool hit = std::any_of(row.layers.begin(), row.layers.end(),
                                   [&](const auto& layer) { return lost.contains(layer.diff_id); });
      if (hit) change.drop_images.push_back(id);
    }
    for (const auto& [id, row] : state.roots) in_roots.insert(row.layers.begin(), row.layers.end());
    change.drop_layers.assign(lost.begin(), lost.end());
    return 0;
  });
  for (const std::string& id : change.drop_images) {
    logger_.error(cat("image ", id, ": discarded, since its layers may have lost data"));
  }
  Result<> result = commit_images(change);
  // A container that runs on a layer keeps what it has of it; nobody else gets it.
  for (const oci::Digest& layer : change.drop_layers) {
    auto removed = in_roots.contains(layer) ? layers_->set_aside(layer) : layers_->remove(layer);
    if (!removed.ok() && result.ok()) result = std::move(removed);
  }
  FLUYT_TRY(std::move(result));
  FLUYT_TRY(sweep_content());
  lost_writes_ = false;
  return {};
}

}  // namespace fluyt::image
