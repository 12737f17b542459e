#include "image/layer/reaper.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "sys/file.h"

namespace fluyt::image {

namespace {
constexpr std::chrono::seconds kPatience{1};
}

struct Reaper::Work {
  explicit Work(sys::Fd in) : folder(std::move(in)) {}
  const sys::Fd folder;
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
      sys::remove_tree(folder, name).ignore("the next open() sweeps it, and says what is wrong");
      lock.lock();
      names.pop_front();
      changed.notify_all();
    }
  }
};

Reaper::Reaper(sys::Fd folder) : work_(std::make_shared<Work>(std::move(folder))) {}

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

}  // namespace fluyt::image
