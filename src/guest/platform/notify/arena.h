#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "guest/abi/errno.h"
#include "guest/base/quota.h"
#include "sys/fd.h"

namespace fluyt::guest {

/// What the stubs of one container may have of the sandbox's.
struct StubShare {
  std::shared_ptr<Quota> processes;
  std::shared_ptr<Quota> slots;
  std::shared_ptr<Quota> descriptors;  // null: as many as there are
};

/// The memory that a sandbox's stubs and its sentry share: one memfd, mapped whole by the sentry. A
/// stub maps the boot page and its request page read-only, and the slots of its own threads. A
/// piece is given back only when the process that mapped it is gone, and comes out zeroed.
class Arena {
 public:
  static Result<Arena> create();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&&) = delete;
  Arena(const Arena&) = delete;
  ~Arena();

  int fd() const { return fd_.raw(); }
  std::atomic<bool> memory_is_limited{false};
  std::byte* boot_page() const { return base_; }
  static constexpr uint64_t kBootOffset = 0;

  /// For one more container, of which the rest is known.
  StubShare make_share(std::shared_ptr<Quota> descriptors) const;

  ErrnoOr<uint32_t> take_request();
  ErrnoOr<uint32_t> take_slot();
  void give_request(uint32_t index);
  void give_slot(uint32_t index);

  static uint64_t request_offset(uint32_t index);
  static uint64_t slot_offset(uint32_t index);
  std::byte* at(uint64_t offset) const { return base_ + offset; }

 private:
  struct Pieces {
    uint32_t next = 0;
    uint32_t limit = 0;
    std::vector<uint32_t> free;
  };
  Arena(sys::Fd fd, std::byte* base);
  ErrnoOr<uint32_t> take(Pieces& pieces);
  void give(Pieces& pieces, uint32_t index, uint64_t offset, uint64_t size);

  sys::Fd fd_;
  std::byte* base_ = nullptr;
  std::mutex mutex_;
  Pieces requests_;
  Pieces slots_;
  std::shared_ptr<Quota> all_processes_;
  std::shared_ptr<Quota> all_slots_;
};

}  // namespace fluyt::guest
