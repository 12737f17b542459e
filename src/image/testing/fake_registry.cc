#include "image/testing/fake_registry.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "base/strings.h"
#include "image/blob/hasher.h"

namespace fluyt::image::testing {

namespace {

bool send_all(int socket, std::string_view data) {
  while (!data.empty()) {
    const ssize_t sent = ::send(socket, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// False at the end of the connection or when the registry stops.
bool wait_readable(int socket, const std::atomic<bool>& stopping) {
  while (!stopping) {
    pollfd poll_one{socket, POLLIN, 0};
    if (::poll(&poll_one, 1, 20) > 0) return true;
  }
  return false;
}

FakeRegistry::Request parse_head(std::string_view head) {
  FakeRegistry::Request out;
  bool first = true;
  for (std::string_view line : split(head, '\n')) {
    line = trim(line);
    if (first) {
      const auto words = split_words(line);
      if (words.size() > 1) {
        out.method = std::string(words[0]);
        out.target = std::string(words[1]);
      }
      first = false;
    } else if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
      out.headers[to_lower(line.substr(0, colon))] = std::string(trim(line.substr(colon + 1)));
    }
  }
  return out;
}

}  // namespace

std::string_view FakeRegistry::Request::header(const std::string& lower_name) const {
  const auto found = headers.find(lower_name);
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

Result<std::unique_ptr<FakeRegistry>> FakeRegistry::start() {
  sys::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  if (!listener.valid() || ::bind(listener.raw(), raw, size) != 0 ||
      ::listen(listener.raw(), 64) != 0 || ::getsockname(listener.raw(), raw, &size) != 0) {
    return Error::from_errno(errno, "listen(127.0.0.1)");
  }
  return std::unique_ptr<FakeRegistry>(
      new FakeRegistry(std::move(listener), ntohs(address.sin_port)));
}

FakeRegistry::FakeRegistry(sys::Fd listener, uint16_t port)
    : listener_(std::move(listener)), port_(port), acceptor_([this] { accept_loop(); }) {}

FakeRegistry::~FakeRegistry() {
  stopping_ = true;
  acceptor_.join();
  for (std::thread& thread : *threads_.lock()) thread.join();
}

std::string FakeRegistry::host() const { return cat("127.0.0.1:", port_); }

void FakeRegistry::set_hook(Hook hook) { *hook_.lock() = std::move(hook); }

void FakeRegistry::serve(const std::string& path, const std::string& content_type,
                         std::string body) {
  (*content_.lock())[path] = {content_type, std::move(body)};
}

std::vector<std::string> FakeRegistry::requests() const { return *log_.lock(); }

size_t FakeRegistry::count(const std::string& prefix) const {
  const auto log = requests();
  return static_cast<size_t>(std::count_if(
      log.begin(), log.end(), [&](const std::string& line) { return line.starts_with(prefix); }));
}

void FakeRegistry::accept_uploads(Uploads how) { uploads_.lock()->how = std::move(how); }

std::optional<std::string> FakeRegistry::content(const std::string& path) const {
  auto content = content_.lock();
  const auto found = content->find(path);
  if (found == content->end()) return std::nullopt;
  return found->second.body;
}

size_t FakeRegistry::uploads_under_way() const { return uploads_.lock()->open.size(); }

void FakeRegistry::accept_loop() {
  while (wait_readable(listener_.raw(), stopping_)) {
    const int socket = ::accept4(listener_.raw(), nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    threads_.lock()->emplace_back([this, socket] {
      talk(socket);
      ::close(socket);
    });
  }
}

void FakeRegistry::talk(int socket) {
  std::string buffer;
  char chunk[16384];
  while (wait_readable(socket, stopping_)) {
    const ssize_t got = ::recv(socket, chunk, sizeof chunk, 0);
    if (got <= 0) return;
    buffer.append(chunk, static_cast<size_t>(got));
    if (buffer[0] == 0x16) {  // a TLS hello: we speak none
      send_all(socket, "HTTP/1.0 400 Bad Request\r\n\r\n");
      return;
    }
    const size_t end = buffer.find("\r\n\r\n");
    if (end == std::string::npos) continue;
    Request request = parse_head(std::string_view(buffer).substr(0, end));
    const size_t length = parse_number<size_t>(request.header("content-length")).value_or(0);
    if (buffer.size() < end + 4 + length) continue;
    request.body = buffer.substr(end + 4, length);
    buffer.erase(0, end + 4 + length);
    {
      auto log = log_.lock();
      const std::string line = cat(request.method, " ", request.target);
      request.nth = 1 + static_cast<int>(std::count(log->begin(), log->end(), line));
      log->push_back(line);
    }
    const Hook hook = *hook_.lock();
    std::optional<Reply> reply;
    if (hook) reply = hook(request);
    if (!send_reply(socket, request, reply ? *reply : reply_to(request))) return;
  }
}

FakeRegistry::Reply FakeRegistry::reply_to(const Request& request) {
  if (auto taken = reply_to_upload(request)) return std::move(*taken);
  Reply out;
  const std::string path = request.target.substr(0, request.target.find('?'));
  auto content = content_.lock();
  const auto found = content->find(path);
  if (found == content->end()) {
    out.status = 404;
    out.headers.emplace_back("Content-Type", "application/json");
    out.body = path.find("/manifests/") != std::string::npos
                   ? R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]})"
                   : R"({"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]})";
    return out;
  }
  out.headers.emplace_back("Content-Type", found->second.content_type);
  out.body = found->second.body;
  if (path.find("/manifests/") != std::string::npos) {
    auto digest = digest_of("sha256", out.body);
    if (digest.ok()) out.headers.emplace_back("Docker-Content-Digest", digest->text());
  }
  const std::string_view range = request.header("range");
  if (range.starts_with("bytes=") && range.ends_with("-")) {
    const auto from = parse_number<size_t>(range.substr(6, range.size() - 7)).value_or(0);
    if (from >= out.body.size()) return Reply{416, {}, "", true, Reply::Fault::kNone, 0};
    out.status = 206;
    out.headers.emplace_back("Content-Range",
                             cat("bytes ", from, "-", out.body.size() - 1, "/", out.body.size()));
    out.body.erase(0, from);
  }
  return out;
}

bool FakeRegistry::send_reply(int socket, const Request& request, const Reply& reply) const {
  const auto hang = [&] {
    while (!stopping_) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return false;
  };
  if (reply.fault == Reply::Fault::kHangBeforeHead) return hang();
  if (reply.fault == Reply::Fault::kDropBeforeHead) return false;
  std::string head = cat("HTTP/1.1 ", reply.status, " X\r\n");
  for (const auto& [name, value] : reply.headers) head += cat(name, ": ", value, "\r\n");
  if (reply.announce_length) {
    head += cat("Content-Length: ", reply.body.size(), "\r\n");
  } else {
    head += "Connection: close\r\n";
  }
  if (!send_all(socket, head + "\r\n")) return false;
  if (request.method == "HEAD") return true;
  if (reply.fault == Reply::Fault::kNone) {
    return send_all(socket, reply.body) && reply.announce_length;
  }
  send_all(socket, std::string_view(reply.body).substr(0, reply.cut));
  if (reply.fault == Reply::Fault::kHangInBody) return hang();
  for (size_t at = reply.cut; reply.fault == Reply::Fault::kTrickle && !stopping_; ++at) {
    if (at == reply.body.size() || !send_all(socket, std::string_view(reply.body).substr(at, 1))) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (reply.fault == Reply::Fault::kReset) {
    // Let the bytes be read first: a reset may overtake them.
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    const linger now{1, 0};
    ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  return false;
}

}  // namespace fluyt::image::testing
