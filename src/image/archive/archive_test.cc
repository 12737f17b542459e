#include "image/archive/archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <atomic>
#include <thread>

#include "base/strings.h"
#include "image/archive/members.h"
#include "image/archive/members_unpack.h"
#include "image/layer/tar_build.h"
#include "image/testing/image_maker.h"
#include "sys/file.h"

namespace fluyt::image::archive {
namespace {

using namespace std::string_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ImageMaker;
using ::testing::IsEmpty;
using testing::make_tar;
using testing::TarFile;

class ArchiveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: fluyt-unpack shuts itself in";
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
    return Archive::open(path, options(limit));
  }
  TarOptions options(uint64_t limit = 1U << 30U) const {
    const std::string self = sys::read_link(sys::kCwd, "/proc/self/exe").value();
    const std::string tests = self.substr(0, self.rfind('/'));
    return {scratch_, limit, tests.substr(0, tests.rfind('/')) + "/bin/fluyt-unpack"};
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

TEST_F(ArchiveTest, TheLastOfANameIsTheOne) {
  for (const bool is_link_last : {true, false}) {
    std::vector<TarFile> files{{"config", maker_.config_json()}, {"c.json", "", "config"}};
    files.insert(is_link_last ? files.end() - 1 : files.end(), {"c.json", "{}"});
    files.push_back({"manifest.json", R"([{"Config":"c.json","Layers":[]}])"});
    auto archive = open(write_tar(files));
    ASSERT_TRUE(archive.ok()) << archive.error().message();
    const auto manifest = oci::parse_manifest((*archive)->images()[0].bytes).value();
    EXPECT_EQ(manifest.config.size, is_link_last ? std::ssize(maker_.config_json()) : 2);
  }
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

// Their data are on the disk, their names are not.
TEST_F(ArchiveTest, NamesTakeLittleMemory) {
  const std::string end = make_tar(maker_.layout_files("a:1"));
  TarBuild longer;
  const std::string name(1'000'000, 'n');
  for (int i = 0; i < 20; ++i) longer.pax({{"path", cat(i, name)}}).file("x");
  longer.pax({{"path", "link"}, {"linkpath", name}}).symlink("x", "x");
  const std::string path = write("a.tar", longer.bytes() + end);
  const auto members = open_tar(path, options());
  ASSERT_TRUE(members.ok()) << members.error().message();
  EXPECT_FALSE((*members)->has(cat(0, name)).value());
  EXPECT_TRUE((*members)->has("oci-layout").value());
  const auto archive = open(path);
  ASSERT_TRUE(archive.ok()) << archive.error().message();
  expect_whole(**archive);

  TarBuild many;
  for (int i = 0; i < 2'100; ++i) {
    many.pax({{"path", cat(i, name.substr(0, 4000))}, {"linkpath", name.substr(0, 4000)}});
    many.symlink("x", "x");
  }
  const auto refused = open(write("b.tar", many.bytes() + end));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(refused.error().message(), HasSubstr("bytes of members' names"));
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

// As `docker save` and `fluyt save` write it, with another index.json.
std::vector<TarFile> both_forms(const std::vector<const ImageMaker*>& makers,
                                const std::string& index_json, const std::string& list) {
  std::vector<TarFile> files{{"oci-layout", R"({"imageLayoutVersion":"1.0.0"})"},
                             {"index.json", index_json}};
  if (!list.empty()) files.push_back({"manifest.json", list});
  for (const ImageMaker* maker : makers) {
    const auto add = [&](const std::string& bytes) {
      files.push_back({"blobs/sha256/" + testing::sha256_of(bytes).substr(7), bytes});
    };
    add(maker->manifest_json());
    add(maker->config_json());
    for (const std::string& layer : maker->layers()) add(layer);
  }
  return files;
}

std::string listed(const ImageMaker& maker, const std::string& tags) {
  const auto member = [](const std::string& digest) { return "blobs/sha256/" + digest.substr(7); };
  return cat(R"({"Config":")", member(maker.image_id()), R"(","RepoTags":)", tags,
             R"(,"Layers":[")", member(testing::sha256_of(maker.layers()[0])), R"("]})");
}

std::string unnamed(const std::vector<const ImageMaker*>& makers) {
  oci::Index index{.media_type = std::string(oci::media_type::kOciIndex)};
  for (const ImageMaker* maker : makers) index.manifests.push_back(maker->manifest_descriptor());
  for (oci::Descriptor& entry : index.manifests) entry.platform.reset();
  return oci::to_json(index);
}

TEST_F(ArchiveTest, ImagesOfOnePlatformAreImagesOfTheirOwn) {
  ImageMaker other;
  other.add_layer({{"other", "x"}});
  for (const bool with_list : {false, true}) {
    const std::string list =
        cat("[", listed(maker_, "null"), ",", listed(other, R"(["b:1"])"), "]");
    const auto archive = open(write_tar(both_forms({&maker_, &other}, unnamed({&maker_, &other}),
                                                   with_list ? list : std::string())));
    ASSERT_TRUE(archive.ok()) << archive.error().message();
    const auto& images = (*archive)->images();
    ASSERT_EQ(images.size(), 2U);
    EXPECT_EQ(images[0].digest.text(), maker_.manifest_digest());
    EXPECT_EQ(images[1].digest.text(), other.manifest_digest());
    EXPECT_TRUE(images[1].is_original);
    EXPECT_EQ(images[1].names,
              with_list ? std::vector<std::string>{"b:1"} : std::vector<std::string>{});
  }
}

TEST_F(ArchiveTest, ImagesOfSeveralPlatformsWithoutNamesAreOne) {
  ImageMaker other;
  other.config().platform.architecture = "riscv64";
  other.add_layer({{"other", "x"}});
  const std::string index = unnamed({&maker_, &other});
  const auto archive = open(write_tar(both_forms({&maker_, &other}, index, "")));
  ASSERT_TRUE(archive.ok()) << archive.error().message();
  ASSERT_EQ((*archive)->images().size(), 1U);
  EXPECT_EQ((*archive)->images()[0].bytes, index);
}

TEST_F(ArchiveTest, TheListSaysWhichImagesThereAre) {
  const std::string list = cat("[", listed(maker_, R"(["a:1"])"), "]");
  for (
      const char* index :
      {R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":null})",
       R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]})"}) {
    const auto archive = open(write_tar(both_forms({&maker_}, index, list)));
    ASSERT_TRUE(archive.ok()) << archive.error().message();
    ASSERT_EQ((*archive)->images().size(), 1U);
    EXPECT_THAT((*archive)->images()[0].names, ElementsAre("a:1"));
    EXPECT_FALSE((*archive)->images()[0].is_original);
    expect_whole(**archive);
  }
  ImageMaker other;
  other.add_layer({{"other", "x"}});
  const auto both = cat("[", listed(maker_, R"(["a:1"])"), ",", listed(other, R"(["b:1"])"), "]");
  const auto archive = open(write_tar(both_forms({&maker_, &other}, unnamed({&maker_}), both)));
  ASSERT_TRUE(archive.ok()) << archive.error().message();
  ASSERT_EQ((*archive)->images().size(), 2U);
  EXPECT_TRUE((*archive)->images()[0].is_original);
  EXPECT_THAT((*archive)->images()[0].names, ElementsAre("a:1"));
  EXPECT_THAT((*archive)->images()[1].names, ElementsAre("b:1"));
}

// A large document under thousands of names, most of them wrong, costs neither memory nor time.
TEST_F(ArchiveTest, OfAnIndexFewDocumentsAreRead) {
  const std::string list = cat("[", listed(maker_, R"(["a:1"])"), "]");
  const auto images_of = [&](size_t strangers, const std::string& manifest) {
    oci::Index nested{.media_type = std::string(oci::media_type::kOciIndex)};
    oci::Descriptor entry = maker_.manifest_descriptor();
    std::vector<TarFile> more;
    for (size_t i = 0; i < strangers; ++i) {
      const std::string text = cat("stranger ", i);
      entry.digest = oci::Digest::parse(testing::sha256_of(text)).value();
      nested.manifests.push_back(entry);
      more.push_back({cat("blobs/sha256/", entry.digest.hex()), text});
    }
    entry.digest = oci::Digest::parse(manifest).value();
    nested.manifests.push_back(entry);
    const std::string member = cat("blobs/sha256/", entry.digest.hex());
    if (manifest != maker_.manifest_digest()) more.push_back({member, maker_.manifest_json()});
    const std::string text = oci::to_json(nested);
    oci::Index top{.media_type = std::string(oci::media_type::kOciIndex)};
    top.manifests.push_back({.media_type = nested.media_type,
                             .digest = oci::Digest::parse(testing::sha256_of(text)).value(),
                             .size = static_cast<int64_t>(text.size())});
    more.push_back({cat("blobs/sha256/", top.manifests[0].digest.hex()), text});
    auto files = both_forms({&maker_}, oci::to_json(top), list);
    files.insert(files.end(), more.begin(), more.end());
    const auto archive = open(write_tar(files));
    EXPECT_TRUE(archive.ok()) << archive.error().message();
    return archive.ok() ? (*archive)->images().size() : 0;
  };
  EXPECT_EQ(images_of(0, maker_.manifest_digest()), 1U) << "the list's is the layout's";
  EXPECT_EQ(images_of(63, maker_.manifest_digest()), 1U);
  EXPECT_EQ(images_of(64, maker_.manifest_digest()), 2U);
  EXPECT_EQ(images_of(0, testing::sha256_of("wrong")), 2U);
}

TEST_F(ArchiveTest, AnEntryOfTheLayoutThatIsThereTwiceIsOneImage) {
  oci::Index index{.media_type = std::string(oci::media_type::kOciIndex)};
  for (const char* name : {"a/b:1", "a/b:2"}) {
    index.manifests.push_back(maker_.manifest_descriptor());
    index.manifests.back().annotations["org.opencontainers.image.ref.name"] = name;
  }
  const auto archive = open(write_tar(both_forms({&maker_}, oci::to_json(index), "")));
  ASSERT_TRUE(archive.ok()) << archive.error().message();
  ASSERT_EQ((*archive)->images().size(), 1U);
  EXPECT_THAT((*archive)->images()[0].names, ElementsAre("a/b:1", "a/b:2"));
}

// A manifest that is there, and no image.
TarFile artifact(const std::string& what, oci::Index& index) {
  const oci::Manifest manifest{
      .media_type = std::string(oci::media_type::kOciManifest),
      .config = {.media_type = what,
                 .digest = oci::Digest::parse(testing::sha256_of(what)).value(),
                 .size = static_cast<int64_t>(what.size())}};
  std::string text = oci::to_json(manifest);
  index.manifests.push_back({.media_type = manifest.media_type,
                             .digest = oci::Digest::parse(testing::sha256_of(text)).value(),
                             .size = static_cast<int64_t>(text.size())});
  return {cat("blobs/sha256/", index.manifests.back().digest.hex()), std::move(text)};
}

TEST_F(ArchiveTest, WhatIsAboutAnImageMakesItNotTwo) {
  ImageMaker other;
  other.config().platform.architecture = "riscv64";
  other.add_layer({{"other", "x"}});
  oci::Index index{.media_type = std::string(oci::media_type::kOciIndex),
                   .manifests = {maker_.manifest_descriptor(), other.manifest_descriptor()}};
  std::vector<TarFile> artifacts{artifact("a signature", index), artifact("what is in it", index)};
  // The same image in another compression.
  oci::Manifest again = maker_.manifest();
  again.annotations["compressed"] = "otherwise";
  const std::string text = oci::to_json(again);
  index.manifests.push_back(maker_.manifest_descriptor());
  index.manifests.back().digest = oci::Digest::parse(testing::sha256_of(text)).value();
  index.manifests.back().size = static_cast<int64_t>(text.size());
  artifacts.push_back({cat("blobs/sha256/", index.manifests.back().digest.hex()), text});
  auto files = both_forms({&maker_, &other}, oci::to_json(index), "");
  files.insert(files.end(), artifacts.begin(), artifacts.end());
  const auto archive = open(write_tar(files));
  ASSERT_TRUE(archive.ok()) << archive.error().message();
  ASSERT_EQ((*archive)->images().size(), 1U);
  EXPECT_EQ((*archive)->images()[0].bytes, oci::to_json(index));
}

TEST_F(ArchiveTest, AManifestJsonThatIsNotDockersIsPassedOverInALayout) {
  auto files = maker_.layout_files("a/b:1");
  files.push_back({"manifest.json", R"({"name":"a web page"})"});
  const auto archive = open(write_tar(files));
  ASSERT_TRUE(archive.ok()) << archive.error().message();
  EXPECT_EQ((*archive)->images().size(), 1U);
}

TEST_F(ArchiveTest, ALayoutOfAttestationsAloneHasNoImage) {
  oci::Index index{.media_type = std::string(oci::media_type::kOciIndex),
                   .manifests = {maker_.manifest_descriptor()}};
  index.manifests[0].platform = oci::Platform{.os = "unknown", .architecture = "unknown"};
  const auto archive = open(write_tar(both_forms({&maker_}, oci::to_json(index), "")));
  ASSERT_FALSE(archive.ok());
  EXPECT_THAT(archive.error().message(), HasSubstr("expected an image"));
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
  const std::string tar = make_tar(maker_.docker_files("x:1"));
  auto archive = open(write("a.tar", tar), 1000);
  ASSERT_FALSE(archive.ok());
  EXPECT_EQ(archive.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(archive.error().message(),
              HasSubstr(cat("its ", tar.size(), " bytes do not fit: 1000 are to be had")));
  // What a compressed one has is seen as it comes.
  const std::string path = folder_->path() + "/bomb.tar.gz";
  gzFile file = gzopen(path.c_str(), "wb");
  const std::string bomb = make_tar({{"zeros", std::string(10'000'000, '\0')}});
  gzwrite(file, bomb.data(), static_cast<unsigned>(bomb.size()));
  gzclose(file);
  archive = open(path, 1'000'000);
  ASSERT_FALSE(archive.ok());
  EXPECT_EQ(archive.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(archive.error().message(),
              HasSubstr("unpacks to more than the 1000000 bytes that fit"));
  // Of a member that nothing asks for, and after the end, too.
  for (const std::string& bytes : {make_tar({{"../zeros", std::string(10'000'000, '\0')}}),
                                   make_tar({}) + std::string(10'000'000, '\0')}) {
    file = gzopen(path.c_str(), "wb");
    gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(file);
    archive = open(path, 1'000'000);
    ASSERT_FALSE(archive.ok());
    EXPECT_EQ(archive.error().code(), Code::kResourceExhausted) << archive.error().message();
  }
  EXPECT_THAT(sys::list_dir(scratch_).value(), IsEmpty());
}

// A worker that never ends, and says when it has begun.
TEST_F(ArchiveTest, AnArchiveThatIsUnpackedCanBeGivenUp) {
  const std::string path = write_tar(maker_.docker_files("x:1"));
  const std::string begun = folder_->path() + "/begun";
  TarOptions with = options();
  with.unpack_program = write("worker", cat("#!/bin/sh\necho $$ >", begun, ".new; mv ", begun,
                                            ".new ", begun, "\nexec sleep 60\n"));
  ASSERT_EQ(::chmod(with.unpack_program.c_str(), 0755), 0);
  std::atomic<bool> cancelled{false};
  with.cancelled = &cancelled;
  std::atomic<bool> is_over{false};
  std::thread caller([&] {
    while (!sys::exists(begun) && !is_over) usleep(1'000);
    cancelled = true;
  });
  const auto archive = Archive::open(path, with);
  is_over = true;
  caller.join();
  ASSERT_FALSE(archive.ok());
  EXPECT_EQ(archive.error().code(), Code::kCancelled) << archive.error().message();
  const std::string pid(trim(sys::read_file(begun, 99).value()));
  EXPECT_FALSE(sys::exists("/proc/" + pid));
  EXPECT_THAT(sys::list_dir(scratch_).value(), IsEmpty());
}

// A program of ours in the place of fluyt-unpack tells who had the archive in its hands.
TEST_F(ArchiveTest, AnArchiveIsReadByTheUnpackerAlone) {
  const std::string path = write_tar(maker_.docker_files("x:1"));
  TarOptions with = options();
  const auto worker = [&](const std::string& script) {
    with.unpack_program = write("worker", cat("#!/bin/sh\n", script, "\n"));
    EXPECT_EQ(::chmod(with.unpack_program.c_str(), 0755), 0);
    return Archive::open(path, with);
  };
  auto archive = worker("kill -9 $$");
  ASSERT_FALSE(archive.ok());
  EXPECT_THAT(archive.error().message(), HasSubstr("the unpacker ended with status 137"));
  archive = worker("exit 3");
  ASSERT_FALSE(archive.ok());
  EXPECT_THAT(archive.error().message(), HasSubstr("status 3 and no report"));
  // One that was taken over cannot have us open what it likes.
  const std::string digest = testing::sha256_of("");
  for (const std::string& number : {"../../a.tar"s, "1"s, "2"s}) {
    const std::vector<std::string> fields{"file", "manifest.json", number, "1", digest, ""};
    archive = worker(cat("cd /proc/self/fd/3/ && ln -s /etc/passwd 1 && mkfifo 2; printf '",
                         join(fields, "\\000"), "' >&4"));
    ASSERT_FALSE(archive.ok()) << number;
    EXPECT_EQ(archive.error().code(), Code::kInternal) << archive.error().message();
  }
  EXPECT_THAT(sys::list_dir(scratch_).value(), IsEmpty());
}

TEST_F(ArchiveTest, AReportIsReadAsItWasWritten) {
  MemberTable table;
  const oci::Digest digest = oci::Digest::parse(testing::sha256_of("x")).value();
  table.files.emplace("a/\"b\xff\n", Member{7, {UINT64_MAX, digest}});
  table.files.emplace("file", Member{kMaxMembers, {0, digest}});
  table.links.emplace("link", "a");
  table.links.emplace("other", "");
  const MemberTable back = parse_members_report(to_report(Result<MemberTable>(table))).value();
  EXPECT_EQ(back.links, table.links);
  ASSERT_EQ(back.files.size(), 2U);
  EXPECT_EQ(back.files.at("a/\"b\xff\n").number, 7U);
  EXPECT_EQ(back.files.at("a/\"b\xff\n").info.size, UINT64_MAX);
  EXPECT_EQ(back.files.at("file").info.digest, digest);
  EXPECT_TRUE(parse_members_report(to_report(Result<MemberTable>(MemberTable())))->files.empty());
  const auto failed =
      parse_members_report(to_report(Result<MemberTable>(Error(Code::kDataLoss, "why"))));
  EXPECT_EQ(failed.error().code(), Code::kDataLoss);
  EXPECT_EQ(failed.error().message(), "why");
  for (const std::string& text : {"{}"s, "x"s, "file\0a\0001\0"s, "link\0a\0b"s, "more\0"s}) {
    EXPECT_FALSE(parse_members_report(text).ok()) << text;
  }
  // More than a tar may have are not looked at.
  std::string many;
  for (size_t i = 0; i <= 5 * kMaxMembers / 3; ++i) many += "link\0a\0b\0"s;
  EXPECT_FALSE(parse_members_report(many).ok());
}

}  // namespace
}  // namespace fluyt::image::archive
