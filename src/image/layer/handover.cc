#include "image/layer/handover.h"

namespace fluyt::image {

Handover::Handover() : bytes_(std::make_unique_for_overwrite<char[]>(kPieces * kPieceBytes)) {}

std::span<char> Handover::piece(size_t number) const {
  return {bytes_.get() + number % kPieces * kPieceBytes, kPieceBytes};
}

std::span<char> Handover::room() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopped_ || given_ - taken_ < kPieces; });
  return stopped_ ? std::span<char>() : piece(given_);
}

void Handover::give(size_t bytes) {
  const std::scoped_lock lock(mutex_);
  sizes_[given_ % kPieces] = bytes;
  ++given_;
  changed_.notify_one();
}

void Handover::end() {
  const std::scoped_lock lock(mutex_);
  ended_ = true;
  changed_.notify_one();
}

bool Handover::stopped() const {
  const std::scoped_lock lock(mutex_);
  return stopped_;
}

std::string_view Handover::take() {
  std::unique_lock lock(mutex_);
  if (holds_) {
    ++taken_;
    holds_ = false;
    changed_.notify_one();
  }
  changed_.wait(lock, [&] { return ended_ || given_ != taken_; });
  if (given_ == taken_) return {};
  holds_ = true;
  return {piece(taken_).data(), sizes_[taken_ % kPieces]};
}

void Handover::stop() {
  const std::scoped_lock lock(mutex_);
  stopped_ = true;
  changed_.notify_one();
}

}  // namespace fluyt::image
