#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "image/auth/credentials.h"
#include "image/registry/http.h"
#include "image/registry/www_authenticate.h"

namespace fluyt::image::registry {

/// What a token answer says (distribution's token and OAuth2 specifications).
struct Token {
  std::string value;
  int64_t lifetime_s = 60;
};
/// Parses the JSON of a token server. kDataLoss when there is neither `token` nor `access_token`.
Result<Token> parse_token(std::string_view json);

/// What a token server answered that gave no token; status 0: nothing.
struct TokenRefusal {
  int status = 0;
  std::string retry_after;  // the header
};

/// Bearer tokens by realm, service, scope, credential and client certificate, fetched once however
/// many ask, and used for nine tenths of their life. Credentials are kept as a hash only.
/// Thread-safe.
class TokenCache {
 public:
  struct Ask {
    const Challenge* challenge = nullptr;
    /// Our own need first. It is asked for when the challenge names no scope, and its actions are
    /// added where the challenge names fewer of the same resource; the further ones always.
    std::vector<std::string> scopes;
    const Credentials* credentials = nullptr;  // null: anonymous
    bool registry_is_plain_http = false;       // only then may the realm be
    HttpTimeouts timeouts;
    TlsOptions tls;  // of `registry`; for a realm elsewhere what of it is for others
    std::string registry;
    const std::atomic<bool>* cancelled = nullptr;
    std::string stale;  // a token that was just refused: not to be handed out again
  };
  /// kResourceExhausted when the token server limits requests. `refusal` is set with any error.
  Result<std::string> get(HttpClient& http, const Ask& ask, TokenRefusal& refusal);

 private:
  struct Slot {
    std::mutex mutex;  // held while fetching: that is the single flight
    std::string value;
    int64_t expires_boot_ns = 0;
  };
  std::shared_ptr<Slot> slot_for(const std::string& key);
  Guarded<std::map<std::string, std::shared_ptr<Slot>>> slots_;
};

/// "Basic ..." of RFC 7617.
std::string basic_authorization(std::string_view username, std::string_view password);

}  // namespace fluyt::image::registry
