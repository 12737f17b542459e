#include <algorithm>

#include "base/strings.h"
#include "image/store.h"
#include "sys/file.h"

namespace fluyt::image {

Store::Replacing::Replacing(Store& store, std::vector<oci::Digest> layers)
    : store_(store), layers_(std::move(layers)) {
  store_.replacing_.lock()->insert(layers_.begin(), layers_.end());
}

Store::Replacing::~Replacing() {
  store_.renewed_.lock()->insert(layers_.begin(), layers_.end());
  auto replacing = store_.replacing_.lock();
  for (const oci::Digest& layer : layers_) replacing->erase(replacing->find(layer));
}

Result<> Store::Replacing::begin() const {
  CatalogChange change;
  store_.catalog_->read([&](const CatalogState& state) {
    for (const oci::Digest& layer : layers_) {
      const auto found = state.layers.find(layer);
      if (found == state.layers.end()) continue;
      LayerRow row = found->second;
      row.durable = false;
      row.boot_id = store_.epoch_.boot_id;
      row.mount_id = store_.epoch_.mount_id;
      change.put_layers.push_back(std::move(row));
    }
    return 0;
  });
  return store_.catalog_->commit(change);
}

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
    note_lost_writes();
    if (auto discarded = discard_unsynced(); !discarded.ok()) {
      logger_.error(cat("after lost writes: ", discarded.error().message()));
    }
    return lost_writes(std::move(synced).error());
  }
  // Removed and pulled again meanwhile: that is not what was synced.
  auto renewed = renewed_.lock();
  auto replacing = replacing_.lock();
  std::erase_if(change.durable_layers, [&](const auto& layer) {
    return renewed->contains(layer) || replacing->contains(layer);
  });
  return catalog_->commit(change);
}

Error Store::lost_writes(Error why) const {
  return std::move(why).add_context(
      cat(quote(options_.root),
          ": the disk lost writes: layers that are not durable yet are "
          "discarded"));
}

std::string Store::lost_writes_note() const {
  return cat(options_.state.empty() ? options_.root : options_.state, "/image-lost-writes");
}

// Before anything is waited for: this process may be killed any time.
void Store::note_lost_writes() {
  lost_writes_ = true;
  const auto noted = [this]() -> Result<> {
    if (!options_.state.empty()) FLUYT_TRY(sys::make_dirs(options_.state, 0700));
    return sys::write_file_atomic(sys::kCwd, lost_writes_note(), "", 0600);
  }();
  if (noted.ok()) return;
  logger_.error(cat("the disk of ", quote(options_.root),
                    " lost writes, which cannot be noted: ", noted.error().message()));
}

Result<> Store::forget_lost_writes() {
  FLUYT_TRY(sys::remove_file(sys::kCwd, lost_writes_note()));
  lost_writes_ = false;
  return {};
}

// Those that are not `claimed` somebody may be about to stand on.
Result<> Store::discard(const std::vector<oci::Digest>& lost,
                        const std::vector<oci::Digest>& claimed) {
  CatalogChange change{.drop_layers = lost};
  const std::set<oci::Digest> gone(lost.begin(), lost.end());
  catalog_->read([&](const CatalogState& state) {
    for (const auto& [id, row] : state.images) {
      const bool hit = std::any_of(row.layers.begin(), row.layers.end(),
                                   [&](const auto& layer) { return gone.contains(layer.diff_id); });
      if (hit) change.drop_images.push_back(id);
    }
    return 0;
  });
  for (const std::string& id : change.drop_images) {
    logger_.error(cat("image ", id, ": discarded, since its layers may have lost data"));
  }
  Result<> result = commit_images(change);
  const std::set<oci::Digest> ours(claimed.begin(), claimed.end());
  std::set<oci::Digest> stood_on = layers_in_roots();
  for (const oci::Digest& layer : lost) {
    if (!ours.contains(layer)) stood_on.insert(layer);
    auto given_up = give_up(layer, stood_on);
    if (!given_up.ok() && result.ok()) result = std::move(given_up);
  }
  return result;
}

// The kernel tells once that pages were lost, not whose, and the same sync again would succeed over
// them. So all that was written since the last good sync goes: what the catalog has, and what is on
// its way into it. A disk that loses writes may not take the catalog's either: then the trees are
// gone all the same, and whoever pulls next tries again.
Result<> Store::discard_unsynced() {
  const std::unique_lock<std::shared_mutex> nothing_arrives(arrivals_);
  const auto lost = catalog_->read([](const CatalogState& state) {
    std::vector<oci::Digest> out;
    for (const auto& [diff_id, row] : state.layers) {
      if (!row.durable) out.push_back(diff_id);
    }
    return out;
  });
  // No root comes to name what is claimed.
  const auto claimed = layer_pins_.claim(lost);
  auto discarded = discard(lost, claimed);
  layer_pins_.done(claimed);
  FLUYT_TRY(std::move(discarded));
  FLUYT_TRY(sweep_content());
  layers_->forget_errors();
  return forget_lost_writes();
}

}  // namespace fluyt::image
