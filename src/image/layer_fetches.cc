#include "image/layer_fetches.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>
#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "sys/precedence.h"

namespace fluyt::image {

namespace {

constexpr int64_t kProgressEveryNs = 100'000'000;
constexpr std::chrono::milliseconds kLookEvery{100};  // how late a waiter notices that it may stop

// One whose record cannot be read is not there: the writer puts the new one in its place.
Result<std::optional<LayerInfo>> find_whole(const LayerStore& store, const oci::Digest& diff_id) {
  auto found = store.find(diff_id);
  if (found.ok() || found.error().code() != Code::kDataLoss) return found;
  return std::optional<LayerInfo>();
}

Error cancelled_error() { return Error(Code::kCancelled, "cancelled by the caller"); }

void report(const ProgressSink& progress, const oci::Descriptor& blob, LayerProgress::Phase phase,
            uint64_t bytes) {
  if (!progress) return;
  progress({blob.digest.text(), phase, bytes, static_cast<uint64_t>(blob.size)});
}

}  // namespace

Result<bool> LayerFetches::lacks_blob(const Wanted& wanted) const {
  if (!wanted.keep_blob) return false;
  return FLUYT_TRY(blobs_.find_size(wanted.blob.digest)) != static_cast<uint64_t>(wanted.blob.size);
}

// With `there` the tree is in the store already, and just the blob is missing.
Result<LayerInfo> LayerFetches::fetch_once(ContentSource& source, const Wanted& wanted,
                                           const std::optional<LayerInfo>& there,
                                           const std::atomic<bool>& stop,
                                           const std::function<void(uint64_t)>& on_bytes) {
  const oci::Descriptor& blob = wanted.blob;
  const auto size = static_cast<uint64_t>(blob.size);
  const auto& precedence = store_.options().precedence;
  std::optional<sys::Precedence::Count> work;
  if (precedence) work.emplace(sys::Precedence::begin_work(precedence));
  sys::GiveWay give_way(precedence);
  std::optional<LayerWriter> tree;
  if (!there.has_value()) {
    tree.emplace(FLUYT_TRY(
        LayerWriter::create(store_, {blob.digest, size, wanted.diff_id, blob.media_type}, &stop)));
  }
  std::optional<BlobWriter> kept;
  if (FLUYT_TRY(lacks_blob(wanted))) kept.emplace(FLUYT_TRY(blobs_.create(blob.digest, size)));
  uint64_t done = 0;
  FLUYT_TRY(source.stream(blob, [&](std::string_view bytes) -> Result<> {
    if (stop) return cancelled_error();
    give_way.between_steps();
    if (tree.has_value()) FLUYT_TRY(tree->write(bytes));
    if (kept.has_value()) FLUYT_TRY(kept->write(bytes));
    done += bytes.size();
    on_bytes(done);
    return {};
  }));
  LayerInfo info = there.has_value() ? *there : FLUYT_TRY(tree->finish());
  if (kept.has_value()) FLUYT_TRY(kept->finish());
  return info;
}

Result<LayerInfo> LayerFetches::fly(Flight& flight, ContentSource& source, const Wanted& wanted,
                                    const ProgressSink& progress, const std::atomic<bool>& stop) {
  const auto there = FLUYT_TRY(find_whole(store_, wanted.diff_id));
  if (there.has_value() && !FLUYT_TRY(lacks_blob(wanted))) {
    report(progress, wanted.blob, LayerProgress::Phase::kExists, there->blob_bytes);
    return *there;
  }
  int64_t reported_ns = 0;
  const auto on_bytes = [&](uint64_t bytes) {
    flight.bytes = bytes;
    const int64_t now = now_boot_ns();
    if (now - reported_ns < kProgressEveryNs) return;
    reported_ns = now;
    report(progress, wanted.blob, LayerProgress::Phase::kFetching, bytes);
  };
  while (true) {
    report(progress, wanted.blob, LayerProgress::Phase::kFetching, 0);
    auto fetched = fetch_once(source, wanted, there, stop, on_bytes);
    if (fetched.ok()) {
      report(progress, wanted.blob, LayerProgress::Phase::kDone, fetched->blob_bytes);
      return fetched;
    }
    // Wrong bytes may fail to be an archive long before their digest is known.
    const bool wrong_bytes = fetched.error().code() == Code::kDataLoss ||
                             fetched.error().code() == Code::kInvalidArgument;
    if (!wrong_bytes || !source.has_another(wanted.blob)) {
      return std::move(fetched).error().add_context(cat("layer ", wanted.blob.digest.text()));
    }
  }
}

Result<std::optional<LayerInfo>> LayerFetches::wait_for(Flight& flight, const Wanted& wanted,
                                                        const ProgressSink& progress,
                                                        const std::atomic<bool>& stop) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!flight.done) {
    landed_.wait_for(lock, kLookEvery);
    if (stop) return cancelled_error();
    if (flight.done) break;
    lock.unlock();
    report(progress, wanted.blob, LayerProgress::Phase::kFetching, flight.bytes);
    lock.lock();
  }
  if (!flight.info.has_value()) return std::optional<LayerInfo>();
  lock.unlock();
  report(progress, wanted.blob, LayerProgress::Phase::kDone,
         static_cast<uint64_t>(wanted.blob.size));
  return flight.info;
}

void LayerFetches::Place::take() {
  const std::lock_guard<std::mutex> lock(fetches_.mutex_);
  if (!taken_) ++fetches_.places_taken_;
  taken_ = true;
}

bool LayerFetches::Place::wait(size_t most, const std::function<bool()>& is_over) {
  std::unique_lock<std::mutex> lock(fetches_.mutex_);
  while (!is_over()) {
    if (fetches_.places_taken_ < most) {
      ++fetches_.places_taken_;
      return taken_ = true;
    }
    fetches_.landed_.wait_for(lock, kLookEvery);
  }
  return false;
}

void LayerFetches::Place::leave() {
  {
    const std::lock_guard<std::mutex> lock(fetches_.mutex_);
    if (!taken_) return;
    --fetches_.places_taken_;
    taken_ = false;
  }
  fetches_.landed_.notify_all();
}

Result<LayerInfo> LayerFetches::ensure(ContentSource& source, const Wanted& wanted, Place& place,
                                       const ProgressSink& progress,
                                       const std::atomic<bool>& stop) {
  while (true) {
    if (stop) return cancelled_error();
    std::shared_ptr<Flight> flight;
    bool is_mine = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      auto& slot = flights_[wanted.diff_id];
      is_mine = slot == nullptr;
      if (is_mine) slot = std::make_shared<Flight>();
      flight = slot;
    }
    if (!is_mine) {
      place.leave();
      // Another pull's failure is its own (its registry, its credentials, its cancellation).
      auto landed = FLUYT_TRY(wait_for(*flight, wanted, progress, stop));
      if (landed.has_value() && !FLUYT_TRY(lacks_blob(wanted))) return std::move(*landed);
      continue;
    }
    place.take();
    auto result = fly(*flight, source, wanted, progress, stop);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      flight->done = true;
      if (result.ok()) flight->info = *result;
      flights_.erase(wanted.diff_id);
    }
    landed_.notify_all();
    return result;
  }
}

Result<std::vector<LayerInfo>> LayerFetches::fetch_all(ContentSource& source,
                                                       const std::vector<Wanted>& wanted,
                                                       const FetchBounds& bounds,
                                                       const ProgressSink& progress,
                                                       std::atomic<bool>& stop) {
  // The largest first: it decides how long the whole takes.
  std::vector<size_t> order(wanted.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(wanted[b].blob.size, a) < std::pair(wanted[a].blob.size, b);
  });
  for (const size_t i : order) report(progress, wanted[i].blob, LayerProgress::Phase::kWaiting, 0);

  std::vector<std::optional<LayerInfo>> infos(wanted.size());
  std::optional<Error> first_error;
  std::mutex mutex;  // of first_error and next
  size_t next = 0;
  const auto is_over = [&] {
    const std::lock_guard<std::mutex> lock(mutex);
    return next == order.size() || first_error.has_value();
  };
  enum class Worker { kFirst, kFurther };
  const auto work = [&](Worker worker) {
    while (true) {
      // Before a layer is taken: the first, who waits for no place, goes on with it meanwhile.
      Place place(*this);
      if (worker == Worker::kFurther && !place.wait(bounds.of_all, is_over)) return;
      size_t mine = 0;
      {
        const std::lock_guard<std::mutex> lock(mutex);
        if (next == order.size() || first_error.has_value()) return;
        mine = order[next++];
      }
      auto result = ensure(source, wanted[mine], place, progress, stop);
      if (result.ok()) {
        infos[mine] = std::move(*result);
        continue;
      }
      const std::lock_guard<std::mutex> lock(mutex);
      // The others end because of the first: their "cancelled" says nothing.
      if (!first_error.has_value()) first_error = std::move(result).error();
      stop = true;
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(bounds.of_pull, wanted.size()); ++i) {
    threads.emplace_back(work, Worker::kFurther);
  }
  work(Worker::kFirst);
  for (std::thread& thread : threads) thread.join();
  if (first_error.has_value()) return std::move(*first_error);
  std::vector<LayerInfo> out;
  out.reserve(infos.size());
  for (auto& info : infos) out.push_back(std::move(*info));
  return out;
}

}  // namespace fluyt::image
