#include "monitor/process/log_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::monitor {
namespace {

constexpr int64_t kTime = 1'700'000'000'000'000'001;
const std::string kStamp = "2023-11-14T22:13:20.000000001Z ";

class LogFileTest : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = sys::TempDir::create();
    ASSERT_TRUE(folder.ok());
    folder_ = std::make_unique<sys::TempDir>(std::move(folder).value());
    auto file = open_log(folder_->path(), "pod/0.log");
    ASSERT_TRUE(file.ok()) << file.error().message();
    log_ = std::make_unique<LogFile>(std::move(file).value());
  }
  std::string content(const std::string& name = "pod/0.log") const {
    return sys::read_file(cat(folder_->path(), "/", name), 64UL << 20U).value_or("?");
  }
  std::unique_ptr<sys::TempDir> folder_;
  std::unique_ptr<LogFile> log_;
};

TEST_F(LogFileTest, WritesLinesOfBothStreams) {
  log_->write(Stream::kStdout, "one\ntwo\n", kTime);
  log_->write(Stream::kStderr, "\n", kTime);
  EXPECT_EQ(content(),
            kStamp + "stdout F one\n" + kStamp + "stdout F two\n" + kStamp + "stderr F \n");
}

TEST_F(LogFileTest, JoinsPiecesOfALine) {
  log_->write(Stream::kStdout, "he", kTime);
  log_->write(Stream::kStderr, "other\n", kTime);
  log_->write(Stream::kStdout, "llo\nrest", kTime);
  EXPECT_EQ(content(), kStamp + "stderr F other\n" + kStamp + "stdout F hello\n");
  log_->finish(Stream::kStdout, kTime);
  log_->finish(Stream::kStdout, kTime);
  EXPECT_THAT(content(), testing::EndsWith(kStamp + "stdout P rest\n"));
}

TEST_F(LogFileTest, SplitsLongLinesWhateverTheChunks) {
  const std::string line(2 * kMaxLogLineBytes + 5, 'x');
  std::string expected;
  for (int i = 0; i < 2; ++i)
    expected += kStamp + "stdout P " + std::string(kMaxLogLineBytes, 'x') + "\n";
  expected += kStamp + "stdout F xxxxx\n";
  for (const size_t step : {size_t{1000}, size_t{4096}, kMaxLogLineBytes, line.size()}) {
    const std::string name = cat("long-", step);
    log_->replace(*open_log(folder_->path(), name));
    for (size_t at = 0; at < line.size(); at += step) {
      log_->write(Stream::kStdout, std::string_view(line).substr(at, step), kTime);
    }
    log_->write(Stream::kStdout, "\n", kTime);
    EXPECT_EQ(content(name), expected) << step;
  }
}

TEST_F(LogFileTest, ALineOfExactlyTheLimitIsWhole) {
  const std::string line(kMaxLogLineBytes, 'y');
  log_->write(Stream::kStdout, line, kTime);
  log_->write(Stream::kStdout, "\n", kTime);
  EXPECT_EQ(content(), kStamp + "stdout F " + line + "\n");
}

TEST_F(LogFileTest, WritesManyShortLines) {
  std::string text;
  std::string expected;
  for (int i = 0; i < 5000; ++i) {
    text += cat(i, "\n");
    expected += cat(kStamp, "stdout F ", i, "\n");
  }
  log_->write(Stream::kStdout, text, kTime);
  EXPECT_EQ(content(), expected);
  EXPECT_EQ(log_->dropped_bytes(), 0U);
}

TEST_F(LogFileTest, ReplacedFileGetsTheNextLine) {
  log_->write(Stream::kStdout, "old\npart", kTime);
  log_->replace(*open_log(folder_->path(), "pod/1.log"));
  log_->write(Stream::kStdout, "ial\n", kTime);
  EXPECT_EQ(content(), kStamp + "stdout F old\n");
  EXPECT_EQ(content("pod/1.log"), kStamp + "stdout F partial\n");
}

// A file size limit stands for a full disk: both cut a write short, then refuse it.
TEST_F(LogFileTest, FullDiskDropsAndCountsAndGoesOnWithWholeLines) {
  struct rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* old = ::signal(SIGXFSZ, SIG_IGN);
  const std::string first = kStamp + "stdout F first\n";
  struct rlimit tight = before;
  tight.rlim_cur = first.size() + 20;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  log_->write(Stream::kStdout, "first\nsecond\nthird\n", kTime);
  log_->write(Stream::kStdout, "fourth\n", kTime);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, old);
  const std::string lost =
      kStamp + "stdout F second\n" + kStamp + "stdout F third\n" + kStamp + "stdout F fourth\n";
  EXPECT_EQ(log_->dropped_bytes(), lost.size() - 20);
  log_->write(Stream::kStdout, "fifth\n", kTime);
  const std::string text = content();
  EXPECT_TRUE(text.starts_with(first));
  EXPECT_THAT(text, testing::EndsWith("\n" + kStamp + "stdout F fifth\n"));
}

TEST_F(LogFileTest, RefusesPathsThatLeaveTheFolder) {
  for (const char* path : {"", "/etc/passwd", "../x", "a/../../x", "a//b", "./x", "a/.", ".."}) {
    const auto opened = open_log(folder_->path(), path);
    ASSERT_FALSE(opened.ok()) << path;
    EXPECT_EQ(opened.error().code(), Code::kInvalidArgument) << path;
  }
  EXPECT_FALSE(open_log("relative", "x").ok());
}

TEST_F(LogFileTest, RefusesLinksFifosAndFolders) {
  const std::string base = folder_->path();
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, base + "/outside", "", 0600).ok());
  ASSERT_EQ(symlink((base + "/outside").c_str(), (base + "/pod/link.log").c_str()), 0);
  ASSERT_EQ(symlink("/tmp", (base + "/linked").c_str()), 0);
  ASSERT_EQ(mkfifo((base + "/pod/fifo.log").c_str(), 0600), 0);
  ASSERT_EQ(mkdir((base + "/pod/dir.log").c_str(), 0700), 0);
  for (const char* path : {"pod/link.log", "linked/x.log", "pod/fifo.log", "pod/dir.log"}) {
    const auto opened = open_log(base, path);
    ASSERT_FALSE(opened.ok()) << path;
    EXPECT_THAT(opened.error().message(), testing::HasSubstr(cat("log_path \"", path, "\"")));
  }
  // A FIFO that somebody reads can be opened; it is refused for what it is.
  const int reader = ::open((base + "/pod/fifo.log").c_str(), O_RDONLY | O_NONBLOCK);
  EXPECT_EQ(open_log(base, "pod/fifo.log").error().code(), Code::kInvalidArgument);
  ::close(reader);
}

TEST_F(LogFileTest, IsMadeReadableForTheGroup) {
  const auto stat = sys::find_stat(sys::kCwd, folder_->path() + "/pod/0.log");
  ASSERT_TRUE(stat.ok() && *stat);
  EXPECT_EQ((*stat)->st_mode & 0777U, 0640U);
}

}  // namespace
}  // namespace fluyt::monitor
