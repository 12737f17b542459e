#include "guest/fs/hostfs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

#include "base/strings.h"
#include "guest/fs/special.h"
#include "guest/platform/host/io.h"

namespace fluyt::guest {
namespace {

/// Attributes of one file, as long as nothing of ours has changed them and they are not old.
class KeptStat {
 public:
  explicit KeptStat(bool keeps) : keeps_(keeps) {}

  template <class Fetch>
  ErrnoOr<Stat> get(const std::atomic<uint64_t>& changes, Fetch fetch) {
    if (!keeps_.load()) return fetch();
    uint64_t before = 0;
    {
      std::lock_guard lock(mutex_);
      if (known_ && changes_then_ == changes.load() &&
          host::clock_ns(CLOCK_MONOTONIC) - known_ns_ < HostFs::kBelievedNs)
        return stat_;
      before = generation_;
    }
    const uint64_t changes_before = changes.load();
    const Stat stat = GUEST_TRY(fetch());
    keep(stat, before, changes_before);
    return stat;
  }
  /// What a lookup said of it, which began at this generation and number of changes.
  void found(const Stat& stat, uint64_t generation, uint64_t changes, uint64_t order) {
    if (keeps_.load()) return keep(stat, generation, changes);
    std::lock_guard lock(mutex_);
    // Others may be looking it up by another name, or in another mount namespace.
    if (order < order_) return;
    stat_ = stat;
    order_ = order;
  }
  /// Behind found().
  template <class Fetch>
  ErrnoOr<Stat> as_found(const std::atomic<uint64_t>& changes, Fetch fetch) {
    if (keeps_.load()) return get(changes, fetch);
    std::lock_guard lock(mutex_);
    return stat_;
  }
  uint64_t generation() {
    std::lock_guard lock(mutex_);
    return generation_;
  }
  /// To be called behind every change.
  void forget() {
    if (!keeps_.load()) return;
    std::lock_guard lock(mutex_);
    known_ = false;
    ++generation_;
  }
  /// It changes without our doing from now on: a program writes to it through its memory.
  void stop() { keeps_.store(false); }
  bool keeps() const { return keeps_.load(); }

 private:
  void keep(const Stat& stat, uint64_t generation, uint64_t changes) {
    // Another name of the file has attributes of its own here: no way to tell when they change.
    if (!S_ISDIR(stat.mode) && stat.nlink > 1) return;
    std::lock_guard lock(mutex_);
    if (generation_ != generation) return;
    stat_ = stat;
    known_ns_ = host::clock_ns(CLOCK_MONOTONIC);
    changes_then_ = changes;
    known_ = true;
  }

  std::atomic<bool> keeps_;
  std::mutex mutex_;
  Stat stat_;
  bool known_ = false;
  int64_t known_ns_ = 0;
  uint64_t generation_ = 0;
  uint64_t changes_then_ = 0;
  uint64_t order_ = 0;
};

class HostFile final : public File {
 public:
  HostFile(DentryPtr path, InodePtr inode, int flags, std::shared_ptr<HostFs> fs, sys::Fd fd,
           std::shared_ptr<KeptStat> kept)
      : File(std::move(path), std::move(inode), flags),
        fs_(std::move(fs)),
        descriptor_(fs_->descriptors),
        fd_(std::move(fd)),
        kept_(std::move(kept)) {}
  /// False: the share has none left.
  bool charge() { return descriptor_.set(1); }

  ErrnoOr<size_t> read(Caller& /*caller*/, std::span<std::byte> to, int64_t* offset) override {
    const size_t done = GUEST_TRY(host::read_at(fd_, to, *offset));
    kept_->forget();  // the time of access
    *offset += static_cast<int64_t>(done);
    return done;
  }
  ErrnoOr<size_t> write(Caller& /*caller*/, std::span<const std::byte> from,
                        int64_t* offset) override {
    if (appending()) {
      // Whether the host's descriptor has O_APPEND, which may come and go here, or not.
      const size_t done = GUEST_TRY(host::append(fd_, from));
      kept_->forget();
      *offset = GUEST_TRY(host::seek(fd_, 0, SEEK_CUR));
      return done;
    }
    const size_t done = GUEST_TRY(host::write_at(fd_, from, *offset));
    kept_->forget();
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
  Errno truncate(int64_t size) override {
    const Errno done = host::truncate(fd_, size);
    kept_->forget();
    return done;
  }
  Errno allocate(int mode, int64_t offset, int64_t length) override {
    const Errno done = host::allocate(fd_, mode, offset, length);
    kept_->forget();
    return done;
  }
  Errno sync() override { return host::sync(fd_); }
  ErrnoOr<int> host_descriptor() override {
    if (writable()) kept_->stop();
    return fd_.raw();
  }

 private:
  std::shared_ptr<HostFs> fs_;
  Charge descriptor_;
  sys::Fd fd_;
  std::shared_ptr<KeptStat> kept_;
};

class HostInode final : public Inode {
 public:
  /// `identity`: null for what no two names lead to that matter (directories, links).
  HostInode(std::shared_ptr<HostFs> fs, uint64_t handle, uint32_t type, bool keeps,
            std::shared_ptr<FileIdentity> identity)
      : fs_(std::move(fs)),
        identity_(std::move(identity)),
        handle_(handle),
        type_(type),
        exclusive_(keeps),
        kept_(std::make_shared<KeptStat>(keeps)) {}
  ~HostInode() override {
    using When = host::Broker::When;
    if (handle_ != host::Broker::kRoot)
      fs_->broker().forget(handle_, nameless_.load() ? When::kNow : When::kLater);
  }

  FileIdentity& identity() override { return identity_ ? *identity_ : Inode::identity(); }
  uint32_t type() const override { return type_; }
  ErrnoOr<Stat> stat() override {
    return kept_->get(fs_->changes, [&]() -> ErrnoOr<Stat> {
      const Stat stat = GUEST_TRY(fs_->broker().stat(handle_));
      return fs_->shown(stat);
    });
  }
  ErrnoOr<Stat> stat_as_found() override {
    // A program that writes to it through its memory has it asked for from then on.
    if (believed_ns() != 0 && !kept_->keeps()) return stat();
    return kept_->as_found(fs_->changes, [&] { return stat(); });
  }
  int64_t believed_ns() const override { return exclusive_ ? HostFs::kBelievedNs : 0; }
  void distrust() override { fs_->changes.fetch_add(1); }
  void found(const host::Broker::Found& said, uint64_t generation, uint64_t changes) {
    kept_->found(fs_->shown(said.stat), generation, changes, said.order);
  }
  Errno set_attributes(const SetAttributes& change) override {
    GUEST_TRY(fs_->may_change());
    const Errno done = change_attributes(change);
    kept_->forget();
    return done;
  }
  Errno change_attributes(const SetAttributes& change) {
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
    const Errno done = host::truncate(fd, size);
    kept_->forget();
    return done;
  }
  ErrnoOr<StatfsBuffer> statfs() override { return fs_->broker().statfs(handle_); }

  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override {
    if (!S_ISREG(type_) && !S_ISDIR(type_)) return open_special(*this, std::move(path), flags);
    if ((flags & O_ACCMODE) != O_RDONLY) GUEST_TRY(fs_->may_change());
    // The host keeps O_SYNC and O_DSYNC: each write is on the disk before it is answered.
    constexpr int kHosts = O_ACCMODE | O_DIRECTORY | O_NOATIME | O_SYNC | O_DSYNC;
    ErrnoOr<sys::Fd> opened = fs_->broker().open(handle_, flags & kHosts);
    // What can only be appended to (FS_APPEND_FL) is opened in no other way.
    if (opened.error().value() == EPERM && (flags & O_APPEND) != 0)
      opened = fs_->broker().open(handle_, flags & (kHosts | O_APPEND));
    sys::Fd fd = GUEST_TRY(std::move(opened));
    auto file = std::make_shared<HostFile>(std::move(path), shared_from_this(), flags, fs_,
                                           std::move(fd), kept_);
    if (!file->charge()) return Errno(ENFILE);
    return FilePtr(std::move(file));
  }
  ErrnoOr<std::string> readlink() override {
    if (!S_ISLNK(type_)) return Errno(EINVAL);
    return fs_->broker().readlink(handle_);
  }
  ErrnoOr<InodePtr> lookup(std::string_view name) override {
    return adopt(fs_->broker().lookup(handle_, name));
  }
  ErrnoOr<InodePtr> lookup_again(std::string_view name, const InodePtr& known) override {
    auto* same = dynamic_cast<HostInode*>(known.get());
    if (same == nullptr || same->fs_ != fs_) return lookup(name);
    const uint64_t generation = same->kept_->generation();
    const uint64_t changes = fs_->changes.load();
    const host::Broker::Found found = GUEST_TRY(fs_->broker().lookup(handle_, name, same->handle_));
    if (found.handle != same->handle_) return fs_->adopt(found);
    same->found(found, generation, changes);
    return known;
  }
  ErrnoOr<std::vector<DirEntry>> list() override { return Errno(EINVAL); }  // through the file
  ErrnoOr<InodePtr> make(std::string_view name, const NewNode& node) override {
    GUEST_TRY(fs_->may_change());
    const Changing here(*kept_);
    const uint32_t uid = fs_->host_uid(node.uid);
    const uint32_t gid = fs_->host_gid(node.gid);
    if (S_ISDIR(node.mode))
      return adopt(fs_->broker().make_dir(handle_, name, node.mode, uid, gid));
    if (!S_ISREG(node.mode))
      return adopt(fs_->broker().make_node(handle_, name, node.mode, 0, uid, gid));
    host::Broker::Created made =
        GUEST_TRY(fs_->broker().create(handle_, name, O_RDWR, node.mode, uid, gid));
    return fs_->adopt({made.handle, made.stat, made.mount});
  }
  ErrnoOr<InodePtr> make_unnamed(const NewNode& node, bool linkable) override {
    GUEST_TRY(fs_->may_change());
    host::Broker::Created made =
        GUEST_TRY(fs_->broker().create(handle_, "", linkable ? O_RDWR : O_RDWR | O_EXCL, node.mode,
                                       fs_->host_uid(node.uid), fs_->host_gid(node.gid)));
    InodePtr inode = fs_->adopt({made.handle, made.stat, made.mount});
    dynamic_cast<HostInode&>(*inode).nameless_.store(true);
    return inode;
  }
  ErrnoOr<InodePtr> symlink(std::string_view name, std::string_view target,
                            const NewNode& owner) override {
    GUEST_TRY(fs_->may_change());
    const Changing here(*kept_);
    return adopt(fs_->broker().symlink(handle_, name, target, fs_->host_uid(owner.uid),
                                       fs_->host_gid(owner.gid)));
  }
  Errno link(std::string_view name, Inode& target) override {
    GUEST_TRY(fs_->may_change());
    auto* other = dynamic_cast<HostInode*>(&target);
    if (other == nullptr || other->fs_ != fs_) return Errno(EXDEV);
    const Changing here(*kept_);
    const Changing there(*other->kept_);
    return fs_->broker().link(other->handle_, handle_, name);
  }
  ErrnoOr<std::string> get_attribute(const std::string& name) override {
    return fs_->broker().get_attribute(handle_, name);
  }
  Errno set_attribute(const std::string& name, std::string_view value,
                      AttributeMode mode) override {
    GUEST_TRY(fs_->may_change());
    const Changing here(*kept_);
    return fs_->broker().set_attribute(handle_, name, value, static_cast<int>(mode));
  }
  ErrnoOr<std::vector<std::string>> list_attributes() override {
    std::vector<std::string> out;
    const ErrnoOr<std::string> all = fs_->broker().list_attributes(handle_);
    if (!all.ok())
      return all.error().value() == EOPNOTSUPP ? ErrnoOr<std::vector<std::string>>(out)
                                               : all.error();
    for (const std::string_view name : split(all.value(), '\0'))
      if (name.starts_with("user.") || name == "security.capability") out.emplace_back(name);
    return out;
  }
  Errno remove_attribute(const std::string& name) override {
    GUEST_TRY(fs_->may_change());
    const Changing here(*kept_);
    return fs_->broker().remove_attribute(handle_, name);
  }
  Errno unlink(std::string_view name, Inode& target) override {
    GUEST_TRY(fs_->may_change());
    return remove(name, target, 0);
  }
  Errno remove_dir(std::string_view name, Inode& target) override {
    GUEST_TRY(fs_->may_change());
    return remove(name, target, AT_REMOVEDIR);
  }
  std::mutex* renames() override { return &fs_->renames; }
  Errno rename(std::string_view name, Inode& to, std::string_view new_name, int flags) override {
    GUEST_TRY(fs_->may_change());
    auto* other = dynamic_cast<HostInode*>(&to);
    if (other == nullptr || other->fs_ != fs_) return Errno(EXDEV);
    const Errno done = fs_->broker().rename(handle_, name, other->handle_, new_name, flags);
    fs_->changes.fetch_add(1);  // both directories, what moved and what it replaced
    return done;
  }

 private:
  /// Forgets what was known once a change is over, however it ended.
  class Changing {
   public:
    explicit Changing(KeptStat& kept) : kept_(kept) {}
    Changing(const Changing&) = delete;
    Changing& operator=(const Changing&) = delete;
    ~Changing() { kept_.forget(); }

   private:
    KeptStat& kept_;
  };
  Errno remove(std::string_view name, Inode& target, int flags) {
    const Errno done = fs_->broker().unlink(handle_, name, flags);
    kept_->forget();
    if (auto* other = dynamic_cast<HostInode*>(&target)) {
      other->kept_->forget();
      if (done.ok()) other->nameless_.store(true);
    }
    return done;
  }
  ErrnoOr<InodePtr> adopt(ErrnoOr<host::Broker::Found> found) {
    if (!found.ok()) return found.error();
    return fs_->adopt(found.value());
  }
  std::shared_ptr<HostFs> fs_;
  std::shared_ptr<FileIdentity> identity_;
  uint64_t handle_;
  uint32_t type_;
  bool exclusive_;
  std::atomic<bool> nameless_{false};  // perhaps
  std::shared_ptr<KeptStat> kept_;
};

}  // namespace

std::shared_ptr<FileIdentity> HostFiles::find(const Stat& of) {
  const Key key{of.dev, of.ino};
  std::lock_guard lock(mutex_);
  std::weak_ptr<FileIdentity>& known = known_[key];
  std::shared_ptr<FileIdentity> out = known.lock();
  if (!out) {
    out = {new FileIdentity, [all = shared_from_this(), key](FileIdentity* gone) {
             delete gone;
             all->release(key);
           }};
    known = out;
  }
  return out;
}

void HostFiles::release(const Key& key) {
  std::lock_guard lock(mutex_);
  const auto found = known_.find(key);
  // Somebody may have come for it again meanwhile.
  if (found != known_.end() && found->second.expired()) known_.erase(found);
}

ErrnoOr<InodePtr> HostFs::root() {
  const host::Broker::Found found = GUEST_TRY(broker_->find_root());
  own_mount_ = found.mount;
  return adopt(found);
}

InodePtr HostFs::adopt(const host::Broker::Found& found) {
  const bool keeps =
      sharing_ == Sharing::kExclusive && own_mount_ != 0 && found.mount == own_mount_;
  const uint32_t type = found.stat.mode & S_IFMT;
  auto identity = S_ISDIR(type) || S_ISLNK(type) ? nullptr : files_->find(found.stat);
  auto inode = std::make_shared<HostInode>(shared_from_this(), found.handle, type, keeps,
                                           std::move(identity));
  inode->found(found, 0, changes.load());
  return inode;
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
