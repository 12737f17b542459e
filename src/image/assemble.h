#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/content_source.h"
#include "oci/image.h"

namespace fluyt::image {

/// A document with the digest that was checked.
struct Document {
  oci::Digest digest;
  std::string bytes;
};

/// An image as its documents describe it, before any layer is there: the plan of a pull.
struct ImagePlan {
  std::string id;                   // the config's digest
  oci::Digest manifest_digest;      // of the manifest chosen
  oci::Digest target_digest;        // of what the name points at: the index, or the manifest
  std::vector<Document> documents;  // config, manifest, indexes: to be kept
  oci::ImageConfig config;
  std::vector<oci::Descriptor> layers;  // lowest first, as many as config.diff_ids
  uint64_t size = 0;                    // bytes: layers as they come, and config
};

/// Says whether an image may be had at all: asked once its manifest is known, before anything of it
/// is fetched, but for what tells the entries of an index without platforms apart. `target` is what
/// the name points at, `chosen` the manifest, the same or one in that index.
using Approval = std::function<Result<>(const oci::Descriptor& target, const oci::Digest& chosen)>;

/// Walks from `top` (whose digest was checked) to the manifest for `platform` and its config,
/// fetching what it needs from `source`: of an index with at most 16 entries that name no platform
/// their configs, where no other entry is native; of these what cannot be had is passed over while
/// another suits. Every digest is checked; a manifest that is no
/// runnable image, or that contradicts its config, is refused with the reason.
Result<ImagePlan> plan_image(ContentSource& source, Document top, std::string_view content_type,
                             const oci::Platform& platform, const Approval& approval = {});

}  // namespace fluyt::image
