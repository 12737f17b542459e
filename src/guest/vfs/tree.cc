#include "guest/vfs/tree.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

namespace fluyt::guest {
namespace {
constexpr int kMaxLinks = 40;
constexpr int kMaxTries = 3;  // of opening or making a file that others make and remove
constexpr size_t kMaxName = 255;
constexpr size_t kMaxPath = 4096;
constexpr size_t kMaxChildren = 4096;  // cached names a directory
// So many more names, and those that nobody uses are dropped: a program may ask for any number.
constexpr size_t kMaxRemembered = 16384;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// What lies at and below a name goes to `parts`. The names of mounts stay: what they covered is
/// nobody's to see now (mount_namespaces(7)).
void take_apart(Dentry& at, std::vector<DentryPtr>& parts) {
  at.no_cache = true;
  std::set<std::string, std::less<>> masked;
  for (auto& [name, child] : at.children) {
    if (child->pinned) masked.insert(name);
    parts.push_back(std::move(child));
  }
  at.children.clear();
  if (!masked.empty()) {
    if (at.masked) masked.insert(at.masked->begin(), at.masked->end());
    at.masked = std::make_shared<const std::set<std::string, std::less<>>>(std::move(masked));
  }
  if (at.covered_by) parts.push_back(std::move(at.covered_by));
}

/// Takes a name and all that lies below it apart, one after the other: they lie as deep as a
/// program likes. Whoever still has one of them goes on without its being remembered.
void take_apart(DentryPtr gone) {
  std::vector<DentryPtr> todo{std::move(gone)};
  while (!todo.empty()) {
    const DentryPtr at = std::move(todo.back());
    todo.pop_back();
    take_apart(*at, todo);
  }
}
}  // namespace

Errno may_access(const Credentials& who, const Stat& stat, int want) {
  const uint32_t mode = stat.mode;
  uint32_t have = mode & 7;
  if (who.fsuid == stat.uid)
    have = mode >> 6 & 7;
  else if (who.in_group(stat.gid))
    have = mode >> 3 & 7;
  if ((static_cast<uint32_t>(want) & ~have) == 0) return kOk;
  const bool dir = S_ISDIR(mode);
  if (who.can_over(kCapDacOverride, stat.uid, stat.gid) &&
      (dir || (want & 1) == 0 || (mode & 0111) != 0))
    return kOk;
  if (who.can_over(kCapDacReadSearch, stat.uid, stat.gid) &&
      (want == 4 || (dir && (want & 2) == 0)))
    return kOk;
  return Errno(EACCES);
}

Dentry::Dentry(DentryPtr up, std::string called, InodePtr what)
    : parent(std::move(up)), name(std::move(called)), inode(std::move(what)), seen_ns(now_ns()) {}

Dentry::~Dentry() {
  if (tell_at_end) tell_at_end->tell_gone(*inode);
  // Those above it and over it that it alone still held, one after the other and not one within
  // the other. Nothing is taken from one that somebody could still find by `below`.
  thread_local std::vector<DentryPtr>* later = nullptr;
  std::vector<DentryPtr> own;
  std::vector<DentryPtr>& todo = later != nullptr ? *later : own;
  for (DentryPtr* held : {&parent, &covered_by})
    if (*held && held->use_count() == 1) todo.push_back(std::move(*held));
  if (later != nullptr || own.empty()) return;
  later = &own;
  while (!own.empty()) {
    const DentryPtr next = std::move(own.back());
    own.pop_back();
  }
  later = nullptr;
}

Tree::Tree(InodePtr root, std::string file_system)
    : root_(std::make_shared<Dentry>(nullptr, "/", std::move(root))) {
  root_->file_system = std::move(file_system);
  add_mount(root_, std::make_shared<MountCount>());
}

Tree::~Tree() { take_apart(root_); }

void Tree::distrust(const DentryPtr& root) {
  std::lock_guard lock(mutex_);
  distrusted_ns_ = now_ns();
  root->inode->distrust();
}

DentryPtr Tree::top(DentryPtr at) {
  while (at->covered_by) at = at->covered_by;
  return at;
}

DentryPtr Tree::up(const DentryPtr& at, const DentryPtr& root) {
  DentryPtr here = at;
  for (;;) {
    if (here == root) return here;
    if (here->parent) return here->parent;
    DentryPtr below = here->below.lock();
    if (!below) return here;
    here = std::move(below);
  }
}

namespace {

// Under the tree's lock: names move.
const Dentry* mount_root(const Dentry& at) {
  const Dentry* here = &at;
  while (here->parent) here = here->parent.get();
  return here;
}

bool is_on_read_only_mount(const Dentry& at) { return mount_root(at)->read_only; }

bool has_option(std::string_view options, std::string_view option) {
  for (size_t begin = 0; begin < options.size();) {
    const size_t end = std::min(options.find(',', begin), options.size());
    if (options.substr(begin, end - begin) == option) return true;
    begin = end + 1;
  }
  return false;
}

bool mount_has_option(const Dentry& at, std::string_view option) {
  return has_option(mount_root(at)->options, option);
}

/// openat2(2): from one mount to another.
Errno may_cross(const WalkFrom& from, const DentryPtr& at, const DentryPtr& to) {
  if ((from.resolve & kResolveNoXdev) == 0 || mount_root(*at) == mount_root(*to)) return kOk;
  return Errno(EXDEV);
}
/// By a magic link.
Errno may_jump(const WalkFrom& from, const DentryPtr& at, const DentryPtr& to) {
  if ((from.resolve & kResolveNoMagicLinks) != 0) return Errno(ELOOP);
  if ((from.resolve & (kResolveBeneath | kResolveInRoot)) != 0) return Errno(EXDEV);
  return may_cross(from, at, to);
}

}  // namespace

bool Tree::is_read_only(const DentryPtr& at) {
  std::lock_guard lock(mutex_);
  return is_on_read_only_mount(*at);
}

bool Tree::has_mount_option(const DentryPtr& at, std::string_view option) {
  std::lock_guard lock(mutex_);
  return mount_has_option(*at, option);
}

namespace {
bool lies_in(const DentryPtr& mount, const DentryPtr& root) {
  const Dentry* here = mount.get();
  DentryPtr held;
  while (here != nullptr && here != root.get()) {
    if (here->parent) {
      here = here->parent.get();
      continue;
    }
    held = here->below.lock();
    here = held.get();
  }
  return here != nullptr;
}

/// The mounts at and below a place, for who asks of all there are: those of other namespaces cost
/// next to nothing, and where it is a namespace's root its own do not either.
class MountsBelow {
 public:
  explicit MountsBelow(const DentryPtr& place)
      : place_(place),
        count_(mount_root(*place)->counted_in.get()),
        all_(!place->parent && !place->below.lock()) {}
  bool has(const DentryPtr& mount) const {
    if (count_ == nullptr || mount->counted_in.get() != count_) return false;
    if (all_) return mount == place_ || !mount->below.expired();
    return lies_in(mount, place_);
  }

 private:
  const DentryPtr& place_;
  const MountCount* count_;
  bool all_;
};
}  // namespace

/// Whether so many more mounts may come into the namespace that a place is in.
Errno Tree::may_add(const DentryPtr& place, size_t more) const {
  const std::shared_ptr<MountCount>& count = mount_root(*place)->counted_in;
  if (!count) return Errno(EINVAL);
  const bool fits = count->mounts + more <= kMaxMounts &&
                    (!count->is_copy || mounts_.size() + more <= kMaxMountsOfAll);
  return fits ? kOk : Errno(ENOSPC);
}

void Tree::add_mount(DentryPtr mounted, std::shared_ptr<MountCount> count) {
  ++count->mounts;
  mounted->counted_in = std::move(count);
  mounts_.push_back(std::move(mounted));
}

template <typename Gone>
void Tree::forget_mounts(Gone gone) {
  std::vector<DentryPtr> out;
  std::erase_if(mounts_, [&](const DentryPtr& mount) {
    if (!gone(mount)) return false;
    out.push_back(mount);
    return true;
  });
  for (const DentryPtr& mount : out) {
    --mount->counted_in->mounts;
    mount->counted_in.reset();
  }
}

/// Made and ended with the lock held.
class Tree::Names {
 public:
  Names(Guard& guard, DentryPtr dir) : dir_(std::move(dir)) {
    // Whoever has them takes the lock again and again.
    guard.unlock();
    held_ = std::unique_lock(dir_->asking);
    guard.lock();
  }
  /// Of two, or of one twice, for who renames.
  Names(Guard& guard, DentryPtr dir, DentryPtr other)
      : dir_(std::move(dir)), other_(std::move(other)) {
    guard.unlock();
    if (std::mutex* renames = dir_->inode->renames()) renames_ = std::unique_lock(*renames);
    held_ = std::unique_lock(dir_->asking, std::defer_lock);
    if (other_ == dir_) {
      held_.lock();
    } else {
      held_too_ = std::unique_lock(other_->asking, std::defer_lock);
      std::lock(held_, held_too_);
    }
    guard.lock();
  }
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;

 private:
  const DentryPtr dir_;
  const DentryPtr other_;
  std::unique_lock<std::mutex> renames_;
  std::unique_lock<std::mutex> held_;
  std::unique_lock<std::mutex> held_too_;
};

ErrnoOr<DentryPtr> Tree::hold_place(Guard& guard, const DentryPtr& at,
                                    std::optional<Names>& names) {
  for (;;) {
    DentryPtr place = top(at);
    // The root of a mount goes nowhere without it.
    const DentryPtr dir = place->parent;
    if (dir) names.emplace(guard, dir);
    // Before they were ours, somebody may have mounted there, or moved it.
    if (top(at) == place && place->parent == dir) {
      if (place->removed) return Errno(ENOENT);
      return place;
    }
    names.reset();
  }
}

void Tree::lock_mounts(const DentryPtr& root) {
  std::lock_guard lock(mutex_);
  const MountsBelow below(root);
  for (const DentryPtr& mount : mounts_)
    if (below.has(mount)) mount->locked = true;
}

namespace {
/// From now on the same is to be seen elsewhere too.
void share_names(const DentryPtr& dir) {
  std::vector<DentryPtr> todo{dir};
  while (!todo.empty()) {
    const DentryPtr at = std::move(todo.back());
    todo.pop_back();
    at->shared = true;
    for (const auto& [name, child] : at->children) todo.push_back(child);
  }
}
}  // namespace

Errno Tree::remount(const DentryPtr& at, std::string options) {
  std::lock_guard lock(mutex_);
  if (!is_mount_root(*at)) return Errno(EINVAL);
  const bool read_only = options == "ro" || options.starts_with("ro,");
  if ((at->locked || at->keeps_restrictions) && at->read_only && !read_only) return Errno(EPERM);
  if (at->keeps_restrictions)
    for (const char* kept : {"nosuid", "nodev", "noexec"})
      if (has_option(at->options, kept) && !has_option(options, kept)) return Errno(EPERM);
  at->read_only = read_only;
  at->options = std::move(options);
  return kOk;
}

Errno Tree::unmount(const DentryPtr& at, bool detach) {
  std::lock_guard lock(mutex_);
  const DentryPtr below = at->below.lock();
  if (!is_mount_root(*at) || !below) return Errno(EINVAL);
  if (at->locked || at->inherited) return Errno(EINVAL);
  // What lies below goes with it: nothing is uncovered.
  const MountsBelow in(at);
  if (!detach && std::any_of(mounts_.begin(), mounts_.end(),
                             [&](const DentryPtr& mount) { return mount != at && in.has(mount); }))
    return Errno(EBUSY);
  forget_mounts([&](const DentryPtr& mount) { return in.has(mount); });
  ++moves_;
  // What was mounted below goes its own way, for those who still have it open.
  take_apart(std::move(below->covered_by));
  return kOk;
}

void Tree::describe_root(const DentryPtr& root, std::string file_system, std::string options) {
  std::lock_guard lock(mutex_);
  root->file_system = std::move(file_system);
  root->read_only = options == "ro" || options.starts_with("ro,");
  root->options = std::move(options);
}

DentryPtr Tree::add_root(InodePtr root, std::string file_system) {
  auto made = std::make_shared<Dentry>(nullptr, "/", std::move(root));
  made->file_system = std::move(file_system);
  std::lock_guard lock(mutex_);
  add_mount(made, std::make_shared<MountCount>());
  return made;
}

namespace {

/// Where a place of one mount namespace lies in a copy of it.
class Copier {
 public:
  /// A place that there is already.
  void know(const DentryPtr& of, DentryPtr copy) { made_.emplace(of.get(), std::move(copy)); }
  DentryPtr find(const DentryPtr& of) {
    // Folders may lie deeper than our stack is.
    std::vector<const Dentry*> missing;
    const Dentry* at = of.get();
    for (; at != nullptr && !made_.contains(at); at = at->parent.get()) missing.push_back(at);
    DentryPtr up = at != nullptr ? made_.at(at) : nullptr;
    for (; !missing.empty(); missing.pop_back()) {
      const Dentry& next = *missing.back();
      auto made = std::make_shared<Dentry>(up, next.name, next.inode);
      made->shared = true;
      made->removed.store(next.removed.load());
      made->pinned = next.pinned;
      made->no_cache = next.no_cache;
      made->masked = next.masked;
      if (up && made->pinned && !up->no_cache) up->children[made->name] = made;
      made_.emplace(&next, made);
      up = std::move(made);
    }
    return up;
  }

 private:
  std::map<const Dentry*, DentryPtr> made_;
};

}  // namespace

namespace {
/// What a mount has besides its place.
void copy_mount(const Dentry& from, Dentry& to) {
  to.file_system = from.file_system;
  to.options = from.options;
  to.read_only = from.read_only;
  to.locked = from.locked;
  to.inherited = from.inherited;
  to.keeps_restrictions = from.keeps_restrictions;
  to.owner = from.owner;
}
}  // namespace

Errno Tree::bind(const DentryPtr& from, const DentryPtr& at, Depth depth) {
  Guard guard(mutex_);
  std::optional<Names> names;
  const DentryPtr place = GUEST_TRY(hold_place(guard, at, names));
  if (from->removed) return Errno(ENOENT);
  if (from->no_cache) return Errno(EINVAL);  // it is in no namespace any more
  if (place->inode->is_dir() != from->inode->is_dir()) return Errno(ENOTDIR);
  std::vector<DentryPtr> below;
  const MountsBelow in(from);
  for (const DentryPtr& mount : mounts_) {
    if (mount == from || !in.has(mount)) continue;
    // What it hides would be seen.
    if (depth == Depth::kAlone && mount->inherited) return Errno(EINVAL);
    if (depth == Depth::kWithAllBelow) below.push_back(mount);
  }
  GUEST_TRY(may_add(place, below.size() + 1));
  share_names(from);
  auto bound = std::make_shared<Dentry>(nullptr, "/", from->inode);
  copy_mount(*mount_root(*from), *bound);
  bound->locked = bound->inherited = false;
  bound->shared = true;
  Copier copier;
  copier.know(from, bound);
  std::vector<DentryPtr> made{bound};
  for (const DentryPtr& mount : below) {
    share_names(mount);
    DentryPtr copied = copier.find(mount);
    copy_mount(*mount, *copied);
    const DentryPtr under = copier.find(mount->below.lock());
    copied->below = under;
    under->covered_by = copied;
    made.push_back(std::move(copied));
  }
  put_on(place, bound);
  const std::shared_ptr<MountCount> count = mount_root(*place)->counted_in;
  for (DentryPtr& mount : made) add_mount(std::move(mount), count);
  return kOk;
}

Errno Tree::pivot(const DentryPtr& root, const DentryPtr& new_root, const DentryPtr& put_old) {
  Guard guard(mutex_);
  std::optional<Names> names;
  const DentryPtr old_place = GUEST_TRY(hold_place(guard, put_old, names));
  if (!new_root->inode->is_dir() || !old_place->inode->is_dir()) return Errno(ENOTDIR);
  if (!lies_in(new_root, root) || !lies_in(old_place, root) || new_root->inherited)
    return Errno(EINVAL);
  if (new_root->removed) return Errno(ENOENT);
  const Dentry* const base = top(root).get();
  if (mount_root(*new_root) == base || mount_root(*old_place) == base) return Errno(EBUSY);
  if (new_root->locked) return Errno(EINVAL);
  // Somebody else was first: it is the root no more.
  if (root->below.lock()) return Errno(EINVAL);
  const DentryPtr under = new_root->below.lock();
  if (!is_mount_root(*new_root) || !under || !lies_in(old_place, new_root)) return Errno(EINVAL);
  // All that was mounted over the root before goes with it.
  under->covered_by.reset();
  new_root->below.reset();
  new_root->locked = std::exchange(root->locked, false);
  new_root->inherited = std::exchange(root->inherited, false);
  put_on(old_place, root);
  return kOk;
}

UserSpacePtr Tree::owner_of(const DentryPtr& at) {
  std::lock_guard lock(mutex_);
  return mount_root(*at)->owner;
}

bool Tree::is_fully_visible(const DentryPtr& root, std::string_view file_system,
                            std::string_view options) {
  std::vector<DentryPtr> seen;
  {
    std::lock_guard lock(mutex_);
    std::set<const Dentry*> hidden;
    const MountsBelow in(root);
    for (const DentryPtr& over : mounts_)
      if (const DentryPtr place = over->inherited && in.has(over) ? over->below.lock() : nullptr)
        hidden.insert(mount_root(*place));
    for (const DentryPtr& mount : mounts_)
      if (mount->file_system == file_system && !hidden.contains(mount.get()) && in.has(mount) &&
          !(mount->keeps_restrictions && mount->read_only && !has_option(options, "ro")))
        seen.push_back(mount);
  }
  return std::any_of(seen.begin(), seen.end(), [](const DentryPtr& mount) {
    // A part of it is not all of it: a file system's root has the number 1.
    const ErrnoOr<Stat> stat = mount->inode->stat();
    return stat.ok() && stat.value().ino == 1;
  });
}

bool Tree::is_root_of(const DentryPtr& place, const DentryPtr& root) {
  std::lock_guard lock(mutex_);
  return place == root || place == top(root);
}

DentryPtr Tree::topmost(const DentryPtr& place) {
  std::lock_guard lock(mutex_);
  return top(place);
}

ErrnoOr<Tree::Copy> Tree::copy(const DentryPtr& root, const std::vector<DentryPtr>& places,
                               CopyFor whom) {
  std::lock_guard lock(mutex_);
  Copier copier;
  std::vector<DentryPtr> made;
  const MountsBelow in(root);
  // Before anything is made: what is mounted and where would hold each other.
  const auto more = static_cast<size_t>(std::count_if(
      mounts_.begin(), mounts_.end(), [&](const DentryPtr& mount) { return in.has(mount); }));
  if (mounts_.size() + more > kMaxMountsOfAll) return Errno(ENOSPC);
  for (const DentryPtr& mount : mounts_) {
    if (!in.has(mount)) continue;
    share_names(mount);
    DentryPtr copied = copier.find(mount);
    copy_mount(*mount, *copied);
    if (whom == CopyFor::kLessPrivileged) {
      copied->keeps_restrictions = true;
      copied->inherited = mount != root;
    }
    if (const DentryPtr below = mount->below.lock(); below && mount != root) {
      const DentryPtr place = copier.find(below);
      copied->below = place;
      place->covered_by = copied;
    }
    made.push_back(std::move(copied));
  }
  Copy out;
  out.root = copier.find(root);
  for (const DentryPtr& place : places) out.places.push_back(copier.find(place));
  const auto count = std::make_shared<MountCount>();
  count->is_copy = true;
  for (DentryPtr& mount : made) add_mount(std::move(mount), count);
  return out;
}

void Tree::drop(DentryPtr root) {
  std::lock_guard lock(dropped_mutex_);
  dropped_.push_back(std::move(root));
  has_dropped_.store(true);
}

void Tree::sweep() {
  if (!has_dropped_.load()) return;
  std::vector<DentryPtr> gone;
  {
    std::lock_guard lock(dropped_mutex_);
    gone.swap(dropped_);
    has_dropped_.store(false);
  }
  {
    std::lock_guard lock(mutex_);
    std::set<const MountCount*> counts;
    for (const DentryPtr& root : gone)
      if (root->counted_in) counts.insert(root->counted_in.get());
    forget_mounts([&](const DentryPtr& mount) { return counts.contains(mount->counted_in.get()); });
    // Whoever still has a place in it finds nothing beside it.
    for (size_t i = 0; i < gone.size(); ++i) {
      const DentryPtr at = gone[i];
      take_apart(*at, gone);
    }
  }
  // The last of a file that is gone tells who watches it, without the lock.
}

Errno Tree::mount(const DentryPtr& at, InodePtr root, std::string file_system, std::string options,
                  UserSpacePtr owner) {
  Guard guard(mutex_);
  std::optional<Names> names;
  const DentryPtr place = GUEST_TRY(hold_place(guard, at, names));
  GUEST_TRY(may_add(place, 1));
  if (place->inode->is_dir() != root->is_dir()) return Errno(ENOTDIR);
  auto mounted = std::make_shared<Dentry>(nullptr, "/", std::move(root));
  mounted->file_system = std::move(file_system);
  mounted->read_only = options == "ro" || options.starts_with("ro,");
  mounted->options = std::move(options);
  mounted->owner = std::move(owner);
  put_on(place, mounted);
  add_mount(std::move(mounted), mount_root(*place)->counted_in);
  return kOk;
}

void Tree::put_on(const DentryPtr& place, const DentryPtr& mounted) {
  ++moves_;
  mounted->below = place;
  place->covered_by = mounted;
  for (DentryPtr here = place; here->parent; here = here->parent) {
    here->pinned = true;
    here->parent->children[here->name] = here;
  }
}

namespace {
/// What a file system says, with the lock let go.
template <class Ask>
auto without(std::unique_lock<std::mutex>& guard, Ask ask) {
  guard.unlock();
  auto said = ask();
  guard.lock();
  return said;
}
}  // namespace

ErrnoOr<DentryPtr> Tree::mount_point(const WalkFrom& from, std::string_view path,
                                     const InodePtr& stand_in) {
  Guard guard(mutex_);
  DentryPtr at = top(from.root);
  for (size_t begin = 0; begin < path.size();) {
    size_t end = path.find('/', begin);
    if (end == std::string_view::npos) end = path.size();
    const std::string_view name = path.substr(begin, end - begin);
    begin = end + 1;
    if (name.empty() || name == ".") continue;
    if (name == "..") return Errno(EINVAL);
    Way way{moves_};
    ErrnoOr<DentryPtr> next = walk(guard, from, at, name, LastLink::kFollow, way, nullptr);
    if (!next.ok() && next.error().value() == ENOENT && at->inode->is_dir()) {
      const Names names(guard, at);
      // A link that leads nowhere is not to be replaced.
      if (look_up(guard, at, name).ok()) return Errno(ENOENT);
      next = std::make_shared<Dentry>(at, std::string(name), stand_in);
      next.value()->pinned = true;
      at->children[std::string(name)] = next.value();
    }
    if (!next.ok()) return next.error();
    at = std::move(next).value();
  }
  return at;
}

/// What is remembered of a name and believed.
std::optional<ErrnoOr<DentryPtr>> Tree::find_known(const Dentry& dir, std::string_view name) const {
  if (name.size() > kMaxName) return Errno(ENAMETOOLONG);
  if (dir.masked && dir.masked->contains(name)) return Errno(ENOENT);
  const auto entry = dir.children.find(name);
  if (entry == dir.children.end()) return std::nullopt;
  const DentryPtr& known = entry->second;
  if (known->pinned) return top(known);
  if (!dir.inode->cacheable() || dir.no_cache) return std::nullopt;
  const int64_t believed_ns = dir.shared ? 0 : dir.inode->believed_ns();
  const bool is_believed = believed_ns < 0 || (known->seen_ns > distrusted_ns_ &&
                                               now_ns() - known->seen_ns < believed_ns);
  if (!is_believed) return std::nullopt;
  if (!known->inode) return Errno(ENOENT);
  return top(known);
}

ErrnoOr<DentryPtr> Tree::step(Guard& guard, const DentryPtr& dir, std::string_view name,
                              bool* asked) {
  if (asked != nullptr) *asked = false;
  if (auto known = find_known(*dir, name)) return *std::move(known);
  const Names names(guard, dir);
  return look_up(guard, dir, name, asked);
}

ErrnoOr<DentryPtr> Tree::look_up(Guard& guard, const DentryPtr& dir, std::string_view name,
                                 bool* asked) {
  if (asked != nullptr) *asked = false;
  if (auto known = find_known(*dir, name)) return *std::move(known);
  if (asked != nullptr) *asked = true;
  auto entry = dir->children.find(name);
  const DentryPtr known = entry == dir->children.end() ? nullptr : entry->second;
  // Whoever distrusts what is known does so of an answer under way, too.
  const int64_t asked_ns = now_ns();
  const auto ask = [&] {
    return without(guard, [&] {
      return known && known->inode && dir->inode->cacheable()
                 ? dir->inode->lookup_again(name, known->inode)
                 : dir->inode->lookup(name);
    });
  };
  ErrnoOr<InodePtr> found = ask();
  if (!found.ok() && (found.error().value() == ENFILE || found.error().value() == EMFILE)) {
    // Names that nobody uses hold what is lacking.
    drop_idle();
    found = ask();
  }
  const InodePtr inode = found.ok() ? found.value() : nullptr;
  // Meanwhile something may have been mounted there, or the directory been taken apart.
  const bool cacheable = dir->inode->cacheable() && !dir->no_cache;
  entry = dir->children.find(name);
  if (entry != dir->children.end() && entry->second->pinned) return top(entry->second);
  if (cacheable && entry != dir->children.end() &&
      (found.ok() || found.error().value() == ENOENT)) {
    if (entry->second->inode == inode) {
      entry->second->seen_ns = asked_ns;
      if (!inode) return Errno(ENOENT);
      return top(entry->second);
    }
    // Somebody outside has put another file in its place, or taken it away.
    DentryPtr gone = std::move(entry->second);
    dir->children.erase(entry);
    take_apart(std::move(gone));
  }
  if (!found.ok() && (found.error().value() != ENOENT || !cacheable || dir->removed))
    return found.error();
  auto made = std::make_shared<Dentry>(dir, std::string(name), inode);
  made->seen_ns = asked_ns;
  made->no_cache = dir->no_cache;
  made->shared = dir->shared;
  if (cacheable) remember(dir, made->name, made);
  if (!found.ok()) return found.error();
  return made;
}

void Tree::remember(const DentryPtr& dir, const std::string& name, DentryPtr child) {
  if (dir->no_cache && !child->pinned) {
    child->no_cache = true;
    return;
  }
  child->shared = dir->shared;
  trim(*dir);
  if (++remembered_ > kMaxRemembered) drop_idle();
  dir->children[name] = std::move(child);
}

/// Leaves first, so that folders of nothing but idle names go as well.
void Tree::drop_idle() {
  remembered_ = 0;
  struct Level {
    DentryPtr dir;
    std::map<std::string, DentryPtr, std::less<>>::iterator next;
  };
  for (const DentryPtr& mount : mounts_) {
    std::vector<Level> levels{{mount, mount->children.begin()}};
    while (!levels.empty()) {
      Level& level = levels.back();
      if (level.next != level.dir->children.end()) {
        const DentryPtr& child = level.next->second;
        if (!child->children.empty()) {
          levels.push_back({child, child->children.begin()});
          continue;
        }
        const bool idle = child.use_count() == 1 && !child->pinned;
        level.next = idle ? level.dir->children.erase(level.next) : std::next(level.next);
        continue;
      }
      levels.pop_back();
      if (levels.empty()) break;
      Level& above = levels.back();
      const bool idle = above.next->second.use_count() == 1 &&
                        above.next->second->children.empty() && !above.next->second->pinned;
      above.next = idle ? above.dir->children.erase(above.next) : std::next(above.next);
    }
  }
}

void Tree::trim(Dentry& dir) {
  if (dir.children.size() < kMaxChildren) return;
  for (auto at = dir.children.begin(); at != dir.children.end();) {
    const bool idle =
        at->second.use_count() == 1 && at->second->children.empty() && !at->second->pinned;
    at = idle ? dir.children.erase(at) : std::next(at);
  }
}

ErrnoOr<DentryPtr> Tree::walk(Guard& guard, const WalkFrom& from, DentryPtr at,
                              std::string_view path, LastLink last, Way& way, Parent* parent) {
  if (path.size() >= kMaxPath) return Errno(ENAMETOOLONG);
  if (!path.empty() && path[0] == '/') {
    if ((from.resolve & kResolveBeneath) != 0) return Errno(EXDEV);
    // The path itself may begin anywhere; a link on the way is what crosses.
    if (way.links != 0) GUEST_TRY(may_cross(from, at, from.root));
    at = from.root;
  }
  at = top(at);
  size_t begin = 0;
  bool asked = false;
  for (;;) {
    while (begin < path.size() && path[begin] == '/') ++begin;
    if (begin == path.size()) break;
    size_t end = path.find('/', begin);
    if (end == std::string_view::npos) end = path.size();
    const std::string_view name = path.substr(begin, end - begin);
    const size_t next = path.find_first_not_of('/', end);
    const bool is_last = next == std::string_view::npos;
    const bool slash = end < path.size();
    begin = end;

    if (!at->inode->is_dir()) return Errno(ENOTDIR);
    const Stat stat = GUEST_TRY(
        without(guard, [&] { return asked ? at->inode->stat_as_found() : at->inode->stat(); }));
    asked = false;
    GUEST_TRY(may_access(from.credentials, stat, 1));
    if (is_last && parent != nullptr) {
      parent->dir = at;
      parent->name = name;
      parent->must_be_dir = slash;
      return at;
    }
    if (name == ".") continue;
    if (name == "..") {
      // What lay below the root may lie elsewhere by now, and then no step up meets the root.
      if ((from.resolve & (kResolveBeneath | kResolveInRoot)) != 0 && moves_ != way.moves)
        return Errno(EAGAIN);
      if ((from.resolve & kResolveBeneath) != 0 && at == top(from.root)) return Errno(EXDEV);
      DentryPtr above = top(up(at, from.root));
      GUEST_TRY(may_cross(from, at, above));
      at = std::move(above);
      continue;
    }
    DentryPtr next_at = GUEST_TRY(step(guard, at, name, &asked));
    GUEST_TRY(may_cross(from, at, next_at));
    if (next_at->inode->is_link() && (!is_last || slash || last == LastLink::kFollow)) {
      asked = false;
      if (++way.links > kMaxLinks || (from.resolve & kResolveNoSymlinks) != 0) return Errno(ELOOP);
      DentryPtr jumped = GUEST_TRY(without(guard, [&] { return next_at->inode->jump(); }));
      if (jumped) {
        GUEST_TRY(may_jump(from, at, jumped));
        at = top(jumped);
        continue;
      }
      const std::string target =
          GUEST_TRY(without(guard, [&] { return next_at->inode->readlink(); }));
      if (target.empty()) return Errno(ENOENT);
      at = GUEST_TRY(walk(guard, from, at, target, LastLink::kFollow, way, nullptr));
      continue;
    }
    at = next_at;
  }
  if (parent != nullptr) {
    parent->dir = at;
    parent->name.clear();
    return at;
  }
  if (path.size() > 1 && path.back() == '/' && !at->inode->is_dir()) return Errno(ENOTDIR);
  return at;
}

ErrnoOr<DentryPtr> Tree::find(const WalkFrom& from, std::string_view path, LastLink last) {
  if (path.empty()) return Errno(ENOENT);
  Guard guard(mutex_);
  Way way{moves_};
  return walk(guard, from, from.base, path, last, way, nullptr);
}

ErrnoOr<Tree::Parent> Tree::parent_of(Guard& guard, const WalkFrom& from, std::string_view path) {
  if (path.empty()) return Errno(ENOENT);
  Parent parent;
  Way way{moves_};
  GUEST_TRY(walk(guard, from, from.base, path, LastLink::kKeep, way, &parent));
  return parent;
}

ErrnoOr<Tree::Parent> Tree::find_parent(const WalkFrom& from, std::string_view path) {
  Guard guard(mutex_);
  return parent_of(guard, from, path);
}

ErrnoOr<DentryPtr> Tree::child(const DentryPtr& dir, std::string_view name) {
  Guard guard(mutex_);
  return step(guard, dir, name);
}

Errno Tree::may_change(Guard& guard, const Credentials& who, const DentryPtr& dir) {
  if (dir->removed) return Errno(ENOENT);
  if (is_on_read_only_mount(*dir)) return Errno(EROFS);
  const Stat stat = GUEST_TRY(without(guard, [&] { return dir->inode->stat(); }));
  return may_access(who, stat, 3);
}

Errno Tree::may_remove(Guard& guard, const Credentials& who, const DentryPtr& dir,
                       const DentryPtr& victim) {
  GUEST_TRY(may_change(guard, who, dir));
  const Stat stat = GUEST_TRY(without(guard, [&] { return dir->inode->stat(); }));
  if ((stat.mode & S_ISVTX) == 0 || stat.uid == who.fsuid) return kOk;
  const Stat own = GUEST_TRY(without(guard, [&] { return victim->inode->stat(); }));
  return own.uid == who.fsuid || who.can_over(kCapFowner, own.uid, own.gid) ? kOk : Errno(EPERM);
}

/// Of one that is no directory, or of one. By who has the directory's names.
Errno Tree::may_make(Guard& guard, const WalkFrom& from, const Parent& parent, bool dir) {
  const ErrnoOr<DentryPtr> there = look_up(guard, parent.dir, parent.name);
  if (there.ok()) return Errno(EEXIST);
  if (there.error().value() != ENOENT) return there.error();
  if (parent.must_be_dir && !dir) return Errno(ENOENT);
  return may_change(guard, from.credentials, parent.dir);
}

namespace {
/// A new node's group and mode below a set-group-id directory.
NewNode owned(const Credentials& who, const Stat& dir, uint32_t mode, uint64_t device) {
  NewNode node{mode, device, who.fsuid, who.fsgid};
  if ((dir.mode & S_ISGID) == 0) return node;
  node.gid = dir.gid;
  constexpr uint32_t kRunsAsGroup = S_ISGID | S_IXGRP;
  if (S_ISDIR(mode))
    node.mode |= S_ISGID;
  else if ((mode & kRunsAsGroup) == kRunsAsGroup && !who.in_group(dir.gid) &&
           !who.can_over(kCapFsetid, dir.uid, dir.gid))
    node.mode &= ~uint32_t{S_ISGID};
  return node;
}
}  // namespace

ErrnoOr<Tree::Opened> Tree::open(const WalkFrom& from, std::string_view path, int flags,
                                 uint32_t mode) {
  const bool create = (flags & O_CREAT) != 0;
  const bool empties = (flags & O_TRUNC) != 0;
  const int how = (flags & O_ACCMODE) == O_RDONLY ? 4 : (flags & O_ACCMODE) == O_WRONLY ? 2 : 6;
  const int access = empties ? how | 2 : how;  // to empty a file is to write to it
  DentryPtr found;
  bool created = false;
  bool read_only = false;
  bool no_devices = false;
  bool no_execution = false;
  {
    Guard guard(mutex_);
    std::string current(path);
    WalkFrom start = from;
    int tries = 0;
    for (Way way{moves_};;) {
      if (current.empty()) return Errno(ENOENT);
      if (!create) {
        found = GUEST_TRY(walk(guard, start, start.base, current,
                               (flags & O_NOFOLLOW) != 0 ? LastLink::kKeep : LastLink::kFollow, way,
                               nullptr));
        break;
      }
      Parent parent;
      GUEST_TRY(walk(guard, start, start.base, current, LastLink::kKeep, way, &parent));
      if (parent.name.empty() || parent.name == "." || parent.name == "..") {
        if ((flags & O_EXCL) != 0) return Errno(EEXIST);
        return Errno(EISDIR);
      }
      if (parent.must_be_dir) return Errno(EISDIR);
      ErrnoOr<DentryPtr> there = step(guard, parent.dir, parent.name);
      if (!there.ok()) {
        if (there.error().value() != ENOENT) return there.error();
        const Names names(guard, parent.dir);
        // Somebody may have been first.
        there = look_up(guard, parent.dir, parent.name);
        if (there.ok()) continue;
        if (there.error().value() != ENOENT) return there.error();
        GUEST_TRY(may_change(guard, from.credentials, parent.dir));
        ErrnoOr<InodePtr> made = without(guard, [&]() -> ErrnoOr<InodePtr> {
          const Stat dir = GUEST_TRY(parent.dir->inode->stat());
          return parent.dir->inode->make(parent.name,
                                         owned(from.credentials, dir, S_IFREG | (mode & 07777), 0));
        });
        if (!made.ok() && made.error().value() == EEXIST && ++tries < kMaxTries) {
          // Somebody outside has made it since it was known not to be there.
          parent.dir->children.erase(parent.name);
          continue;
        }
        if (!made.ok()) return made.error();
        found = std::make_shared<Dentry>(parent.dir, parent.name, std::move(made).value());
        remember(parent.dir, parent.name, found);
        without(guard, [&] {
          if (watches->any()) watches->tell_directory(*parent.dir->inode, parent.name, IN_CREATE);
          return true;
        });
        created = true;
        break;
      }
      found = std::move(there).value();
      if ((flags & O_EXCL) != 0) return Errno(EEXIST);
      if (!found->inode->is_link() || (flags & O_NOFOLLOW) != 0) break;
      if (++way.links > kMaxLinks || (from.resolve & kResolveNoSymlinks) != 0) return Errno(ELOOP);
      DentryPtr jumped = GUEST_TRY(without(guard, [&] { return found->inode->jump(); }));
      if (jumped) {
        GUEST_TRY(may_jump(from, parent.dir, jumped));
        found = top(jumped);
        break;
      }
      current = GUEST_TRY(without(guard, [&] { return found->inode->readlink(); }));
      start.base = parent.dir;
    }
    const Dentry* mount = mount_root(*found);
    read_only = mount->read_only;
    no_devices = has_option(mount->options, "nodev");
    no_execution = has_option(mount->options, "noexec");
  }
  if ((flags & O_PATH) != 0) {
    if ((flags & O_DIRECTORY) != 0 && !found->inode->is_dir()) return Errno(ENOTDIR);
    return Opened{std::make_shared<File>(found, found->inode, flags), false};
  }
  if (found->inode->is_link()) return Errno(ELOOP);
  const bool dir = found->inode->is_dir();
  if ((flags & O_DIRECTORY) != 0 && !dir) return Errno(ENOTDIR);
  if (dir && (access != 4 || create)) return Errno(EISDIR);
  bool truncated = false;
  std::shared_ptr<void> writing;
  if (access != 4 && created) writing = GUEST_TRY(hold_for_writing(found->inode));
  if (!created) {
    const Stat stat = GUEST_TRY(found->inode->stat());
    GUEST_TRY(may_access(from.credentials, stat, access));
    if (access != 4 && S_ISREG(stat.mode) && read_only) return Errno(EROFS);
    if ((S_ISCHR(stat.mode) || S_ISBLK(stat.mode)) && no_devices) return Errno(EACCES);
    truncated = empties && S_ISREG(stat.mode);
    if (access != 4) writing = GUEST_TRY(hold_for_writing(found->inode));
    if (truncated) {
      GUEST_TRY(found->inode->truncate(0));
      found->inode->written_by(from.credentials);
    }
  }
  Opened opened;
  opened.file =
      GUEST_TRY(found->inode->open(found, flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC)));
  if (how != 4) opened.file->keep(std::move(writing));
  opened.file->set_runnable(!no_execution);
  opened.created = created;
  opened.truncated = truncated;
  return opened;
}

ErrnoOr<Tree::Opened> Tree::open_unnamed(const WalkFrom& from, std::string_view path, int flags,
                                         uint32_t mode) {
  DentryPtr made;
  bool no_execution = false;
  {
    if (path.empty()) return Errno(ENOENT);
    Guard guard(mutex_);
    Way way{moves_};
    const DentryPtr dir =
        GUEST_TRY(walk(guard, from, from.base, path, LastLink::kFollow, way, nullptr));
    if (!dir->inode->is_dir()) return Errno(ENOTDIR);
    GUEST_TRY(may_change(guard, from.credentials, dir));
    no_execution = mount_has_option(*dir, "noexec");
    guard.unlock();
    const Stat stat = GUEST_TRY(dir->inode->stat());
    InodePtr inode = GUEST_TRY(dir->inode->make_unnamed(
        owned(from.credentials, stat, S_IFREG | (mode & 07777), 0), (flags & O_EXCL) == 0));
    const Stat own = GUEST_TRY(inode->stat());
    made = std::make_shared<Dentry>(dir, "#" + std::to_string(own.ino), std::move(inode));
    made->removed = true;
  }
  Opened opened;
  opened.file = GUEST_TRY(made->inode->open(made, flags & (O_ACCMODE | O_APPEND | O_NONBLOCK)));
  opened.file->keep(GUEST_TRY(hold_for_writing(made->inode)));
  opened.file->set_runnable(!no_execution);
  opened.created = true;
  return opened;
}

Errno Tree::make(const WalkFrom& from, std::string_view path, uint32_t mode, uint64_t device) {
  Guard guard(mutex_);
  const Parent parent = GUEST_TRY(parent_of(guard, from, path));
  if (parent.name.empty() || parent.name == "." || parent.name == "..") return Errno(EEXIST);
  const Names names(guard, parent.dir);
  GUEST_TRY(may_make(guard, from, parent, S_ISDIR(mode)));
  Inode& dir = *parent.dir->inode;
  InodePtr made = GUEST_TRY(without(guard, [&]() -> ErrnoOr<InodePtr> {
    const Stat stat = GUEST_TRY(dir.stat());
    return dir.make(parent.name, owned(from.credentials, stat, mode, device));
  }));
  remember(parent.dir, parent.name,
           std::make_shared<Dentry>(parent.dir, parent.name, std::move(made)));
  return without(guard, [&] {
    if (watches->any())
      watches->tell_directory(dir, parent.name, S_ISDIR(mode) ? IN_CREATE | IN_ISDIR : IN_CREATE);
    return kOk;
  });
}

Errno Tree::symlink(const WalkFrom& from, std::string_view path, std::string_view target) {
  if (target.empty()) return Errno(ENOENT);
  Guard guard(mutex_);
  const Parent parent = GUEST_TRY(parent_of(guard, from, path));
  if (parent.name.empty() || parent.name == "." || parent.name == "..") return Errno(EEXIST);
  const Names names(guard, parent.dir);
  GUEST_TRY(may_make(guard, from, parent, false));
  Inode& dir = *parent.dir->inode;
  InodePtr made = GUEST_TRY(without(guard, [&]() -> ErrnoOr<InodePtr> {
    const Stat stat = GUEST_TRY(dir.stat());
    return dir.symlink(parent.name, target, owned(from.credentials, stat, S_IFLNK | 0777, 0));
  }));
  remember(parent.dir, parent.name,
           std::make_shared<Dentry>(parent.dir, parent.name, std::move(made)));
  return without(guard, [&] {
    if (watches->any()) watches->tell_directory(dir, parent.name, IN_CREATE);
    return kOk;
  });
}

Errno Tree::link(const DentryPtr& what, const WalkFrom& from, std::string_view path) {
  Guard guard(mutex_);
  const Parent parent = GUEST_TRY(parent_of(guard, from, path));
  if (parent.name.empty() || parent.name == "." || parent.name == "..") return Errno(EEXIST);
  const Names names(guard, parent.dir);
  const Errno may = may_make(guard, from, parent, false);
  if (may.value() == EEXIST) return may;
  if (mount_root(*what) != mount_root(*parent.dir)) return Errno(EXDEV);
  if (what->inode->is_dir()) return Errno(EPERM);
  GUEST_TRY(may);
  Inode& dir = *parent.dir->inode;
  GUEST_TRY(without(guard, [&] { return dir.link(parent.name, *what->inode); }));
  remember(parent.dir, parent.name, std::make_shared<Dentry>(parent.dir, parent.name, what->inode));
  return without(guard, [&] {
    if (!watches->any()) return kOk;
    watches->tell_file(*what->inode, IN_ATTRIB);  // the number of its names
    watches->tell_directory(dir, parent.name, IN_CREATE);
    return kOk;
  });
}

Errno Tree::remove(const WalkFrom& from, std::string_view path, bool dir) {
  Guard guard(mutex_);
  const Parent parent = GUEST_TRY(parent_of(guard, from, path));
  if (parent.name.empty()) return Errno(dir ? EBUSY : EISDIR);
  if (parent.name == ".") return Errno(dir ? EINVAL : EISDIR);
  if (parent.name == "..") return Errno(dir ? ENOTEMPTY : EISDIR);
  const Names names(guard, parent.dir);
  DentryPtr victim = GUEST_TRY(look_up(guard, parent.dir, parent.name));
  if (!victim->parent) return Errno(EBUSY);  // something is mounted there
  if (parent.must_be_dir && !victim->inode->is_dir()) return Errno(ENOTDIR);
  GUEST_TRY(may_remove(guard, from.credentials, parent.dir, victim));
  if (victim->inode->is_dir() != dir) return Errno(dir ? ENOTDIR : EISDIR);
  Inode& above = *parent.dir->inode;
  GUEST_TRY(without(guard, [&] {
    return dir ? above.remove_dir(parent.name, *victim->inode)
               : above.unlink(parent.name, *victim->inode);
  }));
  leave(guard, victim);
  parent.dir->children.erase(parent.name);
  return without(guard, [&] {
    if (!watches->any()) return kOk;
    if (!dir) watches->tell_file(*victim->inode, IN_ATTRIB);
    // When nobody has it open, it ends here, before its directory's watchers hear of it.
    victim.reset();
    watches->tell_directory(above, parent.name, dir ? IN_DELETE | IN_ISDIR : IN_DELETE);
    return kOk;
  });
}

/// A name that stands for nothing any more.
void Tree::leave(Guard& guard, const DentryPtr& gone) {
  gone->removed = true;
  // Names that are remembered below it would keep it.
  take_apart(gone);
  if (!watches->any()) return;
  const bool last = without(guard, [&] {
    // Whoever tells its end then has no need to ask.
    (void)gone->inode->key().ok();
    if (gone->inode->is_dir()) return true;
    const ErrnoOr<Stat> stat = gone->inode->stat();
    return stat.ok() && stat.value().nlink == 0;
  });
  if (last) gone->tell_at_end = watches;
}

namespace {
void tell_moved(Watches& watches, const Tree::Parent& from, const Tree::Parent& to, Inode& moved,
                Inode* replaced) {
  const uint32_t cookie = watches.next_cookie();
  const uint32_t kind = moved.is_dir() ? IN_ISDIR : 0;
  watches.tell_directory(*from.dir->inode, from.name, IN_MOVED_FROM | kind, cookie);
  watches.tell_directory(*to.dir->inode, to.name, IN_MOVED_TO | kind, cookie);
  if (replaced != nullptr) watches.tell_file(*replaced, IN_ATTRIB);
  watches.tell_file(moved, IN_MOVE_SELF);
}
}  // namespace

Errno Tree::rename(const WalkFrom& from, std::string_view path, const WalkFrom& to,
                   std::string_view new_path, int flags) {
  constexpr int kNoReplace = 1;
  constexpr int kExchange = 2;
  if ((flags & ~(kNoReplace | kExchange)) != 0 || flags == (kNoReplace | kExchange))
    return Errno(EINVAL);
  Guard guard(mutex_);
  const Parent old_place = GUEST_TRY(parent_of(guard, from, path));
  const Parent new_place = GUEST_TRY(parent_of(guard, to, new_path));
  if (mount_root(*old_place.dir) != mount_root(*new_place.dir)) return Errno(EXDEV);
  for (const std::string& name : {old_place.name, new_place.name})
    if (name.empty() || name == "." || name == "..") return Errno(EBUSY);
  const Names names(guard, old_place.dir, new_place.dir);
  // Before they were ours, others may have moved one of the two away.
  if (mount_root(*old_place.dir) != mount_root(*new_place.dir)) return Errno(EXDEV);
  const DentryPtr moved = GUEST_TRY(look_up(guard, old_place.dir, old_place.name));
  const bool dir = moved->inode->is_dir();
  if (!moved->parent) return Errno(EBUSY);
  if ((old_place.must_be_dir || new_place.must_be_dir) && !dir) return Errno(ENOTDIR);
  const ErrnoOr<DentryPtr> there = look_up(guard, new_place.dir, new_place.name);
  if (!there.ok() && there.error().value() != ENOENT) return there.error();
  if (there.ok() && (flags & kNoReplace) != 0) return Errno(EEXIST);
  if (!there.ok() && (flags & kExchange) != 0) return Errno(ENOENT);
  const bool exchange = (flags & kExchange) != 0;
  // A directory must not go below itself, nor may what is exchanged for it.
  for (const Dentry* at = new_place.dir.get(); at != nullptr; at = at->parent.get())
    if (at->inode == moved->inode) return Errno(EINVAL);
  for (const Dentry* at = old_place.dir.get(); there.ok() && at != nullptr; at = at->parent.get())
    if (at->inode == there.value()->inode) return Errno(exchange ? EINVAL : ENOTEMPTY);
  const bool elsewhere = old_place.dir->inode != new_place.dir->inode;
  // In another directory its name ".." is written anew.
  const auto may_go = [&](const WalkFrom& by, const DentryPtr& what) -> Errno {
    if (!elsewhere || !what->inode->is_dir()) return kOk;
    const Stat stat = GUEST_TRY(without(guard, [&] { return what->inode->stat(); }));
    return may_access(by.credentials, stat, 2);
  };
  GUEST_TRY(may_remove(guard, from.credentials, old_place.dir, moved));
  GUEST_TRY(may_go(from, moved));
  if (there.ok()) {
    const DentryPtr& target = there.value();
    if (target->inode == moved->inode) return kOk;
    if (!target->parent) return Errno(EBUSY);
    if (flags == 0 && dir != target->inode->is_dir()) return Errno(dir ? ENOTDIR : EISDIR);
    GUEST_TRY(may_remove(guard, to.credentials, new_place.dir, target));
    if (exchange) GUEST_TRY(may_go(to, target));
  } else {
    GUEST_TRY(may_change(guard, to.credentials, new_place.dir));
  }
  GUEST_TRY(without(guard, [&] {
    return old_place.dir->inode->rename(old_place.name, *new_place.dir->inode, new_place.name,
                                        flags);
  }));
  if (elsewhere) ++moves_;
  old_place.dir->children.erase(old_place.name);
  if (exchange) {
    const DentryPtr& other = there.value();
    {
      std::lock_guard told(watches->names);
      other->parent = old_place.dir;
      other->name = old_place.name;
    }
    remember(old_place.dir, old_place.name, other);
  } else if (there.ok()) {
    leave(guard, there.value());
  }
  {
    std::lock_guard told(watches->names);
    moved->parent = new_place.dir;
    moved->name = new_place.name;
  }
  remember(new_place.dir, new_place.name, moved);
  return without(guard, [&] {
    if (!watches->any()) return kOk;
    tell_moved(*watches, old_place, new_place, *moved->inode,
               there.ok() && !exchange ? there.value()->inode.get() : nullptr);
    if (exchange) tell_moved(*watches, new_place, old_place, *there.value()->inode, nullptr);
    return kOk;
  });  // what was replaced ends behind this, when nobody has it open
}

std::string Tree::path_of(const DentryPtr& dentry, const DentryPtr& root) {
  std::lock_guard lock(mutex_);
  std::vector<const std::string*> names;
  DentryPtr at = dentry;
  const bool removed = at->removed;
  bool reached = false;
  std::vector<DentryPtr> held;
  for (;;) {
    if (at == root || top(root) == at) {
      reached = true;
      break;
    }
    if (at->parent) {
      names.push_back(&at->name);
      held.push_back(at);
      at = at->parent;
      continue;
    }
    DentryPtr below = at->below.lock();
    if (!below) break;
    at = std::move(below);
  }
  std::string out = reached || at == root_ ? "" : "(unreachable)";
  if (names.empty()) out += '/';
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    out += '/';
    out += **name;
  }
  if (removed) out += " (deleted)";
  return out;
}

bool Tree::is_within(const DentryPtr& place, const DentryPtr& root) {
  std::lock_guard lock(mutex_);
  return lies_in(place, root);
}

std::vector<DentryPtr> Tree::mounts(const DentryPtr& root) {
  std::vector<DentryPtr> out;
  std::lock_guard lock(mutex_);
  const MountsBelow in(root);
  for (const DentryPtr& mount : mounts_)
    if (in.has(mount)) out.push_back(mount);
  return out;
}

}  // namespace fluyt::guest
