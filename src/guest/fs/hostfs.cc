#include "guest/fs/hostfs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/fs/special.h"
#include "guest/platform/host/io.h"

namespace fluyt::guest {
namespace {

class HostFile final : public File {
 public:
  HostFile(DentryPtr path, InodePtr inode, int flags, std::shared_ptr<HostFs> fs, sys::Fd fd)
      : File(std::move(path), std::move(inode), flags), fs_(std::move(fs)), fd_(std::move(fd)) {}

  ErrnoOr<size_t> read(Caller& /*caller*/, std::span<std::byte> to, int64_t* offset) override {
    const size_t done = GUEST_TRY(host::read_at(fd_, to, *offset));
    *offset += static_cast<int64_t>(done);
    return done;
  }
  ErrnoOr<size_t> write(Caller& /*caller*/, std::span<const std::byte> from,
                        int64_t* offset) override {
    if (appending()) {
      // The host's own O_APPEND is on this descriptor: the write goes to the end, wherever we say.
      const size_t done = GUEST_TRY(host::write(fd_, from));
      *offset = GUEST_TRY(host::seek(fd_, 0, SEEK_CUR));
      return done;
    }
    const size_t done = GUEST_TRY(host::write_at(fd_, from, *offset));
    *offset += static_cast<int64_t>(done);
    return done;
  }
  bool seekable() const override { return true; }
  ErrnoOr<int64_t> seek(int64_t offset, int whence) override {
    if (whence == SEEK_DATA || whence == SEEK_HOLE) {
      position = GUEST_TRY(host::seek(fd_, offset, whence));
      return position;
    }
    int64_t size = 0;
    if (whence == SEEK_END) {
      const Stat stat = GUEST_TRY(host::stat(fd_));
      size = stat.size;
    }
    return seek_within(offset, whence, size);
  }
  ErrnoOr<Stat> stat() override {
    const Stat stat = GUEST_TRY(host::stat(fd_));
    return fs_->shown(stat);
  }
  ErrnoOr<std::vector<DirEntry>> list() override {
    const std::vector<host::HostEntry> entries = GUEST_TRY(host::list_directory(fd_));
    std::vector<DirEntry> out;
    out.reserve(entries.size());
    for (const host::HostEntry& entry : entries) out.push_back({entry.name, entry.ino, entry.type});
    return out;
  }
  Errno truncate(int64_t size) override { return host::truncate(fd_, size); }
  Errno allocate(int mode, int64_t offset, int64_t length) override {
    return host::allocate(fd_, mode, offset, length);
  }
  Errno sync() override { return host::sync(fd_); }
  ErrnoOr<int> host_descriptor() override { return fd_.raw(); }

 private:
  std::shared_ptr<HostFs> fs_;
  sys::Fd fd_;
};

class HostInode final : public Inode {
 public:
  HostInode(std::shared_ptr<HostFs> fs, uint64_t handle, uint32_t type)
      : fs_(std::move(fs)), handle_(handle), type_(type) {}
  ~HostInode() override {
    if (handle_ != host::Broker::kRoot) fs_->broker().forget(handle_);
  }

  uint32_t type() const override { return type_; }
  ErrnoOr<Stat> stat() override {
    const Stat stat = GUEST_TRY(fs_->broker().stat(handle_));
    return fs_->shown(stat);
  }
  Errno set_attributes(const SetAttributes& change) override {
    GUEST_TRY(fs_->may_change());
    if (change.uid || change.gid)
      GUEST_TRY(fs_->broker().chown(handle_, change.uid ? fs_->host_uid(*change.uid) : ~0U,
                                    change.gid ? fs_->host_gid(*change.gid) : ~0U));
    if (change.mode) GUEST_TRY(fs_->broker().chmod(handle_, *change.mode));
    if (change.accessed || change.modified) {
      constexpr int64_t kOmit = 0x3ffffffe;
      Timestamp times[2] = {{0, kOmit}, {0, kOmit}};
      if (change.accessed) times[0] = *change.accessed;
      if (change.modified) times[1] = *change.modified;
      GUEST_TRY(fs_->broker().set_times(handle_, times));
    }
    return kOk;
  }
  Errno truncate(int64_t size) override {
    GUEST_TRY(fs_->may_change());
    const sys::Fd fd = GUEST_TRY(fs_->broker().open(handle_, O_WRONLY));
    return host::truncate(fd, size);
  }
  ErrnoOr<StatfsBuffer> statfs() override { return fs_->broker().statfs(handle_); }

  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override {
    if (!S_ISREG(type_) && !S_ISDIR(type_)) return open_special(*this, std::move(path), flags);
    if ((flags & O_ACCMODE) != O_RDONLY) GUEST_TRY(fs_->may_change());
    sys::Fd fd = GUEST_TRY(
        fs_->broker().open(handle_, flags & (O_ACCMODE | O_APPEND | O_DIRECTORY | O_NOATIME)));
    return FilePtr(
        std::make_shared<HostFile>(std::move(path), shared_from_this(), flags, fs_, std::move(fd)));
  }
  ErrnoOr<std::string> readlink() override {
    if (!S_ISLNK(type_)) return Errno(EINVAL);
    return fs_->broker().readlink(handle_);
  }
  ErrnoOr<InodePtr> lookup(std::string_view name) override {
    return adopt(fs_->broker().lookup(handle_, name));
  }
  ErrnoOr<std::vector<DirEntry>> list() override { return Errno(EINVAL); }  // through the file
  ErrnoOr<InodePtr> make(std::string_view name, const NewNode& node) override {
    GUEST_TRY(fs_->may_change());
    const uint32_t uid = fs_->host_uid(node.uid);
    const uint32_t gid = fs_->host_gid(node.gid);
    if (S_ISDIR(node.mode))
      return adopt(fs_->broker().make_dir(handle_, name, node.mode, uid, gid));
    if (!S_ISREG(node.mode))
      return adopt(fs_->broker().make_node(handle_, name, node.mode, 0, uid, gid));
    host::Broker::Created made =
        GUEST_TRY(fs_->broker().create(handle_, name, O_RDWR, node.mode, uid, gid));
    return fs_->adopt({made.handle, made.stat});
  }
  ErrnoOr<InodePtr> symlink(std::string_view name, std::string_view target,
                            const NewNode& owner) override {
    GUEST_TRY(fs_->may_change());
    return adopt(fs_->broker().symlink(handle_, name, target, fs_->host_uid(owner.uid),
                                       fs_->host_gid(owner.gid)));
  }
  Errno link(std::string_view name, Inode& target) override {
    GUEST_TRY(fs_->may_change());
    auto* other = dynamic_cast<HostInode*>(&target);
    if (other == nullptr || other->fs_ != fs_) return Errno(EXDEV);
    return fs_->broker().link(other->handle_, handle_, name);
  }
  Errno unlink(std::string_view name, Inode& /*target*/) override {
    GUEST_TRY(fs_->may_change());
    return fs_->broker().unlink(handle_, name, 0);
  }
  Errno remove_dir(std::string_view name, Inode& /*target*/) override {
    GUEST_TRY(fs_->may_change());
    return fs_->broker().unlink(handle_, name, AT_REMOVEDIR);
  }
  Errno rename(std::string_view name, Inode& to, std::string_view new_name, int flags) override {
    GUEST_TRY(fs_->may_change());
    auto* other = dynamic_cast<HostInode*>(&to);
    if (other == nullptr || other->fs_ != fs_) return Errno(EXDEV);
    return fs_->broker().rename(handle_, name, other->handle_, new_name, flags);
  }

 private:
  ErrnoOr<InodePtr> adopt(ErrnoOr<host::Broker::Found> found) {
    if (!found.ok()) return found.error();
    return fs_->adopt(found.value());
  }
  std::shared_ptr<HostFs> fs_;
  uint64_t handle_;
  uint32_t type_;
};

}  // namespace

ErrnoOr<InodePtr> HostFs::root() {
  const Stat stat = GUEST_TRY(broker_->stat(host::Broker::kRoot));
  return adopt({host::Broker::kRoot, stat});
}

InodePtr HostFs::adopt(const host::Broker::Found& found) {
  return std::make_shared<HostInode>(shared_from_this(), found.handle, found.stat.mode & S_IFMT);
}

Stat HostFs::shown(Stat stat) const {
  if (ids_ == Ids::kAsTheyAre) return stat;
  stat.uid = stat.uid == our_uid_ ? 0 : 65534;
  stat.gid = stat.gid == our_gid_ ? 0 : 65534;
  return stat;
}
uint32_t HostFs::host_uid(uint32_t uid) const {
  return ids_ == Ids::kOursAreRoot && uid == 0 ? our_uid_ : uid;
}
uint32_t HostFs::host_gid(uint32_t gid) const {
  return ids_ == Ids::kOursAreRoot && gid == 0 ? our_gid_ : gid;
}

}  // namespace fluyt::guest
