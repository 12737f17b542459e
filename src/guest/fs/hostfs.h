#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "guest/base/quota.h"
#include "guest/platform/host/broker.h"
#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// Files of the host by device and number: those that several names or several containers' trees
/// lead to are one. As long as an inode of one lives its number is not given to another.
class HostFiles : public std::enable_shared_from_this<HostFiles> {
 public:
  std::shared_ptr<FileIdentity> find(const Stat& of);

 private:
  using Key = std::pair<uint64_t, uint64_t>;
  void release(const Key& key);
  std::mutex mutex_;
  std::map<Key, std::weak_ptr<FileIdentity>> known_;
};

/// The container's tree of the host, through its broker. Names and attributes are asked for each
/// time, but for a tree that nobody else should be changing: there they are believed for a second,
/// as in a network's file systems.
class HostFs : public std::enable_shared_from_this<HostFs> {
 public:
  /// How ids of the host are shown and made: as they are, or everything of ours as root's.
  enum class Ids : uint8_t { kAsTheyAre, kOursAreRoot };
  enum class Access : uint8_t { kReadWrite, kReadOnly };
  /// Whether somebody else may be changing files of the root's mount at any time. Those of other
  /// mounts (volumes) always may be.
  enum class Sharing : uint8_t { kShared, kExclusive };
  /// `may_have` is what open files may have of ours; null: as many as there are.
  HostFs(std::unique_ptr<host::Broker> broker, std::shared_ptr<HostFiles> files, Access access,
         Sharing sharing, Ids ids, uint32_t our_uid, uint32_t our_gid,
         std::shared_ptr<Quota> may_have = nullptr)
      : descriptors(std::move(may_have)),
        broker_(std::move(broker)),
        files_(std::move(files)),
        access_(access),
        sharing_(sharing),
        ids_(ids),
        our_uid_(our_uid),
        our_gid_(our_gid) {}
  ErrnoOr<InodePtr> root();

  host::Broker& broker() { return *broker_; }
  /// EROFS when nothing may be changed.
  Errno may_change() const { return access_ == Access::kReadOnly ? Errno(EROFS) : kOk; }
  Stat shown(Stat stat) const;
  uint32_t host_uid(uint32_t uid) const;
  uint32_t host_gid(uint32_t gid) const;
  InodePtr adopt(const host::Broker::Found& found);
  const std::shared_ptr<Quota> descriptors;
  /// How long an exclusive tree is believed to be what it was.
  static constexpr int64_t kBelievedNs = 1'000'000'000;
  std::mutex renames;  // see Inode::renames
  /// Counts what changes attributes of files that are not at hand (rename).
  std::atomic<uint64_t> changes{0};

 private:
  std::unique_ptr<host::Broker> broker_;
  std::shared_ptr<HostFiles> files_;
  Access access_;
  Sharing sharing_;
  uint64_t own_mount_ = 0;
  Ids ids_;
  uint32_t our_uid_;
  uint32_t our_gid_;
};

}  // namespace fluyt::guest
