#include "guest/vfs/tree.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "guest/fs/memfs.h"

namespace fluyt::guest {
namespace {

class TreeTest : public testing::Test {
 protected:
  TreeTest() : tree_(make_memfs(0755), "tmpfs") {}
  void TearDown() override { tree_.sweep(); }
  WalkFrom from(const Credentials& who = {}) { return {tree_.root(), tree_.root(), who}; }
  static Credentials nobody() {
    Credentials who;
    who.uid = who.euid = who.suid = who.fsuid = 65534;
    who.gid = who.egid = who.sgid = who.fsgid = 65534;
    who.permitted = who.effective = 0;
    return who;
  }
  int open(const std::string& path, int flags, const Credentials& who = {}) {
    return tree_.open(from(who), path, flags, 0644).error().value();
  }
  void dir(const std::string& path, uint32_t mode = 0755) {
    ASSERT_TRUE(tree_.make(from(), path, S_IFDIR | mode, 0).ok()) << path;
  }
  int find(const std::string& path, LastLink last = LastLink::kFollow) {
    return tree_.find(from(), path, last).error().value();
  }
  Tree tree_;
};

TEST_F(TreeTest, PathsAreWalked) {
  dir("/a");
  dir("/a/b");
  EXPECT_EQ(open("/a/b/f", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(find("/a/./b/../b//f"), 0);
  EXPECT_EQ(find("/../../a/b/f"), 0);
  EXPECT_EQ(find("a/b/f"), 0);
  EXPECT_EQ(find("/a/b/f/"), ENOTDIR);
  EXPECT_EQ(find("/a/b/f/x"), ENOTDIR);
  EXPECT_EQ(find("/a/x"), ENOENT);
  EXPECT_EQ(find(""), ENOENT);
  EXPECT_EQ(find("/" + std::string(256, 'x')), ENAMETOOLONG);
  EXPECT_EQ(find("/" + std::string(5000, 'x')), ENAMETOOLONG);
}

TEST_F(TreeTest, LinksAreFollowedToAnEnd) {
  dir("/d");
  ASSERT_TRUE(tree_.symlink(from(), "/l", "d").ok());
  ASSERT_TRUE(tree_.symlink(from(), "/d/up", "../l").ok());
  ASSERT_TRUE(tree_.symlink(from(), "/loop", "loop").ok());
  ASSERT_TRUE(tree_.symlink(from(), "/dangling", "nowhere").ok());
  EXPECT_EQ(find("/l/up/up"), 0);
  EXPECT_EQ(find("/loop"), ELOOP);
  EXPECT_EQ(find("/loop", LastLink::kKeep), 0);
  EXPECT_EQ(find("/dangling"), ENOENT);
  EXPECT_EQ(open("/dangling", O_CREAT | O_WRONLY), 0);
  EXPECT_EQ(find("/nowhere"), 0);
  EXPECT_EQ(open("/dangling", O_CREAT | O_EXCL | O_WRONLY), EEXIST);
  EXPECT_EQ(open("/l", O_RDONLY | O_NOFOLLOW), ELOOP);
}

TEST_F(TreeTest, OpeningAnswersAsLinuxDoes) {
  dir("/d");
  EXPECT_EQ(open("/d", O_RDWR), EISDIR);
  EXPECT_EQ(open("/d", O_RDONLY | O_CREAT), EISDIR);
  EXPECT_EQ(open("/d/", O_CREAT | O_RDWR), EISDIR);
  EXPECT_EQ(open("/f", O_CREAT | O_EXCL | O_RDWR), 0);
  EXPECT_EQ(open("/f", O_CREAT | O_EXCL | O_RDWR), EEXIST);
  EXPECT_EQ(open("/f", O_DIRECTORY), ENOTDIR);
  EXPECT_EQ(open("/g/", O_CREAT | O_RDWR), EISDIR);
}

TEST_F(TreeTest, PermissionsAreAsked) {
  dir("/closed", 0700);
  dir("/open", 0755);
  EXPECT_EQ(open("/closed/f", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(open("/closed/f", O_RDONLY, nobody()), EACCES);
  EXPECT_EQ(open("/open/f", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(open("/open/f", O_RDONLY, nobody()), 0);
  EXPECT_EQ(open("/open/f", O_WRONLY, nobody()), EACCES);
  EXPECT_EQ(open("/open/new", O_CREAT | O_WRONLY, nobody()), EACCES);
  EXPECT_EQ(tree_.remove(from(nobody()), "/open/f", false).value(), EACCES);
}

TEST_F(TreeTest, StickyDirectoriesKeepOthersFiles) {
  dir("/tmp", 01777);
  EXPECT_EQ(open("/tmp/mine", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(tree_.remove(from(nobody()), "/tmp/mine", false).value(), EPERM);
  EXPECT_EQ(open("/tmp/theirs", O_CREAT | O_RDWR, nobody()), 0);
  EXPECT_EQ(tree_.remove(from(nobody()), "/tmp/theirs", false).value(), 0);
}

TEST_F(TreeTest, RenameHasItsRules) {
  dir("/a");
  dir("/a/b");
  dir("/empty");
  EXPECT_EQ(open("/f", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(open("/g", O_CREAT | O_RDWR), 0);
  const auto rename = [&](const char* old_path, const char* new_path, int flags = 0) {
    return tree_.rename(from(), old_path, from(), new_path, flags).value();
  };
  EXPECT_EQ(rename("/a", "/a/b/c"), EINVAL);
  EXPECT_EQ(rename("/f", "/a"), EISDIR);
  EXPECT_EQ(rename("/a", "/f"), ENOTDIR);
  EXPECT_EQ(rename("/empty", "/a"), ENOTEMPTY);
  EXPECT_EQ(rename("/f", "/g", 1), EEXIST);
  EXPECT_EQ(rename("/f", "/g"), 0);
  EXPECT_EQ(find("/f"), ENOENT);
  EXPECT_EQ(rename("/g", "/a", 2), 0);
  EXPECT_EQ(find("/g/b"), 0);
  EXPECT_EQ(rename("/nothing", "/x"), ENOENT);
}

TEST_F(TreeTest, RemovalHasItsRules) {
  dir("/a");
  dir("/a/b");
  EXPECT_EQ(tree_.remove(from(), "/a", false).value(), EISDIR);
  EXPECT_EQ(tree_.remove(from(), "/a", true).value(), ENOTEMPTY);
  EXPECT_EQ(tree_.remove(from(), "/a/b/.", true).value(), EINVAL);
  EXPECT_EQ(tree_.remove(from(), "/a/b", true).value(), 0);
  EXPECT_EQ(tree_.remove(from(), "/a/b", true).value(), ENOENT);
  EXPECT_EQ(tree_.remove(from(), "/", true).value(), EBUSY);
}

TEST_F(TreeTest, ARemovedDirectoryIsLetGoWithTheNamesItHadNot) {
  dir("/a");
  EXPECT_EQ(find("/a/none"), ENOENT);
  const std::weak_ptr<Dentry> gone = tree_.find(from(), "/a", LastLink::kFollow).value();
  EXPECT_FALSE(gone.expired());
  EXPECT_EQ(tree_.remove(from(), "/a", true).value(), 0);
  EXPECT_TRUE(gone.expired());
}

TEST_F(TreeTest, AWatchEndsWithTheLastWhoHasTheFileOpen) {
  EXPECT_EQ(open("/f", O_CREAT | O_RDWR), 0);
  const std::shared_ptr<Watcher> watcher = tree_.watches->make_watcher().value();
  const InodePtr inode = tree_.find(from(), "/f", LastLink::kFollow).value()->inode;
  ASSERT_TRUE(tree_.watches->add(*watcher, inode, IN_DELETE_SELF).ok());
  FilePtr file = tree_.open(from(), "/f", O_RDWR, 0).value().file;
  EXPECT_EQ(tree_.remove(from(), "/f", false).value(), 0);
  EXPECT_EQ(tree_.watches->waiting_bytes(*watcher), 0U);
  file.reset();
  EXPECT_EQ(tree_.watches->waiting_bytes(*watcher), 2 * sizeof(inotify_event));
  EXPECT_FALSE(tree_.watches->any());
  tree_.watches->close(*watcher);
}

TEST_F(TreeTest, WhatGoesThroughAFifoIsNotForItsDirectory) {
  ASSERT_TRUE(tree_.make(from(), "/fifo", S_IFIFO | 0600, 0).ok());
  const DentryPtr fifo = tree_.find(from(), "/fifo", LastLink::kFollow).value();
  const std::shared_ptr<Watcher> watcher = tree_.watches->make_watcher().value();
  ASSERT_TRUE(tree_.watches->add(*watcher, tree_.root()->inode, IN_ALL_EVENTS).ok());
  tree_.watches->tell(fifo, IN_MODIFY, Watches::By::kOpenFile);
  EXPECT_EQ(tree_.watches->waiting_bytes(*watcher), 0U);
  tree_.watches->tell(fifo, IN_OPEN, Watches::By::kOpenFile);
  EXPECT_EQ(tree_.watches->waiting_bytes(*watcher), 2 * sizeof(inotify_event));
  ASSERT_TRUE(tree_.watches->add(*watcher, fifo->inode, IN_ALL_EVENTS).ok());
  tree_.watches->tell(fifo, IN_MODIFY, Watches::By::kOpenFile);
  EXPECT_EQ(tree_.watches->waiting_bytes(*watcher), 3 * sizeof(inotify_event));
  tree_.watches->close(*watcher);
}

TEST_F(TreeTest, MountsCoverAndAreLeftByDotDot) {
  dir("/m");
  dir("/m/hidden");
  const DentryPtr at = tree_.find(from(), "/m", LastLink::kFollow).value();
  ASSERT_TRUE(tree_.mount(at, make_memfs(0755), "tmpfs").ok());
  EXPECT_EQ(find("/m/hidden"), ENOENT);
  dir("/m/x");
  EXPECT_EQ(find("/m/x/../../m/x"), 0);
  const DentryPtr inside = tree_.find(from(), "/m/x", LastLink::kFollow).value();
  EXPECT_EQ(tree_.path_of(inside, tree_.root()), "/m/x");
  EXPECT_EQ(tree_.remove(from(), "/m", true).value(), EBUSY);
}

TEST_F(TreeTest, RootsHaveNothingInCommonButTheFiles) {
  dir("/m");
  const DentryPtr other = tree_.add_root(make_memfs(0755), "tmpfs");
  const WalkFrom there{other, other, {}};
  EXPECT_EQ(tree_.find(there, "/m", LastLink::kFollow).error().value(), ENOENT);
  EXPECT_EQ(tree_.find(there, "/../..", LastLink::kFollow).value(), other);
  ASSERT_TRUE(tree_.make(there, "/m", S_IFDIR | 0755, 0).ok());
  const DentryPtr at = tree_.find(there, "/m", LastLink::kFollow).value();
  ASSERT_TRUE(tree_.mount(at, make_memfs(0700), "tmpfs").ok());
  EXPECT_EQ(tree_.mounts(other).size(), 2U);
  EXPECT_EQ(tree_.mounts(tree_.root()).size(), 1U);
  EXPECT_TRUE(tree_.is_within(at, other));
  EXPECT_FALSE(tree_.is_within(at, tree_.root()));
  EXPECT_EQ(tree_.unmount(other, true).value(), EINVAL);
  tree_.drop(other);
}

TEST_F(TreeTest, ACopyHasTheMountsAndGoesItsOwnWay) {
  dir("/m");
  dir("/m/cwd");
  ASSERT_TRUE(tree_
                  .mount(tree_.find(from(), "/m", LastLink::kFollow).value(), make_memfs(0700),
                         "tmpfs", "ro,nosuid")
                  .ok());
  tree_.lock_mounts(tree_.root());
  dir("/d");
  dir("/d/cwd");
  const DentryPtr cwd = tree_.find(from(), "/d/cwd", LastLink::kFollow).value();
  Tree::Copy copy = tree_.copy(tree_.root(), {cwd, tree_.root()}).value();
  const WalkFrom there{copy.root, copy.places[0], {}};
  EXPECT_EQ(copy.places[1], copy.root);
  EXPECT_EQ(tree_.path_of(copy.places[0], copy.root), "/d/cwd");
  EXPECT_NE(copy.places[0], cwd);
  // Its mounts are as they were: covered, read-only, and there to stay.
  EXPECT_EQ(tree_.find(there, "/m/cwd", LastLink::kFollow).error().value(), ENOENT);
  const DentryPtr mounted = tree_.find(there, "/m", LastLink::kFollow).value();
  EXPECT_EQ(tree_.make(there, "/m/x", S_IFDIR, 0).value(), EROFS);
  EXPECT_EQ(tree_.unmount(mounted, true).value(), EINVAL);
  EXPECT_EQ(tree_.path_of(mounted, copy.root), "/m");
  // Files are the same ones, mounts are not.
  ASSERT_TRUE(tree_.make(there, "/new", S_IFDIR | 0755, 0).ok());
  EXPECT_EQ(find("/new"), 0);
  const DentryPtr inner = tree_.find(there, "/new", LastLink::kFollow).value();
  ASSERT_TRUE(tree_.mount(inner, make_memfs(0700), "tmpfs").ok());
  EXPECT_EQ(tree_.mounts(copy.root).size(), 3U);
  EXPECT_EQ(tree_.mounts(tree_.root()).size(), 2U);
  ASSERT_TRUE(tree_.remove(from(), "/d/cwd", true).ok());
  EXPECT_EQ(tree_.find(there, "/d/cwd", LastLink::kFollow).error().value(), ENOENT);
  tree_.drop(copy.root);
}

TEST_F(TreeTest, ACopyForLessPrivilegeKeepsWhatItInherits) {
  dir("/m");
  dir("/at");
  ASSERT_TRUE(tree_
                  .mount(tree_.find(from(), "/m", LastLink::kFollow).value(), make_memfs(0700),
                         "tmpfs", "ro,nosuid")
                  .ok());
  const DentryPtr root = tree_.copy(tree_.root(), {}, Tree::CopyFor::kLessPrivileged).value().root;
  const WalkFrom there{root, root, {}};
  const auto at = [&](const char* path) {
    return tree_.find(there, path, LastLink::kFollow).value();
  };
  EXPECT_EQ(tree_.unmount(at("/m"), true).value(), EINVAL);
  EXPECT_EQ(tree_.remount(at("/m"), "rw,nosuid").value(), EPERM);
  EXPECT_EQ(tree_.remount(at("/m"), "ro").value(), EPERM);
  EXPECT_TRUE(tree_.remount(at("/m"), "ro,nosuid,noexec").ok());
  // What it hides is not to be seen elsewhere.
  EXPECT_EQ(tree_.bind(root, at("/at")).value(), EINVAL);
  ASSERT_TRUE(tree_.bind(root, at("/at"), Tree::Depth::kWithAllBelow).ok());
  EXPECT_EQ(tree_.remount(at("/at/m"), "rw").value(), EPERM);
  EXPECT_EQ(tree_.unmount(at("/at/m"), true).value(), EINVAL);
  EXPECT_EQ(tree_.unmount(at("/at"), false).value(), EBUSY);
  EXPECT_TRUE(tree_.unmount(at("/at"), true).ok());
  // Nor by who had it open when it was detached, nor in a copy of that, nor when all of it is gone.
  ASSERT_TRUE(tree_.bind(root, at("/at"), Tree::Depth::kWithAllBelow).ok());
  const DentryPtr held = at("/at");
  EXPECT_TRUE(tree_.child(held, "m").ok());
  ASSERT_TRUE(tree_.unmount(held, true).ok());
  EXPECT_EQ(tree_.child(held, "m").error().value(), ENOENT);
  EXPECT_TRUE(tree_.child(held, "at").ok());
  const Tree::Copy further = tree_.copy(root, {held}).value();
  EXPECT_EQ(tree_.child(further.places[0], "m").error().value(), ENOENT);
  EXPECT_EQ(tree_.bind(held, at("/at")).value(), EINVAL);
  EXPECT_EQ(tree_.mount(held, make_memfs(0700), "tmpfs").value(), EINVAL);
  tree_.drop(further.root);
  tree_.drop(root);
  tree_.sweep();
  EXPECT_EQ(tree_.child(root, "m").error().value(), ENOENT);
  // Where it was copied from, it is as it was.
  EXPECT_TRUE(tree_.unmount(tree_.find(from(), "/m", LastLink::kFollow).value(), true).ok());
}

TEST_F(TreeTest, ABindWithAllBelowGoesItsOwnWay) {
  dir("/a");
  dir("/a/m");
  dir("/b");
  const auto at = [&](const char* path) {
    return tree_.find(from(), path, LastLink::kFollow).value();
  };
  ASSERT_TRUE(tree_.mount(at("/a/m"), make_memfs(0700), "tmpfs").ok());
  dir("/a/m/inner");
  ASSERT_TRUE(tree_.bind(at("/a"), at("/b")).ok());
  EXPECT_EQ(find("/b/m/inner"), ENOENT);
  ASSERT_TRUE(tree_.unmount(at("/b"), false).ok());
  ASSERT_TRUE(tree_.bind(at("/a"), at("/b"), Tree::Depth::kWithAllBelow).ok());
  EXPECT_EQ(find("/b/m/inner"), 0);
  dir("/b/m/made");
  EXPECT_EQ(find("/a/m/made"), 0);
  ASSERT_TRUE(tree_.unmount(at("/a/m"), false).ok());
  EXPECT_EQ(find("/a/m/inner"), ENOENT);
  EXPECT_EQ(find("/b/m/inner"), 0);
  // Itself in itself: what was there before is bound, not what comes of it.
  ASSERT_TRUE(tree_.bind(tree_.root(), at("/a/m"), Tree::Depth::kWithAllBelow).ok());
  EXPECT_EQ(find("/a/m/b/m/inner"), 0);
  EXPECT_EQ(find("/a/m/a/m/b"), ENOENT);
}

TEST_F(TreeTest, PivotingTurnsTheTreeUpsideDown) {
  const DentryPtr root = tree_.copy(tree_.root(), {}).value().root;
  dir("/new");
  WalkFrom there{root, root, {}};
  const auto at = [&](const char* path) {
    return tree_.find(there, path, LastLink::kFollow).value();
  };
  ASSERT_TRUE(tree_.mount(at("/new"), make_memfs(0755), "tmpfs").ok());
  ASSERT_TRUE(tree_.make(there, "/new/old", S_IFDIR | 0755, 0).ok());
  const DentryPtr new_root = at("/new");
  EXPECT_EQ(tree_.pivot(root, new_root, root).value(), EBUSY);
  EXPECT_EQ(tree_.pivot(root, root, new_root).value(), EBUSY);
  EXPECT_EQ(tree_.pivot(root, at("/new/old"), at("/new/old")).value(), EINVAL);
  // What stays does not become the root: what it covers would be seen.
  tree_.lock_mounts(root);
  EXPECT_EQ(tree_.pivot(root, new_root, at("/new/old")).value(), EINVAL);
  new_root->locked = false;
  ASSERT_TRUE(tree_.pivot(root, new_root, at("/new/old")).ok());
  there = {new_root, new_root, {}};
  EXPECT_EQ(at("/old"), root);
  EXPECT_EQ(tree_.path_of(at("/old/new"), new_root), "/old/new");
  EXPECT_EQ(at("/old/.."), new_root);
  EXPECT_EQ(tree_.mounts(new_root).size(), 2U);
  EXPECT_EQ(tree_.topmost(new_root), new_root);
  // It is the root of nothing any more.
  EXPECT_EQ(tree_.pivot(root, new_root, new_root).value(), EINVAL);
  ASSERT_TRUE(tree_.unmount(root, true).ok());
  EXPECT_EQ(tree_.mounts(new_root).size(), 1U);
  EXPECT_EQ(tree_.find(there, "/old/new", LastLink::kFollow).error().value(), ENOENT);
  tree_.drop(new_root);
  tree_.sweep();
  EXPECT_EQ(tree_.mounts(new_root).size(), 0U);
}

TEST_F(TreeTest, ARootThatIsDroppedLetsItsFilesGo) {
  InodePtr inode = make_memfs(0755);
  const std::weak_ptr<Inode> watched = inode;
  DentryPtr other = tree_.add_root(std::move(inode), "tmpfs");
  {
    const WalkFrom there{other, other, {}};
    ASSERT_TRUE(tree_.make(there, "/m", S_IFDIR | 0755, 0).ok());
    const DentryPtr at = tree_.find(there, "/m", LastLink::kFollow).value();
    ASSERT_TRUE(tree_.mount(at, make_memfs(0700), "tmpfs").ok());
    ASSERT_TRUE(tree_.make(there, "/m/deep", S_IFDIR | 0755, 0).ok());
  }
  tree_.drop(std::move(other));
  EXPECT_FALSE(watched.expired());
  tree_.sweep();
  EXPECT_TRUE(watched.expired());
  EXPECT_EQ(tree_.mounts(tree_.root()).size(), 1U);
}

TEST_F(TreeTest, ARootBelowKeepsItsUsersIn) {
  dir("/jail");
  dir("/jail/in");
  const DentryPtr jail = tree_.find(from(), "/jail", LastLink::kFollow).value();
  const WalkFrom prisoner{jail, jail, {}};
  EXPECT_TRUE(tree_.find(prisoner, "../../in", LastLink::kFollow).ok());
  EXPECT_EQ(tree_.find(prisoner, "/jail", LastLink::kFollow).error().value(), ENOENT);
  EXPECT_EQ(tree_.path_of(tree_.root(), jail), "/");
}

/// How many names it remembers.
size_t remembered(const Dentry& top) {
  size_t count = 0;
  std::vector<const Dentry*> todo{&top};
  while (!todo.empty()) {
    const Dentry* at = todo.back();
    todo.pop_back();
    count += at->children.size();
    for (const auto& [name, child] : at->children) todo.push_back(child.get());
  }
  return count;
}

TEST_F(TreeTest, NamesThatNobodyUsesAreNotRememberedWithoutBound) {
  constexpr int kFolders = 30;
  constexpr int kNames = 2000;
  for (int folder = 0; folder < kFolders; ++folder) {
    const std::string path = "/d" + std::to_string(folder);
    dir(path);
    for (int name = 0; name < kNames; ++name)
      ASSERT_EQ(find(path + "/none" + std::to_string(name)), ENOENT);
  }
  EXPECT_LT(remembered(*tree_.root()), 20000U);
  for (int folder = 0; folder < kFolders; ++folder)
    EXPECT_EQ(find("/d" + std::to_string(folder)), 0);
}

TEST_F(TreeTest, NamesInUseAreRememberedHoweverManyOthersThereAre) {
  dir("/held");
  dir("/held/below");
  const DentryPtr held = tree_.find(from(), "/held/below", LastLink::kFollow).value();
  dir("/other");
  for (int name = 0; name < 40000; ++name)
    ASSERT_EQ(find("/other/none" + std::to_string(name)), ENOENT);
  // Not a second name for the same folder.
  EXPECT_EQ(tree_.find(from(), "/held/below", LastLink::kFollow).value(), held);
}

/// Folders in folders in folders, the deepest given.
DentryPtr go_deep(Tree& tree, const DentryPtr& top, int depth) {
  DentryPtr at = top;
  for (int i = 0; i < depth; ++i) {
    const WalkFrom here{tree.root(), at, {}};
    if (!tree.make(here, "d", S_IFDIR | 0755, 0).ok()) return nullptr;
    at = tree.find(here, "d", LastLink::kFollow).value();
  }
  return at;
}

constexpr int kDepth = 6000;

/// With a stack that has no room for a few calls a folder.
template <class Body>
void on_small_stack(Body body) {
  pthread_attr_t small;
  pthread_attr_init(&small);
  ASSERT_EQ(pthread_attr_setstacksize(&small, size_t{128} << 10), 0);
  pthread_t thread;
  const auto run = [](void* argument) -> void* {
    (*static_cast<Body*>(argument))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &small, run, &body), 0);
  pthread_join(thread, nullptr);
}

TEST_F(TreeTest, FoldersOfAnyDepthAreLetGoOneAfterTheOther) {
  DentryPtr deepest = go_deep(tree_, tree_.root(), kDepth);
  ASSERT_TRUE(deepest);
  DentryPtr at = deepest;
  while (at->parent) {
    const DentryPtr above = at->parent;
    ASSERT_TRUE(tree_.remove({tree_.root(), above, {}}, "d", true).ok());
    at = above;
  }
  // Who is in the deepest was all that held the others.
  at.reset();
  on_small_stack([&] { deepest.reset(); });
  EXPECT_EQ(remembered(*tree_.root()), 0U);
}

TEST_F(TreeTest, MountsOnOneAnotherAreLetGoOneAfterTheOther) {
  auto first = std::make_shared<Dentry>(nullptr, "/", make_memfs(0755));
  const std::weak_ptr<Dentry> held = first;
  DentryPtr at = first;
  for (int i = 0; i < kDepth; ++i) {
    at->covered_by = std::make_shared<Dentry>(nullptr, "/", first->inode);
    at = at->covered_by;
  }
  at.reset();
  on_small_stack([&] { first.reset(); });
  EXPECT_TRUE(held.expired());
}

TEST_F(TreeTest, ANamespaceHasSoManyMountsAndTheCopiesSoManyTogether) {
  dir("/m");
  dir("/at");
  dir("/at/in");
  const auto at = [&](const char* path) {
    return tree_.find(from(), path, LastLink::kFollow).value();
  };
  const DentryPtr place = at("/m");
  const InodePtr inode = make_memfs(0755);
  for (size_t i = tree_.mounts(tree_.root()).size(); i < Tree::kMaxMounts; ++i)
    ASSERT_TRUE(tree_.mount(place, inode, "tmpfs").ok());
  EXPECT_EQ(tree_.mount(place, inode, "tmpfs").value(), ENOSPC);
  EXPECT_EQ(tree_.bind(at("/at"), at("/at/in")).value(), ENOSPC);
  // Another namespace has its own.
  const DentryPtr other = tree_.add_root(make_memfs(0755), "tmpfs");
  EXPECT_TRUE(tree_.mount(other, inode, "tmpfs").ok());
  std::vector<DentryPtr> copies;
  while (copies.size() < 2 * Tree::kMaxMountsOfAll / Tree::kMaxMounts) {
    ErrnoOr<Tree::Copy> copy = tree_.copy(tree_.root(), {});
    if (!copy.ok()) {
      EXPECT_EQ(copy.error().value(), ENOSPC);
      break;
    }
    copies.push_back(std::move(copy).value().root);
  }
  // Beside what there is besides.
  EXPECT_EQ(copies.size(), Tree::kMaxMountsOfAll / Tree::kMaxMounts - 2);
  while (tree_.copy(other, {}).ok()) copies.push_back(nullptr);
  EXPECT_TRUE(tree_.mount(other, inode, "tmpfs").ok());
  EXPECT_TRUE(tree_.unmount(at("/m"), false).ok());
  EXPECT_TRUE(tree_.mount(place, inode, "tmpfs").ok());
  std::erase(copies, nullptr);
  on_small_stack([&] {
    for (DentryPtr& copy : copies) tree_.drop(std::exchange(copy, nullptr));
    tree_.sweep();
  });
  ErrnoOr<Tree::Copy> again = tree_.copy(tree_.root(), {});
  ASSERT_TRUE(again.ok());
  tree_.drop(again->root);
  tree_.drop(other);
}

TEST_F(TreeTest, WhatWasMountedGoesWithItsMount) {
  dir("/m");
  InodePtr mounted = make_memfs(0755);
  const std::weak_ptr<Inode> watched = mounted;
  ASSERT_TRUE(
      tree_.mount(tree_.find(from(), "/m", LastLink::kFollow).value(), std::move(mounted), "tmpfs")
          .ok());
  DentryPtr top = tree_.find(from(), "/m", LastLink::kFollow).value();
  ASSERT_TRUE(go_deep(tree_, top, kDepth));
  EXPECT_EQ(open("/m/f", O_CREAT | O_RDWR), 0);
  on_small_stack([&] {
    ASSERT_TRUE(tree_.unmount(top, true).ok());
    top.reset();
  });
  EXPECT_TRUE(watched.expired());
}

TEST_F(TreeTest, WhatChangesAtOnePlaceOfABindIsSeenAtTheOther) {
  dir("/a");
  dir("/a/b");
  EXPECT_EQ(open("/a/b/f", O_CREAT | O_RDWR), 0);
  const DentryPtr known = tree_.find(from(), "/a/b/f", LastLink::kFollow).value();
  dir("/at");
  ASSERT_TRUE(tree_
                  .bind(tree_.find(from(), "/a", LastLink::kFollow).value(),
                        tree_.find(from(), "/at", LastLink::kFollow).value())
                  .ok());
  // Who is known stays who it is: sockets and locks are found by it.
  EXPECT_EQ(tree_.find(from(), "/a/b/f", LastLink::kFollow).value(), known);
  EXPECT_EQ(find("/at/b/f"), 0);
  EXPECT_EQ(find("/at/b/g"), ENOENT);
  EXPECT_EQ(tree_.rename(from(), "/a/b/f", from(), "/a/b/g", 0).value(), 0);
  EXPECT_EQ(find("/at/b/f"), ENOENT);
  EXPECT_EQ(find("/at/b/g"), 0);
  EXPECT_EQ(tree_.rename(from(), "/at/b/g", from(), "/at/b/h", 0).value(), 0);
  EXPECT_EQ(find("/a/b/g"), ENOENT);
  EXPECT_EQ(find("/a/b/h"), 0);
  EXPECT_EQ(open("/at/b/new", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(find("/a/b/new"), 0);
}

TEST_F(TreeTest, NothingIsRenamedIntoWhatIsRemoved) {
  const InodePtr root = tree_.root()->inode;
  const InodePtr gone = root->make("gone", {S_IFDIR | 0755, 0, 0, 0}).value();
  ASSERT_TRUE(root->make("f", {S_IFREG | 0644, 0, 0, 0}).ok());
  ASSERT_TRUE(root->remove_dir("gone", *gone).ok());
  EXPECT_EQ(root->rename("f", *gone, "f", 0), Errno(ENOENT));
  EXPECT_EQ(gone->rename("f", *root, "g", 0), Errno(ENOENT));
  EXPECT_EQ(find("/f"), 0);
}

int count_files(Inode& dir) {
  int count = 0;
  const std::vector<DirEntry> entries = dir.list().value();
  for (const DirEntry& entry : entries) {
    const InodePtr file = dir.lookup(entry.name).value();
    count += file->is_dir() ? 1 + count_files(*file) : 1;
  }
  return count;
}

TEST_F(TreeTest, ManyWhoChangeTheSameNamesLeaveWhatTheFileSystemHas) {
  const std::vector<std::string> dirs = {"/a", "/b"};
  const std::vector<std::string> names = {"/0", "/1", "/2", "/3"};
  for (const std::string& one : dirs) dir(one);
  std::atomic<int> count = 0;
  // Whether a rename replaces something it does not say.
  const auto change = [&](unsigned seed, bool counts) {
    const int replaces = counts ? 1 : 0;  // RENAME_NOREPLACE
    std::minstd_rand random(seed);
    const auto path = [&] { return dirs[random() % dirs.size()] + names[random() % names.size()]; };
    for (int i = 0; i < 2000; ++i) {
      switch (random() % 6) {
        case 0: {
          auto opened = tree_.open(from(), path(), O_CREAT | O_RDWR, 0644);
          if (opened.ok() && opened->created) ++count;
          break;
        }
        case 1:
          if (tree_.make(from(), path(), S_IFDIR | 0755, 0).ok()) ++count;
          break;
        case 2:
          if (tree_.remove(from(), path(), false).ok()) --count;
          break;
        case 3:
          if (tree_.remove(from(), path(), true).ok()) --count;
          break;
        case 4: {
          const int flags = std::max(replaces, static_cast<int>(random() % 3));
          (void)tree_.rename(from(), path(), from(), path(), flags).ok();
          break;
        }
        default:
          // Folders get below each other, and never below themselves.
          (void)tree_
              .rename(from(), path(), from(), path() + names[random() % names.size()], replaces)
              .ok();
      }
    }
  };
  for (int round = 0; round < 2; ++round) {
    const bool counts = round == 1;
    count = count_files(*tree_.root()->inode);
    std::vector<std::future<void>> all;
    for (unsigned seed = 1; seed <= 4; ++seed)
      all.push_back(std::async(std::launch::async, change, seed, counts));
    for (std::future<void>& one : all) one.get();
    if (!counts) continue;
    EXPECT_EQ(count_files(*tree_.root()->inode), count.load());
  }
  for (const std::string& one : dirs) {
    const DentryPtr at = tree_.find(from(), one, LastLink::kFollow).value();
    std::set<std::string> listed;
    const std::vector<DirEntry> entries = at->inode->list().value();
    for (const DirEntry& entry : entries) listed.insert("/" + entry.name);
    for (const std::string& name : names) {
      const ErrnoOr<DentryPtr> found = tree_.find(from(), one + name, LastLink::kFollow);
      EXPECT_EQ(found.ok(), listed.contains(name)) << one << name;
      if (found.ok()) {
        EXPECT_EQ(tree_.path_of(found.value(), tree_.root()), one + name);
        EXPECT_EQ(at->inode->lookup(name.substr(1)).value(), found.value()->inode);
      }
    }
  }
}

/// A directory whose file system is long in answering, when the test likes.
class SlowDirectory final : public Inode {
 public:
  uint32_t type() const override { return S_IFDIR; }
  ErrnoOr<Stat> stat() override {
    stay();
    Stat out;
    out.mode = S_IFDIR | 0777;
    return out;
  }
  Errno set_attributes(const SetAttributes&) override { return kOk; }
  ErrnoOr<FilePtr> open(DentryPtr, int) override { return Errno(EACCES); }
  ErrnoOr<InodePtr> lookup(std::string_view name) override {
    stay();
    const auto found = names.find(name);
    if (found == names.end()) return Errno(ENOENT);
    return found->second;
  }
  ErrnoOr<InodePtr> make(std::string_view name, const NewNode& node) override {
    stay();
    return names[std::string(name)] = files->make(name, node).value();
  }
  Errno unlink(std::string_view name, Inode&) override {
    stay();
    names.erase(std::string(name));
    return kOk;
  }
  Errno rename(std::string_view name, Inode& to, std::string_view new_name, int) override {
    stay();
    dynamic_cast<SlowDirectory&>(to).names[std::string(new_name)] =
        names.extract(std::string(name)).mapped();
    return kOk;
  }

  const InodePtr files = make_memfs(0755);
  std::map<std::string, InodePtr, std::less<>> names;
  int64_t believed_ns() const override { return is_believed ? kForEver : 0; }
  std::atomic<bool> is_believed{true};
  std::atomic<int> answers_before{-1};  // it is slow; -1: never
  std::promise<void> begun;
  std::promise<void> over;

 private:
  void stay() {
    if (answers_before < 0 || answers_before-- != 0) return;
    begun.set_value();
    over.get_future().wait();
  }
};

class SlowTreeTest : public TreeTest {
 protected:
  using Call = std::function<Errno(const WalkFrom&)>;
  /// Whether what was called stands; if not, it is over.
  template <class Said>
  static bool stands(SlowDirectory& slow, const std::future<Said>& called) {
    auto begun = slow.begun.get_future();
    while (begun.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready &&
           called.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    }
    return begun.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
  /// Carries a call out with its file system slow at each point in turn, and meanwhile looks
  /// whether others are served.
  void stop_everywhere(const Call& call) {
    for (int at = 0;; ++at) {
      const auto slow = std::make_shared<SlowDirectory>();
      slow->names["f"] = slow->files->make("f", {S_IFREG | 0644, 0, 0, 0}).value();
      const DentryPtr root = tree_.add_root(slow, "slow");
      slow->answers_before = at;
      auto called =
          std::async(std::launch::async, [&] { return call({root, root, Credentials()}); });
      const bool stood = stands(*slow, called);
      if (stood) {
        auto served = std::async(std::launch::async, [&] {
          EXPECT_EQ(open("/beside", O_CREAT | O_RDWR), 0);
          EXPECT_EQ(find("/beside"), 0);
          EXPECT_TRUE(tree_.rename(from(), "/beside", from(), "/there", 0).ok());
          EXPECT_EQ(tree_.path_of(root, root), "/");
        });
        const bool done = served.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
        EXPECT_TRUE(done) << at;
        slow->over.set_value();
        served.wait();
      }
      EXPECT_TRUE(called.get().ok()) << at;
      tree_.drop(root);
      tree_.sweep();
      if (!stood) {
        EXPECT_GT(at, 0);
        return;
      }
    }
  }
};

TEST_F(SlowTreeTest, WhoIsLongInAnsweringKeepsNoOtherFileSystemWaiting) {
  stop_everywhere(
      [&](const WalkFrom& in) { return tree_.find(in, "f", LastLink::kFollow).error(); });
  stop_everywhere([&](const WalkFrom& in) {
    return tree_.open(in, "new", O_CREAT | O_EXCL | O_RDWR, 0644).error();
  });
  stop_everywhere([&](const WalkFrom& in) { return tree_.make(in, "d", S_IFDIR | 0755, 0); });
  stop_everywhere([&](const WalkFrom& in) { return tree_.remove(in, "f", false); });
  stop_everywhere([&](const WalkFrom& in) { return tree_.rename(in, "f", in, "g", 0); });
}

TEST_F(SlowTreeTest, ANameThatIsAskedForTwiceAtATimeIsOne) {
  const auto slow = std::make_shared<SlowDirectory>();
  slow->names["f"] = slow->files->make("f", {S_IFREG | 0644, 0, 0, 0}).value();
  const DentryPtr root = tree_.add_root(slow, "slow");
  const WalkFrom in{root, root, {}};
  slow->answers_before = 1;  // behind the look at the directory itself
  const auto ask = [&] { return tree_.find(in, "f", LastLink::kFollow).value(); };
  auto one = std::async(std::launch::async, ask);
  slow->begun.get_future().wait();
  auto two = std::async(std::launch::async, ask);
  slow->over.set_value();
  EXPECT_EQ(one.get(), two.get());
  tree_.drop(root);
}

TEST_F(SlowTreeTest, WhatIsMountedWhileANameIsAskedForIsThere) {
  const auto slow = std::make_shared<SlowDirectory>();
  const InodePtr above = slow->files->make("d", {S_IFDIR | 0755, 0, 0, 0}).value();
  ASSERT_TRUE(above->make("e", {S_IFDIR | 0755, 0, 0, 0}).ok());
  slow->names["d"] = above;
  const DentryPtr root = tree_.add_root(slow, "slow");
  const WalkFrom in{root, root, {}};
  const DentryPtr place = tree_.find(in, "d/e", LastLink::kFollow).value();
  tree_.distrust(root);
  slow->answers_before = 1;
  const InodePtr elsewhere = slow->files->make("f", {S_IFDIR | 0755, 0, 0, 0}).value();
  slow->is_believed = false;
  auto asked = std::async(std::launch::async,
                          [&] { return tree_.find(in, "d", LastLink::kFollow).value(); });
  slow->begun.get_future().wait();
  slow->names["d"] = elsewhere;  // from outside
  EXPECT_TRUE(tree_.mount(place, make_memfs(0755), "tmpfs").ok());
  slow->over.set_value();
  EXPECT_EQ(asked.get(), place->parent);
  EXPECT_TRUE(Tree::is_mount_root(*tree_.find(in, "d/e", LastLink::kFollow).value()));
  tree_.drop(root);
}

TEST_F(SlowTreeTest, NothingIsTakenFromUnderAMount) {
  const std::vector<Call> takes = {
      [&](const WalkFrom& in) { return tree_.remove(in, "f", false); },
      [&](const WalkFrom& in) { return tree_.rename(in, "g", in, "f", 0); }};
  ASSERT_EQ(open("/beside", O_CREAT | O_RDWR), 0);
  const DentryPtr beside = tree_.find(from(), "/beside", LastLink::kFollow).value();
  const auto file = [](SlowDirectory& slow, const std::string& name) {
    return slow.files->make(name, {S_IFREG | 0644, 0, 0, 0}).value();
  };
  for (const Call& take : takes) {
    bool stood = true;
    for (int at = 0; stood; ++at) {
      const auto slow = std::make_shared<SlowDirectory>();
      slow->names["f"] = file(*slow, "f");
      slow->names["g"] = file(*slow, "g");
      const DentryPtr root = tree_.add_root(slow, "slow");
      const WalkFrom in{root, root, {}};
      DentryPtr place = tree_.find(in, "f", LastLink::kFollow).value();
      slow->answers_before = at;
      auto taken = std::async(std::launch::async, [&] { return take(in); });
      stood = stands(*slow, taken);
      if (stood) {
        auto mounted = std::async(std::launch::async, [&] {
          return at % 2 == 0 ? tree_.mount(place, file(*slow, "over"), "file")
                             : tree_.bind(beside, place);
        });
        // There, or waiting.
        mounted.wait_for(std::chrono::milliseconds(20));
        slow->over.set_value();
        const Errno said = mounted.get();
        EXPECT_TRUE(said.ok() || said == Errno(ENOENT)) << at << ": " << said.value();
        EXPECT_EQ(taken.get(), Errno(said.ok() ? EBUSY : 0)) << at;
      }
      place.reset();
      tree_.drop(root);
      tree_.sweep();
    }
  }
}

TEST_F(SlowTreeTest, WhatIsMovedAwayIsNoWayOutFromBeneath) {
  const auto folder = [](SlowDirectory& above, const std::string& name) {
    const auto made = std::make_shared<SlowDirectory>();
    above.names[name] = made;
    return made;
  };
  const auto move_to = [&](const char* there) {
    return [&, there](const WalkFrom& in) { return tree_.rename(in, "base/c", in, there, 0); };
  };
  const auto mount = [&](const WalkFrom& in) {
    return tree_.mount(tree_.find(in, "m", LastLink::kFollow).value(), make_memfs(0755), "tmpfs");
  };
  const auto unmount = [&](const WalkFrom& in) {
    GUEST_TRY(mount(in));
    return tree_.unmount(tree_.find(in, "m", LastLink::kFollow).value(), false);
  };
  constexpr std::array<const char*, 3> kBeside = {"outside", "m", "etc"};
  struct Row {
    Call meanwhile;
    uint32_t resolve;
    Errno expected;
  };
  const std::vector<Row> rows = {
      {move_to("outside/c"), kResolveBeneath, Errno(EAGAIN)},
      {move_to("outside/c"), kResolveInRoot, Errno(EAGAIN)},
      {move_to("outside/c"), 0, kOk},
      {move_to("base/d"), kResolveBeneath, Errno(EXDEV)},
      {move_to("base/d"), kResolveInRoot, Errno(ENOENT)},
      {mount, kResolveBeneath, Errno(EAGAIN)},
      {unmount, kResolveInRoot, Errno(EAGAIN)},
  };
  for (const Row& row : rows) {
    const auto top = std::make_shared<SlowDirectory>();
    for (const char* const name : kBeside) folder(*top, name);
    const auto moved = folder(*folder(*top, "base"), "c");
    DentryPtr root = tree_.add_root(top, "slow");
    const WalkFrom in{root, root, {}};
    // The root itself, as openat2(2) has it where nothing is to be left.
    DentryPtr base = tree_.find(in, "base", LastLink::kFollow).value();
    const DentryPtr& start = row.resolve == 0 ? root : base;
    moved->answers_before = 0;
    auto found = std::async(std::launch::async, [&] {
      return tree_.find({start, base, {}, row.resolve}, "c/../../etc", LastLink::kFollow).error();
    });
    ASSERT_TRUE(stands(*moved, found));
    EXPECT_TRUE(row.meanwhile(in).ok());
    moved->over.set_value();
    EXPECT_EQ(found.get(), row.expected) << &row - rows.data();
    base.reset();
    tree_.drop(std::move(root));
    tree_.sweep();
  }
}

}  // namespace
}  // namespace fluyt::guest
