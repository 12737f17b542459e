#include "image/layer/unpack.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <thread>

#include "image/layer/gzip_build.h"
#include "image/layer/tar_build.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

using testing::HasSubstr;

class Unpack : public testing::Test {
 protected:
  Result<LayerInfo> from(sys::FdRef in, sys::FdRef tree) {
    UnpackThreads threads;
    return unpack(in, tree, {}, {}, threads);
  }
  // The stream in a pipe, which takes that much at once.
  Result<LayerInfo> of(const std::string& blob) { return of(blob, tree_); }
  Result<LayerInfo> of(const std::string& blob, sys::FdRef tree) {
    sys::Pipe pipe = sys::make_pipe().value();
    std::thread writer([&] {
      sys::write_all(pipe.write, blob).ignore("the reader may have had enough");
      pipe.write.reset();
    });
    auto outcome = from(pipe.read, tree);
    std::array<char, 4096> rest;
    while (read(pipe.read.raw(), rest.data(), rest.size()) > 0) continue;
    writer.join();
    return outcome;
  }
  const sys::TempDir dir_ = sys::TempDir::create().value();
  const sys::Fd tree_ = sys::open(dir_.path(), O_RDONLY | O_DIRECTORY).value();
};

TEST_F(Unpack, AFaultOfTheArchiveIsSaidWhileTheBlobStillArrives) {
  const sys::Pipe pipe = sys::make_pipe().value();
  ASSERT_TRUE(sys::write_all(pipe.write, std::string(512, 'x')).ok());
  const auto outcome = from(pipe.read, tree_);  // the other end stays open
  ASSERT_FALSE(outcome.ok());
  EXPECT_THAT(outcome.error().message(), HasSubstr("checksum does not match"));
}

TEST_F(Unpack, AFaultOfTheArchiveComesBeforeThatOfTheBytesBehindIt) {
  std::string blob = gzip(std::string(512, 'x') + std::string(4UL << 20U, 'y'));
  blob.resize(blob.size() - 9);
  const auto outcome = of(blob);
  ASSERT_FALSE(outcome.ok());
  EXPECT_THAT(outcome.error().message(), HasSubstr("checksum does not match"));
}

TEST_F(Unpack, AFaultOfAFileComesBeforeThatOfTheArchiveBehindIt) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: to mount";
  ASSERT_EQ(mount("none", dir_.path().c_str(), "tmpfs", 0, "size=32k"), 0);
  const auto outcome = [&] {
    const sys::Fd small = sys::open(dir_.path(), O_RDONLY | O_DIRECTORY).value();
    return of(
        TarBuild().file("a", std::string(60'000, 'a')).file("b").bytes() + std::string(512, 'x'),
        small);
  }();
  ASSERT_EQ(umount(dir_.path().c_str()), 0);
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().errno_value(), ENOSPC) << outcome.error().message();
  EXPECT_THAT(outcome.error().message(), HasSubstr("pwrite(\"a\")"));
}

TEST_F(Unpack, ABlobThatIsCutShortIsSaidToBe) {
  const std::string whole = gzip(TarBuild().end() + std::string(4UL << 20U, '\0'));
  const auto outcome = of(whole.substr(0, whole.size() - 9));
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().code(), Code::kDataLoss);
  EXPECT_THAT(outcome.error().message(), HasSubstr("gzip: the stream ends in the middle"));
}

TEST_F(Unpack, ABlobIsReadToItsEndBehindTheArchives) {
  const auto outcome = of(gzip(TarBuild().end() + std::string(4UL << 20U, '\0')));
  ASSERT_TRUE(outcome.ok()) << outcome.error().message();
  EXPECT_EQ(outcome->compression, "gzip");
  EXPECT_GT(outcome->unpacked_bytes, 4UL << 20U);
}

}  // namespace
}  // namespace fluyt::image
