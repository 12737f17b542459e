#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// How many mounts a mount namespace has: those that are in it share this. Guarded by the tree's
/// lock.
struct MountCount {
  size_t mounts = 0;
  bool is_copy = false;  // of another namespace: the limit of all together counts too
};

/// A name in the tree. Guarded by the tree's lock, but for its inode, which it keeps for life.
class Dentry {
 public:
  Dentry(DentryPtr up, std::string called, InodePtr what);
  Dentry(const Dentry&) = delete;
  Dentry& operator=(const Dentry&) = delete;
  ~Dentry();
  DentryPtr parent;  // null: the root of a file system; `below` says where it is mounted
  std::string name;
  InodePtr inode;   // null: known not to exist
  int64_t seen_ns;  // when the file system was last asked about the name
  std::map<std::string, DentryPtr, std::less<>> children;
  DentryPtr covered_by;         // the root of what is mounted here
  std::weak_ptr<Dentry> below;  // of a mounted root: what it covers
  // Of a mounted root, as /proc/mounts has them:
  std::string file_system;  // its type
  std::string options = "rw,relatime";
  bool read_only = false;  // nothing is made, removed or written below it
  bool locked = false;     // of a mounted root: it stays
  // Of a mounted root that came from a mount namespace of more privilege (mount_namespaces(7),
  // "Restrictions on mount namespaces"): it stays, and so do its restrictions, also where it is
  // bound.
  bool inherited = false;
  bool keeps_restrictions = false;
  UserSpacePtr owner;  // of a mounted root: where the file system was mounted; null: in the first
  std::shared_ptr<MountCount> counted_in;  // of a mounted root; null: in no namespace any more
  bool no_cache = false;                   // taken apart: names below are not remembered
  /// Of what was taken apart: names at or below which something was mounted. What that covered is
  /// not found by who still has this.
  std::shared_ptr<const std::set<std::string, std::less<>>> masked;
  bool shared = false;  // the same is to be seen elsewhere too: names below are asked for each time
  std::atomic<bool> removed{false};
  /// Set when the file's last name went: they are told of its end when nobody has this open any
  /// more.
  std::shared_ptr<Watches> tell_at_end;
  bool pinned = false;  // something is mounted here or below: it is found whatever the inode says
  /// Of a directory: held by who asks its file system about names in it or changes them, over the
  /// answer, which may be long in coming. Taken before the tree's lock, which is not.
  std::mutex asking;
};

/// Where path names start and who asks.
struct WalkFrom {
  DentryPtr root;
  DentryPtr base;  // for relative paths
  Credentials credentials;
  uint32_t resolve = 0;  // RESOLVE_* of openat2(2), for the last two `root` is `base`
};
inline constexpr uint32_t kResolveNoXdev = 1, kResolveNoMagicLinks = 2, kResolveNoSymlinks = 4,
                          kResolveBeneath = 8, kResolveInRoot = 16, kResolveCached = 32;

enum class LastLink : uint8_t { kFollow, kKeep };

/// A mount namespace: file systems mounted on one another, and the walk through them. Its lock is
/// never held over what a file system is asked: who waits for one that is slow, waits for a name in
/// the same directory (Dentry::asking), or to rename in the same file system.
class Tree {
 public:
  explicit Tree(InodePtr root, std::string file_system);
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;
  /// Takes names apart: a name and what lies below it hold each other.
  ~Tree();

  const DentryPtr& root() const { return root_; }
  const std::shared_ptr<Watches> watches = std::make_shared<Watches>();
  /// Mounts of one namespace; Linux has 100,000 (/proc/sys/fs/mount-max).
  static constexpr size_t kMaxMounts = 4096;
  /// Of all together where namespaces are copied. The others have theirs whatever the copies have.
  static constexpr size_t kMaxMountsOfAll = 65536;
  /// `options` as in /proc/mounts: "ro" among them makes the mount read-only. ENOSPC: the namespace
  /// has too many. EINVAL: the place is in none any more. ENOENT: it is removed.
  Errno mount(const DentryPtr& at, InodePtr root, std::string file_system,
              std::string options = "rw,relatime", UserSpacePtr owner = {});
  /// The tree at `from` at one more place, with what is mounted below or without. Names below are
  /// looked up anew at both from then on, for each has its own idea of what there is. EINVAL: what
  /// is mounted below must not be left out; EINVAL, ENOSPC and ENOENT as of mount().
  enum class Depth : uint8_t { kAlone, kWithAllBelow };
  Errno bind(const DentryPtr& from, const DentryPtr& at, Depth depth = Depth::kAlone);
  /// EINVAL where nothing is mounted; EPERM where a locked mount is to be writable, or one of a
  /// more privileged namespace less restricted.
  Errno remount(const DentryPtr& at, std::string options);
  /// EINVAL where nothing is mounted or what is mounted is locked; EBUSY while something is mounted
  /// below, unless it is to be `detached` from the tree with all of that.
  Errno unmount(const DentryPtr& at, bool detach);
  /// pivot_root(2) in the mount namespace of `root`: what is mounted at `new_root` becomes the
  /// namespace's root, and the old one is mounted at `put_old`. EBUSY, EINVAL: as there, EINVAL
  /// also where what is mounted at `new_root` stays.
  Errno pivot(const DentryPtr& root, const DentryPtr& new_root, const DentryPtr& put_old);
  /// Where the file system of a place was mounted; null: in the first user namespace.
  UserSpacePtr owner_of(const DentryPtr& at);
  /// Whether a file system of this type is mounted in the namespace of `root` with nothing over any
  /// part of it, and with no restriction that `options` lack (mount_namespaces(7)).
  bool is_fully_visible(const DentryPtr& root, std::string_view file_system,
                        std::string_view options);
  /// Whether a place is the root of a mount namespace, or what is mounted over it.
  bool is_root_of(const DentryPtr& place, const DentryPtr& root);
  /// What is mounted over a place, or the place.
  DentryPtr topmost(const DentryPtr& place);
  /// Whether "noexec" and the like is among the options of the mount that it lies in; "ro" is said
  /// of its root's inodes too, by EROFS.
  bool has_mount_option(const DentryPtr& at, std::string_view option);
  /// Nothing that lies in its mount may be changed by its name.
  bool is_read_only(const DentryPtr& at);
  /// What is mounted in it now stays.
  void lock_mounts(const DentryPtr& root);
  static bool is_mount_root(const Dentry& at) { return !at.parent; }
  /// Another root, with nothing mounted in it yet, for a further mount namespace. All have one lock
  /// and one idea of what is watched; names do not lead from one to another.
  DentryPtr add_root(InodePtr root, std::string file_system);
  /// All of a mount namespace once more, and the places of `places` in it. Names are looked up anew
  /// in both from then on, as after bind(). ENOSPC: there are too many mounts; nothing is copied.
  struct Copy {
    DentryPtr root;
    std::vector<DentryPtr> places;
  };
  enum class CopyFor : uint8_t { kEqual, kLessPrivileged };
  ErrnoOr<Copy> copy(const DentryPtr& root, const std::vector<DentryPtr>& places,
                     CopyFor whom = CopyFor::kEqual);
  /// Takes a root away and its names apart, at the next sweep(): the last who has it may be within
  /// a walk.
  void drop(DentryPtr root);
  void sweep();
  /// Of the first root's file system.
  void describe_root(const DentryPtr& root, std::string file_system, std::string options);
  /// What is at `path`, to be mounted on. What the path lacks is made up: directories of the tree
  /// alone, with `stand_in` for their inode, that no file system lists.
  ErrnoOr<DentryPtr> mount_point(const WalkFrom& from, std::string_view path,
                                 const InodePtr& stand_in);

  ErrnoOr<DentryPtr> find(const WalkFrom& from, std::string_view path, LastLink last);
  /// The directory and the last name of a path that may not exist.
  struct Parent {
    DentryPtr dir;
    std::string name;          // may be "." or "..", or empty for "/"
    bool must_be_dir = false;  // a trailing slash
  };
  ErrnoOr<Parent> find_parent(const WalkFrom& from, std::string_view path);
  /// What `name` is in `dir`; ENOENT when nothing.
  ErrnoOr<DentryPtr> child(const DentryPtr& dir, std::string_view name);

  struct Opened {
    FilePtr file;
    bool created = false;
    bool truncated = false;
  };
  ErrnoOr<Opened> open(const WalkFrom& from, std::string_view path, int flags, uint32_t mode);
  /// O_TMPFILE: a file in the file system of the directory at `path`, without a name.
  ErrnoOr<Opened> open_unnamed(const WalkFrom& from, std::string_view path, int flags,
                               uint32_t mode);
  Errno make(const WalkFrom& from, std::string_view path, uint32_t mode, uint64_t device);
  Errno symlink(const WalkFrom& from, std::string_view path, std::string_view target);
  Errno link(const DentryPtr& what, const WalkFrom& from, std::string_view path);
  Errno remove(const WalkFrom& from, std::string_view path, bool dir);
  Errno rename(const WalkFrom& from, std::string_view path, const WalkFrom& to,
               std::string_view new_path, int flags);

  /// From `root`, as getcwd and /proc show it; "(unreachable)" in front when it is not below.
  std::string path_of(const DentryPtr& dentry, const DentryPtr& root);
  /// Somebody outside may have changed the file system of a namespace's root just now: what was
  /// believed until now is asked for again.
  void distrust(const DentryPtr& root);
  /// Whether it lies in the mount namespace of `root`.
  bool is_within(const DentryPtr& place, const DentryPtr& root);
  /// Mounted roots below `root` and itself, in the order they were mounted.
  std::vector<DentryPtr> mounts(const DentryPtr& root);

 private:
  using Guard = std::unique_lock<std::mutex>;  // of mutex_
  /// Who has a directory's names to itself, with the tree's lock, which is let go on the way in.
  class Names;
  /// What a path has taken so far, with the links on it.
  struct Way {
    const uint64_t moves;  // what `moves_` was where it began
    int links = 0;
  };
  // With the lock held, which is let go while a file system is asked.
  ErrnoOr<DentryPtr> walk(Guard& guard, const WalkFrom& from, DentryPtr at, std::string_view path,
                          LastLink last, Way& way, Parent* parent);
  /// `asked`, where given, tells whether the file system was.
  ErrnoOr<DentryPtr> step(Guard& guard, const DentryPtr& dir, std::string_view name,
                          bool* asked = nullptr);
  /// The same by who has the directory's names.
  ErrnoOr<DentryPtr> look_up(Guard& guard, const DentryPtr& dir, std::string_view name,
                             bool* asked = nullptr);
  ErrnoOr<Parent> parent_of(Guard& guard, const WalkFrom& from, std::string_view path);
  Errno may_change(Guard& guard, const Credentials& who, const DentryPtr& dir);
  Errno may_remove(Guard& guard, const Credentials& who, const DentryPtr& dir,
                   const DentryPtr& victim);
  /// ENOENT: the name is free, in a directory that may be changed.
  Errno may_make(Guard& guard, const WalkFrom& from, const Parent& parent, bool dir);
  void leave(Guard& guard, const DentryPtr& gone);
  std::optional<ErrnoOr<DentryPtr>> find_known(const Dentry& dir, std::string_view name) const;
  void remember(const DentryPtr& dir, const std::string& name, DentryPtr child);
  void drop_idle();
  void trim(Dentry& dir);
  static DentryPtr top(DentryPtr at);
  static DentryPtr up(const DentryPtr& at, const DentryPtr& root);
  void put_on(const DentryPtr& place, const DentryPtr& mounted);
  /// What is topmost at a place, and the names of its directory, for who mounts there: nobody
  /// removes or renames it over his look. ENOENT: it is removed.
  ErrnoOr<DentryPtr> hold_place(Guard& guard, const DentryPtr& at, std::optional<Names>& names);
  Errno may_add(const DentryPtr& place, size_t more) const;
  void add_mount(DentryPtr mounted, std::shared_ptr<MountCount> count);
  template <typename Gone>
  void forget_mounts(Gone gone);

  std::mutex mutex_;
  std::mutex dropped_mutex_;
  std::atomic<bool> has_dropped_{false};
  std::vector<DentryPtr> dropped_;
  DentryPtr root_;
  std::vector<DentryPtr> mounts_;
  int64_t distrusted_ns_ = 0;  // what was seen before then is not believed
  size_t remembered_ = 0;      // names since idle ones were last dropped
  uint64_t moves_ = 0;         // how often what lies above a place has changed: any place
};

/// access(2) by file-system ids: `want` of 4, 2, 1.
Errno may_access(const Credentials& who, const Stat& stat, int want);

}  // namespace fluyt::guest
