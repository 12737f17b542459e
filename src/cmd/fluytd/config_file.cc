#include <functional>
#include <map>

// toml++ without exceptions, which its shared library is not built for: here alone, and whole.
#define TOML_HEADER_ONLY 1
// The library asserts what its own error handling behind it takes care of.
#define TOML_ASSERT(expression) static_cast<void>(0)
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/strings.h"
#include "oci/reference.h"
#include "settings.h"
#include "sys/file.h"

namespace fluyt::daemon {
namespace {

constexpr size_t kMaxConfigBytes = 1UL << 20U;
constexpr size_t kMaxPasswordBytes = 64UL << 10U;

/// Puts one key's value into the settings; an error says what was expected.
using Setter = std::function<Result<>(const toml::node&)>;

Error expected(std::string_view what) {
  return Error(Code::kInvalidArgument, cat("expected ", what));
}

Setter words(std::string& to) {
  return [&to](const toml::node& node) -> Result<> {
    const auto value = node.value_exact<std::string>();
    if (!value) return expected("a string");
    to = *value;
    return {};
  };
}

Setter absolute_path(std::string& to) {
  return [&to](const toml::node& node) -> Result<> {
    const auto value = node.value_exact<std::string>();
    if (!value || !value->starts_with('/')) return expected("an absolute path");
    to = *value;
    return {};
  };
}

Setter paths(std::vector<std::string>& to) {
  return [&to](const toml::node& node) -> Result<> {
    const toml::array* values = node.as_array();
    if (values == nullptr) return expected("a list of absolute paths");
    to.clear();
    for (const toml::node& item : *values) {
      const auto value = item.value_exact<std::string>();
      if (!value || !value->starts_with('/')) return expected("a list of absolute paths");
      to.push_back(*value);
    }
    return {};
  };
}

Setter image_patterns(std::vector<std::string>& to) {
  return [&to](const toml::node& node) -> Result<> {
    const toml::array* values = node.as_array();
    if (values == nullptr) return expected("a list of image names");
    to.clear();
    for (const toml::node& item : *values) {
      const auto value = item.value_exact<std::string>();
      if (!value) return expected("a list of image names");
      const bool is_start = value->ends_with('*') && value->find('*') + 1 == value->size();
      if (!is_start) {
        const auto reference = oci::Reference::parse(*value);
        if (!reference.ok()) {
          return expected(cat("image names, or starts of them with a '*' behind: ",
                              reference.error().message()));
        }
      }
      to.push_back(*value);
    }
    return {};
  };
}

Setter count(size_t& to, int64_t most) {
  return [&to, most](const toml::node& node) -> Result<> {
    const auto value = node.value_exact<int64_t>();
    if (!value || *value < 1 || *value > most) return expected(cat("a number from 1 to ", most));
    to = static_cast<size_t>(*value);
    return {};
  };
}

Setter keep_blobs(image::KeepBlobs& to) {
  return [&to](const toml::node& node) -> Result<> {
    const auto value = node.value_exact<std::string>();
    if (value == "never") {
      to = image::KeepBlobs::kNever;
    } else if (value == "pushable") {
      to = image::KeepBlobs::kPushable;
    } else if (value == "always") {
      to = image::KeepBlobs::kAlways;
    } else {
      return expected(R"("never", "pushable" or "always")");
    }
    return {};
  };
}

// A word that `parse` knows.
template <class Value>
Setter one_of(Value& to, Result<Value> (*parse)(std::string_view)) {
  return [&to, parse](const toml::node& node) -> Result<> {
    const auto value = node.value_exact<std::string>();
    if (!value) return expected("a string");
    to = FLUYT_TRY(parse(*value));
    return {};
  };
}

Setter level(LogLevel& to) {
  return [&to](const toml::node& node) -> Result<> {
    const auto value = node.value_exact<std::string>();
    if (!value) return expected("a string");
    to = FLUYT_TRY(parse_log_level(*value));
    return {};
  };
}

/// One entry of image.credentials. A password is better kept in a file of its own (password_file)
/// than in a configuration that many may read. Errors show no value.
Result<> add_credentials(const toml::node& node, image::CredentialTable& to) {
  const toml::table* table = node.as_table();
  if (table == nullptr) return expected("tables [[image.credentials]]");
  std::string match;
  std::string password_file;
  image::Credentials credentials;
  const std::map<std::string_view, std::string*> known = {
      {"match", &match},
      {"username", &credentials.username},
      {"password", &credentials.password},
      {"password_file", &password_file},
      {"identity_token", &credentials.identity_token},
      {"registry_token", &credentials.registry_token}};
  for (const auto& [key, value] : *table) {
    const auto found = known.find(key.str());
    if (found == known.end()) {
      return Error(Code::kInvalidArgument,
                   cat(quote(key.str()),
                       ": expected match, username, password, password_file, "
                       "identity_token or registry_token"));
    }
    const auto text = value.value_exact<std::string>();
    if (!text) return expected("a string").add_context(key.str());
    *found->second = *text;
  }
  if (!password_file.empty()) {
    if (!credentials.password.empty()) return expected("password or password_file, not both");
    const std::string text =
        FLUYT_TRY_CONTEXT(sys::read_file(password_file, kMaxPasswordBytes), "password_file");
    credentials.password = std::string(trim(text));
  }
  if (credentials.empty()) return expected("a username and password, or a token");
  return to.add(match, std::move(credentials));
}

Setter credentials(image::CredentialTable& to) {
  return [&to](const toml::node& node) -> Result<> {
    const toml::array* entries = node.as_array();
    if (entries == nullptr) return expected("tables [[image.credentials]]");
    size_t number = 0;
    for (const toml::node& entry : *entries) {
      FLUYT_TRY_CONTEXT(add_credentials(entry, to), cat("[", number, "]"));
      ++number;
    }
    return {};
  };
}

/// A table of names with lists of digests.
Setter pins(image::policy::DigestPins& to) {
  return [&to](const toml::node& node) -> Result<> {
    const toml::table* table = node.as_table();
    if (table == nullptr) return expected("a table of names, each with a list of digests");
    for (const auto& [key, value] : *table) {
      const std::string name(key.str());
      std::vector<std::string> digests;
      const toml::array* list = value.as_array();
      if (list == nullptr || list->empty()) {
        return expected("a list of digests").add_context(quote(name));
      }
      for (const toml::node& item : *list) {
        const auto text = item.value_exact<std::string>();
        if (!text) return expected("a list of digests").add_context(quote(name));
        digests.push_back(*text);
      }
      FLUYT_TRY_CONTEXT(image::policy::add_pin(to, name, digests), quote(name));
    }
    return {};
  };
}

Setter flag(bool& to) {
  return [&to](const toml::node& node) -> Result<> {
    const auto value = node.value_exact<bool>();
    if (!value) return expected("true or false");
    to = *value;
    return {};
  };
}

Setter list_of_words(std::vector<std::string>& to) {
  return [&to](const toml::node& node) -> Result<> {
    const toml::array* values = node.as_array();
    if (values == nullptr) return expected("a list of strings");
    to.clear();
    for (const toml::node& item : *values) {
      const auto value = item.value_exact<std::string>();
      if (!value) return expected("a list of strings");
      to.push_back(*value);
    }
    return {};
  };
}

/// One [runtime.handlers.NAME].
Result<engine::RuntimeHandler> handler_of(const std::string& name, const toml::node& node) {
  const toml::table* table = node.as_table();
  if (table == nullptr) return expected("a table");
  engine::RuntimeHandler handler;
  handler.name = name;
  const std::map<std::string_view, Setter> known = {
      {"path", words(handler.path)},
      {"options", list_of_words(handler.options)},
      {"root", words(handler.root)},
      {"privileged_without_host_devices", flag(handler.privileged_without_host_devices)},
      {"annotations", list_of_words(handler.annotations)}};
  for (const auto& [key, value] : *table) {
    const auto setter = known.find(key.str());
    if (setter == known.end()) {
      return Error(Code::kInvalidArgument, cat(quote(key.str()),
                                               ": expected path, options, root, "
                                               "privileged_without_host_devices or annotations"));
    }
    FLUYT_TRY_CONTEXT(setter->second(value), key.str());
  }
  FLUYT_TRY(engine::check_handler(handler));
  return handler;
}

Setter handlers(std::vector<engine::RuntimeHandler>& to) {
  return [&to](const toml::node& node) -> Result<> {
    const toml::table* table = node.as_table();
    if (table == nullptr) return expected("tables [runtime.handlers.NAME]");
    for (const auto& [key, value] : *table) {
      const std::string name(key.str());
      to.push_back(FLUYT_TRY_CONTEXT(handler_of(name, value), quote(name)));
    }
    return {};
  };
}

/// A number of seconds, kept in milliseconds.
Setter seconds(int64_t& to_ms, int64_t most) {
  return [&to_ms, most](const toml::node& node) -> Result<> {
    const auto value = node.value_exact<int64_t>();
    if (!value || *value < 1 || *value > most) {
      return expected(cat("a number of seconds from 1 to ", most));
    }
    to_ms = *value * 1000;
    return {};
  };
}

Setter port(uint16_t& to) {
  return [&to](const toml::node& node) -> Result<> {
    const auto value = node.value_exact<int64_t>();
    if (!value || *value < 0 || *value > UINT16_MAX) {
      return expected("a port from 1 to 65535, or 0 for a free one");
    }
    to = static_cast<uint16_t>(*value);
    return {};
  };
}

Setter count_or_all(int& to) {
  return [&to](const toml::node& node) -> Result<> {
    const auto value = node.value_exact<int64_t>();
    if (!value || *value < -1 || *value > 1000) {
      return expected("a number from 0 to 1000, or -1 for all");
    }
    to = static_cast<int>(*value);
    return {};
  };
}

/// Every key that there is.
std::map<std::string, Setter, std::less<>> table_of(Settings& settings) {
  constexpr int64_t kMostFetches = 64;
  constexpr int64_t kMostIdleSeconds = 30LL * 24 * 3600;
  constexpr int64_t kMostConnections = 100'000;
  return {
      {"root", absolute_path(settings.root)},
      {"state", absolute_path(settings.state)},
      {"listen", words(settings.listen)},
      {"log_level", level(settings.log_level)},
      {"image.certs_dir", absolute_path(settings.certs_dir)},
      {"image.keep_blobs", keep_blobs(settings.keep_blobs)},
      {"image.layer_form", one_of(settings.layer_form, image::parse_layer_form)},
      {"image.root_driver", one_of(settings.root_driver, image::parse_root_driver)},
      {"image.credentials", credentials(settings.credentials)},
      {"image.auth_file", absolute_path(settings.auth_file)},
      {"image.policy_file", absolute_path(settings.verify.policy_file)},
      {"image.policy_dir", absolute_path(settings.verify.policy_folder)},
      {"image.registries_dir", absolute_path(settings.verify.lookaside_folder)},
      {"image.verifier_dir", absolute_path(settings.verify.programs.folder)},
      {"image.verifier_timeout", seconds(settings.verify.programs.timeout_ms, 3600)},
      {"image.max_verifiers", count_or_all(settings.verify.programs.max_programs)},
      {"image.pinned_digests", pins(settings.verify.pins)},
      {"image.pinned", image_patterns(settings.pinned_images)},
      {"image.parallel_fetches", count(settings.parallel_fetches, kMostFetches)},
      {"cri.streaming.address", words(settings.streaming.address)},
      {"cri.streaming.port", port(settings.streaming.port)},
      {"cri.streaming.tls_cert", absolute_path(settings.streaming.tls.certificate)},
      {"cri.streaming.tls_key", absolute_path(settings.streaming.tls.key)},
      {"cri.streaming.tls_client_ca", absolute_path(settings.streaming.tls.client_ca)},
      {"cri.streaming.idle_timeout", seconds(settings.streaming.idle_ms, kMostIdleSeconds)},
      {"cri.streaming.stream_creation_timeout", seconds(settings.streaming.streams_ms, 3600)},
      {"cri.streaming.max_connections",
       count(settings.streaming.max_connections, kMostConnections)},
      {"cni.conf_dir", absolute_path(settings.cni_conf_dir)},
      {"cni.bin_dirs", paths(settings.cni_bin_dirs)},
      {"network.builtin", flag(settings.network_builtin)},
      {"cdi_dirs", paths(settings.cdi_dirs)},
      {"cgroup.parent", absolute_path(settings.cgroup_parent)},
      {"cgroup.monitors", absolute_path(settings.monitor_cgroup_parent)},
      {"programs.monitor", absolute_path(settings.monitor_program)},
      {"programs.pod_init", absolute_path(settings.pod_init_program)},
      {"programs.gpgv", absolute_path(settings.verify.gpgv_program)},
      {"programs.unpack", absolute_path(settings.unpack_program)},
      {"runtime.default_handler", words(settings.default_handler)},
      {"runtime.handlers", handlers(settings.handlers)},
  };
}

std::string where(const std::string& path, const toml::source_region& source) {
  return cat(path, ":", source.begin.line);
}

/// Walks the file's tables, so that a key is looked up by its whole name.
Result<> apply(const std::string& path, const std::string& prefix, const toml::table& table,
               const std::map<std::string, Setter, std::less<>>& known) {
  for (const auto& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    const auto setter = known.find(name);
    if (setter != known.end()) {
      FLUYT_TRY_CONTEXT(setter->second(node), cat(where(path, key.source()), ": ", name));
      continue;
    }
    const auto below = known.lower_bound(name + ".");
    const bool is_section = below != known.end() && below->first.starts_with(name + ".");
    if (!is_section || !node.is_table()) {
      return Error(Code::kInvalidArgument,
                   cat(where(path, key.source()), ": ", quote(name),
                       is_section ? ": expected a table" : ": there is no such key"));
    }
    FLUYT_TRY(apply(path, name + ".", *node.as_table(), known));
  }
  return {};
}

/// The library's own reading of bytes outside ASCII and of control characters is not sound; no
/// value of ours needs them. In a comment they do no harm.
Result<std::string> plain_text(const std::string& path, std::string_view bytes) {
  std::string text;
  size_t number = 0;
  for (const std::string_view line : split(bytes, '\n')) {
    ++number;
    const bool is_comment = trim(line).starts_with('#');
    for (const char c : line) {
      const bool is_plain = (c >= ' ' && c <= '~') || c == '\t' || c == '\r';
      if (!is_plain && !is_comment) {
        return Error(
            Code::kInvalidArgument,
            cat(path, ":", number, ": expected plain ASCII text outside lines of comment"));
      }
      text += is_plain ? c : '?';
    }
    text += '\n';
  }
  return text;
}

}  // namespace

Result<> read_config(const std::string& path, Settings& settings) {
  const std::string bytes = FLUYT_TRY_CONTEXT(sys::read_file(path, kMaxConfigBytes), "--config");
  const std::string text = FLUYT_TRY(plain_text(path, bytes));
  const toml::parse_result parsed = toml::parse(text, path);
  if (!parsed) {
    return Error(Code::kInvalidArgument,
                 cat(where(path, parsed.error().source()), ": ", parsed.error().description()));
  }
  FLUYT_TRY(apply(path, "", parsed.table(), table_of(settings)));
  return streaming::check_options(settings.streaming);
}

}  // namespace fluyt::daemon
