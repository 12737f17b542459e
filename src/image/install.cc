#include <algorithm>
#include <set>

#include "base/strings.h"
#include "base/time.h"
#include "image/store.h"

namespace fluyt::image {

namespace {

std::vector<oci::Digest> digests_of(const std::vector<Document>& documents) {
  std::vector<oci::Digest> out;
  for (const Document& document : documents) out.push_back(document.digest);
  return out;
}

// Each diff id once: the specification allows a layer to stand in an image twice. One tree may come
// from two blobs, which are two things to keep.
std::vector<LayerFetches::Wanted> wanted_of(const ImagePlan& plan, bool keep_blobs) {
  std::vector<LayerFetches::Wanted> out;
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const oci::Digest& diff_id = plan.config.diff_ids[i];
    const bool known = std::any_of(out.begin(), out.end(), [&](const auto& other) {
      return other.diff_id == diff_id &&
             (!keep_blobs || other.blob.digest == plan.layers[i].digest);
    });
    if (!known) out.push_back({plan.layers[i], diff_id, keep_blobs});
  }
  return out;
}

}  // namespace

// Of what is to come, before unpacking.
uint64_t Store::missing_bytes(const ImagePlan& plan, const Install& how) const {
  uint64_t missing = 0;
  catalog_->read([&](const CatalogState& state) {
    for (size_t i = 0; i < plan.layers.size(); ++i) {
      const auto size = static_cast<uint64_t>(plan.layers[i].size);
      if (!state.layers.contains(plan.config.diff_ids[i])) missing += size;
      if (how.keep_blobs && !state.blobs.contains(plan.layers[i].digest)) missing += size;
    }
    return 0;
  });
  return missing;
}

// Layers unpack to two to three times their size; this only has to stop what cannot fit before it
// is fetched.
Result<> Store::check_space(uint64_t missing) const {
  const uint64_t available = FLUYT_TRY(layers_->available_bytes());
  if (missing > available) {
    return Error(Code::kResourceExhausted, cat("no space: the image's missing layers have ",
                                               missing, " bytes before unpacking, ", available,
                                               " are available in ", quote(options_.root)));
  }
  return {};
}

CatalogChange Store::change_for(const ImagePlan& plan, const std::vector<LayerInfo>& infos,
                                const Install& how) const {
  ImageRow row{plan.id, plan.manifest_digest, plan.size, {}, digests_of(plan.documents),
               false,   now_unix_ns()};
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    row.layers.push_back({plan.config.diff_ids[i], plan.layers[i].digest,
                          static_cast<uint64_t>(plan.layers[i].size)});
  }
  CatalogChange out;
  for (const Document& document : plan.documents) {
    out.put_blobs.push_back({document.digest, document.bytes.size()});
  }
  if (how.keep_blobs) {
    for (const ImageLayer& layer : row.layers) {
      out.put_blobs.push_back({layer.blob_digest, layer.blob_bytes});
    }
  }
  catalog_->read([&](const CatalogState& state) {
    for (const LayerInfo& info : infos) {
      const auto known = state.layers.find(info.diff_id);
      const bool is_known = known != state.layers.end() &&
                            known->second.disk_bytes == info.disk_bytes &&
                            known->second.inodes == info.inodes;
      if (is_known) continue;
      out.put_layers.push_back(
          {info.diff_id, info.disk_bytes, info.inodes, false, epoch_.boot_id, epoch_.mount_id});
    }
    // The same image by another manifest or index: all its documents stay.
    if (const auto known = state.images.find(plan.id); known != state.images.end()) {
      row.pinned = known->second.pinned;
      for (const oci::Digest& blob : known->second.blobs) {
        if (std::find(row.blobs.begin(), row.blobs.end(), blob) == row.blobs.end()) {
          row.blobs.push_back(blob);
        }
      }
    }
    return 0;
  });
  out.put_images.push_back(std::move(row));
  for (const std::string& name : how.names) out.put_names.emplace_back(name, plan.id);
  for (ApprovalRow approval : how.approvals) {
    approval.image_id = plan.id;
    out.put_approvals.push_back(std::move(approval));
  }
  return out;
}

// Of its layers those whose records cannot be read.
std::vector<oci::Digest> Store::damaged_layers(const ImagePlan& plan) const {
  const std::set<oci::Digest> diff_ids(plan.config.diff_ids.begin(), plan.config.diff_ids.end());
  std::vector<oci::Digest> out;
  for (const oci::Digest& diff_id : diff_ids) {
    const auto found = layers_->find(diff_id);
    if (!found.ok() && found.error().code() == Code::kDataLoss) out.push_back(diff_id);
  }
  return out;
}

Result<> Store::bring_in(ContentSource& source, const ImagePlan& plan, const Install& how,
                         const ProgressSink& progress, std::atomic<bool>& stop) {
  const std::shared_lock<std::shared_mutex> arriving(arrivals_);
  const uint64_t missing = missing_bytes(plan, how);
  layers_->wait_for_room(missing, stop);
  FLUYT_TRY(check_space(missing));
  for (const Document& document : plan.documents) {
    FLUYT_TRY(blobs_.put(document.digest, document.bytes));
  }
  const Replacing replacing(*this, damaged_layers(plan));
  FLUYT_TRY(replacing.begin());
  const auto infos = FLUYT_TRY([&] {
    const Syncer::Writing writing(*syncer_);
    const auto settings = now();
    return fetches_.fetch_all(source, wanted_of(plan, how.keep_blobs),
                              {settings->parallel_fetches, settings->max_fetches}, progress, stop);
  }());
  {
    // Makes what the chain needs above its layers now rather than at the first container, and
    // refuses an image whose layers do not fit on each other.
    const ChainHold chain = FLUYT_TRY(hold_chain(plan.config.diff_ids, "bringing it in"));
    FLUYT_TRY(layers_->resolve_chain(plan.config.diff_ids, &stop));
  }
  if (stop) return Error(Code::kCancelled, "cancelled by the caller");
  if (lost_writes_) {
    return Error(Code::kDataLoss, cat(quote(options_.root), ": the disk lost writes meanwhile"));
  }
  return commit_images(change_for(plan, infos, how),
                       {plan.id, std::make_shared<const oci::ImageConfig>(plan.config)});
}

// An image may come back while it goes, so one commit follows the other.
Result<> Store::commit_images(const CatalogChange& change, const NamedConfig& arriving) {
  const std::lock_guard<std::mutex> one_at_a_time(images_changing_);
  if (arriving.config) (*configs_.lock())[arriving.image_id] = arriving.config;
  Result<> committed = catalog_->commit(change);
  catalog_->read([&](const CatalogState& state) {
    std::erase_if(*configs_.lock(),
                  [&](const auto& entry) { return !state.images.contains(entry.first); });
    return 0;
  });
  return committed;
}

Result<Image> Store::install(ContentSource& source, const ImagePlan& plan, const Install& how,
                             const ProgressSink& progress, std::atomic<bool>& stop) {
  if (lost_writes_) FLUYT_TRY(sync_now());
  Content content{plan.config.diff_ids, digests_of(plan.documents)};
  for (const oci::Descriptor& layer : plan.layers) content.blobs.push_back(layer.digest);
  const std::string work = cat("bringing in ", how.names.empty() ? plan.id : how.names.back());
  const Works::Work under_way = works_.begin(work);
  Pins::Pin layers = layer_pins_.pin(content.layers, work);
  Pins::Pin blobs = blob_pins_.pin(content.blobs, work);
  // Another manifest of the same image may have had other blobs for its layers.
  const Content former = catalog_->read([&](const CatalogState& state) {
    const auto found = state.images.find(plan.id);
    return found == state.images.end() ? Content{} : content_of(found->second);
  });
  auto brought = bring_in(source, plan, how, progress, stop);
  if (!brought.ok()) {
    layers.release();
    blobs.release();
    // Nothing of a failed pull stays, unless another image or pull has a use for it.
    if (auto swept = collect(content); !swept.ok()) {
      logger_.warn(cat("after a failed pull: ", swept.error().message()));
    }
    return std::move(brought).error();
  }
  if (!former.blobs.empty()) FLUYT_TRY(collect({{}, former.blobs}));
  Result<> synced;
  if (how.sync == Sync::kBeforeReturn || !epoch_.can_tell_mounts()) {
    synced = sync_now();
    if (!synced.ok()) syncer_->ask();
  } else {
    syncer_->ask();
  }
  layers.release();
  blobs.release();
  auto image = find_image(plan.id);
  if (!image.has_value()) {
    collect_if_gone(plan.id, content);  // what could not go while we had it pinned
    FLUYT_TRY(std::move(synced));
    return Error(Code::kAborted, cat("image ", plan.id, ": removed while it was being pulled"));
  }
  FLUYT_TRY(std::move(synced));
  return std::move(*image);
}

}  // namespace fluyt::image
