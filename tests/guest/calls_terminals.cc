#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include <atomic>
#include <csignal>
#include <cstdlib>

#include "calls.h"

namespace calls {
namespace {

struct Pair {
  int master = -1;
  int slave = -1;
};

Pair open_pair() {
  Pair out;
  out.master = posix_openpt(O_RDWR | O_NOCTTY);
  if (out.master < 0 || grantpt(out.master) != 0 || unlockpt(out.master) != 0) return out;
  out.slave = open(ptsname(out.master), O_RDWR | O_NOCTTY);
  return out;
}

void close_pair(const Pair& pair) {
  close(pair.slave);
  close(pair.master);
}

/// What a read gives, control characters as octal.
std::string read_text(int fd, size_t most = 4096) {
  char buffer[8192];
  const ssize_t got = read(fd, buffer, most);
  if (got < 0) return result_of(-1);
  std::string out = std::to_string(got) + " ";
  for (ssize_t i = 0; i < got; ++i) {
    const auto byte = static_cast<unsigned char>(buffer[i]);
    char octal[8];
    std::snprintf(octal, sizeof octal, "\\%03o", byte);
    out += byte < 0x20 || byte > 0x7e ? octal : std::string(1, buffer[i]);
  }
  return out;
}
void put(int fd, const std::string& text) {
  if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    line("a write that was to be whole", result_of(-1));
  usleep(20000);  // Linux carries what is typed to the other side in its own time
}
std::string events_of(int fd, int wait_ms = 0) {
  pollfd entry{fd, POLLIN | POLLOUT | POLLPRI, 0};
  if (poll(&entry, 1, wait_ms) < 0) return result_of(-1);
  char text[16];
  std::snprintf(text, sizeof text, "%x", entry.revents);
  return text;
}
template <class Change>
void change(int fd, Change apply) {
  termios settings{};
  tcgetattr(fd, &settings);
  apply(settings);
  ok("tcsetattr", tcsetattr(fd, TCSANOW, &settings));
}

void opening() {
  begin("pty");
  const int first = posix_openpt(O_RDWR | O_NOCTTY);
  truth("posix_openpt", first >= 0);
  close(first);
  const int fd = posix_openpt(O_RDWR | O_NOCTTY);
  int locked = -1;
  value("TIOCGPTLCK", ioctl(fd, TIOCGPTLCK, &locked));
  truth("locked at first", locked == 1);
  const std::string name = ptsname(fd);
  value("open of a locked slave", open(name.c_str(), O_RDWR | O_NOCTTY));
  value("TIOCGPTPEER of a locked slave", ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY));
  ok("unlock", unlockpt(fd));
  line("poll of a master whose slave was never open", events_of(fd));
  const int slave = open(name.c_str(), O_RDWR | O_NOCTTY);
  truth("a terminal", isatty(slave) == 1 && isatty(fd) == 1);
  const int peer = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY);
  truth("peer", peer >= 0 && isatty(peer) == 1);
  truth("ttyname of the slave", ttyname(slave) != nullptr && name == ttyname(slave));
  truth("ttyname of the peer", ttyname(peer) != nullptr && name == ttyname(peer));
  struct stat slave_stat{};
  struct stat named{};
  fstat(slave, &slave_stat);
  stat(name.c_str(), &named);
  truth("one inode", slave_stat.st_ino == named.st_ino && slave_stat.st_dev == named.st_dev);
  truth("a character device", S_ISCHR(named.st_mode) && named.st_rdev == slave_stat.st_rdev);
  value("lseek", lseek(slave, 0, SEEK_CUR));
  value("TIOCPKT of a slave", ioctl(slave, TIOCPKT, &locked));
  value("TIOCGPTN of a slave", ioctl(slave, TIOCGPTN, &locked));
  value("an unknown request", ioctl(slave, 0x5499, &locked));
  value("a bad pointer", ioctl(slave, TIOCGWINSZ, 8));
  int discipline = 9;
  value("TIOCGETD", ioctl(slave, TIOCGETD, &discipline));
  value("the discipline", discipline);
  close(peer);
  put(slave, "last");
  close(slave);
  line("poll of a master without slaves", events_of(fd));
  line("what was written is still there", read_text(fd));
  line("then", read_text(fd));
  const int again = open(name.c_str(), O_RDWR | O_NOCTTY);
  line("poll after it was opened again", events_of(fd));
  close(fd);
  line("read without a master", read_text(again));
  value("write without a master", write(again, "x", 1));
  line("poll without a master", events_of(again));
  winsize size{};
  value("ioctl without a master", ioctl(again, TIOCGWINSZ, &size));
  value("open without a master", open(name.c_str(), O_RDWR | O_NOCTTY));
  close(again);
}

void lines() {
  begin("tty lines");
  const Pair pair = open_pair();
  fcntl(pair.slave, F_SETFL, O_NONBLOCK);
  line("nothing typed", read_text(pair.slave));
  put(pair.master, "ab");
  line("no line yet", read_text(pair.slave));
  line("poll", events_of(pair.slave));
  put(pair.master, "x\177c\n");
  line("poll with a line", events_of(pair.slave));
  line("line", read_text(pair.slave));
  line("echo", read_text(pair.master));
  put(pair.master, "two lines\rare two\n");
  line("one at a time", read_text(pair.slave));
  int count = 0;
  ioctl(pair.slave, FIONREAD, &count);
  value("FIONREAD", count);
  line("part of the other", read_text(pair.slave, 3));
  line("rest", read_text(pair.slave));
  put(pair.master, "eof\004");
  line("end of file ends a line", read_text(pair.slave));
  put(pair.master, "\004");
  line("end of file", read_text(pair.slave));
  line("and nothing", read_text(pair.slave));
  put(pair.master, "some words here\027\027\026\003\n");
  line("words erased, literal", read_text(pair.slave));
  put(pair.master, "gone\025kept\n");
  line("line erased", read_text(pair.slave));
  put(pair.master, "a\tb\177\177\177z\022\n");
  line("tab erased, reprinted", read_text(pair.slave));
  line("all the echo", read_text(pair.master));
  put(pair.slave, "out\nput\tx\n");
  line("output", read_text(pair.master));
  put(pair.master, std::string(5000, 'l') + "\n");
  char big[8192];
  value("a long line is cut", read(pair.slave, big, sizeof big));
  tcflush(pair.master, TCIOFLUSH);

  begin("tty flow");
  put(pair.master, "\023");
  value("write while stopped", write(pair.slave, "x", 1));
  put(pair.master, "\021");
  value("write after", write(pair.slave, "x", 1));
  ok("TCOOFF", tcflow(pair.slave, TCOOFF));
  value("write while suspended", write(pair.slave, "y", 1));
  ok("TCOON", tcflow(pair.slave, TCOON));
  line("output", read_text(pair.master));
  ok("TCION", tcflow(pair.slave, TCION));
  line("start character", read_text(pair.master));
  value("tcflow of nonsense", ioctl(pair.slave, TCXONC, 9));
  value("tcflush of nonsense", ioctl(pair.slave, TCFLSH, 9));
  ok("tcdrain", tcdrain(pair.slave));
  put(pair.master, "typed\n");
  ok("tcflush", tcflush(pair.slave, TCIFLUSH));
  line("flushed", read_text(pair.slave));
  close_pair(pair);
}

void raw() {
  begin("tty raw");
  const Pair pair = open_pair();
  change(pair.slave, [](termios& t) { cfmakeraw(&t); });
  put(pair.master, "\003\r\004");
  line("bytes as they are", read_text(pair.slave));
  fcntl(pair.master, F_SETFL, O_NONBLOCK);
  line("no echo", read_text(pair.master));
  change(pair.slave, [](termios& t) {
    t.c_cc[VMIN] = 0;
    t.c_cc[VTIME] = 0;
  });
  line("MIN 0 TIME 0", read_text(pair.slave));
  change(pair.slave, [](termios& t) { t.c_cc[VTIME] = 1; });
  line("MIN 0 TIME 1", read_text(pair.slave));
  put(pair.master, "a");
  line("MIN 0 TIME 1 with a byte", read_text(pair.slave));
  change(pair.slave, [](termios& t) {
    t.c_cc[VMIN] = 5;
    t.c_cc[VTIME] = 1;
  });
  put(pair.master, "abc");
  line("MIN 5 TIME 1", read_text(pair.slave));
  put(pair.master, "abcdefg");
  line("MIN 5 with seven", read_text(pair.slave));
  change(pair.slave, [](termios& t) {
    t.c_cc[VMIN] = 3;
    t.c_cc[VTIME] = 0;
  });
  put(pair.master, "ab");
  line("poll below MIN", events_of(pair.slave));
  put(pair.master, "c");
  line("poll at MIN", events_of(pair.slave));
  line("MIN 3", read_text(pair.slave));
  put(pair.master, "pending");
  change(pair.slave, [](termios& t) { t.c_lflag |= ICANON; });
  line("pending bytes are a line", read_text(pair.slave));
  close_pair(pair);

  begin("tty settings");
  const Pair other = open_pair();
  termios settings{};
  tcgetattr(other.slave, &settings);
  char text[128];
  std::snprintf(text, sizeof text, "%o %o %o %o", settings.c_iflag, settings.c_oflag,
                settings.c_cflag, settings.c_lflag);
  line("flags", text);
  std::string characters;
  for (int i = 0; i < 17; ++i) characters += std::to_string(settings.c_cc[i]) + " ";
  line("characters", characters);
  change(other.slave, [](termios& t) {
    t.c_cflag = (t.c_cflag & ~static_cast<tcflag_t>(CSIZE)) | CS7 | PARENB;
    cfsetspeed(&t, B9600);
  });
  tcgetattr(other.master, &settings);
  std::snprintf(text, sizeof text, "%o", settings.c_cflag);
  line("eight bits, seen by the master", text);
  value("speed", cfgetospeed(&settings));
  winsize size{30, 100, 1, 2};
  ok("TIOCSWINSZ", ioctl(other.master, TIOCSWINSZ, &size));
  size = {};
  ioctl(other.slave, TIOCGWINSZ, &size);
  std::snprintf(text, sizeof text, "%d %d %d %d", size.ws_row, size.ws_col, size.ws_xpixel,
                size.ws_ypixel);
  line("size", text);
  close_pair(other);
}

void packets() {
  begin("tty packet mode");
  const Pair pair = open_pair();
  int on = 1;
  ok("TIOCPKT", ioctl(pair.master, TIOCPKT, &on));
  put(pair.slave, "data");
  line("data", read_text(pair.master));
  tcflow(pair.slave, TCOOFF);
  line("poll", events_of(pair.master));
  line("stopped", read_text(pair.master));
  tcflow(pair.slave, TCOON);
  line("started", read_text(pair.master));
  change(pair.slave, [](termios& t) { t.c_iflag &= ~static_cast<tcflag_t>(IXON); });
  line("no flow keys", read_text(pair.master));
  tcflush(pair.slave, TCIFLUSH);
  line("flushed", read_text(pair.master));
  close_pair(pair);
}

std::atomic<int> last_signal{0};
void note(int signal) { last_signal = signal; }

/// A session of its own with the slave as its terminal.
int lead(const Pair& pair) {
  setsid();
  return ioctl(pair.slave, TIOCSCTTY, 0);
}

void sessions() {
  begin("tty sessions");
  line("without a terminal", in_child([] {
         setsid();
         value("/dev/tty", open("/dev/tty", O_RDWR));
         const Pair pair = open_pair();
         value("tcgetpgrp of a stranger's terminal", tcgetpgrp(pair.slave));
         value("tcgetsid", tcgetsid(pair.slave));
         value("TIOCNOTTY", ioctl(pair.slave, TIOCNOTTY));
         ok("TIOCSCTTY", ioctl(pair.slave, TIOCSCTTY, 0));
         truth("foreground is us", tcgetpgrp(pair.slave) == getpgrp());
         truth("session is us", tcgetsid(pair.slave) == getpid());
         truth("the master is told", tcgetpgrp(pair.master) == getpgrp());
         const int tty = open("/dev/tty", O_RDWR);
         truth("/dev/tty now", tty >= 0);
         put(tty, "x");
         line("through /dev/tty", read_text(pair.master));
         value("tcsetpgrp to nobody", tcsetpgrp(pair.slave, 999999));
         value("tcsetpgrp to less than nothing", tcsetpgrp(pair.slave, -3));
         value("tcsetpgrp to another session's", tcsetpgrp(pair.slave, getpgid(getppid())));
         const Pair second = open_pair();
         value("a second terminal", ioctl(second.slave, TIOCSCTTY, 0));
         struct sigaction action{};
         action.sa_handler = note;
         sigaction(SIGHUP, &action, nullptr);
         ok("TIOCNOTTY as a leader", ioctl(pair.slave, TIOCNOTTY));
         value("the foreground heard SIGHUP", last_signal);
         value("/dev/tty again", open("/dev/tty", O_RDWR));
         return 0;
       }));
  line("opening takes a terminal", in_child([] {
         setsid();
         const int master = posix_openpt(O_RDWR | O_NOCTTY);
         unlockpt(master);
         const int slave = open(ptsname(master), O_RDWR);
         truth("taken", slave >= 0 && tcgetsid(slave) == getpid());
         return 0;
       }));
  line("someone else's terminal", in_child([] {
         const Pair pair = open_pair();
         lead(pair);
         line("child", in_child([&] {
                value("no leader", ioctl(pair.slave, TIOCSCTTY, 0));
                setsid();
                value("tcgetpgrp after setsid", tcgetpgrp(pair.slave));
                value("held by another session", ioctl(pair.slave, TIOCSCTTY, 0));
                return 0;
              }));
         return 0;
       }));
}

void jobs() {
  begin("tty jobs");
  line("typed signals", in_child([] {
         const Pair pair = open_pair();
         lead(pair);
         // Else whether the echo of a key is flushed away is a matter of time.
         change(pair.slave, [](termios& t) { t.c_lflag |= NOFLSH; });
         struct sigaction action{};
         action.sa_handler = note;
         for (int signal : {SIGINT, SIGQUIT, SIGTSTP, SIGWINCH})
           sigaction(signal, &action, nullptr);
         for (const char* key : {"\003", "\034", "\032"}) {
           last_signal = 0;
           put(pair.master, key);
           for (int i = 0; i < 100 && last_signal == 0; ++i) usleep(10000);
           value("signal", last_signal);
         }
         last_signal = 0;
         winsize size{1, 2, 0, 0};
         ioctl(pair.master, TIOCSWINSZ, &size);
         value("after a new size", last_signal);
         usleep(20000);
         last_signal = 0;
         ioctl(pair.slave, TIOCSWINSZ, &size);
         value("after the same size", last_signal);
         line("echo", read_text(pair.master));
         return 0;
       }));
  line("the background", in_child([] {
         const Pair pair = open_pair();
         lead(pair);
         const auto background = [&](const std::string& what, const std::function<int()>& body) {
           const pid_t child = fork();
           if (child == 0) {
             setpgid(0, 0);
             _exit(body());
           }
           int status = 0;
           waitpid(child, &status, WUNTRACED);
           std::string seen = WIFSTOPPED(status) ? "stopped " + std::to_string(WSTOPSIG(status))
                                                 : "exit " + std::to_string(WEXITSTATUS(status));
           if (WIFSTOPPED(status)) {
             kill(child, SIGKILL);
             waitpid(child, &status, 0);
           }
           line(what, seen);
         };
         char byte = 0;
         background("read", [&] { return read(pair.slave, &byte, 1) < 0 ? errno : 0; });
         background("read, SIGTTIN ignored", [&] {
           signal(SIGTTIN, SIG_IGN);
           return read(pair.slave, &byte, 1) < 0 ? errno : 0;
         });
         background("write", [&] { return write(pair.slave, "w", 1) == 1 ? 0 : errno; });
         change(pair.slave, [](termios& t) { t.c_lflag |= TOSTOP; });
         background("write with TOSTOP",
                    [&] { return write(pair.slave, "w", 1) == 1 ? 0 : errno; });
         background("write with TOSTOP, SIGTTOU ignored", [&] {
           signal(SIGTTOU, SIG_IGN);
           return write(pair.slave, "w", 1) == 1 ? 0 : errno;
         });
         background("tcsetattr", [&] {
           termios settings{};
           tcgetattr(pair.slave, &settings);
           return tcsetattr(pair.slave, TCSANOW, &settings) == 0 ? 0 : errno;
         });
         background("tcsetpgrp", [&] { return tcsetpgrp(pair.slave, getpgrp()) == 0 ? 0 : errno; });
         background("tcsetpgrp, SIGTTOU blocked", [&] {
           sigset_t set;
           sigemptyset(&set);
           sigaddset(&set, SIGTTOU);
           sigprocmask(SIG_BLOCK, &set, nullptr);
           return tcsetpgrp(pair.slave, getpgrp()) == 0 ? 0 : errno;
         });
         return 0;
       }));
  line("an orphaned group", in_child([] {
         const Pair pair = open_pair();
         lead(pair);
         int report[2];
         if (pipe(report) != 0) return 1;
         const pid_t middle = fork();
         if (middle == 0) {
           const pid_t self = getpid();
           const pid_t child = fork();
           if (child == 0) {
             setpgid(0, 0);
             while (getppid() == self) usleep(1000);
             usleep(20000);
             char byte = 0;
             const int error = read(pair.slave, &byte, 1) < 0 ? errno : 0;
             const int stop = raise(SIGTSTP);
             const int answers[2] = {error, stop};
             if (write(report[1], answers, sizeof answers) < 0) _exit(1);
             _exit(0);
           }
           usleep(20000);
           _exit(0);
         }
         waitpid(middle, nullptr, 0);
         close(report[1]);
         int answers[2] = {-1, -1};
         value("answered", read(report[0], answers, sizeof answers));
         value("read of an orphan", answers[0]);
         value("stop of an orphan", answers[1]);
         return 0;
       }));
  line("a stopped group that is orphaned", in_child([] {
         int report[2];
         if (pipe(report) != 0) return 1;
         setsid();
         const pid_t middle = fork();
         if (middle == 0) {
           const pid_t child = fork();
           if (child == 0) {
             setpgid(0, 0);
             struct sigaction action{};
             action.sa_handler = note;
             sigaction(SIGHUP, &action, nullptr);
             raise(SIGSTOP);
             const int seen = last_signal;
             if (write(report[1], &seen, sizeof seen) < 0) _exit(1);
             _exit(0);
           }
           int status = 0;
           waitpid(child, &status, WUNTRACED);
           _exit(0);
         }
         waitpid(middle, nullptr, 0);
         close(report[1]);
         int seen = -1;
         value("went on", read(report[0], &seen, sizeof seen));
         value("heard SIGHUP", seen);
         return 0;
       }));
  line("hang-up", in_child([] {
         const Pair pair = open_pair();
         const pid_t child = fork();
         if (child == 0) {
           close(pair.master);
           lead(pair);
           for (;;) pause();
         }
         usleep(50000);
         close(pair.master);
         int status = 0;
         waitpid(child, &status, 0);
         return WIFSIGNALED(status) ? WTERMSIG(status) : 100;
       }));
  line("the leader's end", in_child([] {
         const Pair pair = open_pair();
         int report[2];
         if (pipe(report) != 0) return 1;
         const pid_t leader = fork();
         if (leader == 0) {
           lead(pair);
           if (fork() == 0) {
             close(report[0]);
             for (;;) pause();
           }
           usleep(50000);
           _exit(0);
         }
         waitpid(leader, nullptr, 0);
         close(report[1]);
         char byte = 0;
         // The end of the pipe: the one in the foreground is gone too.
         return static_cast<int>(read(report[0], &byte, 1));
       }));
}

}  // namespace

void terminals() {
  opening();
  lines();
  raw();
  packets();
  sessions();
  jobs();
}

}  // namespace calls
