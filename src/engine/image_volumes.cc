#include "engine/image_volumes.h"

#include <algorithm>

#include "base/strings.h"
#include "engine/root_names.h"

namespace fluyt::engine {

namespace {

// No container's id has one.
constexpr char kMark = '.';

}  // namespace

std::string image_volume_holder(const std::string& container_id, size_t place) {
  return cat(container_id, std::string_view(&kMark, 1), "image-", place);
}

std::string container_of_root(const std::string& root_id) {
  return root_id.substr(0, root_id.find(kMark));
}

std::string image_volume_source(const std::string& bundle, size_t place) {
  return cat(bundle, "/images/", place);
}

Result<> find_image_volumes(Engine::Core& core, ContainerConfig& config) {
  for (size_t i = 0; i < config.mounts.size(); ++i) {
    Mount& mount = config.mounts[i];
    if (mount.image.empty()) continue;
    const std::string field = cat("mounts[", i, "].image.image");
    const auto found = FLUYT_TRY_CONTEXT(core.parts.images->find(mount.image), field);
    if (!found) {
      return Error(Code::kInvalidArgument, cat(kImageVolumeFailed, ": ", field, ": ",
                                               quote(mount.image), " is not here: pull it first"));
    }
    mount.image_id = found->id;
  }
  return {};
}

Error about_image_volume(const Container& container, Error error) {
  const bool any = std::any_of(
      container.config.mounts.begin(), container.config.mounts.end(), [&](const Mount& mount) {
        return !mount.image.empty() &&
               error.message().find(cat(": ", quote(mount.container_path, 1024))) !=
                   std::string::npos;
      });
  return any ? std::move(error).add_context(kImageVolumeFailed) : error;
}

Result<std::map<std::string, sys::OverlayMount>> make_image_volumes(Engine::Core& core,
                                                                    const Container& container,
                                                                    const Sandbox& sandbox) {
  std::map<std::string, sys::OverlayMount> trees;
  const std::string bundle = core.bundle_dir(sandbox.id, container.id);
  for (size_t i = 0; i < container.config.mounts.size(); ++i) {
    const Mount& mount = container.config.mounts[i];
    if (mount.image.empty()) continue;
    auto tree =
        core.parts.images->create_root(image_volume_holder(container.id, i), mount.image_id,
                                       {.access = image::RootOptions::Access::kReadOnly,
                                        .ids = id_maps(sandbox.config.namespaces.user_ids)});
    if (!tree.ok()) {
      return std::move(tree).error().add_context(
          cat(kImageVolumeFailed, ": mounts[", i, "].image: ", quote(mount.image)));
    }
    tree->sub_path = mount.image_sub_path;
    trees.emplace(image_volume_source(bundle, i), std::move(*tree));
  }
  return trees;
}

}  // namespace fluyt::engine
