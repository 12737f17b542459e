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

Result<std::vector<image::Image>> Engine::list_images() { return core_->parts.images->list(); }

Result<std::optional<image::Image>> Engine::find_image(const std::string& name_or_id) {
  return core_->parts.images->find(name_or_id);
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

}  // namespace fluyt::engine
