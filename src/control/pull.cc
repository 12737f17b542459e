#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "control/image_message.h"
#include "control/service.h"
#include "control/status.h"

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

// Between the pull's threads and the call's: the latest of each layer, so that a slow caller makes
// nobody wait and no queue grow.
class Progress {
 public:
  void update(const image::LayerProgress& layer) {
    const std::lock_guard lock(mutex_);
    changed_[layer.digest] = layer;
  }
  void finish() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    wake_.notify_one();
  }
  /// What changed; waits for the end of the pull or the next time to report.
  bool wait(v1::PullResponse& response) {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, kReportEvery, [&] { return done_; });
    for (const auto& [digest, layer] : changed_) {
      v1::LayerProgress* message = response.add_layers();
      message->set_digest(digest);
      message->set_phase(phase_of(layer.phase));
      message->set_done_bytes(layer.done_bytes);
      message->set_total_bytes(layer.total_bytes);
    }
    changed_.clear();
    return done_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, image::LayerProgress> changed_;
  bool done_ = false;
};

}  // namespace

grpc::Status ControlService::Pull(grpc::ServerContext* context, const v1::PullRequest* request,
                                  grpc::ServerWriter<v1::PullResponse>* writer) {
  Progress progress;
  std::atomic<bool> cancelled = false;
  image::PullOptions options;
  const v1::Credentials& credentials = request->credentials();
  options.credentials = {.username = credentials.username(),
                         .password = credentials.password(),
                         .identity_token = credentials.identity_token(),
                         .registry_token = credentials.registry_token(),
                         .server_address = credentials.server_address()};
  options.progress = [&](const image::LayerProgress& layer) { progress.update(layer); };
  options.cancelled = &cancelled;
  options.purpose = image::PullOptions::Purpose::kRunAndPush;

  std::optional<Result<image::Image>> pulled;
  std::thread work([&] {
    pulled.emplace(engine_.pull_image(request->image(), options));
    progress.finish();
  });
  for (bool done = false; !done;) {
    v1::PullResponse response;
    done = progress.wait(response);
    if (response.layers_size() > 0 && !writer->Write(response)) cancelled = true;
    if (context->IsCancelled()) cancelled = true;
  }
  work.join();
  if (!pulled->ok()) return to_status(pulled->error());
  v1::PullResponse last;
  fill(pulled->value(), *last.mutable_image());
  writer->Write(last);
  return grpc::Status::OK;
}

}  // namespace fluyt::control
