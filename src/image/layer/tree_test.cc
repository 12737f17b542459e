#include "image/layer/tree.h"

#include <gmock/gmock.h>
#include <sys/sysmacros.h>

#include "image/layer/compare.h"
#include "image/layer/layer_test.h"
#include "image/layer/unpack.h"

namespace fluyt::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Tree : public LayerFormTest {};

bool is_whiteout(const Look& look) { return S_ISCHR(look.mode) && look.device == 0; }
bool is_opaque(const Look& look) { return look.xattrs.contains("trusted.overlay.opaque"); }

FLUYT_FOR_BOTH_FORMS(Tree);

TEST_P(Tree, MakesEveryKindOfFile) {
  const LayerInfo info = unpack_ok(
      TarBuild()
          .dir("./", 0711, 1, 2)
          .dir("d", 02770, 3, 1234)
          .add({.name = "d/f", .data = "data", .mode = 04751, .uid = 5, .gid = 6})
          .symlink("d/l", "../../outside")
          .hard_link("h", "d/f")
          .add({.type = '3', .name = "null", .mode = 0666, .major = 1, .minor = 3})
          .add({.type = '4', .name = "disk", .mode = 0660, .gid = 6, .major = 8, .minor = 1})
          .add({.type = '6', .name = "fifo", .mode = 0600})
          .end());
  EXPECT_EQ(look(info, "").mode, 0711U | S_IFDIR);
  EXPECT_EQ(look(info, "").uid, 1U);
  EXPECT_EQ(look(info, "d").mode, 02770U | S_IFDIR);
  EXPECT_EQ(look(info, "d").gid, 1234U);
  EXPECT_EQ(look(info, "d").mtime.tv_sec, 1'000'000'000);
  EXPECT_EQ(look(info, "d/f").mode, 04751U | S_IFREG);
  EXPECT_EQ(look(info, "d/f").gid, 6U) << "a setgid directory passes nothing on";
  EXPECT_EQ(look(info, "d/f").content, "data");
  EXPECT_EQ(look(info, "d/f").links, 2U);
  EXPECT_EQ(look(info, "d/l").content, "../../outside");
  EXPECT_EQ(look(info, "null").device, makedev(1, 3));
  EXPECT_EQ(look(info, "null").mode, 0666U | S_IFCHR);
  EXPECT_EQ(look(info, "disk").mode, 0660U | S_IFBLK);
  EXPECT_EQ(look(info, "fifo").mode, 0600U | S_IFIFO);
  EXPECT_EQ(info.entries, 8U);
  if (form() == LayerForm::kDirectory) {
    EXPECT_EQ(info.inodes, 6U) << "the root and the second name are not counted";
  }
  EXPECT_TRUE(info.implied_dirs.empty());
  EXPECT_TRUE(is_clean());
}

TEST_P(Tree, NothingLeavesTheLayer) {
  const std::string outside = dir_.path() + "/outside";
  ASSERT_TRUE(sys::make_dirs(outside, 0755).ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, outside + "/secret", "secret", 0644).ok());
  EXPECT_THAT(error_of(TarBuild().file("../evil").end()), HasSubstr("climbs out"));
  EXPECT_THAT(error_of(TarBuild().file("a/../../evil").end()), HasSubstr("climbs out"));
  EXPECT_THAT(error_of(TarBuild().hard_link("h", "../../outside/secret").end()),
              HasSubstr("climbs out"));
  // An absolute name is one in the root.
  EXPECT_TRUE(has(unpack_ok(TarBuild().file("/etc/absolute").end()), "etc/absolute"));
  EXPECT_FALSE(sys::exists("/etc/absolute"));
  // Parents that are symlinks lead to where they would in the container, never out of it.
  const LayerInfo through = unpack_ok(TarBuild()
                                          .symlink("abs", outside)
                                          .file("abs/planted")
                                          .symlink("up", "../../../../../../.." + outside)
                                          .file("up/planted2")
                                          .end());
  EXPECT_FALSE(sys::exists(outside + "/planted"));
  EXPECT_FALSE(sys::exists(outside + "/planted2"));
  EXPECT_TRUE(has(through, outside.substr(1) + "/planted"));
  EXPECT_TRUE(has(through, outside.substr(1) + "/planted2"));
  // A hard link to a symlink is the symlink; a file of that name does not write through it.
  const LayerInfo link = unpack_ok(TarBuild()
                                       .symlink("s", outside + "/secret")
                                       .hard_link("h", "s")
                                       .file("s", "own")
                                       .file("h2/x")
                                       .end());
  EXPECT_TRUE(S_ISLNK(look(link, "h").mode));
  EXPECT_EQ(look(link, "s").content, "own");
  EXPECT_EQ(sys::read_file(outside + "/secret", 100).value(), "secret");
  // What a hard link names below a symlink is looked for in the layer alone.
  const LayerInfo lower =
      unpack_ok(TarBuild().symlink("o", outside).hard_link("h", "o/secret").end());
  EXPECT_FALSE(has(lower, "h"));
  ASSERT_EQ(lower.lower_links.size(), 1U);
}

TEST_P(Tree, RefusesNonsense) {
  EXPECT_THAT(error_of(TarBuild().file("f").file("f/g").end()),
              HasSubstr("parent \"f\" is not a directory"));
  EXPECT_THAT(error_of(TarBuild().dir("d").hard_link("h", "d").end()), HasSubstr("is not a file"));
  EXPECT_THAT(error_of(TarBuild().file("./").add({.type = '0', .name = "."}).end()),
              HasSubstr("root of the layer"));
  EXPECT_THAT(error_of(TarBuild().symlink("l", "").end()), HasSubstr("symlink target of 0 bytes"));
  EXPECT_THAT(error_of(TarBuild().symlink("a", "b").symlink("b", "a").file("a/f").end()),
              HasSubstr("symlinks"));
  EXPECT_THAT(error_of(TarBuild().file(".wh.").end()), HasSubstr("whiteout of nothing"));
  EXPECT_THAT(error_of(TarBuild().file(".wh.x").hard_link("h", "x").end()),
              HasSubstr("is not a file"));
}

TEST_P(Tree, TheLastOfOneNameWins) {
  const LayerInfo info = unpack_ok(TarBuild()
                                       .file("f", "one")
                                       .file("f", "two", 0600)
                                       .dir("d", 0700)
                                       .file("d/kept")
                                       .dir("d", 0755)
                                       .dir("gone")
                                       .file("gone/inside")
                                       .file("gone", "a file now")
                                       .symlink("l", "d")
                                       .dir("l")
                                       .file("l/own")
                                       .file("self", "s")
                                       .hard_link("self", "self")
                                       .end());
  EXPECT_EQ(look(info, "f").content, "two");
  EXPECT_EQ(look(info, "f").mode & 0777U, 0600U);
  EXPECT_TRUE(has(info, "d/kept"));
  EXPECT_EQ(look(info, "d").mode & 0777U, 0755U);
  EXPECT_EQ(look(info, "gone").content, "a file now");
  EXPECT_TRUE(S_ISDIR(look(info, "l").mode));
  EXPECT_FALSE(has(info, "d/own"));
  EXPECT_EQ(look(info, "self").content, "s");
}

TEST_P(Tree, WhatGaveWayIsNotCounted) {
  TarBuild tar;
  tar.file("f", std::string(200'000, '1')).file("f", "2");  // data
  tar.dir("d").dir("d/e").file("d/e/f", std::string(200'000, '3')).file("d/.wh.w");
  tar.hard_link("kept", "d/e/f").symlink("d", "kept");         // a whole directory
  tar.file("a", "4").hard_link("b", "a").file("a", "5");       // one name of two
  tar.file("x", "6").hard_link("y", "x").hard_link("z", "x");  // three of one
  tar.pax({{"GNU.sparse.size", "104857600"},
           {"GNU.sparse.numblocks", "1"},
           {"GNU.sparse.map", "52428800,5"}});
  tar.file("sparse", "abcde");
  const LayerInfo info = unpack_ok(tar.end());
  const auto count = count_tree(sys::open(tree_of(info), O_RDONLY | O_DIRECTORY).value()).value();
  EXPECT_EQ(count.inodes, 7U);  // f kept d a b x sparse
  if (form() != LayerForm::kDirectory) return;
  EXPECT_EQ(info.inodes, 7U);
  EXPECT_GE(info.disk_bytes, 200'000U);
  EXPECT_LE(info.disk_bytes, 200'704U + 6 * 4096U);
}

TEST_P(Tree, ADeepDirectoryMayGiveWay) {
  std::string deep;
  while (deep.size() < 200) deep += "d/";
  const LayerInfo info = unpack_ok(TarBuild().file(deep + "f").file("d", "a file now").end());
  EXPECT_EQ(look(info, "d").content, "a file now");
}

TEST_P(Tree, ACachedParentThatIsReplacedIsForgotten) {
  const LayerInfo info = unpack_ok(TarBuild()
                                       .dir("a")
                                       .dir("b")
                                       .symlink("l", "a")
                                       .file("l/one")
                                       .symlink("l", "b")
                                       .file("l/two")
                                       .dir("x")
                                       .file("x/one")
                                       .symlink("x", "b")
                                       .file("x/three")
                                       .end());
  EXPECT_TRUE(has(info, "a/one"));
  EXPECT_TRUE(has(info, "b/two"));
  EXPECT_FALSE(has(info, "a/two"));
  EXPECT_TRUE(has(info, "b/three"));
}

TEST_P(Tree, WhiteoutsAreForLowerLayersAlone) {
  const LayerInfo info = unpack_ok(TarBuild()
                                       .file("d/.wh.gone")
                                       .file(".wh.both1")
                                       .file("both1", "own")
                                       .file("both2", "own")
                                       .file(".wh.both2")
                                       .file(".wh.dir1")
                                       .file("dir1/f")
                                       .dir("dir2")
                                       .file(".wh.dir2")
                                       .file(".wh..wh.plnk/1.2")
                                       .end());
  EXPECT_TRUE(is_whiteout(look(info, "d/gone")));
  EXPECT_EQ(look(info, "both1").content, "own");
  EXPECT_EQ(look(info, "both2").content, "own");
  EXPECT_TRUE(is_opaque(look(info, "dir1"))) << "the lower directory went, this one starts empty";
  EXPECT_TRUE(is_opaque(look(info, "dir2")));
  EXPECT_FALSE(has(info, ".wh..wh.plnk"));
  EXPECT_EQ(info.skipped, 1U);
  EXPECT_THAT(info.implied_dirs, ElementsAre("", "d")) << "dir1 inherits nothing";
}

TEST_P(Tree, OpaqueAnywhereInTheTar) {
  const LayerInfo info = unpack_ok(
      TarBuild().file("a/x").file("a/.wh..wh..opq").file("b/.wh..wh..opq").file("b/c/y").end());
  EXPECT_TRUE(is_opaque(look(info, "a")));
  EXPECT_TRUE(is_opaque(look(info, "b")));
  EXPECT_FALSE(is_opaque(look(info, "b/c")));
  EXPECT_THAT(info.implied_dirs, ElementsAre("", "a", "b"))
      << "below b nothing of the lower layers shows";
  EXPECT_TRUE(unpack_ok(TarBuild().file(".wh..wh..opq").end()).opaque_root);
}

TEST_P(Tree, AttributesThatOverlayfsWouldObeyAreDropped) {
  const std::string capability(
      "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
  const LayerInfo info =
      unpack_ok(TarBuild()
                    .pax({{"SCHILY.xattr.trusted.overlay.opaque", "y"},
                          {"SCHILY.xattr.trusted.overlay.redirect", "/etc"},
                          {"SCHILY.xattr.user.kept", "v"}})
                    .dir("d")
                    .pax({{"SCHILY.xattr.security.capability", capability},
                          {"SCHILY.xattr.security.selinux", "system_u:object_r:shadow_t:s0"}})
                    .add({.name = "ping", .data = "elf", .mode = 0755, .uid = 7})
                    .add({.type = '3', .name = "forged", .mode = 0})
                    .end());
  EXPECT_EQ(look(info, "d").xattrs, (std::map<std::string, std::string>{{"user.kept", "v"}}));
  EXPECT_EQ(look(info, "ping").xattrs,
            (std::map<std::string, std::string>{{"security.capability", capability}}))
      << "set after the owner, which clears it";
  EXPECT_FALSE(has(info, "forged")) << "0:0 devices come from .wh. names alone";
  EXPECT_EQ(info.skipped, 4U);
}

TEST_P(Tree, SparseFilesKeepTheirHoles) {
  const LayerInfo info = unpack_ok(TarBuild()
                                       .pax({{"GNU.sparse.size", "104857600"},
                                             {"GNU.sparse.numblocks", "1"},
                                             {"GNU.sparse.map", "52428800,5"}})
                                       .file("f", "abcde")
                                       .end());
  struct stat stat_info{};
  ASSERT_EQ(stat((tree_of(info) + "/f").c_str(), &stat_info), 0);
  EXPECT_EQ(stat_info.st_size, 104857600);
  if (form() == LayerForm::kDirectory) {
    EXPECT_LT(stat_info.st_blocks * 512, 65536);
  }
  EXPECT_LT(info.disk_bytes, 200'000U) << "an image keeps a number for each 4 KiB of a hole";
  const std::string content = look(info, "f").content;
  EXPECT_EQ(content.substr(52428800, 5), "abcde");
  EXPECT_EQ(content.find_first_not_of('\0'), 52428800U);
  EXPECT_EQ(content.find_first_not_of('\0', 52428805), std::string::npos);
}

TEST_P(Tree, ManyDirectoriesAndDeepOnes) {
  TarBuild tar;
  for (int i = 0; i < 900; ++i) tar.file(cat("d", i % 450, "/e", i, "/f"));
  std::string deep;
  while (deep.size() < 1000) deep += "d/";
  tar.pax({{"path", deep + "f"}}).file("x", "deep");
  const LayerInfo info = unpack_ok(tar.end());
  EXPECT_TRUE(has(info, "d0/e0/f"));
  EXPECT_TRUE(has(info, "d449/e899/f"));
  EXPECT_EQ(look(info, deep + "f").content, "deep");
  ASSERT_TRUE(store_->remove(info.diff_id).ok());
}

// A piece takes its whole block, however little of it has data.
TEST_P(Tree, PiecesOfASparseFileCountByTheBlock) {
  constexpr int kPieces = 2000;
  std::string map;
  for (int i = 0; i < kPieces; ++i) map += cat(i == 0 ? "" : ",", i * 8192, ",1");
  const std::string data(kPieces, 'x');
  const std::string tar = TarBuild()
                              .pax({{"GNU.sparse.major", "0"},
                                    {"GNU.sparse.minor", "1"},
                                    {"GNU.sparse.size", std::to_string(kPieces * 8192)},
                                    {"GNU.sparse.numblocks", std::to_string(kPieces)},
                                    {"GNU.sparse.map", map}})
                              .file("f", data)
                              .end();
  const LayerInfo info = unpack_ok(tar);
  EXPECT_EQ(look(info, "f").size, kPieces * 8192);
  EXPECT_GE(info.disk_bytes, kPieces * 4096U);
  if (form() != LayerForm::kDirectory) return;
  EXPECT_EQ(info.disk_bytes, kPieces * 4096U);
  struct stat file{};
  ASSERT_EQ(stat((tree_of(info) + "/f").c_str(), &file), 0);
  // The disk's own index of so many pieces comes on top, once they are written.
  EXPECT_LE(info.disk_bytes, static_cast<uint64_t>(file.st_blocks) * 512);
}

// A path of two bytes a directory names more of them than it has room for.
TEST_P(Tree, DirectoriesCountToo) {
  if (form() != LayerForm::kDirectory) GTEST_SKIP() << "of trees";
  const LayerInfo info = unpack_ok(TarBuild().dir("a").file("a/b/c/f").end());
  EXPECT_EQ(info.disk_bytes, 4 * 4096U);
  const LayerInfo replaced =
      unpack_ok(TarBuild().dir("a").file("a/b/c/f").file("a/b/c/f", "again").end());
  EXPECT_EQ(replaced.disk_bytes, 4 * 4096U) << "counted again";
}

TEST_P(Tree, NothingTakesMoreOfTheDiskThanItMay) {
  std::string map;
  for (int i = 0; i < 1000; ++i) map += cat(i == 0 ? "" : ",", i * 8192, ",1");
  const std::string tar = TarBuild()
                              .pax({{"GNU.sparse.major", "0"},
                                    {"GNU.sparse.minor", "1"},
                                    {"GNU.sparse.size", std::to_string(1000 * 8192)},
                                    {"GNU.sparse.numblocks", "1000"},
                                    {"GNU.sparse.map", map}})
                              .file("f", std::string(1000, 'x'))
                              .end();
  const std::string folder = dir_.path() + "/bomb";
  ASSERT_TRUE(sys::make_dirs(folder + "/fs", 0755).ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, folder + "/tar", tar, 0600).ok());
  const auto unpack_into = [&](uint64_t max_bytes) {
    const sys::Fd in = sys::open(folder + "/tar", O_RDONLY).value();
    const sys::Fd tree = sys::open(folder + "/fs", O_RDONLY | O_DIRECTORY).value();
    const sys::Fd image = sys::open(folder + "/image", O_RDWR | O_CREAT | O_TRUNC, 0600).value();
    UnpackThreads threads;
    return image::unpack(in, tree, image, {.max_unpacked_bytes = max_bytes, .form = form()},
                         threads);
  };
  const auto refused = unpack_into(1U << 20U);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(refused.error().message(), HasSubstr("more than 1048576 bytes on the disk"));
  EXPECT_TRUE(unpack_into(16U << 20U).ok());
}

// Two chains in turn, each of more directories than are kept open.
TEST_P(Tree, DirectoriesThatWereLetGoOfComeBack) {
  const auto chain = [](const std::string& first) {
    std::string out = first;
    for (int i = 0; i < 1000; ++i) out += "/d";
    return out;
  };
  TarBuild tar;
  for (int i = 0; i < 300; ++i) {
    for (const char* first : {"a", "b"}) {
      tar.pax({{"path", cat(chain(first), "/f", i)}}).file("x");
    }
  }
  const LayerInfo info = unpack_ok(tar.end());
  EXPECT_EQ(info.implied_dirs.size(), 2003U);
  ASSERT_TRUE(store_->remove(info.diff_id).ok());
}

TEST_P(Tree, LinksThatLeadFarHaveTheirMeasure) {
  std::string there;
  for (int i = 0; i < 800; ++i) there += "d/../";
  TarBuild tar;
  tar.dir("d");
  // Each leads through hundreds of names, and then through the one before it.
  for (int i = 0; i < 30; ++i) {
    tar.pax({{"linkpath", cat(there, i == 0 ? "d" : cat("l", i - 1))}}).symlink(cat("l", i), "x");
  }
  // A new link forgets what is known of the ways.
  for (int i = 0; i < 200; ++i) {
    tar.symlink("s", "d").file(cat("l29/f", i)).file("s", "no link any more");
  }
  EXPECT_THAT(error_of(tar.end()), HasSubstr("directories that so many entries may cost"));
}

// Links of two bytes to two paths of three thousand, and names of files behind them in turn.
class LongManifest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: unpacking makes devices and owners";
  }
  static Result<> add(TreeWriter& tree, TarType type, std::string path, std::string link = "") {
    TarEntry entry{.type = type, .path = std::move(path), .link = std::move(link), .mode = 0755};
    FLUYT_TRY(tree.begin(entry));
    return tree.end();
  }
  static Result<> make_ways(TreeWriter& tree) {
    for (const char* first : {"a", "b"}) {
      std::string path = first;
      for (int i = 0; i < 15; ++i) path += "/" + std::string(200, 'd');
      FLUYT_TRY(add(tree, TarType::kDirectory, path));
      FLUYT_TRY(add(tree, TarType::kSymlink, cat("l", first), path));
    }
    return {};
  }
  static Result<> make_files(TreeWriter& tree) {
    for (int i = 0; i < kFiles; ++i) {
      for (const char* link : {"la", "lb"})
        FLUYT_TRY(add(tree, TarType::kSymlink, cat(link, "/", i), "x"));
    }
    return {};
  }
  uint64_t manifest_bytes() const {
    return static_cast<uint64_t>(sys::stat_of(manifest_)->st_size);
  }
  static constexpr int kFiles = 200;  // in each: more than a mebibyte of manifest
  const sys::TempDir dir_ = sys::TempDir::create().value();
  const sys::Fd root_ = sys::open(dir_.path(), O_RDONLY | O_DIRECTORY).value();
  const sys::Fd manifest_ = sys::open("/tmp", O_TMPFILE | O_RDWR, 0600).value();
};

TEST_F(LongManifest, IsOfTheRoomThatTheLayerHas) {
  constexpr uint64_t kRoom = 512U << 10U;  // the directories take a quarter
  TreeWriter tree(root_, {}, DiskRoom(root_, kRoom, 0), manifest_);
  ASSERT_TRUE(make_ways(tree).ok());
  const auto made = make_files(tree);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(made.error().message(), HasSubstr("the layer's manifest"));
  EXPECT_LE(manifest_bytes(), kRoom);
}

TEST_F(LongManifest, IsNotWrittenWhereItBeginsAnew) {
  TreeWriter tree(root_, {}, {}, manifest_);
  ASSERT_TRUE(make_ways(tree).ok());
  for (const char* target : {"x", "y"})
    ASSERT_TRUE(add(tree, TarType::kSymlink, "again", target).ok());
  ASSERT_TRUE(make_files(tree).ok());
  EXPECT_EQ(manifest_bytes(), 0U);
  const auto summary = tree.finish();
  ASSERT_TRUE(summary.ok()) << summary.error().message();
  EXPECT_GT(manifest_bytes(), 0U);
  EXPECT_THAT(check_tree(root_, manifest_, summary->manifest_digest, 5).value(),
              testing::IsEmpty());
}

TEST(TreeLimits, AreHeld) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: unpacking makes devices and owners";
  const sys::TempDir dir = sys::TempDir::create().value();
  const sys::Fd root = sys::open(dir.path(), O_RDONLY | O_DIRECTORY).value();
  TreeWriter few(root, {.max_entries = 2});
  TarEntry entry{.type = TarType::kDirectory, .path = "a"};
  EXPECT_TRUE(few.begin(entry).ok());
  entry.path = "b";
  EXPECT_TRUE(few.begin(entry).ok());
  entry.path = "c";
  EXPECT_EQ(few.begin(entry).error().code(), Code::kResourceExhausted);
  TreeWriter small(root, {.max_directory_name_bytes = 500});
  entry.path = "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p";
  EXPECT_EQ(small.begin(entry).error().code(), Code::kResourceExhausted);
}

}  // namespace
}  // namespace fluyt::image
