#include "control/layer_reports.h"

namespace fluyt::control {

namespace {

constexpr auto kReportEvery = std::chrono::milliseconds(100);

v1::LayerProgress::Phase phase_of(image::LayerProgress::Phase phase) {
  switch (phase) {
    case image::LayerProgress::Phase::kWaiting:
      return v1::LayerProgress::WAITING;
    case image::LayerProgress::Phase::kFetching:
      return v1::LayerProgress::FETCHING;
    case image::LayerProgress::Phase::kDone:
      return v1::LayerProgress::DONE;
    case image::LayerProgress::Phase::kExists:
      return v1::LayerProgress::EXISTS;
  }
  return v1::LayerProgress::WAITING;
}

}  // namespace

void LayerReports::update(const image::LayerProgress& layer) {
  const std::lock_guard lock(mutex_);
  changed_[layer.digest] = layer;
}

void LayerReports::finish() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  wake_.notify_one();
}

bool LayerReports::wait(LayerMessages& changed) {
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, kReportEvery, [&] { return done_; });
  for (const auto& [digest, layer] : changed_) {
    v1::LayerProgress* message = changed.Add();
    message->set_digest(digest);
    message->set_phase(phase_of(layer.phase));
    message->set_done_bytes(layer.done_bytes);
    message->set_total_bytes(layer.total_bytes);
  }
  changed_.clear();
  return done_;
}

}  // namespace fluyt::control
