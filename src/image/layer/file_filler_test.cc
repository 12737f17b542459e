#include "image/layer/file_filler.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>

#include "sys/file.h"

namespace fluyt::image {
namespace {

class Filler : public testing::Test {
 protected:
  static sys::Fd make(const std::string& path) {
    return sys::open(path, O_WRONLY | O_CREAT | O_EXCL, 0600).value();
  }
  std::string path_of(size_t number) const { return dir_.path() + "/" + std::to_string(number); }
  static std::string content_of(size_t number) {
    return std::string(number * 131 % FileFiller::kMaxFileBytes,
                       static_cast<char>('a' + number % 26));
  }
  const sys::TempDir dir_ = sys::TempDir::create().value();
};

TEST_F(Filler, GivesEachFileItsBytesAndLooks) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: the files have other owners";
  constexpr size_t kFiles = 1000;
  StandbyThread thread;
  FileFiller filler(thread);
  for (size_t i = 0; i < kFiles; ++i) {
    sys::Fd file = make(path_of(i));
    const std::string content = content_of(i);
    const size_t half = content.size() / 2;
    filler.append(content.substr(0, half));
    filler.append(content.substr(half));
    const FileLooks looks{.uid = static_cast<uid_t>(i % 3),
                          .gid = 7,
                          .mode = i % 2 == 0 ? 04755U : 0600U,
                          .mtime = {.tv_sec = static_cast<time_t>(i), .tv_nsec = 5}};
    ASSERT_TRUE(filler.add(std::move(file), looks, path_of(i)).ok());
  }
  ASSERT_TRUE(filler.finish().ok());
  for (size_t i = 0; i < kFiles; ++i) {
    ASSERT_TRUE(sys::read_file(sys::kCwd, path_of(i), FileFiller::kMaxFileBytes).value() ==
                content_of(i))
        << i;
    const sys::Fd file = sys::open(path_of(i), O_RDONLY).value();
    const auto info = sys::stat_of(file).value();
    EXPECT_EQ(info.st_uid, i % 3);
    EXPECT_EQ(info.st_gid, 7U);
    EXPECT_EQ((info.st_mode & 04000U) != 0, i % 2 == 0);
    EXPECT_EQ(info.st_mtim.tv_sec, static_cast<time_t>(i));
    EXPECT_EQ(info.st_mtim.tv_nsec, 5);
  }
}

TEST_F(Filler, TellsWhatWentWrongAndWithWhich) {
  StandbyThread thread;
  FileFiller filler(thread);
  make(path_of(0));
  filler.append("x");
  sys::Fd unwritable = sys::open(path_of(0), O_RDONLY).value();
  ASSERT_TRUE(filler.add(std::move(unwritable), {}, "the/first").ok()) << "nobody has tried yet";
  Result<> outcome;
  for (size_t i = 1; i < 1000 && outcome.ok(); ++i)
    outcome = filler.add(make(path_of(i)), {}, "another");
  ASSERT_FALSE(outcome.ok()) << "before all are in";
  EXPECT_THAT(outcome.error().message(), testing::HasSubstr("pwrite(\"the/first\")"));
}

TEST_F(Filler, LetsGoOfWhatIsNotWritten) {
  StandbyThread thread;
  FileFiller filler(thread);
  filler.append("x");
  ASSERT_TRUE(filler.add(make(path_of(0)), {}, "0").ok());
}

}  // namespace
}  // namespace fluyt::image
