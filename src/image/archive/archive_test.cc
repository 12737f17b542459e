#include "image/archive/archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "base/strings.h"
#include "image/testing/image_maker.h"
#include "sys/file.h"

namespace fluyt::image::archive {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ImageMaker;
using ::testing::IsEmpty;
using testing::make_tar;
using testing::TarFile;

class ArchiveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::make_unique<sys::TempDir>(sys::TempDir::create().value());
    scratch_ = folder_->path() + "/scratch";
    ASSERT_TRUE(sys::make_dirs(scratch_, 0700).ok());
    maker_.add_layer({{"etc/", ""}, {"etc/passwd", "root\n"}});
  }
  std::string write(const std::string& name, std::string_view bytes) {
    const std::string path = cat(folder_->path(), "/", name);
    EXPECT_TRUE(sys::make_dirs(path.substr(0, path.rfind('/')), 0755).ok());
    EXPECT_TRUE(sys::write_file_atomic(sys::kCwd, path, bytes, 0644).ok());
    return path;
  }
  std::string write_tar(const std::vector<TarFile>& files) {
    return write("a.tar", make_tar(files));
  }
  Result<std::unique_ptr<Archive>> open(const std::string& path, uint64_t limit = 1U << 30U) {
    return Archive::open(path, {scratch_, limit});
  }
  std::string stream_all(const Archive& archive, const oci::Descriptor& descriptor) {
    std::string out;
    auto done = archive.stream(descriptor, [&](std::string_view bytes) -> Result<> {
      out += bytes;
      return {};
    });
    EXPECT_TRUE(done.ok()) << done.error().message();
    return out;
  }
  void expect_whole(const Archive& archive) {
    const oci::Manifest manifest = maker_.manifest();
    EXPECT_EQ(stream_all(archive, manifest.config), maker_.config_json());
    EXPECT_EQ(stream_all(archive, manifest.layers[0]), maker_.layers()[0]);
  }

  std::unique_ptr<sys::TempDir> folder_;
  std::string scratch_;
  ImageMaker maker_;
};

TEST_F(ArchiveTest, ReadsAnOciArchive) {
  auto archive = open(write_tar(maker_.layout_files("example.org/a/b:v1")));
  ASSERT_TRUE(archive.ok()) << archive.error().message();
  ASSERT_EQ((*archive)->images().size(), 1U);
  const ArchivedImage& image = (*archive)->images()[0];
  EXPECT_THAT(image.names, ElementsAre("example.org/a/b:v1"));
  EXPECT_EQ(image.digest.text(), maker_.manifest_digest());
  EXPECT_TRUE(image.is_original);
  expect_whole(**archive);
  archive->reset();
  EXPECT_THAT(sys::list_dir(scratch_).value(), IsEmpty());
}

TEST_F(ArchiveTest, ReadsAnOciFolder) {
  for (const TarFile& file : maker_.layout_files("v1")) {
    if (!file.name.ends_with('/')) write("layout/" + file.name, file.content);
  }
  auto archive = open(folder_->path() + "/layout");
  ASSERT_TRUE(archive.ok()) << archive.error().message();
  EXPECT_THAT((*archive)->images()[0].names, IsEmpty());  // a bare tag names nothing
  expect_whole(**archive);
}

TEST_F(ArchiveTest, ReadsADockerArchiveCompressed) {
  const std::string tar = make_tar(maker_.docker_files("busybox:1"));
  const std::string path = folder_->path() + "/d.tar.gz";
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, tar.data(), static_cast<unsigned>(tar.size()));
  gzclose(file);
  auto archive = open(path);
  ASSERT_TRUE(archive.ok()) << archive.error().message();
  const ArchivedImage& image = (*archive)->images()[0];
  EXPECT_THAT(image.names, ElementsAre("busybox:1"));
  EXPECT_FALSE(image.is_original);
  const auto manifest = oci::parse_manifest(image.bytes).value();
  EXPECT_EQ(manifest.config.digest.text(), maker_.image_id());
  expect_whole(**archive);
}

TEST_F(ArchiveTest, FollowsLinksBetweenMembersAsOldDockerWritesThem) {
  auto files = maker_.docker_files("x:1");
  for (TarFile& file : files) {
    if (file.name != "layer0/layer.tar") continue;
    files.push_back({"real/layer.tar", file.content});
    file = {"layer0/layer.tar", "", "../real/layer.tar"};
    break;
  }
  auto archive = open(write_tar(files));
  ASSERT_TRUE(archive.ok()) << archive.error().message();
  expect_whole(**archive);
}

TEST_F(ArchiveTest, NamesThatClimbOutReachNothing) {
  auto archive = open(write_tar({{"../../evil", "x"},
                                 {"/etc/evil", "x"},
                                 {"manifest.json", R"([{"Config":"../../evil","Layers":[]}])"}}));
  ASSERT_FALSE(archive.ok());
  EXPECT_EQ(archive.error().code(), Code::kNotFound);
  auto linked = open(write_tar(
      {{"c.json", "", "/etc/passwd"}, {"manifest.json", R"([{"Config":"c.json","Layers":[]}])"}}));
  ASSERT_FALSE(linked.ok());
  auto climbing = open(write_tar({{"c.json", "", "../../../../etc/passwd"},
                                  {"manifest.json", R"([{"Config":"c.json","Layers":[]}])"}}));
  ASSERT_FALSE(climbing.ok());
  EXPECT_EQ(climbing.error().code(), Code::kNotFound);
  auto loop = open(write_tar(
      {{"a", "", "b"}, {"b", "", "a"}, {"manifest.json", R"([{"Config":"a","Layers":[]}])"}}));
  ASSERT_FALSE(loop.ok());
  EXPECT_THAT(sys::list_dir(scratch_).value(), IsEmpty());
  EXPECT_THAT(sys::list_dir(folder_->path()).value(), ElementsAre("a.tar", "scratch"));
}

TEST_F(ArchiveTest, BadArchivesSayWhy) {
  const std::pair<std::vector<TarFile>, const char*> cases[] = {
      {{{"x", "y"}}, "neither an OCI layout (no oci-layout) nor a docker-archive"},
      {{{"manifest.json", "nope"}}, "manifest.json: expected an array"},
      {{{"manifest.json", "[{}]"}}, "manifest.json: [0].Config: expected a string"},
      {{{"c", "{}"}, {"manifest.json", R"([{"Config":"c","Layers":[3]}])"}},
       "[0].Layers: expected strings"},
      {{{"oci-layout", "{}"}}, "imageLayoutVersion: expected a string"},
      {{{"oci-layout", R"({"imageLayoutVersion":"2.0"})"}}, "\"2.0\": expected 1.0.0"},
      {{{"oci-layout", R"({"imageLayoutVersion":"1.0.0"})"}}, "\"index.json\": no such file"},
  };
  for (const auto& [files, want] : cases) {
    auto archive = open(write_tar(files));
    ASSERT_FALSE(archive.ok()) << want;
    EXPECT_THAT(archive.error().message(), HasSubstr(want));
  }
  EXPECT_FALSE(open(folder_->path() + "/absent").ok());
  EXPECT_FALSE(open("/dev/null").ok());
}

TEST_F(ArchiveTest, AWrongBlobIsFound) {
  auto files = maker_.layout_files("a:1");
  for (TarFile& file : files) {
    if (file.content == maker_.manifest_json()) file.content += " ";
  }
  auto archive = open(write_tar(files));
  ASSERT_FALSE(archive.ok());
  EXPECT_EQ(archive.error().code(), Code::kDataLoss);
}

TEST_F(ArchiveTest, WhatDoesNotFitIsGivenUp) {
  auto archive = open(write_tar(maker_.docker_files("x:1")), 1000);
  ASSERT_FALSE(archive.ok());
  EXPECT_EQ(archive.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(sys::list_dir(scratch_).value(), IsEmpty());
}

}  // namespace
}  // namespace fluyt::image::archive
