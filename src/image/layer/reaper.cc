#include "image/layer/reaper.h"

#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {
constexpr std::chrono::seconds kPatience{1};
constexpr useconds_t kSweepPause = 50'000;

void tell(Logger* logger, std::string_view what, std::string_view name, const Error& error) {
  if (logger == nullptr) return;
  logger->warn(cat(what, "/", name, ": stays on the disk: ", error.message()));
}
}  // namespace

Result<> remove_beside_others(sys::FdRef folder, const std::string& path) {
  constexpr int kMaxLooks = 1000;  // each time at least one directory has gone
  for (int looks = 1;; ++looks) {
    auto removed = sys::remove_tree(folder, path);
    if (removed.ok()) return {};
    const Code code = removed.error().code();
    const bool is_under_way = code == Code::kNotFound || code == Code::kAborted;
    if (is_under_way && looks < kMaxLooks) continue;
    const auto left = sys::find_stat(folder, path);
    if (left.ok() && !left->has_value()) return {};
    return removed;
  }
}

struct Reaper::Work {
  Work(sys::Fd in, std::string its_name, Logger* whom)
      : folder(std::move(in)), what(std::move(its_name)), logger(whom) {}
  const sys::Fd folder;
  const std::string what;
  Logger* const logger;  // there as long as the Reaper: while this is not stopping
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::string> names;  // the first is being removed
  bool running = false;
  bool stopping = false;

  void loop() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return stopping || !names.empty(); });
      if (names.empty()) return;
      const std::string name = names.front();
      lock.unlock();
      const auto removed = remove_beside_others(folder, name);
      lock.lock();
      if (!removed.ok() && !stopping) tell(logger, what, name, removed.error());
      names.pop_front();
      changed.notify_all();
    }
  }
};

Reaper::Reaper(sys::Fd folder, std::string what, Logger* logger)
    : work_(std::make_shared<Work>(std::move(folder), std::move(what), logger)) {}

Reaper::~Reaper() {
  std::unique_lock lock(work_->mutex);
  work_->stopping = true;
  work_->changed.notify_all();
  work_->changed.wait_for(lock, kPatience, [this] { return work_->names.empty(); });
}

bool Reaper::wait_until_done(std::chrono::milliseconds patience) const {
  std::unique_lock lock(work_->mutex);
  return work_->changed.wait_for(lock, patience, [this] { return work_->names.empty(); });
}

void Reaper::add(std::string name) {
  const std::scoped_lock lock(work_->mutex);
  work_->names.push_back(std::move(name));
  if (!work_->running) std::thread([work = work_] { work->loop(); }).detach();
  work_->running = true;
  work_->changed.notify_all();
}

void Reaper::sweep(sys::FdRef folder, const std::vector<std::string>& names, std::string_view what,
                   Logger* logger) {
  for (const std::string& name : names) {
    if (remove_beside_others(folder, name).ok()) continue;
    // A worker of a process that died may be at it for a moment still: it ends when its input does.
    usleep(kSweepPause);
    const auto removed = remove_beside_others(folder, name);
    if (!removed.ok()) tell(logger, what, name, removed.error());
  }
}

}  // namespace fluyt::image
