#include "image/auth/auth_file.h"

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "image/auth/credential_helper.h"

namespace fluyt::image {

namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 32;
constexpr size_t kMaxEntries = 10'000;

// Errors of the library quote the text, which holds passwords: only the position is taken over.
Result<Json> parse_text(std::string_view text, const std::string& file) {
  if (text.size() > kMaxAuthFileBytes) {
    return Error(Code::kInvalidArgument,
                 cat(file, ": ", text.size(), " bytes: at most ", kMaxAuthFileBytes, " are read"));
  }
  bool too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return depth <= kMaxDepth;
  };
  Json out = Json::parse(text, watch, false);
  if (too_deep) {
    return Error(Code::kInvalidArgument, cat(file, ": deeper than ", kMaxDepth, " levels"));
  }
  if (out.is_discarded() || !out.is_object()) {
    return Error(Code::kInvalidArgument, cat(file, ": expected a JSON object"));
  }
  return out;
}

Error wrong(const std::string& file, std::string_view key, std::string_view what) {
  return Error(Code::kInvalidArgument, cat(file, ": ", key, ": expected ", what));
}

Result<std::string> text_of(const Json& entry, const char* name, const std::string& file,
                            std::string_view key) {
  const auto found = entry.find(name);
  if (found == entry.end() || found->is_null()) return std::string();
  if (!found->is_string()) return wrong(file, cat(key, ".", name), "a string");
  return found->get<std::string>();
}

Result<Credentials> entry_of(const Json& entry, const std::string& file, std::string_view key) {
  if (!entry.is_object()) return wrong(file, key, "an object");
  Credentials out;
  out.username = FLUYT_TRY(text_of(entry, "username", file, key));
  out.password = FLUYT_TRY(text_of(entry, "password", file, key));
  const std::string auth = FLUYT_TRY(text_of(entry, "auth", file, key));
  if (!auth.empty() && out.username.empty()) {
    FLUYT_TRY_CONTEXT(set_from_basic(auth, out), cat(file, ": ", key, ".auth"));
  }
  if (std::string token = FLUYT_TRY(text_of(entry, "identitytoken", file, key)); !token.empty()) {
    out.identity_token = std::move(token);
  }
  out.registry_token = FLUYT_TRY(text_of(entry, "registrytoken", file, key));
  return out;
}

std::string host_of(std::string_view key) { return to_lower(host_of_address(key)); }

// Of `docker login` by a browser: for Docker Hub's own API and not for its registry.
bool is_docker_token(std::string_view key) {
  return host_of(key) == "docker.io" &&
         (key.ends_with("/access-token") || key.ends_with("/refresh-token"));
}

Result<> read_auth(const Json& value, const std::string& key, const std::string& file,
                   CredentialTable& out) {
  Credentials credentials = FLUYT_TRY(entry_of(value, file, cat("auths[", quote(key), "]")));
  if (credentials.empty()) return {};
  FLUYT_TRY_CONTEXT(out.add_or_prefer(key, std::move(credentials)), cat(file, ": auths"));
  return {};
}

Result<> read_auths(const Json& auths, const std::string& file, AuthFile& out) {
  if (!auths.is_object()) return wrong(file, "auths", "an object");
  if (auths.size() > kMaxEntries) return wrong(file, "auths", cat("at most ", kMaxEntries));
  for (const auto& [key, value] : auths.items()) {
    if (is_docker_token(key)) continue;
    const auto read = read_auth(value, key, file, out.auths);
    if (!read.ok()) out.broken.emplace(host_of(key), read.error().message());
  }
  return {};
}

Result<std::string> helper_of(const Json& value, const std::string& file, std::string_view key) {
  if (!value.is_string()) return wrong(file, key, "a string");
  auto name = value.get<std::string>();
  if (!is_helper_name(name)) {
    return wrong(file, key, "the last part of a program's name, docker-credential-X");
  }
  return name;
}

}  // namespace

Result<> AuthFile::check(std::string_view registry) const {
  const auto found = broken.find(host_of(registry));
  if (found == broken.end()) return {};
  return Error(Code::kInvalidArgument, found->second);
}

Result<AuthFile> parse_auth_file(std::string_view text, const std::string& file) {
  AuthFile out;
  if (trim(text).empty()) return out;
  const Json document = FLUYT_TRY(parse_text(text, file));
  if (const auto auths = document.find("auths"); auths != document.end() && !auths->is_null()) {
    FLUYT_TRY(read_auths(*auths, file, out));
  }
  if (const auto helpers = document.find("credHelpers");
      helpers != document.end() && !helpers->is_null()) {
    if (!helpers->is_object()) return wrong(file, "credHelpers", "an object");
    for (const auto& [host, value] : helpers->items()) {
      auto helper = helper_of(value, file, cat("credHelpers[", quote(host), "]"));
      if (helper.ok()) {
        out.helpers[std::string(host_of_address(host))] = std::move(*helper);
      } else {
        out.broken.emplace(host_of(host), helper.error().message());
      }
    }
  }
  if (const auto store = document.find("credsStore"); store != document.end() && *store != "") {
    if (!store->is_null()) out.store = FLUYT_TRY(helper_of(*store, file, "credsStore"));
  }
  return out;
}

}  // namespace fluyt::image
