#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include "base/strings.h"
#include "base/time.h"
#include "image/blob/hasher.h"
#include "image/image_store.h"
#include "image/testing/fake_registry.h"
#include "image/testing/image_maker.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::FakeRegistry;
using ::testing::HasSubstr;
using testing::ImageMaker;
using ::testing::IsEmpty;
using testing::make_tar;
using testing::sha256_of;
using testing::TarFile;
using Reply = FakeRegistry::Reply;

// fluyt-unpack stands beside the tests' folder: build/<preset>/test/x and build/<preset>/bin/x.
std::string unpack_program() {
  const std::string self = sys::read_link(sys::kCwd, "/proc/self/exe").value();
  const std::string folder = self.substr(0, self.rfind('/'));
  return folder.substr(0, folder.rfind('/')) + "/bin/fluyt-unpack";
}

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    folder_ = std::make_unique<sys::TempDir>(sys::TempDir::create().value());
    fake_ = FakeRegistry::start().value();
    reopen();
  }

  void reopen() {
    store_.reset();
    StoreOptions options;
    options.root = folder_->path() + "/store";
    options.certs_dir = folder_->path() + "/certs";
    options.unpack_program = unpack_program();
    options.timeouts = {.connect_ms = 1000, .first_byte_ms = 300, .stall_ms = 300};
    options.retry.first_delay_ms = 10;
    options.retry.max_tries = 2;
    auto opened = ImageStore::open(options, logger_);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    store_ = std::move(*opened);
  }

  std::string name(const std::string& tag) const { return cat(fake_->host(), "/", tag); }
  Result<Image> pull(const std::string& tag, const PullOptions& options = {}) {
    return store_->pull(oci::Reference::parse(name(tag)).value(), options);
  }
  std::vector<std::string> names_in(const std::string& folder) const {
    auto names = sys::list_dir(cat(folder_->path(), "/store/", folder));
    return names.ok() ? *names : std::vector<std::string>{};
  }
  // Neither a row nor a file.
  void expect_nothing_left() {
    EXPECT_TRUE(store_->list()->empty());
    for (const char* folder : {"layers", "staging", "trash", "fixups", "blobs/sha256", "roots"}) {
      EXPECT_THAT(names_in(folder), IsEmpty()) << folder;
    }
    EXPECT_EQ(store_->fs_usage()->used_bytes, 0U);
  }
  // One clear error, and nothing left.
  void expect_refused(Result<Image> got, Code code, const std::string& words) {
    ASSERT_FALSE(got.ok());
    EXPECT_EQ(got.error().code(), code) << got.error().message();
    EXPECT_THAT(got.error().message(), HasSubstr(words));
    expect_nothing_left();
  }

  NullLogger logger_;
  std::unique_ptr<sys::TempDir> folder_;
  std::unique_ptr<FakeRegistry> fake_;
  std::unique_ptr<ImageStore> store_;
};

ImageMaker two_layers(const std::string& top = "box\n") {
  ImageMaker maker;
  maker.add_layer({{"etc/", ""}, {"etc/passwd", "root:x:0:0::/:/bin/sh\n"}});
  maker.add_layer({{"etc/", ""}, {"etc/hostname", top}});
  maker.config().config.env = {"PATH=/bin"};
  return maker;
}

TEST_F(StoreTest, PullsListsReadsAndRemoves) {
  const ImageMaker maker = two_layers();
  maker.serve(*fake_, "a/b", "v1");
  auto image = pull("a/b:v1");
  ASSERT_TRUE(image.ok()) << image.error().message();
  EXPECT_EQ(image->id, maker.image_id());
  EXPECT_THAT(image->repo_tags, ElementsAre(name("a/b:v1")));
  EXPECT_THAT(image->repo_digests, ElementsAre(cat(name("a/b@"), maker.manifest_digest())));
  EXPECT_THAT(image->config.config.env, ElementsAre("PATH=/bin"));
  EXPECT_GT(image->size, 3000U);
  EXPECT_EQ(store_->list()->size(), 1U);
  auto passwd = store_->read_image_file(image->id, "/etc/passwd", 4096);
  ASSERT_TRUE(passwd.ok()) << passwd.error().message();
  EXPECT_EQ(passwd->value_or(""), "root:x:0:0::/:/bin/sh\n");
  EXPECT_EQ(store_->read_image_file(image->id, "/nope", 4096).value(), std::nullopt);
  for (const std::string& key : {image->id, image->id.substr(7), image->id.substr(7, 12),
                                 name("a/b:v1"), image->repo_digests[0]}) {
    EXPECT_TRUE(store_->find(key)->has_value()) << key;
  }
  EXPECT_FALSE(store_->find(name("a/b:v2"))->has_value());
  auto removed = store_->remove(name("a/b:v1"));
  ASSERT_TRUE(removed.ok()) << removed.error().message();
  expect_nothing_left();
  EXPECT_TRUE(store_->remove(name("a/b:v1")).ok());
}

}  // namespace
}  // namespace fluyt::image
