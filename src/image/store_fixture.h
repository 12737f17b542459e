#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "base/strings.h"
#include "image/library.h"
#include "image/testing/fake_registry.h"
#include "image/testing/image_maker.h"
#include "image/testing/settled.h"
#include "sys/file.h"

/// For the tests of the store's verbs: a store of its own beside a fake registry.
namespace fluyt::image::testing {

class StoreFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    folder_ = std::make_unique<sys::TempDir>(sys::TempDir::create().value());
    fake_ = FakeRegistry::start().value();
    options_.root = folder_->path() + "/store";
    options_.certs_dir = folder_->path() + "/certs";
    // fluyt-unpack stands beside the tests' folder: build/<preset>/test/x, build/<preset>/bin/x.
    const std::string self = sys::read_link(sys::kCwd, "/proc/self/exe").value();
    const std::string tests = self.substr(0, self.rfind('/'));
    options_.unpack_program = tests.substr(0, tests.rfind('/')) + "/bin/fluyt-unpack";
    options_.timeouts = {.connect_ms = 1000, .first_byte_ms = 1000, .stall_ms = 1000};
    options_.retry.first_delay_ms = 10;
    options_.retry.max_tries = 2;
    reopen();
  }
  Result<> try_reopen() {
    store_.reset();
    store_ = FLUYT_TRY(ImageStore::open(options_, logger_));
    return {};
  }
  void reopen() {
    auto opened = try_reopen();
    ASSERT_TRUE(opened.ok()) << opened.error().message();
  }

  Library& library() const { return library_of(*store_); }
  std::string name(const std::string& tag) const { return cat(fake_->host(), "/", tag); }
  Result<Image> pull(const std::string& tag) {
    return store_->pull(oci::Reference::parse(name(tag)).value(),
                        {.purpose = PullOptions::Purpose::kRunAndPush});
  }
  Result<Image> pull_to_run(const std::string& tag) {
    return store_->pull(oci::Reference::parse(name(tag)).value(), {});
  }
  std::string path(const std::string& below) const { return cat(options_.root, "/", below); }
  std::vector<std::string> names_in(const std::string& folder) const {
    return settled_names(path(folder));
  }
  void write(const std::string& file, std::string_view bytes) const {
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path(file), bytes, 0600).ok());
  }
  /// A base that all have, and a layer of `top`.
  static ImageMaker image_with(const std::string& top) {
    ImageMaker maker;
    maker.add_layer({{"etc/", ""}, {"etc/passwd", "root:x:0:0::/:/bin/sh\n"}});
    maker.add_layer({{"etc/", ""}, {"etc/hostname", top}});
    maker.config().config.env = {"PATH=/bin"};
    return maker;
  }

  StoreOptions options_;
  NullLogger logger_;
  std::unique_ptr<sys::TempDir> folder_;
  std::unique_ptr<FakeRegistry> fake_;
  std::unique_ptr<ImageStore> store_;
};

}  // namespace fluyt::image::testing
