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
      kDropBeforeHead,  // closes without an answer
      kTrickle,         // after `cut` bytes of the body, one every 50 ms
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
  /// How it takes what is pushed. Without a call of this it takes nothing.
  struct Uploads {
    bool in_chunks = true;  // else PATCH is answered with 405
    bool absolute_locations = false;
    bool lists_referrers = true;  // OCI-Subject for manifests with a subject
    std::string mountable_from;   // the one repository that blobs are mounted from
    size_t chunk_min_bytes = 0;   // announced as OCI-Chunk-Min-Length
    int break_patch_nth = 0;      // that PATCH is cut off after half of its body
    int forget_patch_nth = 0;     // that PATCH finds its upload gone
  };
  void accept_uploads(Uploads how);
  /// What is under a path now.
  std::optional<std::string> content(const std::string& path) const;
  size_t uploads_under_way() const;
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
  Reply reply_to(const Request& request);
  std::optional<Reply> reply_to_upload(const Request& request);
  Reply upload_state(int status, const std::string& path, const std::string& upload);
  void store_blob(const Request& request, const std::string& blobs, std::string bytes,
                  Reply& reply);
  bool send_reply(int socket, const Request& request, const Reply& reply) const;

  sys::Fd listener_;
  uint16_t port_;
  std::atomic<bool> stopping_{false};
  Guarded<Hook> hook_;
  Guarded<std::map<std::string, Content>> content_;
  Guarded<std::vector<std::string>> log_;
  struct UploadState {
    std::optional<Uploads> how;
    std::map<std::string, std::string> open;  // bytes by upload
    int patches = 0;
    int made = 0;
  };
  Guarded<UploadState> uploads_;
  Guarded<std::vector<std::thread>> threads_;
  std::thread acceptor_;
};

}  // namespace fluyt::image::testing
