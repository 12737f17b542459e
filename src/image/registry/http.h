#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "image/registry/options.h"
#include "image/registry/proxy.h"
#include "image/registry/url.h"

/// One HTTP/1.1 exchange at a time over libcurl, with the clocks and limits that a registry client
/// needs. Knows nothing of registries.
namespace fluyt::image::registry {

/// For a registry. Whom it trusts holds for the servers that it sends us to as well: `ca_files`,
/// and `skip_verify` where it was asked for. Its client certificate is shown to a server elsewhere
/// only where that is said, and by no redirect.
struct TlsOptions {
  std::vector<std::string> ca_files;  // PEM, trusted beside the system's
  std::string client_cert;            // PEM
  std::string client_key;
  bool skip_verify = false;
  bool skip_only_itself = false;  // skip_verify is for this host alone: it is on this machine

  enum class Identity { kShow, kHide };
  /// What of it is for another host.
  TlsOptions elsewhere(Identity identity) const;
};

enum class Method { kGet, kHead, kPost, kPut, kPatch, kDelete };
/// As it stands on the request line.
std::string_view method_name(Method method);

struct HttpResponse;
/// Takes a piece of the body of an answer whose status and headers are already there.
using BodySink = std::function<Result<>(const HttpResponse& head, std::string_view bytes)>;

/// A body that is not in memory. It is read from any offset, in order, and from an earlier one
/// again when a connection was lost or a redirect asks for the same once more.
struct BodySource {
  uint64_t size = 0;
  /// Fills a part of `into`, at least one byte, from `offset`; 0 only at the end.
  std::function<Result<size_t>(uint64_t offset, std::span<char> into)> read_at;
};

struct HttpRequest {
  Method method = Method::kGet;
  Url url;
  std::vector<std::pair<std::string, std::string>> headers;  // to every host
  /// In place of private_headers to one host that a redirect leads to, by its origin.
  std::optional<std::pair<Url, std::string>> elsewhere_authorization;
  /// Only to the host of `url`: dropped by a redirect elsewhere (distribution-spec, "MUST NOT").
  std::vector<std::pair<std::string, std::string>> private_headers;
  std::string body;                  // may be private: a redirect elsewhere ends the exchange
  std::optional<BodySource> upload;  // in place of `body`
  TlsOptions tls;
  HttpTimeouts timeouts;
  const std::atomic<bool>* cancelled = nullptr;
  /// Gets the bodies of 200 and 206; without it, and for every other status, the body is collected.
  BodySink sink;
  size_t body_limit = 64UL << 10U;  // of collected bodies; more is a fault
  /// Of the streamed body, for the clock that ends what would take longer than `most_ms` at its
  /// pace; 0: no such clock.
  uint64_t expected_bytes = 0;
  int64_t most_ms = 0;
};

struct HttpResponse {
  int status = 0;
  std::multimap<std::string, std::string> headers;  // names in lower case
  std::string body;
  Url url;  // that answered, after redirects
  bool redirected = false;

  /// The first value of a header, or "".
  std::string_view header(std::string_view lower_name) const;
};

/// Why an exchange ended without a whole answer.
enum class HttpFault {
  kNone,
  kConnect,      // name, refused, unreachable, not within connect_ms
  kTlsProtocol,  // the other side does not speak TLS
  kTlsTrust,     // its certificate is not trusted: trying again does not help
  kTimeout,      // first byte or stall
  kDropped,      // reset or closed in the middle
  kTokenServer,  // the registry's, or whose it redirects to: it gives no token now
  kSink,         // the sink or the body's source refused: its error is the error
  kCancelled,
  kRefused,  // over a limit of ours, a bad redirect, a broken request
};

struct HttpOutcome {
  HttpFault fault = HttpFault::kNone;
  std::optional<Error> error;  // set unless fault is kNone
  HttpResponse response;       // as far as it came
};

inline constexpr int kMaxRedirects = 10;
inline constexpr size_t kMaxHeaderBytes = 256UL << 10U;

/// Keeps connections between exchanges. Thread-safe: each exchange borrows a connection cache of
/// its own.
class HttpClient {
 public:
  explicit HttpClient(ProxySettings proxies = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// Sends and follows at most kMaxRedirects redirects; never from https to http. What is not a GET
  /// or HEAD is repeated elsewhere only where the answer says so (307, 308).
  HttpOutcome send(const HttpRequest& request);

 private:
  struct Handle;
  std::unique_ptr<Handle> borrow();
  HttpOutcome exchange(Handle& handle, const HttpRequest& request, const Url& url, bool same_host);
  const ProxySettings proxies_;
  Guarded<std::vector<std::unique_ptr<Handle>>> idle_;
};

}  // namespace fluyt::image::registry
