#include "image/pins.h"

#include <algorithm>

namespace fluyt::image {

void Pins::Pin::release() {
  if (Pins* pins = std::exchange(pins_, nullptr); pins != nullptr) pins->unpin(digests_);
}

Pins::Pin Pins::pin(std::vector<oci::Digest> digests) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] {
    return std::none_of(digests.begin(), digests.end(),
                        [&](const oci::Digest& digest) { return claimed_.contains(digest); });
  });
  for (const oci::Digest& digest : digests) ++pinned_[digest];
  return Pin(*this, std::move(digests));
}

void Pins::unpin(const std::vector<oci::Digest>& digests) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const oci::Digest& digest : digests) {
    const auto found = pinned_.find(digest);
    if (found != pinned_.end() && --found->second == 0) pinned_.erase(found);
  }
}

std::vector<oci::Digest> Pins::claim(const std::vector<oci::Digest>& candidates) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<oci::Digest> out;
  for (const oci::Digest& digest : candidates) {
    if (!pinned_.contains(digest) && claimed_.insert(digest).second) out.push_back(digest);
  }
  return out;
}

void Pins::done(const std::vector<oci::Digest>& claimed) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const oci::Digest& digest : claimed) claimed_.erase(digest);
  }
  changed_.notify_all();
}

}  // namespace fluyt::image
