#include "cmd/fluytd/log/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/strings.h"
#include "cmd/fluytd/log/journal_sink.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace fluyt::daemon {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

class Logs : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string text_of(const std::string& name) const {
    return sys::read_file(path(name), 1UL << 20U).value_or("");
  }
  LogOptions to_file() const {
    LogOptions options;
    options.target = LogTarget::kFile;
    options.file = path("log");
    return options;
  }
  sys::TempDir folder_ = std::move(*sys::TempDir::create());
};

TEST_F(Logs, TextHasTimeLevelAndBraces) {
  const auto log = std::move(*Log::open(to_file()));
  log->info("a {} b");
  log->debug("not this");
  EXPECT_THAT(text_of("log"), MatchesRegex("[0-9-]+T[0-9:]+\\.[0-9]+ info a \\{\\} b\n"));
}

TEST_F(Logs, JsonIsALineAnEntryWhateverIsSaid) {
  LogOptions options = to_file();
  options.format = LogFormat::kJson;
  const auto log = std::move(*Log::open(options));
  log->warn("two\nlines \"and\" \xff");
  EXPECT_THAT(text_of("log"), MatchesRegex("\\{\"time\":\"[^\"]+Z\",\"level\":\"warn\",\"message\":"
                                           "\"two\\\\nlines \\\\\"and\\\\\" [^\"]*\"\\}\n"));
}

TEST_F(Logs, TheLevelChangesLive) {
  const auto log = std::move(*Log::open(to_file()));
  log->set_level(LogLevel::kError);
  log->warn("no");
  log->set_level(LogLevel::kDebug);
  log->debug("yes");
  EXPECT_THAT(text_of("log"), testing::Not(HasSubstr("no")));
  EXPECT_THAT(text_of("log"), HasSubstr("yes"));
}

TEST_F(Logs, AFileThatWasMovedAwayIsOpenedAnew) {
  const auto log = std::move(*Log::open(to_file()));
  log->info("one");
  ASSERT_EQ(std::rename(path("log").c_str(), path("old").c_str()), 0);
  log->info("two");
  (*log->prepare(to_file()))();
  log->info("three");
  EXPECT_THAT(text_of("old"), HasSubstr("two"));
  EXPECT_THAT(text_of("log"), HasSubstr("three"));
  EXPECT_THAT(text_of("log"), testing::Not(HasSubstr("two")));
}

TEST_F(Logs, AFileGrowsToItsSizeAndTheOldestGoes) {
  LogOptions options = to_file();
  options.max_bytes = 4096;
  options.keep = 2;
  const auto log = std::move(*Log::open(options));
  for (int i = 0; i < 1000; ++i) log->info("a line of some forty bytes, all told, I say");
  EXPECT_LE(text_of("log").size(), 4096U);
  EXPECT_THAT(*sys::list_dir(folder_.path()), testing::ElementsAre("log", "log.1", "log.2"));
}

TEST_F(Logs, WhatCannotBeOpenedLeavesTheOldOne) {
  const auto log = std::move(*Log::open(to_file()));
  LogOptions options = to_file();
  options.file = "/proc/no/such";
  const auto refused = log->prepare(options);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("log_file: "));
  log->info("still here");
  EXPECT_THAT(text_of("log"), HasSubstr("still here"));
}

TEST_F(Logs, WhatCannotBeWrittenIsCounted) {
  LogOptions options = to_file();
  options.file = "/dev/full";
  options.max_bytes = 0;
  const auto log = std::move(*Log::open(options));
  log->info("lost");
  EXPECT_EQ(log->lost(), 1U);
}

TEST_F(Logs, OptionsThatContradictEachOtherAreRefused) {
  LogOptions options;
  options.target = LogTarget::kFile;
  EXPECT_THAT(check_log_options(options).error().message(), HasSubstr("log_target: "));
  options.target = LogTarget::kJournald;
  options.format = LogFormat::kJson;
  EXPECT_THAT(check_log_options(options).error().message(), HasSubstr("log_format: "));
}

/// What journald would be sent.
class Journal {
 public:
  explicit Journal(const std::string& path) { listen(path); }
  void listen(const std::string& path) {
    ::unlink(path.c_str());
    socket_ = sys::Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(socket_.raw(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  std::string next() {
    std::string bytes(1UL << 17U, '\0');
    const ssize_t size = ::recv(socket_.raw(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(size < 0 ? 0 : static_cast<size_t>(size));
    return bytes;
  }

 private:
  sys::Fd socket_;
};

TEST_F(Logs, JournaldGetsPriorityAndMessage) {
  Journal journal(path("journal"));
  LogOptions options;
  options.target = LogTarget::kJournald;
  options.journal_socket = path("journal");
  const auto log = std::move(*Log::open(options));
  log->warn("a line");
  const std::string entry = journal.next();
  EXPECT_THAT(entry, HasSubstr("PRIORITY=4\n"));
  EXPECT_THAT(entry, HasSubstr("SYSLOG_IDENTIFIER=fluytd\n"));
  EXPECT_THAT(entry, HasSubstr("MESSAGE=a line\n"));

  journal.listen(path("journal"));  // journald was started again
  log->error("after it");
  EXPECT_THAT(journal.next(), HasSubstr("PRIORITY=3\n"));
  EXPECT_EQ(log->lost(), 0U);
  log->info(std::string(1UL << 20U, 'x'));  // cut, and there
  EXPECT_THAT(journal.next(), HasSubstr("MESSAGE=xxx"));
}

TEST(JournalEntry, LinesInAMessageMakeNoFields) {
  const std::string entry = journal_entry(6, "one\nPRIORITY=0");
  EXPECT_THAT(entry, HasSubstr(std::string("MESSAGE\n\x0e\0\0\0\0\0\0\0one\nPRIORITY=0\n", 31)));
}

TEST_F(Logs, WithoutJournaldThereIsAnError) {
  LogOptions options;
  options.target = LogTarget::kJournald;
  options.journal_socket = path("none");
  const auto log = Log::open(options);
  ASSERT_FALSE(log.ok());
  EXPECT_THAT(log.error().message(), HasSubstr("log_target: journald: "));
}

}  // namespace
}  // namespace fluyt::daemon
