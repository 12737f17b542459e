#include "guest/fs/line_discipline.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <algorithm>
#include <cctype>
#include <utility>

namespace fluyt::guest {
namespace {

constexpr size_t kMaxHeldEcho = 4096;
constexpr size_t kTab = 8;
static_assert(ICANON == 2);

/// As Linux starts a pseudo-terminal (tty_std_termios).
TerminalSettings initial() {
  TerminalSettings out;
  out.input = ICRNL | IXON;
  out.output = OPOST | ONLCR;
  out.control = B38400 | CS8 | CREAD;
  out.local = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
  auto& c = out.characters;
  c[VINTR] = 3;
  c[VQUIT] = 034;
  c[VERASE] = 0177;
  c[VKILL] = 025;
  c[VEOF] = 4;
  c[VMIN] = 1;
  c[VSTART] = 021;
  c[VSTOP] = 023;
  c[VSUSP] = 032;
  c[VREPRINT] = 022;
  c[VDISCARD] = 017;
  c[VWERASE] = 027;
  c[VLNEXT] = 026;
  return out;
}

bool is_control(uint8_t byte) { return byte < 0x20 || byte == 0x7f; }
bool is_word(uint8_t byte) { return byte >= 0x80 || std::isalnum(byte) != 0 || byte == '_'; }

}  // namespace

LineDiscipline::LineDiscipline() : settings_(initial()) {}

bool LineDiscipline::continues(uint8_t byte) const {
  return input_flag(IUTF8) && (byte & 0xc0) == 0x80;
}

void LineDiscipline::set(const TerminalSettings& settings) {
  const TerminalSettings before = std::exchange(settings_, settings);
  settings_.discipline = 0;
  // A pseudo-terminal has eight bits and no parity, whatever is asked (pty_set_termios).
  settings_.control = (settings_.control & ~uint32_t{CSIZE | PARENB}) | CS8 | CREAD;
  if (((before.local ^ settings_.local) & ICANON) != 0) {
    literal_next_ = false;
    for (Cell& cell : input_) cell.ends_line = cell.is_end_of_file = false;
    committed_ = 0;
    // What was typed before the change is a line as it stands.
    if (canonical() && !input_.empty()) {
      input_.back().ends_line = true;
      committed_ = input_.size();
    }
  }
  if ((before.input & IXON) != 0 && !input_flag(IXON) && stopped_) start();
  const auto flow_keys = [](const TerminalSettings& of) {
    return (of.input & IXON) != 0 && of.characters[VSTOP] == 023 && of.characters[VSTART] == 021;
  };
  if (flow_keys(before) != flow_keys(settings_)) {
    packet_status_ &= static_cast<uint8_t>(~(TIOCPKT_DOSTOP | TIOCPKT_NOSTOP));
    packet_status_ |= static_cast<uint8_t>(flow_keys(settings_) ? TIOCPKT_DOSTOP : TIOCPKT_NOSTOP);
  }
}

bool LineDiscipline::type(uint8_t byte) {
  // Without room, only a line that has no end yet goes on, so that it can be ended or erased.
  const bool full = input_.size() >= kInputRoom - 1;
  if (full && !(canonical() && committed_ == 0)) return false;

  if (input_flag(ISTRIP)) byte &= 0x7f;
  if (input_flag(IUCLC) && local_flag(IEXTEN)) byte = static_cast<uint8_t>(std::tolower(byte));
  if (local_flag(EXTPROC)) {
    put(byte);
    return true;
  }
  if (std::exchange(literal_next_, false)) {
    if (local_flag(ECHO)) {
      finish_erasing();
      echo(byte);
    }
    put(byte);
    return true;
  }
  if (stopped_ && input_flag(IXON) && input_flag(IXANY) && !is(byte, VSTART) && !is(byte, VSTOP) &&
      !is(byte, VINTR) && !is(byte, VQUIT) && !is(byte, VSUSP))
    start();
  if (input_flag(IXON)) {
    if (is(byte, VSTART)) {
      start();
      return true;
    }
    if (is(byte, VSTOP)) {
      stop();
      return true;
    }
  }
  if (local_flag(ISIG)) {
    constexpr std::pair<int, int> kKeys[] = {{VINTR, SIGINT}, {VQUIT, SIGQUIT}, {VSUSP, SIGTSTP}};
    for (const auto& [index, number] : kKeys) {
      if (!is(byte, index)) continue;
      signal(number, byte);
      return true;
    }
  }
  if (byte == '\r') {
    if (input_flag(IGNCR)) return true;
    if (input_flag(ICRNL)) byte = '\n';
  } else if (byte == '\n' && input_flag(INLCR)) {
    byte = '\r';
  }
  if (canonical()) {
    const bool extended = local_flag(IEXTEN);
    if (is(byte, VERASE) || is(byte, VKILL) || (is(byte, VWERASE) && extended)) {
      erase(byte);
      return true;
    }
    if (is(byte, VLNEXT) && extended) {
      literal_next_ = true;
      if (local_flag(ECHO)) {
        finish_erasing();
        if (local_flag(ECHOCTL)) {
          echo_plain('^');
          echo_plain('\b');
        }
      }
      return true;
    }
    if (is(byte, VREPRINT) && local_flag(ECHO) && extended) {
      reprint();
      return true;
    }
    if (byte == '\n') {
      if (local_flag(ECHO) || local_flag(ECHONL)) echo_plain('\n');
      commit(byte, false);
      return true;
    }
    if (is(byte, VEOF)) {
      commit(0, true);
      return true;
    }
    if (is(byte, VEOL) || (is(byte, VEOL2) && extended)) {
      if (local_flag(ECHO)) {
        if (editable() == 0) line_column_ = column_;
        echo(byte);
      }
      if (input_flag(PARMRK) && byte == 0xff) put(byte);
      commit(byte, false);
      return true;
    }
  }
  if (full) {  // the line is too long: what comes before its end is lost
    if (input_flag(IMAXBEL)) echo_plain('\a');
    return true;
  }
  if (local_flag(ECHO)) {
    finish_erasing();
    if (byte == '\n') {
      echo_plain('\n');
    } else {
      if (editable() == 0) line_column_ = column_;
      echo(byte);
    }
  }
  if (input_flag(PARMRK) && byte == 0xff) put(byte);
  put(byte);
  return true;
}

void LineDiscipline::put(uint8_t byte) {
  if (input_.size() < kInputRoom) input_.push_back({byte, false, false});
}

void LineDiscipline::commit(uint8_t byte, bool end_of_file) {
  finish_erasing();
  if (input_.size() >= kInputRoom) input_.pop_back();
  input_.push_back({byte, true, end_of_file});
  committed_ = input_.size();
}

void LineDiscipline::signal(int number, uint8_t typed) {
  signals_.push_back(number);
  if (!local_flag(NOFLSH)) {
    flush_output();
    flush_input();
  }
  if (input_flag(IXON)) start();
  if (local_flag(ECHO)) echo(typed);
}

void LineDiscipline::erase(uint8_t typed) {
  if (editable() == 0) return;
  const bool word = is(typed, VWERASE) && !is(typed, VERASE);
  const bool line = is(typed, VKILL) && !is(typed, VERASE) && !word;
  if (line) {
    if (!local_flag(ECHO)) {
      input_.resize(committed_);
      return;
    }
    if (!local_flag(ECHOK) || !local_flag(ECHOKE) || !local_flag(ECHOE)) {
      input_.resize(committed_);
      finish_erasing();
      echo(typed);
      if (local_flag(ECHOK)) echo_plain('\n');
      return;
    }
  }
  bool seen_word = false;
  while (editable() != 0) {
    // A whole character: the byte that begins it and what continues it.
    size_t begin = input_.size() - 1;
    while (begin > committed_ && continues(input_[begin].byte)) --begin;
    const uint8_t byte = input_[begin].byte;
    if (continues(byte)) break;
    if (word) {
      if (is_word(byte))
        seen_word = true;
      else if (seen_word)
        break;
    }
    std::vector<uint8_t> removed;
    for (size_t at = begin; at < input_.size(); ++at) removed.push_back(input_[at].byte);
    input_.resize(begin);
    if (local_flag(ECHO)) {
      if (local_flag(ECHOPRT)) {
        if (!erasing_) {
          echo_plain('\\');
          erasing_ = true;
        }
        echo(byte);
        for (size_t i = 1; i < removed.size(); ++i) echo_plain(removed[i]);
      } else if (!word && !line && !local_flag(ECHOE)) {
        echo(character(VERASE));
      } else if (byte == '\t') {
        // Back to where the tab began: columns since the tab before it, or since the line began.
        size_t columns = 0;
        bool behind_tab = false;
        for (size_t at = input_.size(); at > committed_; --at) {
          const uint8_t before = input_[at - 1].byte;
          if (before == '\t') {
            behind_tab = true;
            break;
          }
          if (is_control(before))
            columns += local_flag(ECHOCTL) ? 2 : 0;
          else if (!continues(before))
            ++columns;
        }
        if (!behind_tab) columns += line_column_;
        for (size_t left = kTab - columns % kTab; left != 0; --left) echo_plain('\b');
      } else {
        const int width = is_control(byte) ? (local_flag(ECHOCTL) ? 2 : 0) : 1;
        for (int i = 0; i < width; ++i)
          for (const char shown : {'\b', ' ', '\b'}) echo_plain(static_cast<uint8_t>(shown));
      }
    }
    if (!word && !line) break;
  }
  if (editable() == 0 && local_flag(ECHO)) finish_erasing();
}

void LineDiscipline::reprint() {
  finish_erasing();
  echo(character(VREPRINT));
  echo_plain('\n');
  for (size_t at = committed_; at < input_.size(); ++at) echo(input_[at].byte);
}

void LineDiscipline::finish_erasing() {
  if (std::exchange(erasing_, false)) echo_plain('/');
}

void LineDiscipline::echo(uint8_t byte) {
  if (local_flag(ECHOCTL) && is_control(byte) && byte != '\t') {
    echo_plain('^');
    echo_plain(byte ^ 0100);
    return;
  }
  echo_plain(byte);
}

void LineDiscipline::echo_plain(uint8_t byte) {
  if (stopped_) {
    if (held_echo_.size() < kMaxHeldEcho) held_echo_.push_back(byte);
    return;
  }
  // An echo for which there is no room is lost: typing never waits for it.
  show(byte);
}

void LineDiscipline::raw(uint8_t byte) { output_.push_back(byte); }

bool LineDiscipline::show(uint8_t byte) {
  if (output_.size() + kWidest > kOutputRoom) return false;
  if (!output_flag(OPOST)) {
    raw(byte);
    return true;
  }
  switch (byte) {
    case '\n':
      if (output_flag(ONLRET)) column_ = 0;
      if (output_flag(ONLCR)) {
        raw('\r');
        column_ = 0;
      }
      line_column_ = column_;
      break;
    case '\r':
      if (output_flag(ONOCR) && column_ == 0) return true;
      if (output_flag(OCRNL)) {
        byte = '\n';
        if (output_flag(ONLRET)) column_ = line_column_ = 0;
        break;
      }
      column_ = line_column_ = 0;
      break;
    case '\t': {
      const size_t spaces = kTab - column_ % kTab;
      column_ += spaces;
      if ((settings_.output & TABDLY) == XTABS) {
        for (size_t i = 0; i < spaces; ++i) raw(' ');
        return true;
      }
      break;
    }
    case '\b':
      if (column_ > 0) --column_;
      break;
    default:
      if (!is_control(byte)) {
        if (output_flag(OLCUC)) byte = static_cast<uint8_t>(std::toupper(byte));
        if (!continues(byte)) ++column_;
      }
      break;
  }
  raw(byte);
  return true;
}

size_t LineDiscipline::input_bytes() const {
  if (!canonical()) return input_.size();
  size_t count = 0;
  for (size_t at = 0; at < committed_; ++at)
    if (!input_[at].is_end_of_file) ++count;
  return count;
}

size_t LineDiscipline::read(std::span<std::byte> to) {
  size_t done = 0;
  if (!canonical()) {
    for (; done < to.size() && !input_.empty(); ++done) {
      to[done] = std::byte{input_.front().byte};
      input_.pop_front();
    }
    return done;
  }
  const auto take = [&] {
    const Cell cell = input_.front();
    input_.pop_front();
    --committed_;
    return cell;
  };
  while (done < to.size() && committed_ != 0) {
    const Cell cell = take();
    if (cell.is_end_of_file) return done;
    to[done++] = std::byte{cell.byte};
    if (cell.ends_line) return done;
  }
  // An end-of-file character behind exactly what was read ended this line, not the file.
  if (done != 0 && committed_ != 0 && input_.front().is_end_of_file) take();
  return done;
}

size_t LineDiscipline::write(std::span<const std::byte> from) {
  size_t done = 0;
  while (done < from.size() && has_room() && show(static_cast<uint8_t>(from[done]))) ++done;
  return done;
}

size_t LineDiscipline::take_output(std::span<std::byte> to) {
  const size_t count = std::min(to.size(), output_.size());
  for (size_t i = 0; i < count; ++i) to[i] = std::byte{output_[i]};
  output_.erase(output_.begin(), output_.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

void LineDiscipline::flush_input() {
  input_.clear();
  committed_ = 0;
  literal_next_ = erasing_ = false;
  packet_status_ |= TIOCPKT_FLUSHREAD;
}

void LineDiscipline::flush_output() {
  if (output_.size() > kReceived) output_.resize(kReceived);
  held_echo_.clear();
  packet_status_ |= TIOCPKT_FLUSHWRITE;
}

void LineDiscipline::drop_output() {
  output_.clear();
  held_echo_.clear();
}

void LineDiscipline::stop() {
  if (stopped_) return;
  stopped_ = true;
  packet_status_ &= static_cast<uint8_t>(~TIOCPKT_START);
  packet_status_ |= TIOCPKT_STOP;
}

void LineDiscipline::start() {
  if (!stopped_) return;
  stopped_ = false;
  packet_status_ &= static_cast<uint8_t>(~TIOCPKT_STOP);
  packet_status_ |= TIOCPKT_START;
  for (uint8_t byte : std::exchange(held_echo_, {})) show(byte);
}

std::vector<int> LineDiscipline::take_signals() { return std::exchange(signals_, {}); }
uint8_t LineDiscipline::take_packet_status() { return std::exchange(packet_status_, uint8_t{0}); }

}  // namespace fluyt::guest
