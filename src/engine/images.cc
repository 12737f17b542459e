#include <set>

#include "base/strings.h"
#include "engine/core.h"
#include "oci/reference.h"

namespace fluyt::engine {

Result<image::Image> Engine::pull_image(const std::string& name,
                                        const image::PullOptions& options) {
  const oci::Reference reference = FLUYT_TRY(oci::Reference::parse(name));
  auto pulled = core_->parts.images->pull(reference, options);
  if (pulled.ok()) core_->tell_image(Event::Kind::kImagePulled, pulled->id);
  return pulled;
}

Result<std::vector<image::Image>> Engine::import_image(const std::string& path,
                                                       const image::ImportOptions& options) {
  auto imported = core_->parts.images->import(path, options);
  if (imported.ok()) {
    for (const auto& image : *imported) core_->tell_image(Event::Kind::kImagePulled, image.id);
  }
  return imported;
}

namespace {

// The label of sandboxes that a person's command made.
constexpr const char* kPersonLabel = "fluyt.run";

// Images of containers that the kubelet does not know as its own. It takes an image that none of
// its pods uses for unused: `pinned` tells it to leave these alone.
std::set<std::string> images_of_people(Engine::Core& core) {
  std::set<std::string> out;
  for (const auto& entry : core.containers()) {
    const ContainerPtr container = entry->value();
    const auto sandbox = core.get_sandbox(container->sandbox_id);
    if (!sandbox.ok()) continue;
    const SandboxPtr value = (*sandbox)->value();
    if (value->config.labels.contains(kPersonLabel)) out.insert(container->image_id);
  }
  return out;
}

}  // namespace

Result<std::vector<image::Image>> Engine::list_images() {
  auto images = FLUYT_TRY(core_->parts.images->list());
  const std::set<std::string> used = images_of_people(*core_);
  for (image::Image& image : images) image.pinned = image.pinned || used.contains(image.id);
  return images;
}

Result<std::optional<image::Image>> Engine::find_image(const std::string& name_or_id) {
  auto image = FLUYT_TRY(core_->parts.images->find(name_or_id));
  if (image && !image->pinned) image->pinned = images_of_people(*core_).contains(image->id);
  return image;
}

Result<> Engine::remove_image(const std::string& name_or_id) {
  const auto found = FLUYT_TRY(core_->parts.images->find(name_or_id));
  if (!found) return {};
  FLUYT_TRY(core_->parts.images->remove(found->id));
  core_->tell_image(Event::Kind::kImageRemoved, found->id);
  return {};
}

Result<> Engine::untag_image(const std::string& name) { return core_->parts.images->untag(name); }

Result<DiskUsage> Engine::image_fs_usage() {
  const image::FsUsage usage = FLUYT_TRY(core_->parts.images->fs_usage());
  return DiskUsage{now_unix_ns(), usage.mountpoint, usage.used_bytes, usage.inodes};
}

DiskUsage Engine::with_written(DiskUsage usage) {
  std::vector<std::string> ids;
  for (const auto& entry : core_->containers()) ids.push_back(entry->value()->id);
  for (const auto& [id, layer] : core_->layer_usage.get(ids, Deadline::after_ms(0))) {
    usage.used_bytes += layer.used_bytes;
    usage.inodes += layer.inodes;
  }
  return usage;
}

}  // namespace fluyt::engine
