#include "guest/net/inbox.h"

#include <algorithm>

namespace fluyt::guest {

Errno Inbox::push(Segment segment) {
  const size_t cost = segment.data.size() + kOverhead;
  GUEST_TRY(network_->budget.charge(cost));
  if (!segment.files.empty()) {
    if (const Errno attached = network_->rights.attach(*this, segment.files); !attached.ok()) {
      network_->budget.give_back(cost);
      return attached;
    }
  }
  bytes_ += segment.data.size();
  charged_ += cost;
  segments_.push_back(std::move(segment));
  return kOk;
}

Errno Inbox::push_bytes(std::span<const std::byte> data, const PeerIds& sender) {
  constexpr size_t kLargest = size_t{32} << 10;
  if (!segments_.empty()) {
    Segment& last = segments_.back();
    if (last.files.empty() && last.sender == sender && last.data.size() + data.size() <= kLargest) {
      GUEST_TRY(network_->budget.charge(data.size()));
      last.data.insert(last.data.end(), data.begin(), data.end());
      bytes_ += data.size();
      charged_ += data.size();
      return kOk;
    }
  }
  Segment segment;
  segment.data.assign(data.begin(), data.end());
  segment.sender = sender;
  return push(std::move(segment));
}

void Inbox::put_back(std::span<const std::byte> data, const PeerIds& sender) {
  const size_t cost = data.size() + kOverhead;
  if (!network_->budget.charge(cost).ok()) return;  // others took the room: they are lost
  Segment segment;
  segment.data.assign(data.begin(), data.end());
  segment.sender = sender;
  bytes_ += data.size();
  charged_ += cost;
  segments_.push_front(std::move(segment));
}

void Inbox::take(size_t count) {
  Segment& first = segments_.front();
  first.taken += count;
  bytes_ -= count;
  if (first.left() == 0) pop();
}

Segment Inbox::pop() {
  Segment first = std::move(segments_.front());
  segments_.pop_front();
  bytes_ -= first.left();
  const size_t cost = first.data.size() + kOverhead;
  charged_ -= cost;
  network_->budget.give_back(cost);
  if (!first.files.empty()) network_->rights.detach(*this, first.files);
  return first;
}

std::vector<FilePtr> Inbox::take_files() {
  std::vector<FilePtr> files = std::move(segments_.front().files);
  segments_.front().files.clear();
  if (!files.empty()) network_->rights.detach(*this, files);
  return files;
}

void Inbox::clear() {
  std::vector<FilePtr> files;
  while (!segments_.empty()) {
    Segment first = pop();
    std::ranges::move(first.files, std::back_inserter(files));
  }
  bury(std::move(files));
}

}  // namespace fluyt::guest
