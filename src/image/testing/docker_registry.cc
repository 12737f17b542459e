#include "image/testing/docker_registry.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>

#include "base/strings.h"

namespace fluyt::image::testing {

namespace {

constexpr const char* kProgram = "/usr/bin/docker-registry";
// crypt(3) of "p w", bcrypt with the least work.
constexpr const char* kPasswords =
    "u:$2b$04$4fikA0pJxgVJOoy6cMzj/uVX3d54gGVdo.UsezszS/.OA24Ej22U.\n";

sockaddr_in loopback(uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  out.sin_port = htons(port);
  return out;
}

// One that was free a moment ago: the registry takes no "any".
Result<uint16_t> free_port() {
  const sys::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  if (!socket.valid() || ::bind(socket.raw(), raw, size) != 0 ||
      ::getsockname(socket.raw(), raw, &size) != 0) {
    return Error::from_errno(errno, "bind(127.0.0.1)");
  }
  return ntohs(address.sin_port);
}

std::string config_of(const std::string& folder, uint16_t port, DockerRegistry::Login login) {
  std::string out =
      cat("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n",
          "storage: {filesystem: {rootdirectory: ", folder,
          "/data}, delete: {enabled: true}}\nhttp: {addr: \"127.0.0.1:", port, "\"}\n");
  if (login == DockerRegistry::Login::kBasic) {
    out += cat("auth: {htpasswd: {realm: test, path: ", folder, "/passwords}}\n");
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<DockerRegistry>> DockerRegistry::start(Login login) {
  if (!sys::exists(kProgram)) return Error(Code::kNotFound, cat(kProgram, ": not installed"));
  sys::TempDir folder = FLUYT_TRY(sys::TempDir::create());
  const uint16_t port = FLUYT_TRY(free_port());
  const std::string config = folder.path() + "/config.yml";
  FLUYT_TRY(sys::write_file_atomic(sys::kCwd, config, config_of(folder.path(), port, login), 0600));
  FLUYT_TRY(sys::write_file_atomic(sys::kCwd, folder.path() + "/passwords", kPasswords, 0600));
  sys::Process process = FLUYT_TRY(sys::spawn(
      {.args = {kProgram, "serve", config}, .env = {"OTEL_TRACES_EXPORTER=none", "HOME=/"}}));
  std::unique_ptr<DockerRegistry> out(
      new DockerRegistry(std::move(folder), port, std::move(process)));
  const Deadline deadline = Deadline::after_ms(20'000);
  while (!out->answers()) {
    if (deadline.passed()) return Error(Code::kDeadlineExceeded, "docker-registry: no answer");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return out;
}

DockerRegistry::DockerRegistry(sys::TempDir folder, uint16_t port, sys::Process process)
    : folder_(std::move(folder)), port_(port), process_(std::move(process)) {}

DockerRegistry::~DockerRegistry() {
  process_.kill(SIGKILL).ignore("it may have ended by itself");
  process_.wait(Deadline::after_ms(5000)).ignore("nothing depends on how it ended");
}

bool DockerRegistry::answers() const {
  const sys::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(port_);
  return ::connect(socket.raw(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

std::string DockerRegistry::host() const { return cat("127.0.0.1:", port_); }

}  // namespace fluyt::image::testing
