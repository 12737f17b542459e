#include "image/registry/token.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "base/strings.h"
#include "base/time.h"
#include "image/blob/hasher.h"

namespace fluyt::image::registry {

namespace {

constexpr size_t kMaxTokenAnswer = 1UL << 20U;
constexpr size_t kMaxTokenBytes = 256UL << 10U;
constexpr size_t kMaxSlots = 256;

// "repository:team/app:pull,push": a resource and what may be done with it.
struct Scope {
  std::string resource;  // type and name
  std::vector<std::string> actions;

  static Scope parse(std::string_view text) {
    const size_t colon = text.rfind(':');
    Scope out{std::string(text.substr(0, colon)), {}};
    if (colon != std::string_view::npos) out.add(text.substr(colon + 1));
    return out;
  }
  void add(std::string_view list) {
    for (const std::string_view action : split(list, ',')) {
      const bool known = std::find(actions.begin(), actions.end(), action) != actions.end();
      if (!action.empty() && !known) actions.emplace_back(action);
    }
  }
  std::string text() const {
    return actions.empty() ? resource : cat(resource, ":", join(actions, ","));
  }
};

// What is asked for, each resource once and sorted, so that their order makes no second token.
std::vector<std::string> scopes_of(const TokenCache::Ask& ask) {
  constexpr size_t kMaxScopes = 16;
  std::vector<Scope> scopes;
  const auto merge = [&](std::string_view text, bool also_new) {
    const Scope scope = Scope::parse(text);
    const auto same = std::find_if(scopes.begin(), scopes.end(), [&](const Scope& known) {
      return known.resource == scope.resource;
    });
    if (same != scopes.end()) {
      same->add(join(scope.actions, ","));
    } else if (also_new && scopes.size() < kMaxScopes) {
      scopes.push_back(scope);
    }
  };
  for (const std::string_view scope : split_words(ask.challenge->param("scope"))) {
    merge(scope, true);
  }
  // A registry behind another may call our repository by a name of its own: then that one is it.
  const bool named = !scopes.empty();
  for (size_t i = 0; i < ask.scopes.size(); ++i) merge(ask.scopes[i], i > 0 || !named);
  std::vector<std::string> out;
  for (const Scope& scope : scopes) out.push_back(scope.text());
  std::sort(out.begin(), out.end());
  return out;
}

// A token is for whoever was shown to the token server: by credentials, and by certificate.
Result<std::string> key_of(const TokenCache::Ask& ask) {
  std::string secret = cat(ask.tls.client_cert.size(), ":", ask.tls.client_cert,
                           ask.tls.client_key.size(), ":", ask.tls.client_key);
  if (ask.credentials != nullptr) {
    const Credentials& c = *ask.credentials;
    // Lengths keep "a"+"bc" and "ab"+"c" apart.
    secret += cat(c.username.size(), ":", c.username, c.password.size(), ":", c.password,
                  c.identity_token.size(), ":", c.identity_token);
  }
  const oci::Digest hash = FLUYT_TRY(digest_of("sha256", secret));
  return cat(ask.challenge->param("realm"), "\n", ask.challenge->param("service"), "\n",
             join(scopes_of(ask), " "), "\n", hash.text());
}

Result<Url> realm_of(const TokenCache::Ask& ask) {
  const std::string realm(ask.challenge->param("realm"));
  Url url = FLUYT_TRY_CONTEXT(Url::parse(realm), "the registry's token realm");
  if (url.scheme == "http" && !ask.registry_is_plain_http) {
    return Error(Code::kPermissionDenied,
                 cat("the registry's token realm ", quote(realm),
                     ": expected https, since the registry itself is reached by https"));
  }
  return url;
}

HttpRequest base_request(const TokenCache::Ask& ask, const Url& realm) {
  HttpRequest out;
  out.url = realm;
  out.timeouts = ask.timeouts;
  out.cancelled = ask.cancelled;
  out.body_limit = kMaxTokenAnswer;
  // Who is trusted with the password may see the certificate.
  const bool is_registry = realm.host_port() == ask.registry;
  out.tls = is_registry ? ask.tls : ask.tls.elsewhere(TlsOptions::Identity::kShow);
  return out;
}

// GET realm?service=&scope=&account=, with Basic where there is a user.
HttpRequest get_request(const TokenCache::Ask& ask, const Url& realm) {
  HttpRequest out = base_request(ask, realm);
  std::string& query = out.url.query;
  const auto add = [&](std::string_view name, std::string_view value) {
    if (value.empty()) return;
    query += cat(query.empty() ? "" : "&", name, "=", percent_encode(value));
  };
  add("service", ask.challenge->param("service"));
  for (const std::string& scope : scopes_of(ask)) add("scope", scope);
  if (ask.credentials == nullptr) return out;
  const Credentials& c = *ask.credentials;
  if (!c.username.empty()) add("account", c.username);
  // A server that takes an identity token only by GET takes it as a password.
  const std::string& secret = c.password.empty() ? c.identity_token : c.password;
  if (!c.username.empty() || !secret.empty()) {
    out.private_headers.emplace_back("Authorization", basic_authorization(c.username, secret));
  }
  return out;
}

// POST with grant_type=refresh_token, for an identity token.
HttpRequest post_request(const TokenCache::Ask& ask, const Url& realm) {
  HttpRequest out = base_request(ask, realm);
  out.method = Method::kPost;
  out.headers.emplace_back("Content-Type", "application/x-www-form-urlencoded");
  out.body = cat("grant_type=refresh_token&client_id=fluyt&service=",
                 percent_encode(ask.challenge->param("service")),
                 "&scope=", percent_encode(join(scopes_of(ask), " ")),
                 "&refresh_token=", percent_encode(ask.credentials->identity_token));
  return out;
}

// What a token server says that knows no POST (OAuth2 is the younger of the two specifications).
bool knows_no_post(int status) { return status == 404 || status == 405 || status == 501; }

Result<Token> fetch(HttpClient& http, const TokenCache::Ask& ask, TokenRefusal& refusal) {
  const Url realm = FLUYT_TRY(realm_of(ask));
  const std::string where = cat("token server ", realm.host_port(), ": ", realm.path);
  const bool has_identity = ask.credentials != nullptr && !ask.credentials->identity_token.empty();
  HttpOutcome outcome =
      http.send(has_identity ? post_request(ask, realm) : get_request(ask, realm));
  if (has_identity && outcome.fault == HttpFault::kNone && knows_no_post(outcome.response.status)) {
    outcome = http.send(get_request(ask, realm));
  }
  if (outcome.fault != HttpFault::kNone) return std::move(*outcome.error).add_context(where);
  const int status = outcome.response.status;
  const std::string_view after = outcome.response.header("retry-after");
  refusal = {status, std::string(after)};
  if (status == 401 || status == 403) {
    return Error(Code::kUnauthenticated,
                 cat(where, " = ", status, ": ",
                     ask.credentials == nullptr ? "no anonymous access: credentials are needed"
                                                : "the credentials are refused"));
  }
  if (status == 429) {
    return Error(Code::kResourceExhausted,
                 cat(where, " = 429; the token server limits requests",
                     after.empty() ? "" : ", Retry-After ", after.empty() ? "" : quote(after)));
  }
  if (status != 200) {
    return Error(status >= 500 ? Code::kUnavailable : Code::kInternal,
                 cat(where, " = ", status, ", expected 200"));
  }
  return FLUYT_TRY_CONTEXT(parse_token(outcome.response.body), where);
}

}  // namespace

Result<Token> parse_token(std::string_view json) {
  const auto parsed = nlohmann::json::parse(json, nullptr, false);
  if (parsed.is_discarded() || !parsed.is_object()) {
    return Error(Code::kDataLoss, "the answer is not a JSON object");
  }
  Token out;
  for (const char* name : {"token", "access_token"}) {
    const auto found = parsed.find(name);
    if (found != parsed.end() && found->is_string() && out.value.empty()) {
      out.value = found->get<std::string>();
    }
  }
  if (out.value.empty())
    return Error(Code::kDataLoss, "the answer has neither token nor access_token");
  if (out.value.size() > kMaxTokenBytes || has_control_characters(out.value)) {
    return Error(Code::kDataLoss, "the answer's token is too long or holds control characters");
  }
  const auto lifetime = parsed.find("expires_in");
  if (lifetime != parsed.end() && lifetime->is_number_integer()) {
    // The specification's 60 s also stand for nonsense such as 0.
    const int64_t seconds = lifetime->get<int64_t>();
    if (seconds > 0) out.lifetime_s = std::min<int64_t>(seconds, 24L * 3600);
  }
  return out;
}

std::shared_ptr<TokenCache::Slot> TokenCache::slot_for(const std::string& key) {
  auto slots = slots_.lock();
  auto& slot = (*slots)[key];
  if (slot == nullptr) slot = std::make_shared<Slot>();
  auto out = slot;
  // A daemon that has seen many registries forgets them all now and then: a token costs one
  // request.
  if (slots->size() > kMaxSlots) slots->clear();
  return out;
}

Result<std::string> TokenCache::get(HttpClient& http, const Ask& ask, TokenRefusal& refusal) {
  refusal = {};
  const auto slot = slot_for(FLUYT_TRY(key_of(ask)));
  const std::lock_guard<std::mutex> one_at_a_time(slot->mutex);
  const bool fresh = !slot->value.empty() && now_boot_ns() < slot->expires_boot_ns;
  if (fresh && slot->value != ask.stale) return slot->value;
  const Token token = FLUYT_TRY(fetch(http, ask, refusal));
  slot->value = token.value;
  slot->expires_boot_ns = now_boot_ns() + token.lifetime_s * 900'000'000;
  return slot->value;
}

std::string basic_authorization(std::string_view username, std::string_view password) {
  return cat("Basic ", base64_encode(cat(username, ":", password)));
}

}  // namespace fluyt::image::registry
