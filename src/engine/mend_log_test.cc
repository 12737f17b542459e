#include "engine/mend_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

class MendLog : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = sys::TempDir::create();
    ASSERT_TRUE(folder.ok());
    folder_ = std::make_unique<sys::TempDir>(std::move(folder).value());
    ASSERT_TRUE(sys::make_dirs(folder_->path() + "/c", 0755).ok());
  }
  std::string after(const std::string& text) {
    const std::string path = folder_->path() + "/c/0.log";
    EXPECT_TRUE(sys::write_file_atomic(sys::kCwd, path, text, 0640).ok());
    const auto mended = mend_log_soon(folder_->path(), "c/0.log", 10'000);
    EXPECT_TRUE(mended.ok()) << mended.error().message();
    return sys::read_file(path, 1UL << 20U).value_or("?");
  }
  std::unique_ptr<sys::TempDir> folder_;
};

TEST_F(MendLog, CutsOffALineWithoutItsEnd) {
  EXPECT_EQ(after("one\ntwo\nthr"), "one\ntwo\n");
  EXPECT_EQ(after("thr"), "");
  const std::string many = std::string(30'000, 'x') + "\n";
  EXPECT_EQ(after(many + std::string(16'000, 'y')), many);
}

TEST_F(MendLog, LeavesWholeLinesAlone) {
  EXPECT_EQ(after("one\ntwo\n"), "one\ntwo\n");
  EXPECT_EQ(after(""), "");
}

TEST_F(MendLog, LeavesWhatIsNoLogOfOursAlone) {
  const std::string path = folder_->path() + "/c/0.log";
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path, std::string(50'000, 'x'), 0640).ok());
  EXPECT_FALSE(mend_log(folder_->path(), "c/0.log").ok());
  EXPECT_EQ(sys::read_file(path, 1UL << 20U).value_or("").size(), 50'000U);
  EXPECT_TRUE(mend_log(folder_->path(), "c/none.log").ok());
  EXPECT_TRUE(mend_log(folder_->path() + "/none", "c/0.log").ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path, "torn", 0640).ok());
  ASSERT_EQ(symlink("0.log", (folder_->path() + "/c/link.log").c_str()), 0);
  EXPECT_FALSE(mend_log(folder_->path(), "c/link.log").ok());
  EXPECT_EQ(sys::read_file(path, 64).value_or("?"), "torn");
}

}  // namespace
}  // namespace fluyt::engine
