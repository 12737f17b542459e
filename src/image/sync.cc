#include <algorithm>

#include "base/strings.h"
#include "image/store.h"

namespace fluyt::image {

Result<> Store::sync_now() {
  const std::lock_guard<std::mutex> one_at_a_time(syncing_);
  CatalogChange change;
  catalog_->read([&](const CatalogState& state) {
    for (const auto& [diff_id, row] : state.layers) {
      if (!row.durable) change.durable_layers.push_back(diff_id);
    }
    return 0;
  });
  if (change.durable_layers.empty()) return {};
  auto synced = layers_->sync();
  if (!synced.ok()) {
    // The kernel tells of lost pages once; the same sync again would succeed over them.
    discard_unsynced(change.durable_layers);
    return std::move(synced).error().add_context(
        "layers could not be made durable and are discarded");
  }
  return catalog_->commit(change);
}

void Store::discard_unsynced(const std::vector<oci::Digest>& layers) {
  const auto is_lost = [&](const ImageLayer& layer) {
    return std::find(layers.begin(), layers.end(), layer.diff_id) != layers.end();
  };
  const auto images = catalog_->read([&](const CatalogState& state) {
    std::vector<ImageRow> out;
    for (const auto& [id, row] : state.images) {
      if (std::any_of(row.layers.begin(), row.layers.end(), is_lost)) out.push_back(row);
    }
    return out;
  });
  for (const ImageRow& row : images) {
    logger_.error(cat("image ", row.id, ": discarded, since its layers may have lost data"));
    if (auto removed = remove_image(row); !removed.ok()) logger_.error(removed.error().message());
  }
}

}  // namespace fluyt::image
