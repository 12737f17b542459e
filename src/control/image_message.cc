#include "control/image_message.h"

#include "base/strings.h"
#include "base/time.h"

namespace fluyt::control {

namespace {

// Protocol buffers take text that is UTF-8 alone, and others wrote this.
std::string text(const std::string& bytes) { return is_utf8(bytes) ? bytes : quote(bytes, 4096); }

void fill(const image::LayerDetail& layer, v1::ImageLayer& message) {
  message.set_diff_id(layer.diff_id);
  message.set_blob_digest(layer.blob_digest);
  message.set_media_type(text(layer.media_type));
  message.set_blob_bytes(layer.blob_bytes);
  message.set_disk_bytes(layer.disk_bytes);
  message.set_inodes(layer.inodes);
  message.set_blob_kept(layer.blob_kept);
  message.set_durable(layer.durable);
  for (const std::string& id : layer.images) message.add_images(id);
  for (const std::string& id : layer.containers) message.add_containers(id);
}

}  // namespace

void fill(const image::Image& image, v1::Image& message) {
  message.set_id(image.id);
  for (const std::string& tag : image.repo_tags) message.add_repo_tags(tag);
  for (const std::string& digest : image.repo_digests) message.add_repo_digests(digest);
  message.set_size(image.size);
}

void fill(const image::OneOfSeveral& one, v1::OneOfSeveral& message) {
  message.set_image(text(one.image));
  message.set_index(one.index);
  message.set_manifest(one.manifest);
  message.set_platform(text(one.platform));
}

void fill(const image::ImageDetail& detail, v1::ImageDetail& message) {
  const image::Image& image = detail.image;
  fill(image, *message.mutable_image());
  const auto created = parse_rfc3339(image.config.created);
  message.set_created(created.ok() ? *created : 0);
  message.set_added(detail.added_ns);
  message.set_pinned(image.pinned);
  for (const auto& [key, value] : image.config.config.labels) {
    (*message.mutable_labels())[text(key)] = text(value);
  }
  message.set_platform(text(image.config.platform.text()));
  message.set_manifest_digest(image.manifest_digest);
  for (const auto& layer : detail.layers) fill(layer, *message.add_layers());
  for (const std::string& id : detail.containers) message.add_containers(id);
  message.set_disk_bytes(detail.disk_bytes);
  message.set_shared_bytes(detail.shared_bytes);
  message.set_unique_bytes(detail.unique_bytes);
  message.set_pushable(detail.pushable);
}

image::Credentials credentials_of(const v1::Credentials& message) {
  return {.username = message.username(),
          .password = message.password(),
          .identity_token = message.identity_token(),
          .registry_token = message.registry_token(),
          .server_address = message.server_address()};
}

}  // namespace fluyt::control
