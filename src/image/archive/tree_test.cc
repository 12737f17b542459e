#include "image/archive/tree.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <string>
#include <vector>

#include "image/archive/untar.h"
#include "sys/file.h"

namespace fluyt::image::archive {
namespace {

class TreeTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  void write(const std::string& name, const std::string& text, mode_t mode = 0644) const {
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path(name), text, mode).ok());
  }
  std::string read(const std::string& name) const {
    return sys::read_file(path(name), 1 << 20).value_or("(none)");
  }
  void make(const std::string& name) const { ASSERT_TRUE(sys::make_dirs(path(name), 0755).ok()); }
  struct stat looks(const std::string& name) const {
    struct stat info{};
    EXPECT_EQ(::lstat(path(name).c_str(), &info), 0) << name;
    return info;
  }
  std::string packed(const std::string& name, const std::string& as,
                     const TreeOptions& options = {}) const {
    std::string out;
    TarWriter tar(into(out));
    const sys::Fd fd = sys::open(path(name), O_PATH | O_NOFOLLOW).value();
    const Result<> done = write_tree(fd, as, tar, options);
    EXPECT_TRUE(done.ok()) << done.error().message();
    EXPECT_TRUE(tar.finish().ok());
    return out;
  }
  static std::string tar_of(const std::vector<TarMember>& members) {
    std::string out;
    TarWriter tar(into(out));
    for (const TarMember& member : members) {
      EXPECT_TRUE(tar.entry(member).ok());
      EXPECT_TRUE(tar.data(std::string(member.size, 'x')).ok());
      EXPECT_TRUE(tar.end_file().ok());
    }
    EXPECT_TRUE(tar.finish().ok());
    return out;
  }
  Result<> unpack(const std::string& tar, const std::string& root,
                  UntarOptions options = {}) const {
    const auto untar = FLUYT_TRY(
        Untar::create(FLUYT_TRY(sys::open(path(root), O_PATH | O_DIRECTORY)), std::move(options)));
    // In pieces that end anywhere.
    for (size_t at = 0; at < tar.size(); at += 1000)
      FLUYT_TRY(untar->push(std::string_view(tar).substr(at, 1000)));
    return untar->finish();
  }
  static TarWriter::Sink into(std::string& out) {
    return [&out](std::string_view bytes) -> Result<> {
      out += bytes;
      return {};
    };
  }

  const sys::TempDir folder_ = sys::TempDir::create().value();
};

TEST_F(TreeTest, ComesBackAsItWas) {
  make("from/deep/er");
  write("from/file", "hello", 0640);
  write("from/deep/er/file", std::string(100'000, 'y'));
  ASSERT_EQ(::link(path("from/file").c_str(), path("from/deep/same").c_str()), 0);
  ASSERT_EQ(::symlink("/nowhere", path("from/link").c_str()), 0);
  ASSERT_EQ(::mkfifo(path("from/fifo").c_str(), 0600), 0);
  ASSERT_EQ(::chmod(path("from/fifo").c_str(), 0622), 0);
  ASSERT_EQ(::chmod(path("from/deep").c_str(), 0700), 0);
  make("to/place");
  const auto done = unpack(packed("from", "new"), "to", {.folder = "/place"});
  ASSERT_TRUE(done.ok()) << done.error().message();
  EXPECT_EQ(read("to/place/new/file"), "hello");
  EXPECT_EQ(looks("to/place/new/file").st_mode & 07777U, 0640U);
  EXPECT_EQ(looks("to/place/new/file").st_mtim.tv_sec, looks("from/file").st_mtim.tv_sec);
  EXPECT_EQ(read("to/place/new/deep/er/file").size(), 100'000U);
  EXPECT_EQ(looks("to/place/new/deep").st_mode & 07777U, 0700U);
  EXPECT_EQ(looks("to/place/new/file").st_ino, looks("to/place/new/deep/same").st_ino);
  EXPECT_EQ(sys::read_link(sys::kCwd, path("to/place/new/link")).value(), "/nowhere");
  EXPECT_EQ(looks("to/place/new/fifo").st_mode, S_IFIFO | 0622U);
  EXPECT_EQ(looks("to/place/new/fifo").st_mtim.tv_sec, looks("from/fifo").st_mtim.tv_sec);
  // A second time over the first.
  write("from/file", "other");
  ASSERT_TRUE(unpack(packed("from", "new"), "to", {.folder = "place"}).ok());
  EXPECT_EQ(read("to/place/new/file"), "other");
}

TEST_F(TreeTest, ASingleFileAndALinkAreTrees) {
  write("file", "1");
  ASSERT_EQ(::symlink("file", path("link").c_str()), 0);
  make("to");
  ASSERT_TRUE(unpack(packed("file", "a"), "to").ok());
  ASSERT_TRUE(unpack(packed("link", "b"), "to").ok());
  EXPECT_EQ(read("to/a"), "1");
  EXPECT_EQ(sys::read_link(sys::kCwd, path("to/b")).value(), "file");
}

TEST_F(TreeTest, HolesStayHoles) {
  constexpr off_t kHole = 64 << 20;
  make("to");
  write("file", "begin");
  {
    const sys::Fd fd = sys::open(path("file"), O_WRONLY).value();
    ASSERT_EQ(::pwrite(fd.raw(), "middle", 6, kHole), 6);
    ASSERT_EQ(::ftruncate(fd.raw(), 2 * kHole), 0);
  }
  const std::string tar = packed("file", "copy");
  ASSERT_TRUE(unpack(tar, "to").ok());
  const struct stat info = looks("to/copy");
  EXPECT_EQ(info.st_size, 2 * kHole);
  EXPECT_LT(info.st_blocks * 512, 1 << 20);
  const sys::Fd copy = sys::open(path("to/copy"), O_RDONLY).value();
  std::string bytes(16, '?');
  ASSERT_EQ(::pread(copy.raw(), bytes.data(), bytes.size(), 0), 16);
  EXPECT_EQ(bytes, std::string("begin") + std::string(11, '\0'));
  ASSERT_EQ(::pread(copy.raw(), bytes.data(), bytes.size(), kHole - 2), 16);
  EXPECT_EQ(bytes, std::string(2, '\0') + "middle" + std::string(8, '\0'));
}

TEST_F(TreeTest, ALeaseDoesNotHoldTheWalk) {
  write("file", "1");
  const auto before = std::signal(SIGIO, SIG_IGN);
  const sys::Fd mine = sys::open(path("file"), O_RDWR).value();
  ASSERT_EQ(::fcntl(mine.raw(), F_SETLEASE, F_WRLCK), 0);
  std::string out;
  TarWriter tar(into(out));
  int asked = 0;
  const auto stop = [&]() -> Result<> {
    return ++asked < 3 ? Result<>() : Error(Code::kCancelled, "enough");
  };
  const sys::Fd fd = sys::open(path("file"), O_PATH).value();
  EXPECT_EQ(write_tree(fd, "file", tar, {.stop = stop}).error().code(), Code::kCancelled);
  // Given up when it is asked for, as by everybody who means well.
  const auto give_up = [&]() -> Result<> {
    ::fcntl(mine.raw(), F_SETLEASE, F_UNLCK);
    return {};
  };
  const auto done = write_tree(fd, "file", tar, {.stop = give_up});
  EXPECT_TRUE(done.ok()) << done.error().message();
  std::signal(SIGIO, before);
}

TEST_F(TreeTest, WhatTheKernelMakesUpIsNoFile) {
  std::string out;
  TarWriter tar(into(out));
  const sys::Fd proc = sys::open("/proc/self/status", O_PATH).value();
  EXPECT_EQ(write_tree(proc, "status", tar, {}).error().code(), Code::kInvalidArgument);
}

TEST_F(TreeTest, DevicesAreLeftOutAndRefused) {
  make("to");
  TarMember device{.name = "null", .type = '3', .link = {}, .major = 1, .minor = 3, .xattrs = {}};
  EXPECT_EQ(unpack(tar_of({device}), "to").error().code(), Code::kInvalidArgument);
  EXPECT_FALSE(sys::exists(path("to/null")));
  if (::geteuid() != 0) GTEST_SKIP() << "making a device needs root";
  make("from");
  ASSERT_EQ(::mknod(path("from/null").c_str(), S_IFCHR, ::makedev(1, 3)), 0);
  write("from/file", "1");
  ASSERT_TRUE(unpack(packed("from", "all"), "to").ok());
  EXPECT_EQ(sys::list_dir(path("to/all")).value(), std::vector<std::string>{"file"});
}

TEST_F(TreeTest, OwnersAreSaidAndWrittenThroughTheMaps) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give files away";
  const std::vector<sys::IdRange> ids = {{.inside = 0, .outside = 100'000, .count = 1000}};
  make("from");
  write("from/mine", "1");
  write("from/host", "1");
  ASSERT_EQ(::chown(path("from/mine").c_str(), 100'007, 100'008), 0);
  ASSERT_EQ(::chown(path("from").c_str(), 100'000, 100'000), 0);
  const std::string tar = packed("from", "x", {.ids = {ids, ids}});
  make("plain");
  ASSERT_TRUE(unpack(tar, "plain", {.owner = UntarOptions::Owner::kKept}).ok());
  EXPECT_EQ(looks("plain/x").st_uid, 0U);
  EXPECT_EQ(looks("plain/x/mine").st_uid, 7U);
  EXPECT_EQ(looks("plain/x/mine").st_gid, 8U);
  EXPECT_EQ(looks("plain/x/host").st_uid, 65534U) << "who is nobody inside";
  make("shifted");
  ASSERT_TRUE(
      unpack(tar, "shifted", {.owner = UntarOptions::Owner::kRoot, .ids = {ids, ids}}).ok());
  EXPECT_EQ(looks("shifted/x/mine").st_uid, 100'000U);
  make("implied");
  ASSERT_TRUE(unpack(tar_of({{.name = "on/the/way", .link = {}, .xattrs = {}}}), "implied",
                     {.owner = UntarOptions::Owner::kRoot, .ids = {ids, ids}})
                  .ok());
  EXPECT_EQ(looks("implied/on").st_uid, 100'000U);
  EXPECT_EQ(looks("implied/on/the").st_gid, 100'000U);
  make("mine");
  EXPECT_EQ(looks("mine").st_uid, 0U) << "the thread is who it was";
  make("kept");
  const auto refused =
      unpack(tar, "kept", {.owner = UntarOptions::Owner::kKept, .ids = {ids, ids}});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message().find("65534 is nobody there"), std::string::npos);
}

TEST_F(TreeTest, SetIdBitsAreKeptOrDropped) {
  const std::string tar =
      tar_of({{.name = "sh", .mode = 06755, .size = 3, .link = {}, .xattrs = {}}});
  make("kept");
  make("dropped");
  ASSERT_TRUE(unpack(tar, "kept").ok());
  ASSERT_TRUE(unpack(tar, "dropped", {.set_id = UntarOptions::SetId::kDropped}).ok());
  EXPECT_EQ(looks("kept/sh").st_mode & 07777U, 06755U);
  EXPECT_EQ(looks("dropped/sh").st_mode & 07777U, 0755U);
}

// Somebody else's tar in somebody else's root: nothing outside is reached.
TEST_F(TreeTest, NoNameLeadsOutOfTheRoot) {
  make("outside");
  write("outside/secret", "secret");
  make("root/outside");
  const auto file = [](const std::string& name) {
    return TarMember{.name = name, .size = 3, .link = {}, .xattrs = {}};
  };
  const auto link = [](const std::string& name, const std::string& to, char type = '2') {
    return TarMember{.name = name, .type = type, .link = to, .xattrs = {}};
  };
  const std::string out = path("outside");
  for (const auto& members : std::vector<std::vector<TarMember>>{
           {file("../outside/new")},
           {file("a/../../outside/new")},
           {link("hard", "../outside/secret", '1')},
           {link("up", out), link("hard2", "up/secret", '1')},
       }) {
    EXPECT_FALSE(unpack(tar_of(members), "root").ok()) << members.back().name;
  }
  // Through links that the tar has made, or that were there: they lead where they do in the root.
  ASSERT_TRUE(
      unpack(tar_of({link("down", "../../../../../../outside"), file("down/new")}), "root").ok());
  ASSERT_TRUE(unpack(tar_of({link("abs", "/outside"), file("abs/newer")}), "root").ok());
  EXPECT_TRUE(sys::exists(path("root/outside/new")));
  EXPECT_TRUE(sys::exists(path("root/outside/newer")));
  // Never through the last name.
  ASSERT_TRUE(unpack(tar_of({link("last", out + "/secret"), file("last")}), "root").ok());
  EXPECT_EQ(read("root/last"), "xxx");
  EXPECT_EQ(read("outside/secret"), "secret");
  EXPECT_EQ(sys::list_dir(out).value(), std::vector<std::string>{"secret"});
}

TEST_F(TreeTest, AFolderAndAFileDoNotReplaceEachOther) {
  make("root/folder");
  write("root/file", "1");
  const auto over_folder = unpack(tar_of({{.name = "folder", .link = {}, .xattrs = {}}}), "root");
  ASSERT_FALSE(over_folder.ok());
  EXPECT_NE(over_folder.error().message().find("\"folder\": a folder is in its place"),
            std::string::npos);
  const auto over_file =
      unpack(tar_of({{.name = "file/", .type = '5', .link = {}, .xattrs = {}}}), "root");
  ASSERT_FALSE(over_file.ok());
  EXPECT_NE(over_file.error().message().find("\"file\": something that is no folder"),
            std::string::npos);
  EXPECT_FALSE(unpack("", "root", {.folder = "nowhere"}).ok());
}

TEST_F(TreeTest, ATarThatBreaksOffIsAnError) {
  make("root");
  const std::string tar = tar_of({{.name = "file", .size = 2000, .link = {}, .xattrs = {}}});
  EXPECT_EQ(unpack(tar.substr(0, 1500), "root").error().code(), Code::kDataLoss);
}

}  // namespace
}  // namespace fluyt::image::archive
