#pragma once

#include <memory>

#include "guest/vfs/file.h"
#include "guest/vfs/watches.h"

namespace fluyt::guest {

/// A descriptor of inotify(7): the events of one watcher.
class Inotify final : public File {
 public:
  Inotify(std::shared_ptr<Watches> watches, std::shared_ptr<Watcher> watcher, int flags);
  ~Inotify() override;

  Watcher& watcher() { return *watcher_; }

  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t* offset) override;
  uint32_t ready(uint32_t wanted) override;
  WaitQueue* queue() override { return &watcher_->queue(); }
  ErrnoOr<uint64_t> ioctl(Caller& caller, uint32_t request, uint64_t argument) override;
  ErrnoOr<int64_t> seek(int64_t, int) override { return int64_t{0}; }
  std::string describe() const override { return "anon_inode:inotify"; }

 private:
  std::shared_ptr<Watches> all_;
  std::shared_ptr<Watcher> watcher_;
};

}  // namespace fluyt::guest
