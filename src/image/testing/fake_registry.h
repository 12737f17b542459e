#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::image::testing {

/// A registry in this process that can misbehave: plain HTTP/1.1 on a port of 127.0.0.1, a thread a
/// connection. Content is set before it is asked for; a hook may answer in its place.
class FakeRegistry {
 public:
  struct Request {
    std::string method;
    std::string target;                          // path and query
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
    int nth = 1;  // how many requests of this method and path there were, this one included
    std::string_view header(const std::string& lower_name) const;
  };
  struct Reply {
    int status = 200;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
    bool announce_length = true;
    enum class Fault {
      kNone,
      kHangBeforeHead,  // never answers
      kHangInBody,      // stops after `cut` bytes of the body
      kClose,           // closes after `cut` bytes
      kReset,           // the same with a TCP reset
    } fault = Fault::kNone;
    size_t cut = 0;
  };
  using Hook = std::function<std::optional<Reply>(const Request&)>;

  static Result<std::unique_ptr<FakeRegistry>> start();
  ~FakeRegistry();
  FakeRegistry(const FakeRegistry&) = delete;
  FakeRegistry& operator=(const FakeRegistry&) = delete;

  std::string host() const;  // 127.0.0.1:port
  void set_hook(Hook hook);
  /// GET and HEAD of `path` (ranges too) answer with this.
  void serve(const std::string& path, const std::string& content_type, std::string body);
  /// "METHOD target", in order of arrival.
  std::vector<std::string> requests() const;
  size_t count(const std::string& prefix) const;

 private:
  struct Content {
    std::string content_type;
    std::string body;
  };
  explicit FakeRegistry(sys::Fd listener, uint16_t port);
  void accept_loop();
  void talk(int socket);
  Reply reply_to(const Request& request) const;
  bool send_reply(int socket, const Request& request, const Reply& reply) const;

  sys::Fd listener_;
  uint16_t port_;
  std::atomic<bool> stopping_{false};
  Guarded<Hook> hook_;
  Guarded<std::map<std::string, Content>> content_;
  Guarded<std::vector<std::string>> log_;
  Guarded<std::vector<std::thread>> threads_;
  std::thread acceptor_;
};

}  // namespace fluyt::image::testing
