#include "image/policy/policy.h"

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>

#include "base/base64.h"
#include "base/strings.h"

namespace fluyt::image::policy {

namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 32;
constexpr size_t kMaxScopes = 10'000;
constexpr size_t kMaxRequirements = 64;
constexpr size_t kMaxKeys = 64;

/// A place in the file, for errors: "file: transports.docker["x"][0].keyPath".
struct At {
  std::string text;
  At field(std::string_view name) const { return {cat(text, ".", name)}; }
  At key(std::string_view name) const { return {cat(text, "[", quote(name), "]")}; }
  At index(size_t number) const { return {cat(text, "[", number, "]")}; }
  Error expected(std::string_view what) const {
    return Error(Code::kInvalidArgument, cat(text, ": expected ", what));
  }
};

// A key twice would let two readers see two policies.
Result<Json> parse_json(std::string_view text, const std::string& file) {
  if (text.size() > kMaxPolicyBytes) {
    return Error(Code::kInvalidArgument,
                 cat(file, ": ", text.size(), " bytes: at most ", kMaxPolicyBytes, " are read"));
  }
  std::vector<std::set<std::string>> keys;
  std::string twice;
  bool too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    too_deep = too_deep || depth > kMaxDepth;
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.empty() && value.is_string() &&
        !keys.back().insert(value.get<std::string>()).second) {
      twice = value.get<std::string>();
    }
    return depth <= kMaxDepth;
  };
  Json out = Json::parse(text, watch, false);
  if (too_deep) return At{file}.expected(cat("at most ", kMaxDepth, " levels"));
  if (!twice.empty()) return At{file}.field(twice).expected("a key once in an object");
  if (out.is_discarded() || !out.is_object()) return At{file}.expected("a JSON object");
  return out;
}

Result<> only(const Json& object, std::initializer_list<std::string_view> known, const At& at) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    std::string list;
    for (const std::string_view name : known) list += cat(list.empty() ? "" : ", ", name);
    return Error(Code::kInvalidArgument,
                 cat(at.text, ": ", quote(key), ": unknown here: expected ", list));
  }
  return {};
}

Result<std::string> text_at(const Json& object, const char* name, const At& at) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string() || *found == "") {
    return at.field(name).expected("a string");
  }
  return found->get<std::string>();
}

Result<SignedIdentity> read_identity(const Json& value, const At& at) {
  using Kind = SignedIdentity::Kind;
  SignedIdentity out;
  if (!value.is_object()) return at.expected("an object");
  const std::string type = FLUYT_TRY(text_at(value, "type", at));
  const auto check_name = [&](const std::string& name, const char* field) -> Result<> {
    auto parsed = oci::Reference::parse(name);
    if (!parsed.ok()) return std::move(parsed).error().add_context(at.field(field).text);
    return {};
  };
  if (type == "matchExact" || type == "matchRepoDigestOrExact" || type == "matchRepository") {
    FLUYT_TRY(only(value, {"type"}, at));
    out.kind = type == "matchExact"        ? Kind::kMatchExact
               : type == "matchRepository" ? Kind::kMatchRepository
                                           : Kind::kMatchRepoDigestOrExact;
  } else if (type == "exactReference") {
    FLUYT_TRY(only(value, {"type", "dockerReference"}, at));
    out.kind = Kind::kExactReference;
    out.name = FLUYT_TRY(text_at(value, "dockerReference", at));
    FLUYT_TRY(check_name(out.name, "dockerReference"));
  } else if (type == "exactRepository") {
    FLUYT_TRY(only(value, {"type", "dockerRepository"}, at));
    out.kind = Kind::kExactRepository;
    out.name = FLUYT_TRY(text_at(value, "dockerRepository", at));
    FLUYT_TRY(check_name(out.name, "dockerRepository"));
  } else if (type == "remapIdentity") {
    FLUYT_TRY(only(value, {"type", "prefix", "signedPrefix"}, at));
    out.kind = Kind::kRemapIdentity;
    out.prefix = FLUYT_TRY(text_at(value, "prefix", at));
    out.signed_prefix = FLUYT_TRY(text_at(value, "signedPrefix", at));
  } else {
    return Error(Code::kInvalidArgument,
                 cat(at.field("type").text, ": ", quote(type),
                     ": expected matchExact, matchRepoDigestOrExact, matchRepository, "
                     "exactReference, exactRepository or remapIdentity"));
  }
  return out;
}

Result<std::vector<std::string>> texts_at(const Json& value, const At& at) {
  if (!value.is_array() || value.empty() || value.size() > kMaxKeys) {
    return at.expected(cat("an array of 1 to ", kMaxKeys, " strings"));
  }
  std::vector<std::string> out;
  for (size_t i = 0; i < value.size(); ++i) {
    if (!value[i].is_string()) return at.index(i).expected("a string");
    out.push_back(value[i].get<std::string>());
  }
  return out;
}

// keyPath, keyPaths, keyData or keyDatas: exactly one of them.
Result<> read_keys(const Json& value, const At& at, Requirement& out) {
  int sources = 0;
  for (const char* name : {"keyPath", "keyPaths", "keyData", "keyDatas"}) {
    const auto found = value.find(name);
    if (found == value.end() || found->is_null()) continue;
    ++sources;
    const std::string_view field(name);
    std::vector<std::string> texts;
    if (field.ends_with('s')) {
      texts = FLUYT_TRY(texts_at(*found, at.field(name)));
    } else {
      texts.push_back(FLUYT_TRY(text_at(value, name, at)));
    }
    if (field.starts_with("keyPath")) {
      for (const std::string& path : texts) {
        if (!path.starts_with('/')) return at.field(name).expected("an absolute path");
      }
      out.key_files = std::move(texts);
      continue;
    }
    for (const std::string& text : texts) {
      auto decoded = base64_decode(text);
      if (!decoded) return at.field(name).expected("base64");
      out.key_data.push_back(std::move(*decoded));
    }
  }
  if (sources != 1) return at.expected("exactly one of keyPath, keyPaths, keyData and keyDatas");
  return {};
}

Result<Requirement> read_requirement(const Json& value, const At& at) {
  using Kind = Requirement::Kind;
  Requirement out;
  if (!value.is_object()) return at.expected("an object");
  const std::string type = FLUYT_TRY(text_at(value, "type", at));
  if (type == "insecureAcceptAnything" || type == "reject") {
    FLUYT_TRY(only(value, {"type"}, at));
    out.kind = type == "reject" ? Kind::kReject : Kind::kAccept;
    return out;
  }
  if (type == "signedBy") {
    FLUYT_TRY(
        only(value, {"type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"}, at));
    out.kind = Kind::kSignedBy;
    if (const std::string keys = FLUYT_TRY(text_at(value, "keyType", at)); keys != "GPGKeys") {
      return Error(Code::kInvalidArgument,
                   cat(at.field("keyType").text, ": ", quote(keys), ": expected GPGKeys"));
    }
  } else if (type == "sigstoreSigned") {
    for (const char* name : {"fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyPaths",
                             "rekorPublicKeyData", "rekorPublicKeyDatas"}) {
      if (!value.contains(name)) continue;
      return Error(Code::kInvalidArgument, cat(at.field(name).text,
                                               ": is not done: expected keyPath, keyPaths, keyData "
                                               "or keyDatas"));
    }
    FLUYT_TRY(
        only(value, {"type", "keyPath", "keyPaths", "keyData", "keyDatas", "signedIdentity"}, at));
    out.kind = Kind::kSigstoreSigned;
  } else {
    return Error(Code::kInvalidArgument,
                 cat(at.field("type").text, ": ", quote(type),
                     ": expected insecureAcceptAnything, reject, signedBy or sigstoreSigned"));
  }
  FLUYT_TRY(read_keys(value, at, out));
  if (const auto identity = value.find("signedIdentity");
      identity != value.end() && !identity->is_null()) {
    out.identity = FLUYT_TRY(read_identity(*identity, at.field("signedIdentity")));
  }
  return out;
}

Result<std::vector<Requirement>> read_requirements(const Json& value, const At& at) {
  if (!value.is_array() || value.empty() || value.size() > kMaxRequirements) {
    return at.expected(cat("an array of 1 to ", kMaxRequirements, " requirements"));
  }
  std::vector<Requirement> out;
  for (size_t i = 0; i < value.size(); ++i) {
    out.push_back(FLUYT_TRY(read_requirement(value[i], at.index(i))));
  }
  return out;
}

// "host[:port][/path][:tag][@digest]", "*.domain" or "".
Result<> check_docker_scope(const std::string& scope, const At& at) {
  if (scope.empty()) return {};
  const bool wildcard = scope.starts_with("*.");
  const bool bad = scope.find('*', wildcard ? 1 : 0) != std::string::npos ||
                   (wildcard && scope.find('/') != std::string::npos) || scope.ends_with('/') ||
                   has_control_characters(scope) || scope.find(' ') != std::string::npos;
  if (bad) return at.expected("host[:port][/repository][:tag], *.domain or \"\"");
  return {};
}

}  // namespace

std::string_view name_of(Requirement::Kind kind) {
  switch (kind) {
    case Requirement::Kind::kAccept:
      return "insecureAcceptAnything";
    case Requirement::Kind::kReject:
      return "reject";
    case Requirement::Kind::kSignedBy:
      return "signedBy";
    case Requirement::Kind::kSigstoreSigned:
      return "sigstoreSigned";
  }
  return "";
}

Result<Policy> parse_policy(std::string_view text, const std::string& file) {
  const Json document = FLUYT_TRY(parse_json(text, file));
  const At top{cat(file, ": policy")};
  FLUYT_TRY(only(document, {"default", "transports"}, top));
  Policy out;
  if (!document.contains("default")) return At{cat(file, ": default")}.expected("requirements");
  out.fallback = FLUYT_TRY(read_requirements(document["default"], {cat(file, ": default")}));
  const auto transports = document.find("transports");
  if (transports == document.end() || transports->is_null()) return out;
  const At at{cat(file, ": transports")};
  if (!transports->is_object()) return at.expected("an object");
  for (const auto& [transport, scopes] : transports->items()) {
    const At here = at.field(transport);
    if (!scopes.is_object()) return here.expected("an object");
    if (scopes.size() > kMaxScopes) return here.expected(cat("at most ", kMaxScopes, " scopes"));
    for (const auto& [scope, value] : scopes.items()) {
      auto requirements = FLUYT_TRY(read_requirements(value, here.key(scope)));
      if (transport != "docker") continue;
      FLUYT_TRY(check_docker_scope(scope, here.key(scope)));
      out.docker[scope] = std::move(requirements);
    }
  }
  return out;
}

Scope scope_for(const Policy& policy, const oci::Reference& reference) {
  const auto find = [&](const std::string& scope) -> std::optional<Scope> {
    const auto found = policy.docker.find(scope);
    if (found == policy.docker.end()) return std::nullopt;
    return Scope{cat("transports.docker[", quote(scope), "]"), &found->second};
  };
  std::vector<std::string> scopes{reference.text()};
  std::string name = reference.name();
  while (true) {
    scopes.push_back(name);
    const size_t slash = name.rfind('/');
    if (slash == std::string::npos) break;
    name.resize(slash);
  }
  // The host is left. Its wildcards speak of names without a port.
  std::string_view host = std::string_view(name).substr(0, name.rfind(':'));
  if (name.ends_with(']')) host = name;
  for (size_t dot = host.find('.'); dot != std::string_view::npos; dot = host.find('.')) {
    host.remove_prefix(dot + 1);
    scopes.push_back(cat("*.", host));
  }
  scopes.emplace_back();
  for (const std::string& scope : scopes) {
    if (auto found = find(scope)) return *found;
  }
  return {"default", &policy.fallback};
}

}  // namespace fluyt::image::policy
