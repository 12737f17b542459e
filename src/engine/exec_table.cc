#include "engine/exec_table.h"

#include <chrono>

#include "sys/file.h"

namespace fluyt::engine {

void ExecWait::set(int32_t code) {
  const std::scoped_lock lock(mutex_);
  if (code_) return;
  code_ = code;
  wake_write_.reset();  // end of file is the wake
  changed_.notify_all();
}

std::optional<int32_t> ExecWait::wait(Deadline deadline) {
  std::unique_lock lock(mutex_);
  while (!code_) {
    const int left_ms = deadline.poll_timeout_ms();
    if (left_ms == 0) break;
    if (left_ms < 0) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, std::chrono::milliseconds(left_ms));
    }
  }
  return code_;
}

std::optional<int32_t> ExecWait::code() const {
  const std::scoped_lock lock(mutex_);
  return code_;
}

Result<sys::FdRef> ExecWait::wake_fd() {
  const std::scoped_lock lock(mutex_);
  if (!wake_read_.valid()) {
    sys::Pipe pipe = FLUYT_TRY(sys::make_pipe());
    wake_read_ = std::move(pipe.read);
    if (!code_) wake_write_ = std::move(pipe.write);
  }
  return wake_read_.ref();
}

ExecWaitPtr ExecTable::claim(const std::string& sandbox_id, uint64_t exec_id) {
  auto waits = waits_.lock();
  ExecWaitPtr& wait = (*waits)[{sandbox_id, exec_id}];
  if (!wait) wait = std::make_shared<ExecWait>();
  return wait;
}

void ExecTable::exited(const std::string& sandbox_id, uint64_t exec_id, int32_t code) {
  claim(sandbox_id, exec_id)->set(code);
}

void ExecTable::forget(const std::string& sandbox_id, uint64_t exec_id) {
  waits_.lock()->erase({sandbox_id, exec_id});
}

void ExecTable::end_all(const std::string& sandbox_id, int32_t code) {
  auto waits = waits_.lock();
  auto place = waits->lower_bound({sandbox_id, 0});
  while (place != waits->end() && place->first.first == sandbox_id) {
    place->second->set(code);
    place = waits->erase(place);
  }
}

}  // namespace fluyt::engine
