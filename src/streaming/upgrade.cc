#include "streaming/upgrade.h"

#include <algorithm>
#include <optional>
#include <span>

#include "base/strings.h"

namespace fluyt::streaming {
namespace {

constexpr std::string_view kVersionHeader = "x-stream-protocol-version";
constexpr std::string_view kAcceptedHeader = "X-Accepted-Stream-Protocol-Versions";
constexpr std::string_view kPortForward = "portforward";

/// A name on the wire and what it means.
template <class Meaning>
struct Named {
  std::string_view name;
  Meaning meaning;
};
constexpr Named<SpdyUpgrade> kSpdyCommand[] = {{"v4.channel.k8s.io", {Version::kV4}},
                                               {"v3.channel.k8s.io", {Version::kV3}},
                                               {"v2.channel.k8s.io", {Version::kV2}},
                                               {"channel.k8s.io", {Version::kV1}}};
constexpr Named<SpdyUpgrade> kSpdyPorts[] = {{"portforward.k8s.io", {}}};
constexpr Named<WebSocketUpgrade> kSocketCommand[] = {
    {"v5.channel.k8s.io", {Version::kV5, false, false}},
    {"v4.channel.k8s.io", {Version::kV4, false, false}},
    {"v4.base64.channel.k8s.io", {Version::kV4, true, false}},
    {"channel.k8s.io", {Version::kV1, false, false}},
    {"base64.channel.k8s.io", {Version::kV1, true, false}}};
constexpr Named<WebSocketUpgrade> kSocketPorts[] = {
    {"SPDY/3.1+portforward.k8s.io", {Version::kV1, false, true}}};

/// The values of a header that may come several times and may be a list each time.
std::vector<std::string> values(const RequestHead& request, std::string_view name) {
  std::vector<std::string> all;
  for (const auto& [key, text] : request.headers) {
    if (key != name) continue;
    for (const std::string_view piece : split(text, ',')) {
      if (!trim(piece).empty()) all.emplace_back(trim(piece));
    }
  }
  return all;
}

bool has_word(const RequestHead& request, std::string_view name, std::string_view word) {
  const auto all = values(request, name);
  return std::any_of(all.begin(), all.end(),
                     [&](const std::string& value) { return to_lower(value) == word; });
}

Refusal refuse(unsigned status, std::string text) {
  return {.status = status, .text = std::move(text), .headers = {}};
}

/// The first name that the client would like and we know.
template <class Meaning>
std::optional<Named<Meaning>> choose(const std::vector<std::string>& wanted,
                                     std::span<const Named<Meaning>> known) {
  for (const std::string& name : wanted) {
    for (const auto& entry : known) {
      if (entry.name == name) return entry;
    }
  }
  return std::nullopt;
}

template <class Meaning>
Refusal no_common(const std::vector<std::string>& wanted, std::span<const Named<Meaning>> known) {
  std::vector<std::string> names;
  for (const auto& entry : known) names.emplace_back(entry.name);
  Refusal refusal = refuse(403, cat("no protocol in common: asked for ",
                                    wanted.empty() ? "none" : quote(join(wanted, ", ")),
                                    ", expected one of ", join(names, ", ")));
  for (const std::string& name : names) refusal.headers.emplace_back(kAcceptedHeader, name);
  return refusal;
}

/// Agrees on a name; without one the oldest protocol is meant, where `silence` has a meaning.
template <class Meaning>
std::variant<Upgrade, Refusal> agree(Upgrade upgrade, const std::vector<std::string>& wanted,
                                     std::span<const Named<Meaning>> known,
                                     std::optional<Meaning> silence) {
  if (wanted.empty() && silence) {
    upgrade.how = *silence;
    return upgrade;
  }
  const auto chosen = choose<Meaning>(wanted, known);
  if (!chosen) return no_common<Meaning>(wanted, known);
  upgrade.protocol = chosen->name;
  upgrade.how = chosen->meaning;
  return upgrade;
}

std::variant<Upgrade, Refusal> over_spdy(Upgrade upgrade, const RequestHead& request) {
  if (request.method != "POST" && request.method != "GET") {
    return refuse(405, cat(quote(request.method, 32), ": expected GET or POST"));
  }
  const auto wanted = values(request, kVersionHeader);
  const std::optional<SpdyUpgrade> oldest = SpdyUpgrade{};
  if (upgrade.verb == kPortForward) {
    return agree<SpdyUpgrade>(std::move(upgrade), wanted, kSpdyPorts, oldest);
  }
  return agree<SpdyUpgrade>(std::move(upgrade), wanted, kSpdyCommand, oldest);
}

std::variant<Upgrade, Refusal> over_websocket(Upgrade upgrade, const RequestHead& request) {
  if (request.method != "GET") {
    return refuse(405, cat(quote(request.method, 32), ": expected GET"));
  }
  const auto wanted = values(request, "sec-websocket-protocol");
  if (upgrade.verb == kPortForward) {
    return agree<WebSocketUpgrade>(std::move(upgrade), wanted, kSocketPorts, std::nullopt);
  }
  return agree<WebSocketUpgrade>(std::move(upgrade), wanted, kSocketCommand, WebSocketUpgrade{});
}

}  // namespace

std::variant<Upgrade, Refusal> decide(const RequestHead& request) {
  const std::string path = request.target.substr(0, request.target.find('?'));
  const auto pieces = split(path, '/');
  const bool is_verb = pieces.size() == 3 && pieces[0].empty() && !pieces[2].empty() &&
                       (pieces[1] == "exec" || pieces[1] == "attach" || pieces[1] == kPortForward);
  if (!is_verb) return unknown_token();
  Upgrade upgrade{
      .verb = std::string(pieces[1]), .token = std::string(pieces[2]), .protocol = {}, .how = {}};
  if (has_word(request, "connection", "upgrade")) {
    if (has_word(request, "upgrade", "spdy/3.1")) return over_spdy(std::move(upgrade), request);
    if (has_word(request, "upgrade", "websocket")) {
      return over_websocket(std::move(upgrade), request);
    }
  }
  return refuse(400, "expected an upgrade of the connection to SPDY/3.1 or websocket");
}

Refusal unknown_token() {
  return refuse(404, "there is nothing here: an address is good for one request, within a minute");
}

}  // namespace fluyt::streaming
