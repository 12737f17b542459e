#include "image/auth/user_credentials.h"

#include <optional>

#include "base/strings.h"
#include "image/auth/auth_file.h"
#include "image/auth/credential_helper.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr int64_t kHelperMs = 60'000;  // it may ask the person for a passphrase

std::string value_of(const std::vector<std::string>& env, std::string_view name) {
  for (const std::string& line : env) {
    if (line.starts_with(name) && line.substr(name.size(), 1) == "=") {
      return line.substr(name.size() + 1);
    }
  }
  return {};
}

std::vector<std::string> files_for(const std::vector<std::string>& env) {
  if (const std::string one = value_of(env, "REGISTRY_AUTH_FILE"); !one.empty()) return {one};
  const std::string home = value_of(env, "HOME");
  std::vector<std::string> out;
  if (const std::string docker = value_of(env, "DOCKER_CONFIG"); !docker.empty()) {
    out.push_back(docker + "/config.json");
  } else if (!home.empty()) {
    out.push_back(home + "/.docker/config.json");
  }
  if (const std::string run = value_of(env, "XDG_RUNTIME_DIR"); !run.empty()) {
    out.push_back(run + "/containers/auth.json");
  }
  if (const std::string config = value_of(env, "XDG_CONFIG_HOME"); !config.empty()) {
    out.push_back(config + "/containers/auth.json");
  } else if (!home.empty()) {
    out.push_back(home + "/.config/containers/auth.json");
  }
  return out;
}

Result<std::optional<Credentials>> find_in(const AuthFile& file, const oci::Reference& reference,
                                           const std::vector<std::string>& env) {
  const auto ask = [&](const std::string& helper) {
    return ask_helper(helper, reference.registry, value_of(env, "PATH"), env,
                      Deadline::after_ms(kHelperMs));
  };
  if (const auto own = file.helpers.find(reference.registry); own != file.helpers.end()) {
    return ask(own->second);
  }
  if (const auto* found = file.auths.find(reference.registry, reference.repository)) {
    return std::optional<Credentials>(*found);
  }
  if (!file.store.empty()) return ask(file.store);
  return std::optional<Credentials>();
}

}  // namespace

Result<Credentials> find_user_credentials(const oci::Reference& reference,
                                          const std::vector<std::string>& env) {
  for (const std::string& path : files_for(env)) {
    auto text = sys::read_file(path, kMaxAuthFileBytes);
    if (!text.ok()) {
      if (text.error().code() == Code::kNotFound) continue;
      return std::move(text).error();
    }
    const AuthFile file = FLUYT_TRY(parse_auth_file(*text, path));
    FLUYT_TRY(file.check(reference.registry));
    auto found = find_in(file, reference, env);
    if (!found.ok()) return std::move(found).error().add_context(path);
    if (!found->has_value()) continue;
    Credentials out = std::move(**found);
    out.server_address = reference.registry;
    return out;
  }
  return Credentials{};
}

}  // namespace fluyt::image
