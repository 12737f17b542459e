#include "image/registry/session.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "base/strings.h"
#include "base/time.h"

namespace fluyt::image::registry {

namespace {

constexpr size_t kMaxAuthRounds = 2;  // a first token, and one more when it is refused

std::string_view method_name(Method method) {
  switch (method) {
    case Method::kHead:
      return "HEAD";
    case Method::kPost:
      return "POST";
    case Method::kGet:
      break;
  }
  return "GET";
}

bool is_transient(HttpFault fault) {
  return fault == HttpFault::kConnect || fault == HttpFault::kTimeout ||
         fault == HttpFault::kDropped || fault == HttpFault::kTlsProtocol;
}

Code code_of_status(int status) {
  switch (status) {
    case 401:
      return Code::kUnauthenticated;
    case 403:
      return Code::kPermissionDenied;
    case 404:
      return Code::kNotFound;
    case 429:
      return Code::kResourceExhausted;
    default:
      return status >= 500 ? Code::kUnavailable : Code::kInternal;
  }
}

}  // namespace

std::string registry_errors(std::string_view body) {
  const auto parsed = nlohmann::json::parse(body, nullptr, false);
  if (parsed.is_discarded() || !parsed.is_object()) return {};
  const auto errors = parsed.find("errors");
  if (errors == parsed.end() || !errors->is_array()) return {};
  std::vector<std::string> out;
  for (const auto& item : *errors) {
    if (!item.is_object() || out.size() == 4) continue;
    const auto field = [&](const char* name) {
      const auto found = item.find(name);
      return found != item.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    const std::string code = field("code");
    const std::string message = field("message");
    out.push_back(quote(cat(code, !code.empty() && !message.empty() ? ": " : "", message)));
  }
  return join(out, "; ");
}

Session::Session(Registry& registry, std::string name, std::string repository,
                 std::vector<Endpoint> endpoints, Credentials credentials,
                 const std::atomic<bool>* cancelled)
    : registry_(registry),
      name_(std::move(name)),
      repository_(std::move(repository)),
      endpoints_(std::move(endpoints)),
      credentials_(std::move(credentials)),
      cancelled_(cancelled),
      health_(std::vector<Health>(endpoints_.size())) {}

// As configured, the demoted ones behind the others, the distrusted left out.
std::vector<EndpointIndex> Session::order(Need need) const {
  std::vector<EndpointIndex> good;
  std::vector<EndpointIndex> demoted;
  auto health = health_.lock();
  for (EndpointIndex i = 0; i < endpoints_.size(); ++i) {
    const Capabilities& can = endpoints_[i].capabilities;
    if ((*health)[i].distrusted || !(need == Need::kPull ? can.pull : can.resolve)) continue;
    ((*health)[i].demoted ? demoted : good).push_back(i);
  }
  // When all have failed before, one more chance for each; else a dead mirror costs nothing more.
  return good.empty() ? demoted : good;
}

bool Session::distrust(EndpointIndex endpoint) {
  (*health_.lock())[endpoint].distrusted = true;
  return !order(Need::kPull).empty();
}

std::string Session::shown(const Ask& what, EndpointIndex index) const {
  const Endpoint& endpoint = endpoints_[index];
  return cat(endpoint.is_mirror ? "mirror " : "registry ", endpoint.name(), ": ",
             method_name(what.method), " ", endpoint.base.path, what.path);
}

HttpRequest Session::request_for(const Ask& what, EndpointIndex index) const {
  const Endpoint& endpoint = endpoints_[index];
  HttpRequest out;
  out.method = what.method;
  out.url = endpoint.base;
  out.url.path += what.path;
  if (endpoint.is_mirror) out.url.query = cat("ns=", percent_encode(name_));
  out.tls = endpoint.tls;
  out.timeouts = registry_.options_.timeouts;
  if (endpoint.connect_ms > 0) out.timeouts.connect_ms = endpoint.connect_ms;
  out.cancelled = cancelled_;
  out.sink = what.sink;
  out.body_limit = what.body_limit;
  if (!what.accept.empty()) out.headers.emplace_back("Accept", what.accept);
  out.private_headers = endpoint.headers;
  return out;
}

Result<std::string> Session::authorize(EndpointIndex index, const HttpResponse& refusal,
                                       const std::string& stale) {
  const Endpoint& endpoint = endpoints_[index];
  std::vector<Challenge> challenges;
  const auto [from, to] = refusal.headers.equal_range("www-authenticate");
  for (auto it = from; it != to; ++it) {
    auto some = FLUYT_TRY(parse_www_authenticate(it->second));
    challenges.insert(challenges.end(), some.begin(), some.end());
  }
  const bool may_log_in =
      credentials_.are_for(endpoint.name()) || (!endpoint.is_mirror && credentials_.are_for(name_));
  for (const Challenge& challenge : challenges) {
    if (challenge.scheme != "bearer") continue;
    if (may_log_in && !credentials_.registry_token.empty()) {
      return cat("Bearer ", credentials_.registry_token);
    }
    TokenCache::Ask token;
    token.challenge = &challenge;
    token.fallback_scope = cat("repository:", repository_, ":pull");
    token.credentials = may_log_in ? &credentials_ : nullptr;
    token.registry_is_plain_http = refusal.url.scheme == "http";
    token.timeouts = registry_.options_.timeouts;
    token.tls = endpoint.tls;
    token.registry = endpoint.name();
    token.cancelled = cancelled_;
    token.stale = stale.starts_with("Bearer ") ? stale.substr(7) : "";
    return cat("Bearer ", FLUYT_TRY(registry_.tokens_.get(registry_.http_, token)));
  }
  for (const Challenge& challenge : challenges) {
    if (challenge.scheme == "basic" && may_log_in && !credentials_.username.empty()) {
      return basic_authorization(credentials_.username, credentials_.password);
    }
  }
  return std::string();  // nothing that we can answer: the 401 stands
}

HttpOutcome Session::send_with_scheme(const Ask& what, EndpointIndex index) {
  HttpRequest request = request_for(what, index);
  std::string used;
  for (size_t round = 0;; ++round) {
    {
      auto health = health_.lock();
      used = (*health)[index].authorization;
      if ((*health)[index].plain_http) request.url.scheme = "http";
    }
    HttpRequest sent = request;
    if (!used.empty()) sent.private_headers.emplace_back("Authorization", used);
    if (what.prepare) what.prepare(sent, index);
    HttpOutcome outcome = registry_.http_.send(sent);
    if (outcome.fault != HttpFault::kNone || outcome.response.status != 401 ||
        outcome.response.redirected || round == kMaxAuthRounds) {
      return outcome;
    }
    auto next = authorize(index, outcome.response, used);
    if (!next.ok()) {
      // The token server's trouble may be a passing one, like the registry's own.
      const Code code = next.error().code();
      const bool passing = code == Code::kUnavailable || code == Code::kDeadlineExceeded;
      outcome.fault = passing ? HttpFault::kConnect : HttpFault::kRefused;
      if (code == Code::kCancelled) outcome.fault = HttpFault::kCancelled;
      outcome.error = std::move(next).error();
      return outcome;
    }
    if (next->empty() || *next == used) return outcome;
    (*health_.lock())[index].authorization = *next;
  }
}

HttpOutcome Session::send(const Ask& what, EndpointIndex index) {
  HttpOutcome outcome = send_with_scheme(what, index);
  const Endpoint& endpoint = endpoints_[index];
  const bool no_tls_there = outcome.fault == HttpFault::kTlsProtocol ||
                            outcome.fault == HttpFault::kConnect ||
                            (outcome.fault == HttpFault::kTimeout && outcome.response.status == 0);
  if (!endpoint.try_plain_http || !no_tls_there) return outcome;
  {
    auto health = health_.lock();
    if ((*health)[index].plain_http) return outcome;
    (*health)[index].plain_http = true;
  }
  return send_with_scheme(what, index);
}

Error Session::error_of(const Ask& what, EndpointIndex index, HttpOutcome& outcome) const {
  const bool server_is_wrong = what.server_is_wrong && what.server_is_wrong();
  if ((outcome.fault == HttpFault::kSink && !server_is_wrong) ||
      outcome.fault == HttpFault::kCancelled) {
    return std::move(*outcome.error);
  }
  std::string where = shown(what, index);
  if (outcome.response.redirected)
    where += cat(", redirected to ", outcome.response.url.host_port());
  if (outcome.fault != HttpFault::kNone) return std::move(*outcome.error).add_context(where);
  const int status = outcome.response.status;
  std::string text = cat(where, " = ", status);
  if (what.progress && (status == 200 || status == 206)) {
    return Error(Code::kUnavailable,
                 cat(text, ": the body ended after ", what.progress(), " bytes"));
  }
  if (const std::string errors = registry_errors(outcome.response.body); !errors.empty()) {
    text += cat(": ", errors);
  }
  if (status == 401) {
    text += credentials_.empty() ? "; the registry wants credentials and none were given"
                                 : "; the credentials are refused";
  } else if (status == 429) {
    const std::string_view after = outcome.response.header("retry-after");
    text += cat("; the registry limits requests", after.empty() ? "" : ", Retry-After ",
                after.empty() ? "" : quote(after));
  } else if (status == 404) {
    const bool is_manifest = what.path.find("/manifests/") != std::string::npos;
    text += is_manifest ? "; no such repository, tag or digest there" : "; no such blob there";
  } else if (status != 403) {
    text += ", expected 200";
  }
  return Error(code_of_status(status), std::move(text));
}

bool Session::is_worth_another_try(const HttpOutcome& outcome, EndpointIndex index, int tries) {
  const int status = outcome.response.status;
  auto health = health_.lock();
  bool& answered = (*health)[index].answered;
  if (status != 0) answered = true;
  // A name that is wrong or a server that is down stays so for longer than we would wait.
  if (outcome.fault == HttpFault::kConnect) return answered || tries < 2;
  if (outcome.fault != HttpFault::kNone) return is_transient(outcome.fault);
  // A presigned URL that has run out: the registry gives a new one. A body that ended early, or a
  // range that is not served: the next try asks otherwise.
  const bool stale_redirect = status == 403 && outcome.response.redirected;
  return is_retryable_status(status) || stale_redirect || status == 200 || status == 206 ||
         status == 416;
}

Result<Session::Answer> Session::ask_endpoint(const Ask& what, EndpointIndex index, int max_tries,
                                              bool& try_next) {
  const RetryPolicy& policy = registry_.options_.retry;
  uint64_t progress_before = what.progress ? what.progress() : 0;
  try_next = true;
  for (int tries = 1;; ++tries) {
    HttpOutcome outcome = send(what, index);
    if (outcome.fault == HttpFault::kNone &&
        (what.good ? what.good(outcome.response) : outcome.response.status == 200)) {
      return Answer{std::move(outcome.response), index};
    }
    Error error = error_of(what, index, outcome);
    if (outcome.fault == HttpFault::kSink || outcome.fault == HttpFault::kCancelled) {
      try_next = what.server_is_wrong && what.server_is_wrong();
      return error;
    }
    if (what.progress && what.progress() - progress_before >= policy.progress_bytes) {
      progress_before = what.progress();
      tries = 1;
    }
    if (!is_worth_another_try(outcome, index, tries) || tries >= max_tries) return error;
    int64_t wait_ms = backoff_ms(policy, tries, std::random_device{}());
    if (const auto asked =
            parse_retry_after_ms(outcome.response.header("retry-after"), now_unix_ns())) {
      if (*asked > policy.retry_after_cap_ms) return error;
      wait_ms = std::max(wait_ms, *asked);
    }
    registry_.logger_.debug(
        cat(error.message(), ": try ", tries, " of ", max_tries, ", again in ", wait_ms, " ms"));
    if (!sleep_unless_cancelled(wait_ms, cancelled_)) {
      try_next = false;
      return Error(Code::kCancelled, "cancelled by the caller");
    }
  }
}

Result<Session::Answer> Session::ask(const Ask& what) {
  const std::vector<EndpointIndex> candidates = order(what.need);
  if (candidates.empty()) {
    return Error(Code::kFailedPrecondition,
                 cat("registry ", name_, ": hosts.toml leaves no server that may ",
                     what.need == Need::kPull ? "pull" : "resolve"));
  }
  std::string mirrors;  // what those before the last said
  for (size_t i = 0;; ++i) {
    const EndpointIndex index = candidates[i];
    const bool last = i + 1 == candidates.size();
    bool try_next = false;
    auto answer =
        ask_endpoint(what, index, last ? registry_.options_.retry.max_tries : 1, try_next);
    if (answer.ok()) return answer;
    Error error = std::move(answer).error();
    if (!try_next) return error;
    (*health_.lock())[index].demoted = true;
    if (last) {
      return mirrors.empty() ? error
                             : Error(error.code(), cat(error.message(), "; before it, ", mirrors));
    }
    registry_.logger_.info(cat("pull goes on without it: ", error.message()));
    mirrors += cat(mirrors.empty() ? "" : "; ", error.message());
  }
}

Registry::Registry(RegistryOptions options, Logger& logger)
    : options_(std::move(options)), logger_(logger), hosts_(options_.certs_dir) {}

Result<std::unique_ptr<Session>> Registry::open(const std::string& registry,
                                                const std::string& repository,
                                                Credentials credentials,
                                                const std::atomic<bool>* cancelled) {
  auto endpoints = FLUYT_TRY(hosts_.endpoints_for(registry));
  return std::make_unique<Session>(*this, registry, repository, std::move(endpoints),
                                   std::move(credentials), cancelled);
}

}  // namespace fluyt::image::registry
