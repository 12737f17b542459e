#include "cmd/fluyt/text/log_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"

namespace fluyt::cli {
namespace {

class LogFileTest : public ::testing::Test {
 protected:
  void append(const std::string& path, const std::string& text) {
    const sys::Fd file = sys::open(path, O_WRONLY | O_APPEND | O_CREAT, 0640).value();
    ASSERT_TRUE(sys::write_all(file, text).ok());
  }
  std::string available(LogFile& log) {
    std::string out;
    EXPECT_TRUE(log.read_available([&](std::string_view bytes) { out += bytes; }).ok());
    return out;
  }
  sys::TempDir dir_ = sys::TempDir::create().value();
  const std::string path_ = cat(dir_.path(), "/c.log");
};

TEST_F(LogFileTest, GivesWhatIsNewAndNothingTwice) {
  append(path_, "one\n");
  LogFile log = LogFile::open(path_).value();
  EXPECT_EQ(available(log), "one\n");
  EXPECT_EQ(available(log), "");
  append(path_, "two\n");
  EXPECT_EQ(available(log), "two\n");
}

TEST_F(LogFileTest, RotationLosesNothing) {
  append(path_, "one\n");
  LogFile log = LogFile::open(path_).value();
  EXPECT_EQ(available(log), "one\n");
  // As the kubelet does it: rename, the writer goes on in the old file, then is told to reopen.
  ASSERT_EQ(::rename(path_.c_str(), cat(path_, ".1").c_str()), 0);
  append(cat(path_, ".1"), "two\n");
  EXPECT_EQ(available(log), "two\n") << "no new file yet";
  append(cat(path_, ".1"), "three\n");
  append(path_, "four\n");
  EXPECT_EQ(available(log), "three\nfour\n");
  append(path_, "five\n");
  EXPECT_EQ(available(log), "five\n");
}

TEST_F(LogFileTest, WaitEndsWithAWriteOrATimeout) {
  append(path_, "one\n");
  LogFile log = LogFile::open(path_).value();
  std::thread writer([&] { append(path_, "two\n"); });
  ASSERT_TRUE(log.wait(10'000).ok());
  writer.join();
  const int64_t start = now_boot_ns();
  // At most one event of the write above is still there.
  ASSERT_TRUE(log.wait(50).ok());
  ASSERT_TRUE(log.wait(50).ok());
  EXPECT_LT(now_boot_ns() - start, 5'000'000'000);
}

TEST_F(LogFileTest, AMissingFileIsNotFound) {
  EXPECT_EQ(LogFile::open(path_).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace fluyt::cli
