#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

/// What lies between the two sides of a terminal (termios(3), N_TTY of Linux): a value machine
/// without locks, sleeping or processes. Bytes typed go in, lines come out; bytes written go in,
/// bytes to be shown come out.
namespace fluyt::guest {

/// struct termios2 of x86-64; struct termios is all of it but the speeds.
struct TerminalSettings {
  uint32_t input = 0;    // c_iflag
  uint32_t output = 0;   // c_oflag
  uint32_t control = 0;  // c_cflag
  uint32_t local = 0;    // c_lflag
  uint8_t discipline = 0;
  std::array<uint8_t, 19> characters{};
  uint32_t in_speed = 38400;
  uint32_t out_speed = 38400;
};
static_assert(sizeof(TerminalSettings) == 44);
inline constexpr size_t kShortSettings = 36;
// Not in the C library's headers: the requests for all of it.
inline constexpr uint32_t kGetSettings2 = 0x802c542a;       // TCGETS2
inline constexpr uint32_t kSetSettings2 = 0x402c542b;       // TCSETS2
inline constexpr uint32_t kSetSettingsWait2 = 0x402c542c;   // TCSETSW2
inline constexpr uint32_t kSetSettingsFlush2 = 0x402c542d;  // TCSETSF2

class LineDiscipline {
 public:
  static constexpr size_t kInputRoom = 4096;  // N_TTY_BUF_SIZE
  static constexpr size_t kReceived = 4095;
  static constexpr size_t kOutputRoom = 32768;  // what the master side has not read yet

  LineDiscipline();
  const TerminalSettings& settings() const { return settings_; }
  void set(const TerminalSettings& settings);

  /// One byte typed at the master side. False: no room until the slave side has read.
  bool type(uint8_t byte);
  /// A read of the slave side would give something, be it the end of the file.
  bool has_input() const { return canonical() ? committed_ != 0 : !input_.empty(); }
  /// Bytes that one read could give (FIONREAD).
  size_t input_bytes() const;
  /// One line at most in canonical mode; 0 there is the end of the file.
  size_t read(std::span<std::byte> to);

  /// What the slave side writes; gives how much of it was taken.
  size_t write(std::span<const std::byte> from);
  bool has_room() const { return !stopped_ && output_.size() + kWidest <= kOutputRoom; }
  size_t output_bytes() const { return output_.size(); }
  /// What the master side reads.
  size_t take_output(std::span<std::byte> to);

  void flush_input();
  /// What the slave wrote and the master side cannot have yet: the first kReceived bytes lie with
  /// the master already, as under Linux, where it has an input queue of its own.
  void flush_output();
  void drop_output();  // all of it, as the master side asks
  bool stopped() const { return stopped_; }
  void stop();
  void start();

  bool canonical() const { return (settings_.local & kCanonical) != 0; }
  uint8_t character(int index) const { return settings_.characters[static_cast<size_t>(index)]; }

  /// Signals for the foreground group that typing caused, oldest first.
  std::vector<int> take_signals();
  /// What happened that packet mode tells of (TIOCPKT_*), since it was last taken.
  uint8_t packet_status() const { return packet_status_; }
  uint8_t take_packet_status();

 private:
  static constexpr uint32_t kCanonical = 2;  // ICANON
  static constexpr size_t kWidest = 8;       // a tab as spaces
  struct Cell {
    uint8_t byte = 0;
    bool ends_line = false;
    bool is_end_of_file = false;
  };
  bool input_flag(uint32_t flag) const { return (settings_.input & flag) != 0; }
  bool output_flag(uint32_t flag) const { return (settings_.output & flag) != 0; }
  bool local_flag(uint32_t flag) const { return (settings_.local & flag) != 0; }
  bool is(uint8_t byte, int index) const { return byte != 0 && byte == character(index); }
  bool continues(uint8_t byte) const;  // a byte within a UTF-8 character, where IUTF8 is on
  size_t editable() const { return input_.size() - committed_; }
  void signal(int number, uint8_t typed);
  void commit(uint8_t byte, bool end_of_file);
  void erase(uint8_t typed);
  void reprint();
  void put(uint8_t byte);
  void echo(uint8_t byte);  // with ^X for control characters
  void echo_plain(uint8_t byte);
  void finish_erasing();
  bool show(uint8_t byte);  // through OPOST; false without room
  void raw(uint8_t byte);

  TerminalSettings settings_;
  std::deque<Cell> input_;
  size_t committed_ = 0;  // cells of whole lines
  std::deque<uint8_t> output_;
  std::deque<uint8_t> held_echo_;  // while output is stopped
  std::vector<int> signals_;
  uint8_t packet_status_ = 0;
  bool stopped_ = false;
  bool literal_next_ = false;
  bool erasing_ = false;  // within ECHOPRT's \.../
  size_t column_ = 0;
  size_t line_column_ = 0;  // where the line being typed began
};

}  // namespace fluyt::guest
