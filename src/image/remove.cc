#include <algorithm>
#include <set>

#include "base/strings.h"
#include "image/store.h"

namespace fluyt::image {

namespace {

// Everything that an image or a root stands on.
struct InUse {
  std::set<oci::Digest> layers;
  std::set<oci::Digest> blobs;
};

InUse in_use(const CatalogState& state) {
  InUse out;
  for (const auto& [id, row] : state.images) {
    for (const ImageLayer& layer : row.layers) {
      out.layers.insert(layer.diff_id);
      out.blobs.insert(layer.blob_digest);
    }
    out.blobs.insert(row.blobs.begin(), row.blobs.end());
  }
  for (const auto& [id, row] : state.roots) {
    out.layers.insert(row.layers.begin(), row.layers.end());
  }
  return out;
}

std::vector<std::vector<oci::Digest>> chains_in_use(const CatalogState& state) {
  std::vector<std::vector<oci::Digest>> out;
  for (const auto& [id, row] : state.images) {
    std::vector<oci::Digest> chain;
    for (const ImageLayer& layer : row.layers) chain.push_back(layer.diff_id);
    out.push_back(std::move(chain));
  }
  for (const auto& [id, row] : state.roots) out.push_back(kept_chain(row, state));
  return out;
}

std::vector<std::vector<oci::Digest>> chains_of_roots(const CatalogState& state) {
  std::vector<std::vector<oci::Digest>> out;
  for (const auto& [id, row] : state.roots) out.push_back(row.layers);
  return out;
}

// The chain ids of all that the chains begin with.
Result<std::set<oci::Digest>> beginnings_of(const std::vector<std::vector<oci::Digest>>& chains) {
  std::set<oci::Digest> out;
  for (const auto& chain : chains) {
    const auto ids = FLUYT_TRY(chain_ids_of(chain));
    out.insert(ids.begin(), ids.end());
  }
  return out;
}

void keep_unused(std::vector<oci::Digest>& digests, const std::set<oci::Digest>& used) {
  std::erase_if(digests, [&](const oci::Digest& digest) { return used.contains(digest); });
}

}  // namespace

Result<> Store::collect(const Content& candidates, Pins::Pinned fixups) {
  // What is claimed cannot be pinned by a pull, so what is unused now stays unused until done().
  const Content claimed{layer_pins_.claim(candidates.layers), blob_pins_.claim(candidates.blobs)};
  Content unused = claimed;
  CatalogChange change;
  catalog_->read([&](const CatalogState& state) {
    const InUse used = in_use(state);
    keep_unused(unused.layers, used.layers);
    keep_unused(unused.blobs, used.blobs);
    for (const oci::Digest& layer : unused.layers) {
      if (state.layers.contains(layer)) change.drop_layers.push_back(layer);
    }
    for (const oci::Digest& blob : unused.blobs) {
      if (state.blobs.contains(blob)) change.drop_blobs.push_back(blob);
    }
    return 0;
  });
  Result<> result = [&] {
    auto renewed = renewed_.lock();
    renewed->insert(change.drop_layers.begin(), change.drop_layers.end());
    return catalog_->commit(change);
  }();
  if (result.ok()) {
    for (const oci::Digest& layer : unused.layers) {
      auto removed = layers_->remove(layer);
      if (!removed.ok() && result.ok()) result = std::move(removed);
    }
    for (const oci::Digest& blob : unused.blobs) {
      auto removed = blobs_.remove(blob);
      if (!removed.ok() && result.ok()) result = std::move(removed);
    }
  }
  layer_pins_.done(claimed.layers);
  blob_pins_.done(claimed.blobs);
  FLUYT_TRY(std::move(result));
  FLUYT_TRY(collect_fixups(fixups));
  return sweep_aside();
}

Result<Store::ChainHold> Store::hold_chain(const std::vector<oci::Digest>& diff_ids,
                                           const std::string& owner) {
  const auto ids = FLUYT_TRY(chain_ids_of(diff_ids));
  return ChainHold{works_.begin(owner), chain_pins_.pin(ids, owner)};
}

Result<> Store::collect_fixups(Pins::Pinned pinned) {
  const std::vector<oci::Digest> fixups = FLUYT_TRY(layers_->list_fixups());
  if (fixups.empty()) return {};
  const auto claimed = chain_pins_.claim(fixups, pinned);
  auto result = [&]() -> Result<> {
    const auto used = FLUYT_TRY(beginnings_of(catalog_->read(chains_in_use)));
    const auto named = FLUYT_TRY(beginnings_of(catalog_->read(chains_of_roots)));
    for (const oci::Digest& fixup : claimed) {
      if (used.contains(fixup)) continue;
      // A container that runs on it keeps what it has of it, as of the layer.
      FLUYT_TRY(named.contains(fixup) ? layers_->set_fixup_aside(fixup, epoch_.boot_id)
                                      : layers_->remove_fixup(fixup));
    }
    return {};
  }();
  chain_pins_.done(claimed);
  return result;
}

std::set<oci::Digest> Store::layers_in_roots() const {
  return catalog_->read([](const CatalogState& state) {
    std::set<oci::Digest> out;
    for (const auto& [id, row] : state.roots) out.insert(row.layers.begin(), row.layers.end());
    return out;
  });
}

// A layer whose bytes are not to be trusted: a container that runs on it keeps what it has of it.
Result<> Store::give_up(const oci::Digest& layer, const std::set<oci::Digest>& stood_on) {
  return stood_on.contains(layer) ? layers_->set_aside(layer, epoch_.boot_id)
                                  : layers_->remove(layer);
}

// What was set aside goes when its boot has ended, or when no root names it and nobody is about to
// make one that does.
Result<> Store::sweep_aside() {
  const auto aside = FLUYT_TRY(layers_->list_aside());
  if (aside.empty()) return {};
  std::vector<oci::Digest> ids;
  for (const LayerStore::Aside& one : aside) ids.push_back(one.id);
  const auto claimed = layer_pins_.claim(ids);
  auto result = [&]() -> Result<> {
    auto stood_on = FLUYT_TRY(beginnings_of(catalog_->read(chains_of_roots)));
    stood_on.merge(layers_in_roots());
    const std::set<oci::Digest> ours(claimed.begin(), claimed.end());
    for (const LayerStore::Aside& one : aside) {
      const bool is_free = ours.contains(one.id) && !stood_on.contains(one.id);
      if (is_free || one.boot_id != epoch_.boot_id) FLUYT_TRY(layers_->remove_aside(one));
    }
    return {};
  }();
  layer_pins_.done(claimed);
  return result;
}

Store::Content Store::content_of(const ImageRow& row) {
  Content out{{}, row.blobs};
  for (const ImageLayer& layer : row.layers) {
    out.layers.push_back(layer.diff_id);
    out.blobs.push_back(layer.blob_digest);
  }
  return out;
}

void Store::collect_if_gone(const std::string& image_id, const Content& content) {
  if (catalog_->read([&](const CatalogState& s) { return s.images.contains(image_id); })) return;
  if (auto swept = collect(content); !swept.ok()) {
    logger_.warn(cat("image ", image_id, ": ", swept.error().message()));
  }
}

Store::Hold::Hold(Store& store, const ImageRow& row, const std::string& owner)
    : store_(&store),
      id_(row.id),
      content_(content_of(row)),
      layers_(store.layer_pins_.pin(content_.layers, owner)),
      blobs_(store.blob_pins_.pin(content_.blobs, owner)) {}

Store::Hold::Hold(Hold&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)),
      id_(std::move(other.id_)),
      content_(std::move(other.content_)),
      layers_(std::move(other.layers_)),
      blobs_(std::move(other.blobs_)) {}

Store::Hold::~Hold() {
  if (store_ == nullptr) return;
  layers_.release();
  blobs_.release();
  store_->collect_if_gone(id_, content_);
}

Result<> Store::remove_image(const ImageRow& row) {
  FLUYT_TRY(commit_images({.drop_images = {row.id}}));
  return collect(content_of(row));
}

Result<> Store::remove(const std::string& name_or_id) {
  const auto id = FLUYT_TRY(find_id(name_or_id));
  if (!id.has_value()) return {};
  const auto row = catalog_->read([&](const CatalogState& state) -> std::optional<ImageRow> {
    const auto found = state.images.find(*id);
    if (found == state.images.end()) return std::nullopt;
    return found->second;
  });
  if (!row.has_value()) return {};
  return remove_image(*row);
}

Result<> Store::untag(const std::string& name) {
  const oci::Reference reference = FLUYT_TRY(oci::Reference::parse(name));
  const std::string repository = reference.name();
  const bool is_tag = !reference.digest.has_value();
  const std::string key =
      is_tag ? reference.text() : cat(repository, "@", reference.digest->text());
  CatalogChange change{.drop_names = {key}};
  std::optional<ImageRow> last;
  catalog_->read([&](const CatalogState& state) {
    const auto found = state.names.find(key);
    if (found == state.names.end()) {
      change.drop_names.clear();
      return 0;
    }
    const std::string& id = found->second;
    std::vector<std::string> digests;  // of the same repository: they go with its last tag
    size_t other_tags = 0;
    size_t others = 0;
    for (const auto& [other, other_id] : state.names) {
      if (other_id != id || other == key) continue;
      ++others;
      if (other.starts_with(cat(repository, ":"))) ++other_tags;
      if (other.starts_with(cat(repository, "@"))) digests.push_back(other);
    }
    if (is_tag && other_tags == 0) {
      change.drop_names.insert(change.drop_names.end(), digests.begin(), digests.end());
      others -= digests.size();
    }
    if (others == 0) last = state.images.at(id);
    return 0;
  });
  if (last.has_value()) return remove_image(*last);
  return catalog_->commit(change);
}

}  // namespace fluyt::image
