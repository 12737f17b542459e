#include "guest/fs/memfs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <map>

#include "guest/fs/special.h"
#include "guest/platform/host/io.h"
#include "sys/fd.h"

namespace fluyt::guest {
namespace {

constexpr int64_t kTmpfsMagic = 0x01021994;

Timestamp now() {
  const int64_t ns = host::clock_ns(0);
  return {ns / 1'000'000'000, ns % 1'000'000'000};
}

/// What the nodes of one mount share.
struct Mount {
  uint64_t device = 0;
  std::atomic<uint64_t> next_ino{1};
  /// One lock for names and attributes of the whole mount: all of it is short.
  std::mutex mutex;
};

class MemInode;

class MemFile final : public File {
 public:
  MemFile(DentryPtr path, InodePtr inode, int flags, sys::FdRef fd, MemInode& node)
      : File(std::move(path), std::move(inode), flags), fd_(fd), node_(node) {}
  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t* offset) override;
  ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from, int64_t* offset) override;
  bool seekable() const override { return true; }
  ErrnoOr<int64_t> seek(int64_t offset, int whence) override;
  ErrnoOr<std::vector<DirEntry>> list() override { return inode()->list(); }
  Errno truncate(int64_t size) override { return inode()->truncate(size); }
  Errno allocate(int mode, int64_t offset, int64_t length) override {
    return host::allocate(fd_, mode, offset, length);
  }
  ErrnoOr<int> host_descriptor() override {
    if (!fd_.valid()) return Errno(ENODEV);
    return fd_.raw();
  }

 private:
  sys::FdRef fd_;
  MemInode& node_;
};

class MemInode final : public Inode {
 public:
  MemInode(std::shared_ptr<Mount> mount, const NewNode& node) : mount_(std::move(mount)) {
    stat_.dev = mount_->device;
    stat_.ino = mount_->next_ino.fetch_add(1);
    stat_.mode = node.mode;
    stat_.uid = node.uid;
    stat_.gid = node.gid;
    stat_.rdev = node.device;
    stat_.nlink = S_ISDIR(node.mode) ? 2 : 1;
    stat_.accessed = stat_.modified = stat_.changed = now();
  }

  Errno prepare() {
    if (!S_ISREG(stat_.mode)) return kOk;
    data_ = GUEST_TRY(host::make_memory("guest-file"));
    return kOk;
  }

  uint32_t type() const override { return stat_.mode & S_IFMT; }
  ErrnoOr<Stat> stat() override {
    std::lock_guard lock(mount_->mutex);
    Stat out = stat_;
    if (data_.valid()) {
      const Stat bytes = GUEST_TRY(host::stat(data_));
      out.size = bytes.size;
      out.blocks = bytes.blocks;
    } else if (S_ISLNK(out.mode)) {
      out.size = static_cast<int64_t>(target_.size());
    } else if (S_ISDIR(out.mode)) {
      out.size = static_cast<int64_t>(40 + 20 * children_.size());
    }
    return out;
  }
  Errno set_attributes(const SetAttributes& change) override {
    std::lock_guard lock(mount_->mutex);
    if (change.mode) stat_.mode = (stat_.mode & S_IFMT) | (*change.mode & 07777);
    if (change.uid) stat_.uid = *change.uid;
    if (change.gid) stat_.gid = *change.gid;
    if (change.accessed) stat_.accessed = *change.accessed;
    if (change.modified) stat_.modified = *change.modified;
    stat_.changed = now();
    return kOk;
  }
  void touch() {
    std::lock_guard lock(mount_->mutex);
    stat_.modified = stat_.changed = now();
  }
  Errno truncate(int64_t size) override {
    if (!data_.valid()) return Errno(S_ISDIR(type()) ? EISDIR : EINVAL);
    GUEST_TRY(host::truncate(data_, size));
    touch();
    return kOk;
  }
  ErrnoOr<StatfsBuffer> statfs() override {
    StatfsBuffer out;
    out.type = kTmpfsMagic;
    return out;
  }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override {
    if (!S_ISREG(type()) && !S_ISDIR(type())) return open_special(*this, std::move(path), flags);
    return FilePtr(
        std::make_shared<MemFile>(std::move(path), shared_from_this(), flags, data_, *this));
  }
  ErrnoOr<std::string> readlink() override {
    if (!S_ISLNK(type())) return Errno(EINVAL);
    return target_;
  }

  ErrnoOr<InodePtr> lookup(std::string_view name) override {
    if (!S_ISDIR(type())) return Errno(ENOTDIR);
    std::lock_guard lock(mount_->mutex);
    const auto found = children_.find(name);
    if (found == children_.end()) return Errno(ENOENT);
    return InodePtr(found->second);
  }
  ErrnoOr<std::vector<DirEntry>> list() override {
    if (!S_ISDIR(type())) return Errno(ENOTDIR);
    std::lock_guard lock(mount_->mutex);
    std::vector<DirEntry> out;
    for (const auto& [name, child] : children_)
      out.push_back({name, child->stat_.ino, entry_type(child->stat_.mode)});
    return out;
  }
  ErrnoOr<InodePtr> make(std::string_view name, const NewNode& node) override {
    auto made = std::make_shared<MemInode>(mount_, node);
    GUEST_TRY(made->prepare());
    GUEST_TRY(add(name, made));
    return InodePtr(made);
  }
  ErrnoOr<InodePtr> make_unnamed(const NewNode& node, bool linkable) override {
    auto made = std::make_shared<MemInode>(mount_, node);
    GUEST_TRY(made->prepare());
    made->stat_.nlink = 0;
    made->linkable_ = linkable;
    return InodePtr(made);
  }
  ErrnoOr<InodePtr> symlink(std::string_view name, std::string_view target,
                            const NewNode& owner) override {
    auto made = std::make_shared<MemInode>(mount_, owner);
    made->target_ = target;
    GUEST_TRY(add(name, made));
    return InodePtr(made);
  }
  ErrnoOr<std::string> get_attribute(const std::string& name) override {
    std::lock_guard lock(mount_->mutex);
    const auto found = attributes_.find(name);
    if (found == attributes_.end()) return Errno(ENODATA);
    return found->second;
  }
  Errno set_attribute(const std::string& name, std::string_view value,
                      AttributeMode mode) override {
    std::lock_guard lock(mount_->mutex);
    const auto found = attributes_.find(name);
    if (found == attributes_.end() && mode == AttributeMode::kReplace) return Errno(ENODATA);
    if (found != attributes_.end() && mode == AttributeMode::kCreate) return Errno(EEXIST);
    size_t bytes = name.size() + value.size();
    for (const auto& [other, kept] : attributes_)
      if (other != name) bytes += other.size() + kept.size();
    if (bytes > kMaxAttributes) return Errno(ENOSPC);
    attributes_[name] = value;
    stat_.changed = now();
    return kOk;
  }
  ErrnoOr<std::vector<std::string>> list_attributes() override {
    std::lock_guard lock(mount_->mutex);
    std::vector<std::string> out;
    for (const auto& [name, value] : attributes_) out.push_back(name);
    return out;
  }
  Errno remove_attribute(const std::string& name) override {
    std::lock_guard lock(mount_->mutex);
    if (attributes_.erase(name) == 0) return Errno(ENODATA);
    stat_.changed = now();
    return kOk;
  }
  Errno link(std::string_view name, Inode& target) override {
    auto* other = dynamic_cast<MemInode*>(&target);
    if (other == nullptr || other->mount_ != mount_) return Errno(EXDEV);
    {
      // What has lost its last name gets none again.
      std::lock_guard lock(mount_->mutex);
      if (other->stat_.nlink == 0 && !other->linkable_) return Errno(ENOENT);
    }
    GUEST_TRY(add(name, std::static_pointer_cast<MemInode>(other->shared_from_this())));
    std::lock_guard lock(mount_->mutex);
    ++other->stat_.nlink;
    other->linkable_ = false;
    other->stat_.changed = now();
    return kOk;
  }
  Errno unlink(std::string_view name, Inode& target) override {
    std::lock_guard lock(mount_->mutex);
    const auto found = children_.find(name);
    if (found == children_.end() || found->second.get() != &target) return Errno(ENOENT);
    --found->second->stat_.nlink;
    found->second->stat_.changed = now();
    children_.erase(found);
    stat_.modified = stat_.changed = now();
    return kOk;
  }
  Errno remove_dir(std::string_view name, Inode& target) override {
    std::lock_guard lock(mount_->mutex);
    const auto found = children_.find(name);
    if (found == children_.end() || found->second.get() != &target) return Errno(ENOENT);
    if (!found->second->children_.empty()) return Errno(ENOTEMPTY);
    found->second->stat_.nlink = 0;
    children_.erase(found);
    --stat_.nlink;
    stat_.modified = stat_.changed = now();
    return kOk;
  }
  Errno rename(std::string_view name, Inode& to, std::string_view new_name, int flags) override {
    auto* other = dynamic_cast<MemInode*>(&to);
    if (other == nullptr || other->mount_ != mount_) return Errno(EXDEV);
    std::lock_guard lock(mount_->mutex);
    const auto found = children_.find(name);
    if (found == children_.end()) return Errno(ENOENT);
    const std::shared_ptr<MemInode> moved = found->second;
    const auto there = other->children_.find(new_name);
    if ((flags & 2) != 0) {  // RENAME_EXCHANGE
      if (there == other->children_.end()) return Errno(ENOENT);
      std::swap(found->second, there->second);
      return kOk;
    }
    if (there != other->children_.end()) {
      if (!there->second->children_.empty()) return Errno(ENOTEMPTY);
      if (S_ISDIR(there->second->stat_.mode))
        --other->stat_.nlink;
      else
        --there->second->stat_.nlink;
      other->children_.erase(there);
    }
    children_.erase(found);
    other->children_[std::string(new_name)] = moved;
    if (S_ISDIR(moved->stat_.mode)) {
      --stat_.nlink;
      ++other->stat_.nlink;
    }
    moved->stat_.changed = stat_.modified = stat_.changed = other->stat_.modified = now();
    return kOk;
  }

 private:
  Errno add(std::string_view name, std::shared_ptr<MemInode> child) {
    if (!S_ISDIR(type())) return Errno(ENOTDIR);
    std::lock_guard lock(mount_->mutex);
    if (stat_.nlink == 0) return Errno(ENOENT);
    const bool dir = S_ISDIR(child->stat_.mode);
    if (!children_.emplace(std::string(name), std::move(child)).second) return Errno(EEXIST);
    if (dir) ++stat_.nlink;
    stat_.modified = stat_.changed = now();
    return kOk;
  }

  std::shared_ptr<Mount> mount_;
  Stat stat_;
  sys::Fd data_;
  std::string target_;
  bool linkable_ = false;                                      // though it has no name
  static constexpr size_t kMaxAttributes = size_t{128} << 10;  // names and values of one file
  std::map<std::string, std::string> attributes_;
  std::map<std::string, std::shared_ptr<MemInode>, std::less<>> children_;
};

ErrnoOr<size_t> MemFile::read(Caller& /*caller*/, std::span<std::byte> to, int64_t* offset) {
  if (!fd_.valid()) return Errno(EISDIR);
  const size_t done = GUEST_TRY(host::read_at(fd_, to, *offset));
  *offset += static_cast<int64_t>(done);
  return done;
}

ErrnoOr<size_t> MemFile::write(Caller& /*caller*/, std::span<const std::byte> from,
                               int64_t* offset) {
  if (!fd_.valid()) return Errno(EISDIR);
  if (appending()) {
    const Stat stat = GUEST_TRY(host::stat(fd_));
    *offset = stat.size;
  }
  const size_t done = GUEST_TRY(host::write_at(fd_, from, *offset));
  *offset += static_cast<int64_t>(done);
  node_.touch();
  return done;
}

ErrnoOr<int64_t> MemFile::seek(int64_t offset, int whence) {
  if (!fd_.valid()) return seek_within(offset, whence, 0);
  if (whence == SEEK_DATA || whence == SEEK_HOLE) {
    position = GUEST_TRY(host::seek(fd_, offset, whence));
    return position;
  }
  const Stat stat = GUEST_TRY(host::stat(fd_));
  return seek_within(offset, whence, stat.size);
}

}  // namespace

InodePtr make_memfs(uint32_t root_mode) {
  static std::atomic<uint32_t> next_device{20};
  auto mount = std::make_shared<Mount>();
  mount->device = make_device(0, next_device.fetch_add(1));
  return std::make_shared<MemInode>(std::move(mount), NewNode{S_IFDIR | (root_mode & 07777)});
}

}  // namespace fluyt::guest
