#include "guest/fs/memfs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>

#include "guest/fs/attributes.h"
#include "guest/fs/charged_memory.h"
#include "guest/fs/special.h"
#include "sys/fd.h"

namespace fluyt::guest {
namespace {

constexpr int64_t kTmpfsMagic = 0x01021994;

/// What the nodes of one mount share.
struct Mount {
  uint64_t device = 0;
  std::atomic<uint64_t> next_ino{1};
  std::shared_ptr<Quota> bytes;
  std::shared_ptr<Quota> sandbox;  // what nodes and attributes take of us counts here alone
  std::shared_ptr<Quota> inodes;
  std::shared_ptr<Quota> descriptors;  // null: as many as there are
  /// One lock for names and attributes of the whole mount: all of it is short.
  std::mutex mutex;
  std::mutex renames;
};

class MemInode;

class MemFile final : public File {
 public:
  MemFile(DentryPtr path, InodePtr inode, int flags, ChargedMemory* data, MemInode& node)
      : File(std::move(path), std::move(inode), flags), data_(data), node_(node) {}
  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t* offset) override;
  ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from, int64_t* offset) override;
  bool seekable() const override { return true; }
  ErrnoOr<int64_t> seek(int64_t offset, int whence) override;
  ErrnoOr<std::vector<DirEntry>> list() override { return inode()->list(); }
  Errno truncate(int64_t size) override { return inode()->truncate(size); }
  Errno allocate(int mode, int64_t offset, int64_t length) override {
    if (data_ == nullptr) return Errno(EISDIR);
    return data_->allocate(mode, offset, length);
  }
  ErrnoOr<int> host_descriptor() override {
    if (data_ == nullptr) return Errno(ENODEV);
    return data_->map();
  }
  /// What a memfd that cannot be sealed says.
  ErrnoOr<uint32_t> seals() override { return data_ == nullptr ? Errno(EINVAL) : SealsOr(1U); }
  Errno add_seals(uint32_t) override { return Errno(data_ == nullptr ? EINVAL : EPERM); }

 private:
  using SealsOr = ErrnoOr<uint32_t>;
  ChargedMemory* data_;  // the node's; null: a directory
  MemInode& node_;
};

class MemInode final : public Inode {
 public:
  MemInode(std::shared_ptr<Mount> mount, const NewNode& node)
      : mount_(std::move(mount)), number_(mount_->inodes), own_bytes_(mount_->sandbox) {
    stat_.dev = mount_->device;
    stat_.ino = mount_->next_ino.fetch_add(1);
    stat_.mode = node.mode;
    stat_.uid = node.uid;
    stat_.gid = node.gid;
    stat_.rdev = node.device;
    stat_.nlink = S_ISDIR(node.mode) ? 2 : 1;
    stat_.accessed = stat_.modified = stat_.changed = now();
  }

  ~MemInode() override {
    // One after the other: folders lie as deep within each other as a program likes.
    std::vector<std::shared_ptr<MemInode>> todo;
    const auto take = [&todo](MemInode& from) {
      for (auto& [name, child] : from.children_) todo.push_back(std::move(child));
      from.children_.clear();
    };
    for (take(*this); !todo.empty();) {
      const std::shared_ptr<MemInode> at = std::move(todo.back());
      todo.pop_back();
      if (at.use_count() == 1) take(*at);
    }
  }
  MemInode(const MemInode&) = delete;
  MemInode& operator=(const MemInode&) = delete;

  /// ENOSPC: there is no room for one more.
  Errno prepare(size_t target = 0) {
    if (!number_.set(1) || !own_bytes_.set(kNodeBytes + target)) return Errno(ENOSPC);
    if (!S_ISREG(stat_.mode)) return kOk;
    auto data = ChargedMemory::create("guest-file", {mount_->bytes, mount_->descriptors});
    if (!data.ok()) return data.error().value() == ENFILE ? Errno(ENOSPC) : data.error();
    data_ = std::move(data).value();
    return kOk;
  }

  uint32_t type() const override { return stat_.mode & S_IFMT; }
  ErrnoOr<Stat> stat() override {
    std::lock_guard lock(mount_->mutex);
    Stat out = stat_;
    if (data_) {
      const Stat bytes = GUEST_TRY(data_->stat());
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
    apply(change, stat_);
    return kOk;
  }
  void touch() {
    std::lock_guard lock(mount_->mutex);
    stat_.modified = stat_.changed = now();
  }
  void written_by(const Credentials& who) override {
    std::lock_guard lock(mount_->mutex);
    lose_rights(who);
  }
  /// For every write(2): touch() and written_by() at once.
  void was_written(const Credentials& who) {
    std::lock_guard lock(mount_->mutex);
    stat_.modified = stat_.changed = now();
    lose_rights(who);
  }
  /// Whoever appends knows where the end is.
  std::mutex& appending() { return appending_; }
  Errno truncate(int64_t size) override {
    if (!data_) return Errno(S_ISDIR(type()) ? EISDIR : EINVAL);
    GUEST_TRY(data_->truncate(size));
    touch();
    return kOk;
  }
  ErrnoOr<StatfsBuffer> statfs() override {
    StatfsBuffer out;
    out.type = kTmpfsMagic;
    out.block_size = out.fragment_size = 4096;
    out.name_length = 255;
    // Unlimited is told as nothing, as Linux does.
    if (mount_->bytes->limit() != Quota::kUnlimited) {
      out.blocks = mount_->bytes->limit() / 4096;
      out.blocks_free = out.blocks_available = mount_->bytes->left() / 4096;
    }
    if (mount_->inodes->limit() != Quota::kUnlimited) {
      out.files = mount_->inodes->limit();
      out.files_free = mount_->inodes->left();
    }
    return out;
  }
  Mount& mount() { return *mount_; }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override {
    if (!S_ISREG(type()) && !S_ISDIR(type())) return open_special(*this, std::move(path), flags);
    return FilePtr(
        std::make_shared<MemFile>(std::move(path), shared_from_this(), flags, data_.get(), *this));
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
    GUEST_TRY(made->prepare(target.size()));
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
    if (bytes > kMaxAttributes || !attribute_bytes_.set(bytes)) return Errno(ENOSPC);
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
      // Each name of a file counts as one.
      if (!other->number_.set(other->stat_.nlink + 1)) return Errno(ENOSPC);
    }
    const Errno added = add(name, std::static_pointer_cast<MemInode>(other->shared_from_this()));
    std::lock_guard lock(mount_->mutex);
    if (!added.ok()) {
      other->count_names();
      return added;
    }
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
    found->second->count_names();
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
  std::mutex* renames() override { return &mount_->renames; }
  Errno rename(std::string_view name, Inode& to, std::string_view new_name, int flags) override {
    auto* other = dynamic_cast<MemInode*>(&to);
    if (other == nullptr || other->mount_ != mount_) return Errno(EXDEV);
    if (other == this && name == new_name) return kOk;
    std::lock_guard lock(mount_->mutex);
    // Nothing gets into what is removed; nothing is left there to come from.
    if (other->stat_.nlink == 0) return Errno(ENOENT);
    const auto found = children_.find(name);
    if (found == children_.end()) return Errno(ENOENT);
    const std::shared_ptr<MemInode> moved = found->second;
    const auto there = other->children_.find(new_name);
    if ((flags & 2) != 0) {  // RENAME_EXCHANGE
      if (there == other->children_.end()) return Errno(ENOENT);
      const int dirs = S_ISDIR(there->second->stat_.mode) - S_ISDIR(moved->stat_.mode);
      // Folders that come count as ".." of each.
      stat_.nlink = static_cast<uint64_t>(static_cast<int64_t>(stat_.nlink) + dirs);
      other->stat_.nlink = static_cast<uint64_t>(static_cast<int64_t>(other->stat_.nlink) - dirs);
      moved->stat_.changed = there->second->stat_.changed = now();
      stat_.modified = stat_.changed = other->stat_.modified = other->stat_.changed = now();
      std::swap(found->second, there->second);
      return kOk;
    }
    if (there != other->children_.end()) {
      if (!there->second->children_.empty()) return Errno(ENOTEMPTY);
      if (S_ISDIR(there->second->stat_.mode)) {
        --other->stat_.nlink;
        there->second->stat_.nlink = 0;
      } else {
        --there->second->stat_.nlink;
      }
      there->second->count_names();
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
  // Under the mount's lock.
  void lose_rights(const Credentials& who) {
    constexpr uint32_t kRunsAsGroup = S_ISGID | S_IXGRP;
    if (!S_ISREG(stat_.mode)) return;
    if (!attributes_.empty()) attributes_.erase("security.capability");
    uint32_t lost = stat_.mode & S_ISUID;
    if ((stat_.mode & kRunsAsGroup) == kRunsAsGroup) lost |= S_ISGID;
    if (lost != 0 && !who.can_over(kCapFsetid, stat_.uid, stat_.gid)) stat_.mode &= ~lost;
  }
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

  /// Under the mount's lock.
  void count_names() {
    (void)number_.set(S_ISDIR(stat_.mode) ? 1 : std::max<uint64_t>(stat_.nlink, 1));
  }

  std::shared_ptr<Mount> mount_;
  std::mutex appending_;
  Stat stat_;
  static constexpr size_t kNodeBytes = 1024;  // about what a node and its name take of us
  Charge number_;
  Charge own_bytes_;
  Charge attribute_bytes_{mount_->sandbox};
  std::unique_ptr<ChargedMemory> data_;
  std::string target_;
  bool linkable_ = false;                                      // though it has no name
  static constexpr size_t kMaxAttributes = size_t{128} << 10;  // names and values of one file
  std::map<std::string, std::string> attributes_;
  std::map<std::string, std::shared_ptr<MemInode>, std::less<>> children_;
};

ErrnoOr<size_t> MemFile::read(Caller& /*caller*/, std::span<std::byte> to, int64_t* offset) {
  if (data_ == nullptr) return Errno(EISDIR);
  const size_t done = GUEST_TRY(data_->read(to, *offset));
  *offset += static_cast<int64_t>(done);
  return done;
}

ErrnoOr<size_t> MemFile::write(Caller& caller, std::span<const std::byte> from, int64_t* offset) {
  if (data_ == nullptr) return Errno(EISDIR);
  std::unique_lock<std::mutex> end;
  if (appending()) {
    end = std::unique_lock(node_.appending());
    const Stat stat = GUEST_TRY(data_->stat());
    *offset = stat.size;
  }
  const size_t done = GUEST_TRY(data_->write(from, *offset));
  *offset += static_cast<int64_t>(done);
  node_.was_written(caller.credentials);
  return done;
}

ErrnoOr<int64_t> MemFile::seek(int64_t offset, int whence) {
  if (data_ == nullptr) return seek_within(offset, whence, 0);
  if (whence == SEEK_DATA || whence == SEEK_HOLE) {
    position = GUEST_TRY(data_->seek(offset, whence));
    return position;
  }
  const Stat stat = GUEST_TRY(data_->stat());
  return seek_within(offset, whence, stat.size);
}

}  // namespace

namespace {

/// "12", "12k", "50%" of the double of `half`.
Errno read_size(std::string_view text, uint64_t half, uint64_t& out) {
  uint64_t value = 0;
  size_t at = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at)
    if (__builtin_mul_overflow(value, uint64_t{10}, &value) ||
        __builtin_add_overflow(value, static_cast<uint64_t>(text[at] - '0'), &value))
      return Errno(EINVAL);
  if (at == 0 || text.size() - at > 1) return Errno(EINVAL);
  int shift = 0;
  switch (at < text.size() ? text[at] : 0) {
    case 0:
      break;
    case '%':
      out = value > 100'000 ? Quota::kUnlimited : half / 50 * value;
      return kOk;
    case 'k':
    case 'K':
      shift = 10;
      break;
    case 'm':
    case 'M':
      shift = 20;
      break;
    case 'g':
    case 'G':
      shift = 30;
      break;
    case 't':
    case 'T':
      shift = 40;
      break;
    default:
      return Errno(EINVAL);
  }
  if (value > Quota::kUnlimited >> shift) return Errno(EINVAL);
  out = value << shift;
  return kOk;
}

Errno read_number(std::string_view text, unsigned base, uint64_t most, uint32_t& out) {
  uint64_t value = 0;
  if (text.empty()) return Errno(EINVAL);
  for (const char digit : text) {
    if (digit < '0' || digit >= static_cast<char>('0' + base)) return Errno(EINVAL);
    value = value * base + static_cast<unsigned>(digit - '0');
    if (value > most) return Errno(EINVAL);
  }
  out = static_cast<uint32_t>(value);
  return kOk;
}

uint64_t page_up(uint64_t bytes) {
  return bytes > Quota::kUnlimited - 4095 ? bytes : (bytes + 4095) & ~uint64_t{4095};
}

}  // namespace

Errno read_memfs_options(std::string_view text, uint64_t half, MemfsRequest& request) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view option = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t equals = option.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = option.substr(0, equals);
    const std::string_view value = option.substr(equals + 1);
    // 0 is no limit.
    const auto limit = [](uint64_t read) { return read == 0 ? Quota::kUnlimited : read; };
    uint64_t size = 0;
    if (name == "size") {
      GUEST_TRY(read_size(value, half, size));
      request.size = limit(page_up(size));
    } else if (name == "nr_blocks") {
      GUEST_TRY(read_size(value, half, size));
      if (size > Quota::kUnlimited / 4096) return Errno(EINVAL);
      request.size = limit(size * 4096);
    } else if (name == "nr_inodes") {
      GUEST_TRY(read_size(value, half, size));
      request.inodes = limit(size);
    } else if (name == "mode") {
      GUEST_TRY(read_number(value, 8, 07777, request.root_mode));
    } else if (name == "uid") {
      GUEST_TRY(read_number(value, 10, UINT32_MAX - 1, request.uid));
    } else if (name == "gid") {
      GUEST_TRY(read_number(value, 10, UINT32_MAX - 1, request.gid));
    }
  }
  return kOk;
}

InodePtr make_memfs(const MemfsRequest& request) {
  static std::atomic<uint32_t> next_device{20};
  auto mount = std::make_shared<Mount>();
  mount->device = make_device(0, next_device.fetch_add(1));
  mount->bytes = std::make_shared<Quota>(request.size, request.within);
  mount->sandbox = request.within;
  mount->inodes = std::make_shared<Quota>(request.inodes);
  mount->descriptors = request.descriptors;
  auto root = std::make_shared<MemInode>(
      std::move(mount),
      NewNode{S_IFDIR | (request.root_mode & 07777), 0, request.uid, request.gid});
  // The root is there even where there is room for nothing.
  root->prepare().ignore("a directory has no data");
  return root;
}

Errno limit_memfs(Inode& root, std::string_view options, uint64_t half) {
  auto* node = dynamic_cast<MemInode*>(&root);
  if (node == nullptr) return Errno(EINVAL);
  Mount& mount = node->mount();
  MemfsRequest request;
  request.size = mount.bytes->limit();
  request.inodes = mount.inodes->limit();
  GUEST_TRY(read_memfs_options(options, half, request));
  if (request.size < mount.bytes->used() || request.inodes < mount.inodes->used())
    return Errno(EINVAL);
  mount.bytes->set_limit(request.size);
  mount.inodes->set_limit(request.inodes);
  return kOk;
}

}  // namespace fluyt::guest
