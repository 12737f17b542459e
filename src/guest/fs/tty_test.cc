#include "guest/fs/tty.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "guest/vfs/tree.h"

namespace fluyt::guest {
namespace {

/// Remembers what it was asked for.
class Host final : public TerminalHost {
 public:
  void signal_foreground(Terminal&, int signal) override {
    std::lock_guard lock(mutex);
    signals.push_back(signal);
  }
  void hang_up(Terminal&) override {
    std::lock_guard lock(mutex);
    ++hang_ups;
  }
  std::mutex mutex;
  std::vector<int> signals;
  int hang_ups = 0;
};

class TtyTest : public testing::Test {
 protected:
  TtyTest() : pts_(make_devpts({}, host_)) {}
  FilePtr open_master() {
    const InodePtr ptmx = pts_->root()->lookup("ptmx").value();
    const FilePtr opener = ptmx->open(nullptr, O_RDWR | O_NONBLOCK).value();
    return opener->finish_open(caller_).value();
  }
  std::string read(File& file) {
    std::string out(4096, 0);
    int64_t offset = 0;
    const ErrnoOr<size_t> got = file.read(caller_, std::as_writable_bytes(std::span(out)), &offset);
    if (!got.ok()) return "errno " + std::to_string(got.error().value());
    out.resize(got.value());
    return out;
  }
  int write(File& file, const std::string& text) {
    int64_t offset = 0;
    const ErrnoOr<size_t> put = file.write(caller_, std::as_bytes(std::span(text)), &offset);
    return put.ok() ? static_cast<int>(put.value()) : -put.error().value();
  }
  /// What comes from the host's side until `text` is there.
  static std::string until(int fd, const std::string& text) {
    std::string seen;
    while (seen.find(text) == std::string::npos) {
      pollfd entry{fd, POLLIN, 0};
      char buffer[512];
      if (poll(&entry, 1, 5000) <= 0) return seen + " (nothing more)";
      const ssize_t got = ::read(fd, buffer, sizeof buffer);
      if (got <= 0) return seen + " (its end)";
      seen.append(buffer, static_cast<size_t>(got));
    }
    return seen;
  }

  Host host_;
  Workers workers_;  // what it does ends with the consoles' descriptors
  Sleeper sleeper_;
  Credentials who_;
  Caller caller_{sleeper_, who_};
  std::shared_ptr<Pts> pts_;
};

TEST_F(TtyTest, NumbersAreTheLowestAndGoWithTheMaster) {
  FilePtr first = open_master();
  FilePtr second = open_master();
  EXPECT_EQ(pts_->root()->list().value().size(), 3U);  // and ptmx
  ASSERT_TRUE(pts_->root()->lookup("1").ok());
  first.reset();
  EXPECT_EQ(host_.hang_ups, 1);
  EXPECT_EQ(pts_->root()->lookup("0").error().value(), ENOENT);
  EXPECT_EQ(pts_->root()->lookup("01").error().value(), ENOENT);
  FilePtr third = open_master();
  EXPECT_TRUE(pts_->root()->lookup("0").ok());
}

TEST_F(TtyTest, ThereIsALimit) {
  const std::shared_ptr<Pts> small = make_devpts({.max = 1}, host_);
  const FilePtr opener = small->root()->lookup("ptmx").value()->open(nullptr, O_RDWR).value();
  const FilePtr one = opener->finish_open(caller_).value();
  EXPECT_EQ(opener->finish_open(caller_).error().value(), ENOSPC);
}

TEST_F(TtyTest, ALockedSlaveDoesNotOpen) {
  const FilePtr master = open_master();
  const InodePtr slave = pts_->root()->lookup("0").value();
  EXPECT_EQ(slave->open(nullptr, O_RDWR).error().value(), EIO);
  EXPECT_EQ(open_peer(caller_, *master, O_RDWR).error().value(), EIO);
}

TEST_F(TtyTest, AConsoleCarriesBytesOverAHostTerminal) {
  int outside = -1;
  int inside = -1;
  winsize size{30, 100, 0, 0};
  ASSERT_EQ(openpty(&outside, &inside, nullptr, nullptr, &size), 0);
  fcntl(inside, F_SETFL, O_NONBLOCK);
  auto poller = std::make_shared<host::Poller>();
  Pts::Console console = pts_->open_console(workers_, poller, sys::Fd(inside), who_).value();
  EXPECT_EQ(host_.signals, std::vector<int>{SIGWINCH});  // the size came over

  ASSERT_EQ(::write(outside, "typed\r", 6), 6);
  EXPECT_EQ(until(outside, "typed\r\n"), "typed\r\n");  // the echo is ours
  EXPECT_EQ(read(*console.slave), "typed\n");
  EXPECT_EQ(write(*console.slave, "shown\n"), 6);
  EXPECT_EQ(until(outside, "shown\r\n"), "shown\r\n");
  // More than all buffers hold, so that both sides have to wait for one another.
  std::thread writer(
      [&] { EXPECT_EQ(write(*console.slave, std::string(200000, 'x') + "!"), 200001); });
  EXPECT_EQ(until(outside, "!").size(), 200001U);
  writer.join();
  console.bridge->drain(5000);

  ASSERT_EQ(::write(outside, "\x03", 1), 1);
  EXPECT_EQ(until(outside, "^C"), "^C");
  console.bridge->resize(40, 90);
  {
    std::lock_guard lock(host_.mutex);
    EXPECT_EQ(host_.signals, (std::vector<int>{SIGWINCH, SIGINT, SIGWINCH}));
  }
  EXPECT_EQ(write(*console.slave, "last words"), 10);
  console.slave.reset();
  EXPECT_EQ(until(outside, "nothing like this"), "last words (its end)");
  close(outside);
}

TEST_F(TtyTest, AConsoleHangsUpWithItsHost) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
  auto poller = std::make_shared<host::Poller>();
  Pts::Console console = pts_->open_console(workers_, poller, sys::Fd(ends[1]), who_).value();
  std::thread reader([&] { EXPECT_EQ(read(*console.slave), ""); });  // woken by the hang-up
  close(ends[0]);
  reader.join();
  EXPECT_EQ(write(*console.slave, "x"), -EIO);
  EXPECT_EQ(pts_->root()->lookup("0").error().value(), ENOENT);
}

TEST_F(TtyTest, SlavesAreNamedWhereTheInstanceIsMounted) {
  const auto mounted = std::make_shared<Dentry>(nullptr, "/", pts_->root());
  pts_->mounted_at(mounted);
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
  auto poller = std::make_shared<host::Poller>();
  const Pts::Console console = pts_->open_console(workers_, poller, sys::Fd(ends[1]), who_).value();
  ASSERT_NE(console.slave->path(), nullptr);
  EXPECT_EQ(console.slave->path()->name, "0");
  EXPECT_EQ(console.slave->path()->parent, mounted);
  close(ends[0]);
}

}  // namespace
}  // namespace fluyt::guest
