#include "guest/fs/line_discipline.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <string>

namespace fluyt::guest {
namespace {

class LineDisciplineTest : public testing::Test {
 protected:
  void type(const std::string& text) {
    for (char c : text) EXPECT_TRUE(line_.type(static_cast<uint8_t>(c)));
  }
  std::string read(size_t most = 4096) {
    std::string out(most, 0);
    out.resize(line_.read(std::as_writable_bytes(std::span(out))));
    return out;
  }
  size_t write(const std::string& text) { return line_.write(std::as_bytes(std::span(text))); }
  std::string shown() {
    std::string out(LineDiscipline::kOutputRoom, 0);
    out.resize(line_.take_output(std::as_writable_bytes(std::span(out))));
    return out;
  }
  template <class Change>
  void set(Change change) {
    TerminalSettings settings = line_.settings();
    change(settings);
    line_.set(settings);
  }
  void make_raw() {
    set([](TerminalSettings& s) {
      s.input = 0;
      s.output = 0;
      s.local = 0;
    });
  }
  LineDiscipline line_;
};

TEST_F(LineDisciplineTest, LinesComeWhole) {
  type("hel");
  EXPECT_FALSE(line_.has_input());
  EXPECT_EQ(line_.input_bytes(), 0U);
  type("lo\rworld\n");
  EXPECT_TRUE(line_.has_input());
  EXPECT_EQ(line_.input_bytes(), 12U);
  EXPECT_EQ(read(), "hello\n");
  EXPECT_EQ(read(3), "wor");
  EXPECT_EQ(read(), "ld\n");
  EXPECT_FALSE(line_.has_input());
  EXPECT_EQ(shown(), "hello\r\nworld\r\n");
}

TEST_F(LineDisciplineTest, EndOfFileEndsALineOrTheFile) {
  type("abc\x04");
  EXPECT_EQ(read(), "abc");
  EXPECT_FALSE(line_.has_input());
  type("\x04");
  EXPECT_TRUE(line_.has_input());
  EXPECT_EQ(read(), "");
  EXPECT_FALSE(line_.has_input());
  // A read of just the line's length takes its end as well.
  type("abc\x04");
  EXPECT_EQ(read(3), "abc");
  EXPECT_FALSE(line_.has_input());
  EXPECT_EQ(shown(), "abcabc");
}

TEST_F(LineDisciplineTest, CharactersWordsAndLinesAreErased) {
  type(
      "abx\x7f"
      "c\n");
  EXPECT_EQ(read(), "abc\n");
  EXPECT_EQ(shown(), "abx\b \bc\r\n");
  type("one two  \x17three\n");
  EXPECT_EQ(read(), "one three\n");
  EXPECT_EQ(shown(), "one two  \b \b\b \b\b \b\b \b\b \bthree\r\n");
  type(
      "gone\x15"
      "ok\n");
  EXPECT_EQ(read(), "ok\n");
  EXPECT_EQ(shown(), "gone\b \b\b \b\b \b\b \bok\r\n");
  type("\x7f\x7f\x17\x15\n");  // nothing to erase
  EXPECT_EQ(read(), "\n");
  EXPECT_EQ(shown(), "\r\n");
}

TEST_F(LineDisciplineTest, ControlCharactersAreShownAndErasedAsTwo) {
  type("a\x16\x03\x7f");
  EXPECT_EQ(shown(), "a^\b^C\b \b\b \b");
  EXPECT_TRUE(line_.take_signals().empty());
  type("\n");
  EXPECT_EQ(read(), "a\n");
}

TEST_F(LineDisciplineTest, TabsAreErasedToWhereTheyBegan) {
  write("$ ");
  shown();
  type("ab\t\x7f");
  EXPECT_EQ(shown(), "ab\t\b\b\b\b");  // from column 8 back to 4
  set([](TerminalSettings& s) { s.output |= XTABS; });
  write("\r\n1\t2");
  EXPECT_EQ(shown(), "\r\r\n1       2");
}

TEST_F(LineDisciplineTest, Utf8CharactersAreErasedWhole) {
  set([](TerminalSettings& s) { s.input |= IUTF8; });
  type("a\xc3\xa4\x7f\n");
  EXPECT_EQ(read(), "a\n");
  EXPECT_EQ(shown(), "a\xc3\xa4\b \b\r\n");
}

TEST_F(LineDisciplineTest, SignalsAreTypedAndFlush) {
  write(std::string(10000, 'u'));
  type("typed\x03");
  EXPECT_EQ(line_.take_signals(), std::vector<int>{SIGINT});
  EXPECT_EQ(shown(), std::string(LineDiscipline::kReceived, 'u') + "^C");
  type("\n");
  EXPECT_EQ(read(), "\n");
  shown();
  set([](TerminalSettings& s) { s.local |= NOFLSH; });
  type(
      "ab\x1c\x1a"
      "c\n");
  EXPECT_EQ(line_.take_signals(), (std::vector<int>{SIGQUIT, SIGTSTP}));
  EXPECT_EQ(read(), "abc\n");
  set([](TerminalSettings& s) { s.local &= ~uint32_t{ISIG}; });
  type("\x03\n");
  EXPECT_EQ(read(), "\x03\n");
  EXPECT_TRUE(line_.take_signals().empty());
}

TEST_F(LineDisciplineTest, OutputStopsAndGoesOn) {
  type("\x13");
  EXPECT_TRUE(line_.stopped());
  EXPECT_EQ(write("x"), 0U);
  type("a");
  EXPECT_EQ(shown(), "");
  type("\x11");
  EXPECT_EQ(shown(), "a");
  EXPECT_EQ(write("x"), 1U);
  EXPECT_EQ(shown(), "x");
  // Any key goes on with IXANY, and is itself typed.
  set([](TerminalSettings& s) { s.input |= IXANY; });
  type(
      "\x13"
      "b");
  EXPECT_FALSE(line_.stopped());
  EXPECT_EQ(shown(), "b");
}

TEST_F(LineDisciplineTest, OutputIsProcessed) {
  write("a\nb");
  EXPECT_EQ(shown(), "a\r\nb");
  set([](TerminalSettings& s) { s.output = OPOST | OCRNL; });
  write("a\rb\n");
  EXPECT_EQ(shown(), "a\nb\n");
  set([](TerminalSettings& s) { s.output = 0; });
  write("a\n\r");
  EXPECT_EQ(shown(), "a\n\r");
}

TEST_F(LineDisciplineTest, RawBytesComeAsTheyAre) {
  make_raw();
  type("\x03\x04\r\x7f");
  EXPECT_EQ(line_.input_bytes(), 4U);
  EXPECT_EQ(read(2), "\x03\x04");
  EXPECT_EQ(read(), "\r\x7f");
  EXPECT_EQ(shown(), "");
}

TEST_F(LineDisciplineTest, ChangesOfModeKeepWhatWasTyped) {
  type("half");
  make_raw();
  EXPECT_EQ(read(2), "ha");
  set([](TerminalSettings& s) { s.local |= ICANON; });
  EXPECT_TRUE(line_.has_input());
  EXPECT_EQ(read(), "lf");
  EXPECT_FALSE(line_.has_input());
}

TEST_F(LineDisciplineTest, LinesAndOutputHaveLimits) {
  set([](TerminalSettings& s) { s.local &= ~uint32_t{ECHO}; });
  type(std::string(5000, 'x') + "\n");
  EXPECT_EQ(read(8192).size(), 4096U);
  make_raw();
  size_t typed = 0;
  while (typed < 10000 && line_.type('y')) ++typed;
  EXPECT_EQ(typed, LineDiscipline::kInputRoom - 1);
  EXPECT_LE(write(std::string(100000, 'z')), LineDiscipline::kOutputRoom);
  EXPECT_FALSE(line_.has_room());
  EXPECT_EQ(write("z"), 0U);
  shown();
  EXPECT_TRUE(line_.has_room());
}

TEST_F(LineDisciplineTest, PacketModeHearsOfFlushesAndFlow) {
  line_.take_packet_status();
  type("\x13");
  EXPECT_EQ(line_.take_packet_status(), TIOCPKT_STOP);
  type("\x11");
  EXPECT_EQ(line_.take_packet_status(), TIOCPKT_START);
  line_.flush_input();
  EXPECT_EQ(line_.take_packet_status(), TIOCPKT_FLUSHREAD);
  set([](TerminalSettings& s) { s.input &= ~uint32_t{IXON}; });
  EXPECT_EQ(line_.take_packet_status(), TIOCPKT_NOSTOP);
  EXPECT_EQ(line_.take_packet_status(), 0);
}

TEST_F(LineDisciplineTest, APseudoTerminalHasEightBits) {
  set([](TerminalSettings& s) { s.control = CS5 | PARENB | B9600; });
  EXPECT_EQ(line_.settings().control, static_cast<uint32_t>(CS8 | CREAD | B9600));
}

}  // namespace
}  // namespace fluyt::guest
