#include "image/registry/session.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "base/strings.h"
#include "base/time.h"
#include "image/auth/auth_file.h"
#include "sys/file.h"

namespace fluyt::image::registry {

namespace {

constexpr size_t kMaxAuthRounds = 2;  // a first token, and one more when it is refused
constexpr int kMaxStumbles = 3;       // of a server that is there, in a row: then it is left out

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
                 CredentialTable from_file, const std::atomic<bool>* cancelled, Purpose purpose)
    : registry_(registry),
      name_(std::move(name)),
      repository_(std::move(repository)),
      endpoints_(std::move(endpoints)),
      credentials_(std::move(credentials).or_for(name_)),
      from_file_(std::move(from_file)),
      cancelled_(cancelled),
      purpose_(purpose),
      health_(std::vector<Health>(endpoints_.size())) {}

bool Session::Health::demoted() const { return stumbles >= kMaxStumbles; }

bool Session::is_able(const Capabilities& can, Need need) const {
  // What a push asks for on the way must come from where it goes.
  if (purpose_ == Purpose::kPush || need == Need::kPush) return can.push;
  return need == Need::kPull ? can.pull : can.resolve;
}

bool Session::is_at(EndpointIndex index, const Url& url) const {
  Url base = endpoints_[index].base;
  if ((*health_.lock())[index].plain_http) base.scheme = "http";
  return url.same_origin(base);
}

// As configured, the demoted ones behind the others, the distrusted left out.
std::vector<EndpointIndex> Session::order(Need need) const {
  std::vector<EndpointIndex> good;
  std::vector<EndpointIndex> demoted;
  auto health = health_.lock();
  for (EndpointIndex i = 0; i < endpoints_.size(); ++i) {
    if ((*health)[i].distrusted || !is_able(endpoints_[i].capabilities, need)) continue;
    // What is pushed goes to one server, the first that takes it, however it fares: two registries
    // with half an image each help nobody.
    if (purpose_ == Purpose::kPush) return {i};
    ((*health)[i].demoted() ? demoted : good).push_back(i);
  }
  // When all have failed before, one more chance for each; else a dead mirror costs nothing more.
  return good.empty() ? demoted : good;
}

// Who is there and may yet do better, when all of order() have failed: a mirror that stumbled in
// front of a registry which is out of reach is the only one there is.
std::vector<EndpointIndex> Session::order_again(const Ask& what,
                                                const std::vector<Turn>& turns) const {
  std::vector<EndpointIndex> out;
  if (what.elsewhere || what.once || purpose_ == Purpose::kPush) return out;
  const auto health = *health_.lock();
  for (EndpointIndex i = 0; i < endpoints_.size(); ++i) {
    if (health[i].distrusted || !health[i].answered) continue;
    if (!is_able(endpoints_[i].capabilities, what.need)) continue;
    const Turn& turn = turns[i];
    const bool has_more =
        turn.again_at_boot_ns.has_value() && turn.tries < registry_.options_.retry.max_tries;
    if (turn.tries == 0 || has_more) out.push_back(i);
  }
  return out;
}

bool Session::distrust(EndpointIndex endpoint) {
  (*health_.lock())[endpoint].distrusted = true;
  return !order(Need::kPull).empty();
}

bool Session::is_given_up() const {
  auto health = health_.lock();
  return std::all_of(health->begin(), health->end(),
                     [](const Health& one) { return one.distrusted || one.demoted(); });
}

std::string Session::shown(const Ask& what, EndpointIndex index) const {
  if (what.elsewhere) {
    return cat(what.url->host_port(), ": ", method_name(what.method), " ", what.url->path);
  }
  const Endpoint& endpoint = endpoints_[index];
  return cat(endpoint.is_mirror ? "mirror " : "registry ", endpoint.name(), ": ",
             method_name(what.method), " ",
             what.url.has_value() ? what.url->path : cat(endpoint.base.path, what.path));
}

HttpTimeouts Session::timeouts_for(const Endpoint& endpoint) const {
  HttpTimeouts out = registry_.options_.timeouts;
  if (endpoint.connect_ms > 0) out.connect_ms = endpoint.connect_ms;
  return out;
}

HttpRequest Session::request_for(const Ask& what, EndpointIndex index) const {
  const Endpoint& endpoint = endpoints_[index];
  HttpRequest out;
  out.method = what.method;
  if (what.url.has_value()) {
    out.url = *what.url;
  } else {
    out.url = endpoint.base;
    out.url.path += what.path;
    out.url.query = what.query;
    if (endpoint.is_mirror) {
      out.url.query += cat(out.url.query.empty() ? "" : "&", "ns=", percent_encode(name_));
    }
  }
  out.body = what.body;
  if (!what.content_type.empty()) out.headers.emplace_back("Content-Type", what.content_type);
  out.tls = endpoint.tls;
  out.timeouts = timeouts_for(endpoint);
  out.cancelled = what.last_word ? nullptr : cancelled_;
  if (what.last_word)
    out.timeouts.first_byte_ms = std::min<int64_t>(out.timeouts.first_byte_ms, 3000);
  out.sink = what.sink;
  out.body_limit = what.body_limit;
  if (!what.accept.empty()) out.headers.emplace_back("Accept", what.accept);
  if (what.elsewhere) {
    out.tls = {};
    return out;
  }
  out.private_headers = endpoint.headers;
  // Slow is better than nothing: only where another may be faster.
  if (what.expected_bytes > 0 && order(what.need).size() > 1) {
    out.expected_bytes = what.expected_bytes - (what.progress ? what.progress() : 0);
    out.most_ms = registry_.options_.timeouts.slow_blob_ms;
  }
  return out;
}

const Credentials* Session::credentials_for(const Endpoint& endpoint) const {
  if (credentials_.are_for(endpoint.name())) return &credentials_;
  const bool stands_for_it = !endpoint.is_mirror || endpoint.registry_login;
  // A mirror's own, the node's too, before those that it may be shown besides.
  for (const bool as_registry : {false, true}) {
    if (as_registry ? !stands_for_it : !endpoint.is_mirror) continue;
    if (as_registry && credentials_.are_for(name_)) return &credentials_;
    for (const CredentialTable& table :
         {std::cref(registry_.options_.credentials), std::cref(from_file_)}) {
      const auto* found = table.find(as_registry ? name_ : endpoint.name(), repository_);
      if (found != nullptr) return found;
    }
  }
  return nullptr;
}

std::vector<std::string> Session::scopes_for(const Ask& what) const {
  std::vector<std::string> out{
      cat("repository:", repository_, ":", purpose_ == Purpose::kPush ? "pull,push" : "pull")};
  if (!what.from_repository.empty()) {
    out.push_back(cat("repository:", what.from_repository, ":pull"));
  }
  return out;
}

std::vector<Challenge> Session::challenges_of(EndpointIndex index, const Ask& what,
                                              const HttpResponse& refusal) const {
  std::vector<Challenge> challenges;
  const auto [from, to] = refusal.headers.equal_range("www-authenticate");
  for (auto it = from; it != to; ++it) {
    auto some = parse_www_authenticate(it->second);
    if (!some.ok()) {
      registry_.logger_.warn(cat(shown(what, index), ": ", some.error().message()));
      continue;
    }
    challenges.insert(challenges.end(), some->begin(), some->end());
  }
  return challenges;
}

// Keeps the challenge of a 401 that we can answer; false when there is none.
bool Session::learn_challenge(EndpointIndex index, const Ask& what, const HttpResponse& refusal) {
  std::vector<Challenge> challenges = challenges_of(index, what, refusal);
  const Credentials* credentials = credentials_for(endpoints_[index]);
  for (const std::string_view scheme : {"bearer", "basic"}) {
    const bool answerable =
        scheme == "bearer" || (credentials != nullptr && !credentials->username.empty());
    for (Challenge& challenge : challenges) {
      if (challenge.scheme != scheme || !answerable) continue;
      auto health = health_.lock();
      (*health)[index].challenges.insert_or_assign(join(scopes_for(what), " "),
                                                   std::move(challenge));
      return true;
    }
  }
  return false;
}

namespace {

// The token server's trouble may be a passing one, like the registry's own.
bool is_passing(const Error& error, const TokenRefusal& refusal) {
  return error.code() == Code::kUnavailable || error.code() == Code::kDeadlineExceeded ||
         is_retryable_status(refusal.status);
}

HttpOutcome outcome_of(Error error, const TokenRefusal& refusal) {
  HttpOutcome out;
  out.fault = is_passing(error, refusal) ? HttpFault::kTokenServer : HttpFault::kRefused;
  if (error.code() == Code::kCancelled) out.fault = HttpFault::kCancelled;
  out.error = std::move(error);
  // What else it says is not the registry's word on what was asked.
  if (is_retryable_status(refusal.status)) out.response.status = refusal.status;
  if (!refusal.retry_after.empty()) {
    out.response.headers.emplace("retry-after", refusal.retry_after);
  }
  return out;
}

std::string token_in(const std::string& authorization) {
  return authorization.starts_with("Bearer ") ? authorization.substr(7) : "";
}

}  // namespace

// The Authorization header that satisfies what this server has asked for before; "" when it never
// asked. A token that is near its end is replaced here, before the server has to say so.
Result<std::string> Session::authorization_for(EndpointIndex index, const Ask& what,
                                               const std::string& refused,
                                               TokenRefusal& of_server) {
  const Endpoint& endpoint = endpoints_[index];
  const std::vector<std::string> scopes = scopes_for(what);
  Challenge challenge;
  bool plain_http = endpoint.base.scheme == "http";
  {
    auto health = health_.lock();
    const auto& known = (*health)[index].challenges;
    if (known.empty()) return std::string();
    const auto same = known.find(join(scopes, " "));
    challenge = (same != known.end() ? same : known.begin())->second;
    if (same == known.end()) {
      std::erase_if(challenge.params, [](const auto& param) { return param.first == "scope"; });
    }
    plain_http = plain_http || (*health)[index].plain_http;
  }
  const Credentials* credentials = credentials_for(endpoint);
  if (challenge.scheme == "basic") {
    return basic_authorization(credentials->username, credentials->password);
  }
  if (credentials != nullptr && !credentials->registry_token.empty()) {
    return cat("Bearer ", credentials->registry_token);
  }
  TokenCache::Ask token;
  token.challenge = &challenge;
  token.scopes = scopes;
  token.credentials = credentials;
  token.registry_is_plain_http = plain_http;
  token.timeouts = timeouts_for(endpoint);
  token.tls = endpoint.tls;
  token.registry = endpoint.name();
  token.cancelled = cancelled_;
  token.stale = token_in(refused);
  return cat("Bearer ", FLUYT_TRY(registry_.tokens_.get(registry_.http_, token, of_server)));
}

// What satisfies a server that a redirect has led to: a token for whoever asks. What we log in with
// is for the registry. Nothing when it wants more; an error where its token server may give one
// later.
Result<std::optional<std::string>> Session::anonymous_token_for(EndpointIndex index,
                                                                const Ask& what,
                                                                const HttpResponse& refusal,
                                                                const std::string& refused,
                                                                TokenRefusal& of_server) {
  const Endpoint& endpoint = endpoints_[index];
  for (const Challenge& challenge : challenges_of(index, what, refusal)) {
    if (challenge.scheme != "bearer") continue;
    TokenCache::Ask token;
    token.challenge = &challenge;
    token.scopes = scopes_for(what);
    token.registry_is_plain_http = refusal.url.scheme == "http";
    token.timeouts = timeouts_for(endpoint);
    token.tls = endpoint.tls.elsewhere(TlsOptions::Identity::kHide);
    token.cancelled = cancelled_;
    token.stale = token_in(refused);
    auto got = registry_.tokens_.get(registry_.http_, token, of_server);
    if (got.ok()) return std::optional(cat("Bearer ", *got));
    if (is_passing(got.error(), of_server) || got.error().code() == Code::kCancelled) {
      return std::move(got).error();
    }
    registry_.logger_.debug(cat(shown(what, index), ", redirected to ", refusal.url.host_port(),
                                ": ", got.error().message()));
  }
  return std::optional<std::string>();
}

HttpOutcome Session::send_with_scheme(const Ask& what, EndpointIndex index) {
  HttpRequest request = request_for(what, index);
  std::string refused;
  std::optional<std::pair<Url, std::string>> elsewhere_authorization;
  size_t rounds = 0;            // with tokens of the registry's own
  size_t rounds_elsewhere = 0;  // with those of whom it redirects to
  while (true) {
    if (!what.url.has_value() && (*health_.lock())[index].plain_http) request.url.scheme = "http";
    TokenRefusal of_server;
    auto authorization = what.elsewhere ? Result<std::string>("")
                                        : authorization_for(index, what, refused, of_server);
    if (!authorization.ok()) return outcome_of(std::move(authorization).error(), of_server);
    HttpRequest sent = request;
    // Where an upload goes on may be another host: what is private is for the registry alone.
    const bool elsewhere = what.elsewhere || (what.url.has_value() && !is_at(index, *what.url));
    if (elsewhere) {
      sent.private_headers.clear();
      sent.tls = sent.tls.elsewhere(TlsOptions::Identity::kHide);
    }
    sent.elsewhere_authorization = elsewhere_authorization;
    if (!authorization->empty() && !elsewhere) {
      sent.private_headers.emplace_back("Authorization", *authorization);
    }
    if (what.prepare) what.prepare(sent, index);
    HttpOutcome outcome = registry_.http_.send(sent);
    if (!elsewhere) note_warnings(outcome.response);
    const bool unauthorized =
        outcome.fault == HttpFault::kNone && outcome.response.status == 401 && !elsewhere;
    if (unauthorized && !outcome.response.url.same_origin(sent.url)) {
      if (rounds_elsewhere++ == kMaxAuthRounds) return outcome;
      const std::string before = elsewhere_authorization ? elsewhere_authorization->second : "";
      auto token = anonymous_token_for(index, what, outcome.response, before, of_server);
      if (!token.ok()) return outcome_of(std::move(token).error(), of_server);
      if (!token->has_value() || **token == before) return outcome;
      elsewhere_authorization.emplace(outcome.response.url, std::move(**token));
      continue;
    }
    const bool same_again = !refused.empty() && *authorization == refused;
    if (!unauthorized || rounds++ == kMaxAuthRounds || same_again ||
        !learn_challenge(index, what, outcome.response)) {
      return outcome;
    }
    refused = std::move(*authorization);
  }
}

// Warning: 299 - "text" is a registry's word to people; other codes are about caches.
void Session::note_warnings(const HttpResponse& response) {
  constexpr size_t kMaxWarnings = 16;
  constexpr size_t kMaxWarningBytes = 512;
  const auto [from, to] = response.headers.equal_range("warning");
  for (auto it = from; it != to; ++it) {
    std::string_view text = it->second;
    const size_t open = text.find('"');
    const size_t close = text.rfind('"');
    if (!text.starts_with("299 ") || open == close) continue;
    text = text.substr(open + 1, close - open - 1).substr(0, kMaxWarningBytes);
    auto known = warnings_.lock();
    const bool is_new = std::find(known->begin(), known->end(), text) == known->end();
    if (!is_new || known->size() == kMaxWarnings) continue;
    known->emplace_back(text);
    registry_.logger_.warn(cat("registry ", name_, " warns: ", quote(text, kMaxWarningBytes)));
  }
}

HttpOutcome Session::send(const Ask& what, EndpointIndex index) {
  HttpOutcome outcome = send_with_scheme(what, index);
  const Endpoint& endpoint = endpoints_[index];
  if (what.elsewhere) return outcome;
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
    const std::string_view asked = outcome.response.header("www-authenticate");
    if (asked.find("insufficient_scope") != std::string_view::npos) {
      text += "; what was granted does not reach that far (insufficient_scope)";
    }
    text += credentials_for(endpoints_[index]) == nullptr
                ? "; the registry wants credentials and none were given"
                : "; the credentials are refused";
  } else if (status == 429) {
    const std::string_view after = outcome.response.header("retry-after");
    text += cat("; the registry limits requests", after.empty() ? "" : ", Retry-After ",
                after.empty() ? "" : quote(after));
    for (const char* name : {"ratelimit-limit", "ratelimit-remaining", "docker-ratelimit-source"}) {
      const std::string_view value = outcome.response.header(name);
      if (!value.empty()) text += cat(", ", name, " ", quote(value));
    }
  } else if (status == 404) {
    const bool is_manifest = what.path.find("/manifests/") != std::string::npos;
    const bool is_upload = what.need == Need::kPush && what.method != Method::kHead;
    text += is_upload     ? "; no such repository or upload there"
            : is_manifest ? "; no such repository, tag or digest there"
                          : "; no such blob there";
  } else if (status != 403) {
    text += what.need == Need::kPush ? ", expected success" : ", expected 200";
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
  if (outcome.fault == HttpFault::kTokenServer) return status != 0 || tries < 2;
  if (outcome.fault != HttpFault::kNone) return is_transient(outcome.fault);
  // A presigned URL that has run out: the registry gives a new one. A body that ended early, or a
  // range that is not served: the next try asks otherwise.
  const bool stale_redirect = status == 403 && outcome.response.redirected;
  return is_retryable_status(status) || stale_redirect || status == 200 || status == 206 ||
         status == 416;
}

// Nothing: trying again does not help, or not before the caller has given up.
std::optional<int64_t> Session::wait_ms_before_next(const HttpOutcome& outcome, EndpointIndex index,
                                                    int tries) {
  if (!is_worth_another_try(outcome, index, tries)) return std::nullopt;
  const RetryPolicy& policy = registry_.options_.retry;
  const int64_t wait_ms = backoff_ms(policy, tries, std::random_device{}());
  const auto asked = parse_retry_after_ms(outcome.response.header("retry-after"), now_unix_ns());
  if (!asked.has_value()) return wait_ms;
  if (*asked > policy.retry_after_cap_ms) return std::nullopt;
  return std::max(wait_ms, *asked);
}

// Whether the registry itself says that it has not what was asked for, or has it not for us: a
// mirror would not know better.
bool Session::is_last_word(EndpointIndex index, const HttpOutcome& outcome,
                           const Error& error) const {
  if (endpoints_[index].is_mirror || outcome.fault == HttpFault::kTlsTrust) return false;
  return error.code() == Code::kNotFound || error.code() == Code::kUnauthenticated ||
         error.code() == Code::kPermissionDenied;
}

void Session::note_success(EndpointIndex index) {
  auto health = health_.lock();
  (*health)[index].answered = true;
  (*health)[index].stumbles = 0;
}

// A server that is there may stumble now and then. Who cannot be reached, lets us wait or says no
// would do so each time.
void Session::note_failure(const Ask& what, EndpointIndex index, const HttpOutcome& outcome,
                           bool is_passing) {
  if (what.elsewhere) return;
  if (what.may_be_absent && outcome.fault == HttpFault::kNone && outcome.response.status == 404) {
    return;
  }
  const bool is_cheap = outcome.fault == HttpFault::kNone || outcome.fault == HttpFault::kDropped;
  auto health = health_.lock();
  int& stumbles = (*health)[index].stumbles;
  stumbles = is_passing && is_cheap ? stumbles + 1 : kMaxStumbles;
}

Result<Session::Answer> Session::ask_endpoint(const Ask& what, EndpointIndex index, Turn& turn) {
  const RetryPolicy& policy = registry_.options_.retry;
  uint64_t progress_before = what.progress ? what.progress() : 0;
  while (true) {
    const int64_t wait_ns = turn.again_at_boot_ns.value_or(0) - now_boot_ns();
    const int64_t wait_ms = (wait_ns + 999'999) / 1'000'000;  // a server is given its whole time
    if (wait_ms > 0 && !sleep_unless_cancelled(wait_ms, cancelled_)) {
      turn.try_next = false;
      return Error(Code::kCancelled, "cancelled by the caller");
    }
    HttpOutcome outcome = send(what, index);
    ++turn.tries;
    if (what.observe) what.observe(outcome);
    if (outcome.fault == HttpFault::kNone &&
        (what.good ? what.good(outcome.response) : outcome.response.status == 200)) {
      if (!what.elsewhere) note_success(index);
      return Answer{std::move(outcome.response), index};
    }
    Error error = error_of(what, index, outcome);
    turn.said = error.message();
    turn.again_at_boot_ns.reset();
    turn.is_final = false;
    if (outcome.fault == HttpFault::kSink || outcome.fault == HttpFault::kCancelled) {
      turn.try_next = what.server_is_wrong && what.server_is_wrong();
      if (turn.try_next) note_failure(what, index, outcome, false);
      return error;
    }
    if (what.progress && what.progress() - progress_before >= policy.progress_bytes) {
      progress_before = what.progress();
      turn.tries = 1;
    }
    const auto next_ms = wait_ms_before_next(outcome, index, turn.tries);
    note_failure(what, index, outcome, next_ms.has_value());
    turn.is_final = !next_ms.has_value() && is_last_word(index, outcome, error);
    if (!next_ms.has_value()) return error;
    turn.again_at_boot_ns = now_boot_ns() + *next_ms * 1'000'000;
    if (turn.tries >= turn.most_tries) return error;
    registry_.logger_.debug(cat(error.message(), ": try ", turn.tries, " of ", turn.most_tries,
                                ", again in ", *next_ms, " ms"));
  }
}

// The error of the server `of`, and what the others said.
Error Session::whole_error(const Ask& what, const std::vector<Turn>& turns, EndpointIndex of,
                           const Error& error) const {
  std::string others;
  for (EndpointIndex i = 0; i < turns.size(); ++i) {
    if (i == of || turns[i].tries == 0) continue;
    others += cat(others.empty() ? "; before it, " : "; ", turns[i].said);
  }
  Code code = error.code();
  if (what.may_be_absent && code == Code::kNotFound && purpose_ == Purpose::kPull &&
      endpoints_[of].is_mirror) {
    // Who has failed before may have it: then it is not known to be absent.
    const auto health = *health_.lock();
    for (EndpointIndex i = 0; i < turns.size(); ++i) {
      const bool is_left_out = turns[i].tries == 0 && health[i].demoted() &&
                               is_able(endpoints_[i].capabilities, what.need);
      if (!is_left_out) continue;
      code = Code::kUnavailable;
      others += cat("; ", endpoints_[i].name(), " has failed before and was not asked");
    }
  }
  return others.empty() ? error : Error(code, cat(error.message(), others));
}

// Each in turn once, the last as often as may help; then, unless the registry itself has said no,
// those that are there once more, as often as may help.
Result<Session::Answer> Session::ask(const Ask& what) {
  std::vector<EndpointIndex> round = order(what.need);
  if (what.elsewhere && !round.empty()) round.resize(1);  // only its clocks are used
  if (round.empty()) {
    return Error(Code::kFailedPrecondition,
                 cat("registry ", name_, ": hosts.toml leaves no server that may be asked to ",
                     purpose_ == Purpose::kPush ? "push"
                     : what.need == Need::kPull ? "pull"
                                                : "resolve"));
  }
  std::vector<Turn> turns(endpoints_.size());
  const EndpointIndex last = round.back();  // whose error it is: the registry's own, as a rule
  std::optional<Error> error;
  for (const bool is_again : {false, true}) {
    if (is_again && turns[last].is_final) break;
    if (is_again) round = order_again(what, turns);
    for (const EndpointIndex index : round) {
      const bool to_the_end = (is_again || index == last) && !what.once;
      turns[index].most_tries = to_the_end ? registry_.options_.retry.max_tries : 1;
      auto answer = ask_endpoint(what, index, turns[index]);
      if (answer.ok()) return answer;
      if (!turns[index].try_next) return std::move(answer).error();
      if (index != last || is_again) {
        registry_.logger_.info(cat("it goes on without it: ", answer.error().message()));
      } else {
        error = std::move(answer).error();
      }
    }
  }
  return whole_error(what, turns, last, *error);
}

namespace {

Result<CredentialTable> read_auth_file(const std::string& path, const std::string& registry) {
  AuthFile file =
      FLUYT_TRY(parse_auth_file(FLUYT_TRY(sys::read_file(path, kMaxAuthFileBytes)), path));
  if (!file.helpers.empty() || !file.store.empty()) {
    return Error(Code::kInvalidArgument,
                 cat(path,
                     ": credHelpers or credsStore: expected auths alone, since fluytd runs no "
                     "credential helpers"));
  }
  FLUYT_TRY(file.check(registry));
  return std::move(file.auths);
}

}  // namespace

Registry::Registry(RegistryOptions options, Logger& logger)
    : options_(std::move(options)),
      logger_(logger),
      http_(options_.proxies),
      hosts_(options_.certs_dir) {}

Result<std::unique_ptr<Session>> Registry::open(const std::string& registry,
                                                const std::string& repository,
                                                Credentials credentials,
                                                const std::atomic<bool>* cancelled,
                                                Purpose purpose) {
  auto endpoints = FLUYT_TRY(hosts_.endpoints_for(registry));
  CredentialTable from_file;
  if (!options_.auth_file.empty()) {
    from_file =
        FLUYT_TRY_CONTEXT(read_auth_file(options_.auth_file, registry), "the node's auth file");
  }
  return std::make_unique<Session>(*this, registry, repository, std::move(endpoints),
                                   std::move(credentials), std::move(from_file), cancelled,
                                   purpose);
}

}  // namespace fluyt::image::registry
