#include <algorithm>
#include <map>
#include <set>

#include "base/strings.h"
#include "image/store.h"

namespace fluyt::image {

namespace {

// What a file of so many bytes takes.
uint64_t on_disk(uint64_t bytes) {
  constexpr uint64_t kBlock = 4096;
  return (bytes + kBlock - 1) / kBlock * kBlock;
}

}  // namespace

Result<std::optional<ImageRow>> Store::find_row(const std::string& name_or_id) const {
  const auto id = FLUYT_TRY(find_id(name_or_id));
  if (!id.has_value()) return std::optional<ImageRow>();
  return catalog_->read([&](const CatalogState& state) -> std::optional<ImageRow> {
    const auto found = state.images.find(*id);
    if (found == state.images.end()) return std::nullopt;
    return found->second;
  });
}

ImageDetail Store::make_detail(const ImageRow& row, const CatalogState& state) const {
  ImageDetail out;
  out.image = make_image(row, state);
  out.added_ns = row.added_ns;
  out.pushable = true;
  // Each thing once, however often it stands in the image, and who else has it.
  std::map<oci::Digest, bool> blobs;
  for (const oci::Digest& blob : row.blobs) blobs[blob] = false;
  std::map<oci::Digest, bool> trees;
  for (const ImageLayer& layer : row.layers) {
    LayerDetail detail;
    detail.diff_id = layer.diff_id.text();
    detail.blob_digest = layer.blob_digest.text();
    detail.blob_bytes = layer.blob_bytes;
    detail.blob_kept = state.blobs.contains(layer.blob_digest);
    if (detail.blob_kept) blobs[layer.blob_digest] = false;
    out.pushable = out.pushable && (detail.blob_kept || layers_->has_archive(layer.diff_id));
    if (const auto found = state.layers.find(layer.diff_id); found != state.layers.end()) {
      detail.disk_bytes = found->second.disk_bytes;
      detail.inodes = found->second.inodes;
      detail.durable = found->second.durable;
    }
    trees[layer.diff_id] = false;
    out.layers.push_back(std::move(detail));
  }
  for (const auto& [id, other] : state.images) {
    if (id == row.id) continue;
    for (const oci::Digest& blob : other.blobs) {
      if (const auto found = blobs.find(blob); found != blobs.end()) found->second = true;
    }
    std::set<oci::Digest> others;
    for (const ImageLayer& layer : other.layers) {
      others.insert(layer.diff_id);
      const auto blob = blobs.find(layer.blob_digest);
      if (blob != blobs.end()) blob->second = true;
    }
    for (LayerDetail& layer : out.layers) {
      const oci::Digest& diff_id =
          row.layers[static_cast<size_t>(&layer - out.layers.data())].diff_id;
      if (!others.contains(diff_id)) continue;
      trees[diff_id] = true;
      layer.images.push_back(id);
    }
  }
  for (const auto& [container, root] : state.roots) {
    if (root.image_id == row.id) out.containers.push_back(container);
    for (size_t i = 0; i < row.layers.size(); ++i) {
      const auto& chain = root.layers;
      if (std::find(chain.begin(), chain.end(), row.layers[i].diff_id) == chain.end()) continue;
      out.layers[i].containers.push_back(container);
    }
  }
  const auto add = [&](uint64_t bytes, bool shared) {
    out.disk_bytes += bytes;
    (shared ? out.shared_bytes : out.unique_bytes) += bytes;
  };
  for (const auto& [diff_id, shared] : trees) {
    if (const auto found = state.layers.find(diff_id); found != state.layers.end()) {
      add(found->second.disk_bytes, shared);
    }
  }
  for (const auto& [digest, shared] : blobs) {
    if (const auto found = state.blobs.find(digest); found != state.blobs.end()) {
      add(on_disk(found->second.bytes), shared);
    }
  }
  return out;
}

std::vector<ImageDetail> Store::list_details() {
  const CatalogState state = catalog_->read([](const CatalogState& s) { return s; });
  std::vector<ImageDetail> out;
  for (const auto& [id, row] : state.images) out.push_back(make_detail(row, state));
  return out;
}

std::vector<ImageDetail> Store::list_unused(Unused which) {
  std::vector<ImageDetail> out = list_details();
  std::erase_if(out, [&](const ImageDetail& detail) {
    return detail.image.pinned || !detail.containers.empty() ||
           (which == Unused::kNameless && !detail.image.repo_tags.empty());
  });
  return out;
}

Result<std::optional<ImageDetail>> Store::describe(const std::string& name_or_id) {
  const auto row = FLUYT_TRY(find_row(name_or_id));
  if (!row.has_value()) return std::optional<ImageDetail>();
  const Hold hold(*this, *row, "a look at it");
  const CatalogState state = catalog_->read([](const CatalogState& s) { return s; });
  if (!state.images.contains(row->id)) return std::optional<ImageDetail>();
  ImageDetail out = make_detail(*row, state);
  const oci::Digest config = FLUYT_TRY(oci::Digest::parse(row->id));
  out.config_json = FLUYT_TRY(blobs_.get(config, oci::kMaxConfigBytes));
  // Its image runs without it; it just cannot be sent.
  auto manifest = blobs_.get(row->manifest_digest, oci::kMaxManifestBytes);
  if (!manifest.ok()) {
    logger_.warn(cat("image ", row->id, ": ", manifest.error().message()));
    return std::optional(std::move(out));
  }
  out.manifest_json = std::move(*manifest);
  const auto parsed = oci::parse_manifest(out.manifest_json);
  for (size_t i = 0; parsed.ok() && i < parsed->layers.size() && i < out.layers.size(); ++i) {
    out.layers[i].media_type = parsed->layers[i].media_type;
  }
  return std::optional(std::move(out));
}

}  // namespace fluyt::image
