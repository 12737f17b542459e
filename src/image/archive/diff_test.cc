#include "image/archive/diff.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>

#include "image/layer/tar.h"
#include "sys/file.h"

namespace fluyt::image::archive {
namespace {

class Keeper final : public TarSink {
 public:
  Result<> begin(TarEntry& entry) override {
    last_ = entry.path;
    entries[entry.path] = entry;
    return {};
  }
  Result<> data(uint64_t /*offset*/, std::string_view bytes) override {
    content[last_] += bytes;
    return {};
  }
  Result<> end() override { return {}; }
  std::map<std::string, TarEntry> entries;
  std::map<std::string, std::string> content;

 private:
  std::string last_;
};

Result<> never() { return {}; }

TEST(Diff, SaysWhatWasMadeChangedAndRemoved) {
  const sys::TempDir folder = sys::TempDir::create().value();
  const std::string upper = folder.path() + "/upper";
  ASSERT_TRUE(sys::make_dirs(upper + "/new/deep", 0750).ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, upper + "/new/file", "hello", 0640).ok());
  ASSERT_EQ(::link((upper + "/new/file").c_str(), (upper + "/same").c_str()), 0);
  ASSERT_EQ(::symlink("/etc/passwd", (upper + "/link").c_str()), 0);
  ASSERT_EQ(::mkfifo((upper + "/fifo").c_str(), 0600), 0);
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::mknod((upper + "/gone").c_str(), S_IFCHR, ::makedev(0, 0)), 0);
    ASSERT_EQ(::setxattr((upper + "/new").c_str(), "trusted.overlay.opaque", "y", 1, 0), 0);
    ASSERT_EQ(::chown((upper + "/new/deep").c_str(), 12, 34), 0);
  }
  std::string out;
  TarWriter tar([&](std::string_view bytes) -> Result<> {
    out += bytes;
    return {};
  });
  const sys::Fd fd = sys::open(upper, O_RDONLY | O_DIRECTORY).value();
  const auto written = write_diff(fd, tar, never);
  ASSERT_TRUE(written.ok()) << written.error().message();
  ASSERT_TRUE(tar.finish().ok());
  Keeper found;
  TarParser parser(found);
  ASSERT_TRUE(parser.push(out).ok());
  ASSERT_TRUE(parser.finish().ok());
  EXPECT_EQ(found.content["new/file"], "hello");
  EXPECT_EQ(found.entries["new/file"].mode, 0640U);
  EXPECT_EQ(found.entries["same"].type, TarType::kHardLink);
  EXPECT_EQ(found.entries["same"].link, "new/file");
  EXPECT_EQ(found.entries["link"].link, "/etc/passwd");
  EXPECT_EQ(found.entries["fifo"].type, TarType::kFifo);
  EXPECT_GT(found.entries["new/file"].mtime, 1'700'000'000);
  if (!root) GTEST_SKIP() << "whiteouts need root";
  EXPECT_TRUE(found.entries.contains(".wh.gone"));
  EXPECT_FALSE(found.entries.contains("gone"));
  EXPECT_TRUE(found.entries.contains("new/.wh..wh..opq"));
  const auto& deep = found.entries.at("new/deep/");
  EXPECT_EQ(std::pair(deep.uid, deep.gid), std::pair(12U, 34U));
}

TEST(Diff, EndsWhenItIsToldTo) {
  const sys::TempDir folder = sys::TempDir::create().value();
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, folder.path() + "/a", "x", 0600).ok());
  TarWriter tar([](std::string_view) -> Result<> { return {}; });
  const sys::Fd fd = sys::open(folder.path(), O_RDONLY | O_DIRECTORY).value();
  const auto ended = write_diff(fd, tar, [] { return Error(Code::kDeadlineExceeded, "enough"); });
  ASSERT_FALSE(ended.ok());
  EXPECT_EQ(ended.error().code(), Code::kDeadlineExceeded);
}

}  // namespace
}  // namespace fluyt::image::archive
