#include "base/signal_name.h"

#include <array>
#include <csignal>
#include <string>
#include <utility>

#include "base/strings.h"

namespace fluyt {
namespace {

constexpr std::array<std::pair<std::string_view, int>, 35> kSignals = {{
    {"ABRT", SIGABRT}, {"ALRM", SIGALRM}, {"BUS", SIGBUS},       {"CHLD", SIGCHLD},
    {"CLD", SIGCHLD},  {"CONT", SIGCONT}, {"FPE", SIGFPE},       {"HUP", SIGHUP},
    {"ILL", SIGILL},   {"INT", SIGINT},   {"IO", SIGIO},         {"IOT", SIGABRT},
    {"KILL", SIGKILL}, {"PIPE", SIGPIPE}, {"POLL", SIGIO},       {"PROF", SIGPROF},
    {"PWR", SIGPWR},   {"QUIT", SIGQUIT}, {"SEGV", SIGSEGV},     {"STKFLT", SIGSTKFLT},
    {"STOP", SIGSTOP}, {"SYS", SIGSYS},   {"TERM", SIGTERM},     {"TRAP", SIGTRAP},
    {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU},     {"URG", SIGURG},
    {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH},
    {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ}, {"RTMIN", 34},
}};
// The kernel's range; the C library keeps two at its lower end for itself, so names count from 34.
constexpr int kRtMin = 34;
constexpr int kRtMax = 64;

std::optional<int> in_range(std::optional<int> number) {
  if (!number || *number < 1 || *number > kRtMax) return std::nullopt;
  return number;
}

}  // namespace

std::optional<int> signal_number(std::string_view name) {
  if (const auto number = parse_number<int>(name)) return in_range(number);
  std::string upper;
  for (const char c : name) upper += (c >= 'a' && c <= 'z') ? static_cast<char>(c - 'a' + 'A') : c;
  std::string_view rest = upper;
  if (rest.starts_with("SIG")) rest.remove_prefix(3);
  for (const auto& [known, number] : kSignals) {
    if (rest == known) return number;
  }
  if (rest == "RTMAX") return kRtMax;
  if (rest.starts_with("RTMIN+")) {
    const auto offset = parse_number<int>(rest.substr(6));
    return offset && *offset >= 0 && *offset <= 30 ? in_range(kRtMin + *offset) : std::nullopt;
  }
  if (rest.starts_with("RTMAX-")) {
    const auto offset = parse_number<int>(rest.substr(6));
    return offset && *offset >= 0 && *offset <= 30 ? in_range(kRtMax - *offset) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace fluyt
