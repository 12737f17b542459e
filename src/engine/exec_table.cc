#include "engine/exec_table.h"

#include <chrono>
#include <utility>

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

ExecTable::Starting::Starting(ExecTable& table, std::string sandbox_id)
    : table_(table), sandbox_id_(std::move(sandbox_id)) {
  ++(*table_.sandboxes_.lock())[sandbox_id_].starting;
}

ExecTable::Starting::~Starting() {
  auto sandboxes = table_.sandboxes_.lock();
  const auto at = sandboxes->find(sandbox_id_);
  if (--at->second.starting == 0) at->second.early.clear();
  if (at->second.empty()) sandboxes->erase(at);
}

ExecWaitPtr ExecTable::claim(const std::string& sandbox_id, uint64_t exec_id) {
  auto sandboxes = sandboxes_.lock();
  OfSandbox& of = (*sandboxes)[sandbox_id];
  ExecWaitPtr& wait = of.waits[exec_id];
  if (!wait) wait = std::make_shared<ExecWait>();
  if (const auto early = of.early.find(exec_id); early != of.early.end()) {
    wait->set(early->second);
    of.early.erase(early);
  }
  return wait;
}

void ExecTable::exited(const std::string& sandbox_id, uint64_t exec_id, int32_t code) {
  auto sandboxes = sandboxes_.lock();
  const auto at = sandboxes->find(sandbox_id);
  if (at == sandboxes->end()) return;
  OfSandbox& of = at->second;
  if (const auto wait = of.waits.find(exec_id); wait != of.waits.end()) {
    wait->second->set(code);
  } else if (of.starting > 0) {
    of.early[exec_id] = code;
  }
}

void ExecTable::forget(const std::string& sandbox_id, uint64_t exec_id) {
  auto sandboxes = sandboxes_.lock();
  const auto at = sandboxes->find(sandbox_id);
  if (at == sandboxes->end()) return;
  at->second.waits.erase(exec_id);
  if (at->second.empty()) sandboxes->erase(at);
}

void ExecTable::end_all(const std::string& sandbox_id, int32_t code) {
  auto sandboxes = sandboxes_.lock();
  const auto at = sandboxes->find(sandbox_id);
  if (at == sandboxes->end()) return;
  for (const auto& [id, wait] : at->second.waits) wait->set(code);
  at->second.waits.clear();
  if (at->second.empty()) sandboxes->erase(at);
}

}  // namespace fluyt::engine
