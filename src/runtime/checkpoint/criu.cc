#include "runtime/checkpoint/criu.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/socket.h"

namespace fluyt::runtime::checkpoint {

namespace {

constexpr size_t kMaxAnswer = 1U << 16U;
constexpr size_t kMaxLog = 16U << 20U;
constexpr std::string_view kUsualPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string_view search_path() {
  const char* path = getenv("PATH");
  return path == nullptr || *path == '\0' ? kUsualPath : std::string_view(path);
}

// The first two errors of the log. CRIU's answer has the first alone, and that may be one that it
// went on after: without CAP_SYS_RESOURCE it complains of its own limits.
std::string errors_of(const std::string& log) {
  std::string out;
  int count = 0;
  for (const std::string_view line : split(sys::read_file(log, kMaxLog).value_or(""), '\n')) {
    const size_t start = line.find("Error (");
    if (start == std::string_view::npos) continue;
    if (line.find("rlimit: Can't setup RLIMIT_NOFILE") != std::string_view::npos) continue;
    out += cat(out.empty() ? "" : "; ", quote(line.substr(start), 512));
    if (++count == 2) break;
  }
  return out;
}

}  // namespace

Result<std::string> find_criu() {
  for (const std::string_view folder : split(search_path(), ':')) {
    if (!folder.starts_with('/')) continue;
    std::string candidate = cat(folder, "/criu");
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return Error(Code::kFailedPrecondition,
               cat("criu: not found in PATH ", quote(search_path(), 1024),
                   ": checkpoint and restore need it (Debian's package criu)"));
}

Criu::~Criu() {
  if (ended_ || !process_.valid()) return;
  socket_.reset();
  process_.kill(SIGKILL).ignore("whatever it was doing has failed");
  process_.wait(Deadline::after_ms(5000)).ignore("it was killed");
}

Result<Criu> Criu::start() {
  sys::SpawnOptions options;
  options.args = {FLUYT_TRY(find_criu()), "swrk", std::to_string(kCriuSocket)};
  // It runs tar, ip and iptables.
  options.env = {cat("PATH=", search_path())};
  sys::SocketPair pair = FLUYT_TRY(sys::make_socketpair(SOCK_SEQPACKET));
  options.pass = {{pair.second, kCriuSocket}};
  sys::Process process = FLUYT_TRY(sys::spawn(options));
  return Criu(std::move(process), std::move(pair.first));
}

Result<Response> Criu::receive(std::vector<sys::Fd>& fds) {
  if (!FLUYT_TRY(sys::Patience(Deadline::never(), stop_).wait_readable(socket_)))
    return Error(Code::kCancelled, "given up before criu had answered");
  std::string buffer(kMaxAnswer, '\0');
  sys::Received got = FLUYT_TRY(sys::receive_with_fds(socket_, buffer.data(), buffer.size()));
  if (got.size == 0) return Error(Code::kInternal, "criu ended without an answer");
  fds = std::move(got.fds);
  return parse_response(std::string_view(buffer).substr(0, got.size));
}

Result<Response> Criu::ask(RequestType type) {
  FLUYT_TRY(sys::send_with_fds(socket_, encode_question(type), {}));
  std::vector<sys::Fd> fds;
  Response answer = FLUYT_TRY(receive(fds));
  if (answer.type != static_cast<uint32_t>(type) || !answer.success) {
    return Error(Code::kFailedPrecondition,
                 cat("criu does not answer question ", static_cast<uint32_t>(type),
                     answer.error_message.empty() ? "" : ": ", trim(answer.error_message)));
  }
  return answer;
}

Result<> Criu::check_version() {
  const Response version = FLUYT_TRY_CONTEXT(ask(RequestType::kVersion), "criu's version");
  if (version.major * 1000 + version.minor < 3015) {
    return Error(Code::kFailedPrecondition, cat("criu is version ", version.major, ".",
                                                version.minor, ": expected 3.15 or later"));
  }
  return {};
}

Result<Response> Criu::features() { return ask(RequestType::kFeatureCheck); }

Result<Response> Criu::request(RequestType type, const CriuOptions& options,
                               const Notified& notified, const std::string& log) {
  const sys::IgnoreBrokenPipes quiet;
  FLUYT_TRY(sys::send_with_fds(socket_, encode_request(type, options), {}));
  Result<> refused;
  while (true) {
    std::vector<sys::Fd> fds;
    auto answer = receive(fds);
    if (!refused.ok() && (!answer.ok() || !answer->success)) return std::move(refused).error();
    if (!answer.ok()) return std::move(answer).error().add_context(cat("see ", log));
    if (answer->type == static_cast<uint32_t>(RequestType::kNotify) && answer->success) {
      auto done = notified(*answer, fds);
      const bool fine = done.ok();
      if (!fine && refused.ok()) refused = std::move(done);
      // It may be dead already, killed by what was notified.
      auto told = sys::send_with_fds(socket_, encode_notified(fine), {});
      if (!told.ok() && fine) return std::move(told).error();
      continue;
    }
    if (answer->success) {
      if (!refused.ok()) return std::move(refused).error();
      return answer;
    }
    std::string said = errors_of(log);
    if (said.empty()) said = quote(trim(answer->error_message), 1024);
    return Error(Code::kFailedPrecondition, cat("criu: ", said, ": see ", log));
  }
}

Result<> Criu::finish() {
  socket_.reset();
  const auto status = FLUYT_TRY(process_.wait(Deadline::after_ms(60'000)));
  if (!status) return Error(Code::kDeadlineExceeded, "criu does not end");
  ended_ = true;
  return {};
}

}  // namespace fluyt::runtime::checkpoint
