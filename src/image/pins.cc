#include "image/pins.h"

#include <algorithm>

namespace fluyt::image {

void Pins::Pin::release() {
  if (Pins* pins = std::exchange(pins_, nullptr); pins != nullptr) pins->unpin(digests_, owner_);
}

Pins::Pin Pins::pin(std::vector<oci::Digest> digests, std::string owner) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] {
    return std::none_of(digests.begin(), digests.end(),
                        [&](const oci::Digest& digest) { return claimed_.contains(digest); });
  });
  for (const oci::Digest& digest : digests) pinned_[digest].insert(owner);
  return Pin(*this, std::move(digests), std::move(owner));
}

std::map<oci::Digest, std::vector<std::string>> Pins::owners() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::map<oci::Digest, std::vector<std::string>> out;
  for (const auto& [digest, owners] : pinned_) out[digest].assign(owners.begin(), owners.end());
  return out;
}

void Pins::unpin(const std::vector<oci::Digest>& digests, const std::string& owner) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const oci::Digest& digest : digests) {
    const auto found = pinned_.find(digest);
    if (found == pinned_.end()) continue;
    if (const auto one = found->second.find(owner); one != found->second.end()) {
      found->second.erase(one);
    }
    if (found->second.empty()) pinned_.erase(found);
  }
  changed_.notify_all();
}

std::vector<oci::Digest> Pins::claim(const std::vector<oci::Digest>& candidates, Pinned pinned) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] {
    return std::none_of(candidates.begin(), candidates.end(), [&](const oci::Digest& digest) {
      return claimed_.contains(digest) || (pinned == Pinned::kWaitFor && pinned_.contains(digest));
    });
  });
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
