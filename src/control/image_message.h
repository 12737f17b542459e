#pragma once

#include "fluyt/v1/control.pb.h"
#include "image/image_store.h"

namespace fluyt::control {

inline void fill(const image::Image& image, v1::Image& message) {
  message.set_id(image.id);
  for (const std::string& tag : image.repo_tags) message.add_repo_tags(tag);
  for (const std::string& digest : image.repo_digests) message.add_repo_digests(digest);
  message.set_size(image.size);
}

}  // namespace fluyt::control
