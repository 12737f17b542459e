#include "engine/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

using testing::HasSubstr;

class LayoutTest : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = sys::TempDir::create();
    ASSERT_TRUE(folder.ok());
    folder_ = std::make_unique<sys::TempDir>(std::move(folder).value());
  }
  void write(const std::string& text) {
    ASSERT_TRUE(
        sys::write_file_atomic(sys::kCwd, cat(folder_->path(), "/", kLayoutFile), text, 0644).ok());
  }
  std::unique_ptr<sys::TempDir> folder_;
};

TEST_F(LayoutTest, OfAFolderThatIsNewOrNotThereIsOurs) {
  EXPECT_TRUE(check_layout(folder_->path()).ok());
  EXPECT_TRUE(check_layout(folder_->path() + "/none").ok());
}

TEST_F(LayoutTest, ThatWasMarkedIsOurs) {
  ASSERT_TRUE(mark_layout(folder_->path()).ok());
  EXPECT_TRUE(check_layout(folder_->path()).ok());
}

TEST_F(LayoutTest, OfANewerProgramIsRefusedByName) {
  write(R"({"version": 2, "written_by": "9.9", "more": true})");
  const auto checked = check_layout(folder_->path());
  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().code(), Code::kFailedPrecondition);
  for (const char* words : {"layout 2", "\"9.9\"", "knows up to 1", "left untouched"}) {
    EXPECT_THAT(checked.error().message(), HasSubstr(words));
  }
}

TEST_F(LayoutTest, ThatCannotBeReadIsRefused) {
  for (const char* text : {"", "{", "[]", R"({"version": "1"})"}) {
    write(text);
    EXPECT_FALSE(check_layout(folder_->path()).ok()) << text;
  }
}

}  // namespace
}  // namespace fluyt::engine
