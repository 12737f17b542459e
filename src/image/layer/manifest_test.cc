#include "image/layer/manifest.h"

#include <gmock/gmock.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "image/layer/layer_test.h"

namespace fluyt::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Checksum, IsTheOneThatItsNameSays) {
  Checksum checksum;
  checksum.update("1234");
  checksum.update("56789");
  EXPECT_EQ(checksum.value(), 0x995DC9BBDF1939FAU);  // the check value of CRC-64/XZ
}

TEST(Checksum, ZerosNeedNotBeThere) {
  for (const uint64_t count : {0U, 1U, 7U, 4096U, 100'003U}) {
    Checksum told;
    told.update("a");
    told.zeros(count);
    told.update("b");
    Checksum given;
    given.update(cat("a", std::string(count, '\0'), "b"));
    EXPECT_EQ(told.value(), given.value()) << count;
  }
}

class ManifestTest : public testing::Test {
 protected:
  static constexpr size_t kMany = 3000;  // more than a buffer's worth
  sys::Fd file_ = sys::open("/tmp", O_TMPFILE | O_RDWR, 0600).value();

  static ManifestEntry entry(size_t i) {
    return {.path = cat("some/folder/", i % 7, "/file", i),
            .mode = S_IFREG | 0644,
            .uid = static_cast<uid_t>(i),
            .gid = UINT32_MAX,
            .size = i << 40U,
            .content = UINT64_MAX - i,
            .attributes = i % 2};
  }
  std::string write() const {
    ManifestWriter writer(file_);
    EXPECT_TRUE(writer.add({.path = "gone", .mode = S_IFREG}).ok());
    EXPECT_TRUE(writer.restart().ok());
    for (size_t i = 0; i < kMany; ++i) EXPECT_TRUE(writer.add(entry(i)).ok());
    EXPECT_TRUE(writer.add({.path = "z", .target = "some"}).ok());
    EXPECT_TRUE(writer.add({.mode = S_IFDIR | 0755}).ok());
    return writer.finish().value();
  }
};

TEST_F(ManifestTest, WhatWasWrittenIsRead) {
  const std::string digest = write();
  ManifestReader reader = ManifestReader::open(file_, digest).value();
  for (size_t i = 0; i < kMany; ++i) EXPECT_EQ(reader.next()->value(), entry(i));
  EXPECT_EQ(reader.next()->value().target, "some");
  EXPECT_EQ(reader.next()->value().path, "");
  EXPECT_FALSE(reader.next()->has_value());
}

TEST_F(ManifestTest, EachChangeOfItIsSeen) {
  const std::string digest = write();
  const off_t size = sys::stat_of(file_)->st_size;
  for (const off_t at : {off_t{0}, off_t{9}, size / 2, size - 1}) {
    char byte = 0;
    ASSERT_EQ(::pread(file_.raw(), &byte, 1, at), 1);
    byte = static_cast<char>(byte ^ 1);
    ASSERT_EQ(::pwrite(file_.raw(), &byte, 1, at), 1);
    EXPECT_EQ(ManifestReader::open(file_, digest).error().code(), Code::kDataLoss) << at;
    byte = static_cast<char>(byte ^ 1);
    ASSERT_EQ(::pwrite(file_.raw(), &byte, 1, at), 1);
  }
  ASSERT_TRUE(ManifestReader::open(file_, digest).ok());
  ASSERT_EQ(::ftruncate(file_.raw(), size - 1), 0);
  EXPECT_EQ(ManifestReader::open(file_, digest).error().code(), Code::kDataLoss);
}

// Its digest is the writer's own, and right.
TEST_F(ManifestTest, NonsenseIsRefused) {
  using namespace std::string_literals;
  for (const std::string& bytes :
       {""s, "FLUYTMF"s, "FLUYTMF1\x05\x01"s + "a\x01"s, "FLUYTMF1\0"s, "FLUYTMF1\0\x05"s + "ab"s,
        "FLUYTMF1\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s, "FLUYTMF1\0\xff\xff\x7f"s,
        "FLUYTMF1\0\x01"s + "a\x01\x02"s}) {
    ASSERT_EQ(::ftruncate(file_.raw(), 0), 0);
    ASSERT_EQ(::pwrite(file_.raw(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    Checksum checksum;
    checksum.update(bytes);
    char digest[32];
    snprintf(digest, sizeof digest, "crc64:%016lx", static_cast<unsigned long>(checksum.value()));
    auto reader = ManifestReader::open(file_, digest);
    if (!reader.ok()) {
      EXPECT_EQ(reader.error().code(), Code::kDataLoss) << reader.error().message();
      continue;
    }
    const auto entry = reader->next();
    ASSERT_FALSE(entry.ok()) << quote(bytes);
    EXPECT_EQ(entry.error().code(), Code::kDataLoss) << entry.error().message();
  }
}

const std::string kNoPaths[] = {"/a",
                                "a/",
                                "a//b",
                                ".",
                                "a/./b",
                                "..",
                                "../x/y",
                                "a/..",
                                std::string("a\0b", 3),
                                "a/" + std::string(256, 'n')};

TEST_F(ManifestTest, PathsThatNoTreeHasAreRefused) {
  const auto reads = [&](const ManifestEntry& entry) {
    ManifestWriter writer(file_);
    EXPECT_TRUE(writer.restart().ok());
    EXPECT_TRUE(writer.add(entry).ok());
    const auto read = ManifestReader::open(file_, writer.finish().value())->next();
    EXPECT_TRUE(read.ok() || read.error().code() == Code::kDataLoss) << read.error().message();
    return read.ok();
  };
  for (const std::string& path : kNoPaths) {
    EXPECT_FALSE(reads({.path = path, .mode = S_IFREG})) << path;
    EXPECT_FALSE(reads({.path = "link", .target = path})) << path;
  }
  for (const std::string& path : {cat("a/", std::string(255, 'n')), std::string("..a/.b/...")}) {
    EXPECT_TRUE(reads({.path = path, .mode = S_IFREG})) << path;
    EXPECT_TRUE(reads({.path = "link", .target = path})) << path;
  }
}

// That a whole tree has no differences every test of unpacking says, by unpack_ok().
class TreeCheck : public LayerTest {
 protected:
  std::string at(const LayerInfo& info, const std::string& file) const {
    return cat(tree_of(info), "/", file);
  }
};

TEST_F(TreeCheck, ATreeThatManyThingsHappenedToIsWhole) {
  const std::string deep_name(200, 'd');
  std::string deep;
  for (int i = 0; i < 20; ++i) deep += cat(deep_name, "/");
  unpack_ok(TarBuild()
                .dir("d", 02750, 3, 4)
                .pax({{"SCHILY.xattr.user.a", "1"}, {"SCHILY.xattr.trusted.b", ""}})
                .file("d/f", "data", 04755)
                .file("d/.wh.gone")
                .file("d/.wh..wh..opq")
                .file("implied/x")
                .hard_link("h", "d/f")
                .file(".wh.replaced")
                .file("replaced/in")
                .symlink("s", "implied")
                .file("s/through", "x")
                .pax({{"path", cat(deep, "f")}})
                .file("x")
                .pax({{"linkpath", deep}})
                .symlink("deep", "x")
                .pax({{"path", cat("deep/", deep_name)}})
                .dir("x")
                .pax({{"path", cat("deep/", deep_name, "/g")}})
                .file("x")
                .add({.type = '3', .name = "null", .mode = 0666, .major = 1, .minor = 3})
                .add({.type = '6', .name = "fifo", .mode = 0600})
                .end());
  // Of each of these something takes another's place.
  unpack_ok(TarBuild().file("a", "one").file("a", "another").end());
  unpack_ok(TarBuild().file("a").hard_link("b", "a").hard_link("c", "a").file("a", "y").end());
  unpack_ok(TarBuild().dir("d").file("d/f").hard_link("l", "d/f").file("d", "y").end());
  unpack_ok(TarBuild().file(".wh.a").file("a").file("b").file(".wh.b").end());
  unpack_ok(TarBuild().file(".wh.a").file("a/b").end());
}

TEST_F(TreeCheck, HolesAreZerosWhereverTheyLie) {
  const auto sparse = [](const std::string& pieces, const std::string& map, const std::string& size,
                         const std::string& data) {
    return TarBuild()
        .pax({{"GNU.sparse.size", size}, {"GNU.sparse.numblocks", pieces}, {"GNU.sparse.map", map}})
        .file("f", data)
        .end();
  };
  LayerInfo info = unpack_ok(sparse("2", "1000000,3,5000000,2", "900000000000", "abcde"));
  // The same bytes, now all on the disk.
  info = unpack_ok(sparse("1", "4096,3", "20000", "abc"));
  const std::string content = sys::read_file(at(info, "f"), 1U << 20U).value();
  const sys::Fd fd = sys::open(at(info, "f"), O_WRONLY).value();
  ASSERT_EQ(::pwrite(fd.raw(), content.data(), content.size(), 0),
            static_cast<ssize_t>(content.size()));
  EXPECT_THAT(differences(info), IsEmpty());
  ASSERT_EQ(::pwrite(fd.raw(), "\1", 1, 10'000), 1);
  EXPECT_THAT(differences(info), ElementsAre("\"/f\" has other content"));
}

TEST_F(TreeCheck, AttributesAndOpaqueMarksAreCompared) {
  const LayerInfo info = unpack_ok(TarBuild()
                                       .dir("d")
                                       .file("d/.wh..wh..opq")
                                       .pax({{"SCHILY.xattr.user.a", "1"}})
                                       .file("f")
                                       .end());
  ASSERT_EQ(::setxattr(at(info, "f").c_str(), "user.a", "2", 1, 0), 0);
  ASSERT_EQ(::removexattr(at(info, "d").c_str(), "trusted.overlay.opaque"), 0);
  EXPECT_THAT(differences(info),
              ElementsAre("\"/f\" has other attributes", "\"/d\" has other attributes"));
}

TEST_F(TreeCheck, SaysWhatIsMissingAndWhatDoesNotBelong) {
  const LayerInfo info = unpack_ok(TarBuild()
                                       .file("d/e/f")
                                       .file("g")
                                       .add({.type = '3', .name = "null", .major = 1, .minor = 3})
                                       .file(".wh.gone")
                                       .end());
  ASSERT_TRUE(sys::remove_tree(at(info, "d")).ok());
  ASSERT_EQ(::symlink("/etc", at(info, "d").c_str()), 0);  // never followed
  ASSERT_EQ(::unlink(at(info, "gone").c_str()), 0);
  ASSERT_TRUE(sys::make_dirs(at(info, "more/below"), 0755).ok());
  EXPECT_THAT(differences(info), ElementsAre("\"/d/e/f\" is missing", "\"/gone\" is missing",
                                             "\"/d\" is of another type", "\"/d/e\" is missing",
                                             "\"/more\" does not belong there"));
  ASSERT_EQ(::unlink(at(info, "null").c_str()), 0);
  ASSERT_EQ(::mkfifo(at(info, "null").c_str(), 0644), 0);
  ASSERT_EQ(::chown(at(info, "g").c_str(), 1, 2), 0);
  EXPECT_THAT(differences(info), testing::Contains("\"/null\" is of another type"));
  EXPECT_THAT(differences(info), testing::Contains("\"/g\" has another owner"));
}

// Who wrote it had a hostile archive in its hands: its digest is right.
TEST_F(TreeCheck, AManifestThatCannotBeIsADifference) {
  const LayerInfo info = unpack_ok(TarBuild().file("f").end());
  const sys::Fd tree = sys::open(tree_of(info), O_RDONLY | O_DIRECTORY).value();
  const sys::Fd file = sys::open("/tmp", O_TMPFILE | O_RDWR, 0600).value();
  for (const std::string& path : kNoPaths) {
    ManifestWriter writer(file);
    ASSERT_TRUE(writer.restart().ok());
    ASSERT_TRUE(writer.add({.path = path, .mode = S_IFREG}).ok());
    const auto found = check_tree(tree, file, writer.finish().value(), 5);
    ASSERT_TRUE(found.ok()) << found.error().message();
    EXPECT_THAT(*found, ElementsAre(HasSubstr("the manifest of its files is damaged")));
  }
}

TEST_F(TreeCheck, EndsBetweenEntriesAndPieces) {
  const LayerInfo info =
      unpack_ok(TarBuild().file("a", std::string(1U << 20U, 'x')).file("b").end());
  const std::string folder = tree_of(info) + "/../";
  const sys::Fd tree = sys::open(folder + "fs", O_RDONLY | O_DIRECTORY).value();
  const sys::Fd manifest = sys::open(cat(folder, kManifestName), O_RDONLY).value();
  const auto end_after = [&](int steps) {
    int left = steps;
    const auto found = check_tree(tree, manifest, info.metadata_digest, 5, [&]() -> Result<> {
      return left-- > 0 ? Result<>() : Error(Code::kCancelled, "enough");
    });
    EXPECT_TRUE(found.ok() || found.error().code() == Code::kCancelled);
    return !found.ok();
  };
  // Of the manifest a with four pieces, b with one, the root and its end; of the tree a, b and its end.
  constexpr int kSteps = 12;
  for (int steps = 0; steps < kSteps; ++steps) EXPECT_TRUE(end_after(steps)) << steps;
  EXPECT_FALSE(end_after(kSteps));
}

}  // namespace
}  // namespace fluyt::image
