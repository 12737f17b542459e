#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"
#include "base/time.h"
#include "image/blob/hasher.h"
#include "image/layer/manifest.h"
#include "image/layer/store.h"
#include "image/layer/tar_build.h"
#include "image/layer/tree_check.h"
#include "image/layer/view.h"
#include "image/layer/writer.h"
#include "sys/file.h"

/// For tests that unpack layers with the real program, as root.
namespace fluyt::image {

/// What one file looks like, for comparing trees.
struct Look {
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  int64_t size = 0;
  timespec mtime{};
  nlink_t links = 0;
  dev_t device = 0;
  std::string content;  // or the link's target
  std::map<std::string, std::string> xattrs;
};

inline std::map<std::string, std::string> xattrs_of(const std::string& path) {
  std::map<std::string, std::string> out;
  std::string names(65536, '\0');
  const ssize_t size = llistxattr(path.c_str(), names.data(), names.size());
  if (size <= 0) return out;
  for (const std::string_view name : split({names.data(), static_cast<size_t>(size)}, '\0')) {
    if (name.empty()) continue;
    std::string value(65536, '\0');
    const ssize_t got =
        lgetxattr(path.c_str(), std::string(name).c_str(), value.data(), value.size());
    if (got >= 0) out[std::string(name)] = value.substr(0, static_cast<size_t>(got));
  }
  return out;
}

inline Look look_at(const std::string& path) {
  struct stat info{};
  if (lstat(path.c_str(), &info) != 0) return {};
  Look look{.mode = info.st_mode,
            .uid = info.st_uid,
            .gid = info.st_gid,
            .size = S_ISDIR(info.st_mode) ? 0 : info.st_size,
            .mtime = info.st_mtim,
            .links = S_ISDIR(info.st_mode) ? 0 : info.st_nlink,
            .device = info.st_rdev,
            .xattrs = xattrs_of(path)};
  if (S_ISREG(info.st_mode)) look.content = sys::read_file(path, 1UL << 30U).value();
  if (S_ISLNK(info.st_mode)) look.content = sys::read_link(sys::kCwd, path).value();
  return look;
}

class LayerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: unpacking makes devices and owners";
    signal(SIGPIPE, SIG_IGN);
    std::string self(4096, '\0');
    self.resize(static_cast<size_t>(readlink("/proc/self/exe", self.data(), self.size())));
    const std::string program = self.substr(0, self.rfind('/')) + "/../bin/fluyt-unpack";
    ASSERT_TRUE(sys::exists(program)) << program;
    auto store = LayerStore::open(
        {.root = dir_.path() + "/store", .unpack_program = program, .form = form()});
    if (!store.ok() && form() == LayerForm::kErofs) GTEST_SKIP() << store.error().message();
    store_ = std::move(store).value();
  }
  virtual LayerForm form() const { return LayerForm::kDirectory; }

  Result<LayerInfo> unpack(std::string_view blob, LayerExpectation expectation = {},
                           size_t piece = 65536) {
    LayerWriter writer = FLUYT_TRY(LayerWriter::create(*store_, std::move(expectation)));
    while (!blob.empty()) {
      FLUYT_TRY(writer.write(blob.substr(0, piece)));
      blob.remove_prefix(std::min(piece, blob.size()));
    }
    return writer.finish();
  }
  LayerInfo unpack_ok(std::string_view blob) {
    auto info = unpack(blob);
    EXPECT_TRUE(info.ok()) << (info.ok() ? "" : info.error().message());
    if (!info.ok())
      return {.diff_id = digest_of("sha256", "").value(),
              .blob_digest = digest_of("sha256", "").value()};
    EXPECT_THAT(differences(*info), testing::IsEmpty());
    return std::move(info).value();
  }
  // What a tree's manifest says is not so: nothing, whatever the archive was.
  std::vector<std::string> differences(const LayerInfo& info) const {
    if (info.form != LayerForm::kDirectory) return {};
    const std::string folder = cat(dir_.path(), "/store/layers/", info.diff_id.hex(), "/");
    const sys::Fd tree = sys::open(folder + "fs", O_RDONLY | O_DIRECTORY).value();
    const sys::Fd manifest = sys::open(cat(folder, kManifestName), O_RDONLY).value();
    auto found = check_tree(tree, manifest, info.metadata_digest, 5);
    if (!found.ok()) return {found.error().message()};
    return *std::move(found);
  }
  std::string error_of(std::string_view blob) {
    auto info = unpack(blob);
    EXPECT_TRUE(is_clean()) << "something was left behind";
    return info.ok() ? "no error" : info.error().message();
  }
  std::string tree_of(const LayerInfo& info) const {
    // Mounts an image.
    if (info.form == LayerForm::kErofs) store_->resolve_chain({{info.diff_id}}).ignore("see below");
    return cat(dir_.path(), "/store/layers/", info.diff_id.hex(), "/fs");
  }
  Look look(const LayerInfo& info, const std::string& path) const {
    return look_at(tree_of(info) + "/" + path);
  }
  bool has(const LayerInfo& info, const std::string& path) const {
    return look(info, path).mode != 0;
  }
  // What failed is out of the way at once, and gone soon.
  bool is_clean() const {
    if (!sys::list_dir(dir_.path() + "/store/staging")->empty()) return false;
    const Deadline deadline = Deadline::after_ms(20'000);
    while (!deadline.passed()) {
      if (sys::list_dir(dir_.path() + "/store/trash")->empty()) return true;
      usleep(2'000);
    }
    return false;
  }

  sys::TempDir dir_ = sys::TempDir::create().value();
  std::unique_ptr<LayerStore> store_;
};

/// The same for both forms that a layer can have on the disk: what a container sees must not
/// differ.
class LayerFormTest : public LayerTest, public testing::WithParamInterface<LayerForm> {
 protected:
  LayerForm form() const override { return GetParam(); }
};

#define FLUYT_FOR_BOTH_FORMS(suite)                                                   \
  INSTANTIATE_TEST_SUITE_P(Forms, suite,                                              \
                           testing::Values(LayerForm::kDirectory, LayerForm::kErofs), \
                           [](const auto& form) { return std::string(form_name(form.param)); })

}  // namespace fluyt::image
