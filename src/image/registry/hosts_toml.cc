#include "image/registry/hosts_toml.h"

#include <algorithm>
#include <cmath>
#include <set>

// The library asserts what its own error handling behind it takes care of: "[" at the end of a line
// would end the daemon.
#define TOML_ASSERT(expression) static_cast<void>(0)
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/strings.h"
#include "image/registry/url.h"

namespace fluyt::image::registry {

namespace {

constexpr size_t kMaxHosts = 64;

// Carries "file: host."url"" so that each error names its key whole.
struct Place {
  std::string text;
  Place key(std::string_view name) const { return {cat(text, text.empty() ? "" : ".", name)}; }
  Error bad(const std::string& file, std::string_view what) const {
    return Error(Code::kInvalidArgument, cat(file, ": ", text, ": ", what));
  }
};

struct Reader {
  const std::string& file;
  const std::string& folder;

  std::string beside(const std::string& path) const {
    return path.starts_with('/') ? path : cat(folder, "/", path);
  }

  Result<std::string> text(const toml::node& node, const Place& at) const {
    const auto* value = node.as_string();
    if (value == nullptr) return at.bad(file, "expected a string");
    if (has_control_characters(value->get())) {
      return at.bad(file, cat(quote(value->get()), ": holds control characters"));
    }
    return value->get();
  }

  Result<bool> flag(const toml::node& node, const Place& at) const {
    const auto* value = node.as_boolean();
    if (value == nullptr) return at.bad(file, "expected true or false");
    return value->get();
  }

  // A string, or an array of strings.
  Result<std::vector<std::string>> texts(const toml::node& node, const Place& at) const {
    std::vector<std::string> out;
    const toml::array* list = node.as_array();
    if (list == nullptr) {
      out.push_back(FLUYT_TRY(text(node, at)));
      return out;
    }
    for (const toml::node& item : *list) out.push_back(FLUYT_TRY(text(item, at)));
    return out;
  }

  Result<Capabilities> capabilities(const toml::node& node, const Place& at) const {
    Capabilities out{false, false, false};
    const auto names = FLUYT_TRY(texts(node, at));
    if (names.empty()) return Capabilities{};  // an empty list is none given
    for (const std::string& written : names) {
      const std::string name = to_lower(written);
      if (name == "pull") {
        out.pull = true;
      } else if (name == "resolve") {
        out.resolve = true;
      } else if (name == "push") {
        out.push = true;
      } else if (name != "referrers") {  // known to containerd; says nothing about pulling
        return at.bad(file, cat(quote(name), ": expected pull, resolve, push or referrers"));
      }
    }
    return out;
  }

  // "file", ["file", ...] or [["cert", "key"], ...]. curl offers one certificate a connection: the
  // first.
  Result<> client(const toml::node& node, const Place& at, HostEntry& out) const {
    std::vector<std::vector<std::string>> pairs;
    const toml::array* list = node.as_array();
    if (list == nullptr) {
      pairs.push_back({FLUYT_TRY(text(node, at))});
    } else {
      for (const toml::node& item : *list) pairs.push_back(FLUYT_TRY(texts(item, at)));
    }
    for (const auto& pair : pairs) {
      if (!pair.empty() && pair.size() <= 2) continue;
      return at.bad(file, "expected client certificates: \"file\" or [[\"certificate\", \"key\"]]");
    }
    if (pairs.empty()) return {};
    out.client_cert = beside(pairs[0][0]);
    out.client_key = pairs[0].size() == 2 ? beside(pairs[0][1]) : "";
    return {};
  }

  Result<> header(const toml::node& node, const Place& at, HostEntry& out) const {
    const toml::table* table = node.as_table();
    if (table == nullptr) return at.bad(file, "expected a table of header names");
    for (const auto& [key, value] : *table) {
      const Place place = at.key(key.str());
      const std::string_view name = key.str();
      if (name.empty() || name.find_first_of(" :\t") != std::string_view::npos ||
          has_control_characters(name)) {
        return place.bad(file, "is not the name of a header");
      }
      const auto values = FLUYT_TRY(texts(value, place));
      for (const std::string& one : values) out.headers.emplace_back(name, one);
    }
    return {};
  }

  Result<int64_t> duration(const toml::node& node, const Place& at) const {
    const std::string value = FLUYT_TRY(text(node, at));
    return FLUYT_TRY_CONTEXT(parse_go_duration_ms(value), cat(file, ": ", at.text));
  }

  // Whether `key` belongs to an entry; then it is read.
  Result<bool> entry_key(std::string_view key, const toml::node& node, const Place& at,
                         HostEntry& out) const {
    if (key == "capabilities") {
      out.capabilities = FLUYT_TRY(capabilities(node, at));
    } else if (key == "ca") {
      const auto files = FLUYT_TRY(texts(node, at));
      for (const std::string& path : files) out.ca.push_back(beside(path));
    } else if (key == "client") {
      FLUYT_TRY(client(node, at, out));
    } else if (key == "skip_verify") {
      out.skip_verify = FLUYT_TRY(flag(node, at));
    } else if (key == "override_path") {
      out.override_path = FLUYT_TRY(flag(node, at));
    } else if (key == "registry_login") {
      out.registry_login = FLUYT_TRY(flag(node, at));
    } else if (key == "dial_timeout") {
      out.dial_timeout_ms = FLUYT_TRY(duration(node, at));
    } else if (key == "header") {
      FLUYT_TRY(header(node, at, out));
    } else {
      return false;
    }
    return true;
  }

  Result<std::string> url(std::string text_of_url, const Place& at) const {
    if (text_of_url.find("://") == std::string::npos) text_of_url.insert(0, "https://");
    auto parsed = Url::parse(text_of_url);
    if (!parsed.ok()) return at.bad(file, parsed.error().message());
    if (!parsed->query.empty()) return at.bad(file, "a query (?...) is not taken here");
    return text_of_url;
  }

  Result<HostEntry> host(std::string_view name, const toml::node& node) const {
    const Place at{cat("host.\"", name, "\"")};
    const toml::table* table = node.as_table();
    if (table == nullptr) return at.bad(file, "expected a table");
    HostEntry out;
    out.url = FLUYT_TRY(url(std::string(name), at));
    for (const auto& [key, value] : *table) {
      const Place place = at.key(key.str());
      if (!FLUYT_TRY(entry_key(key.str(), value, place, out))) {
        return place.bad(file,
                         "unknown key: expected capabilities, ca, client, skip_verify, header, "
                         "override_path, dial_timeout or registry_login");
      }
    }
    return out;
  }

  // Tables keep no order in the parser's map; the place in the file does.
  Result<std::vector<HostEntry>> hosts(const toml::node& node) const {
    const Place at{"host"};
    const toml::table* table = node.as_table();
    if (table == nullptr) return at.bad(file, "expected tables [host.\"https://...\"]");
    if (table->size() > kMaxHosts) return at.bad(file, cat("more than ", kMaxHosts, " hosts"));
    std::vector<std::pair<toml::source_position, HostEntry>> found;
    for (const auto& [key, value] : *table) {
      found.emplace_back(value.source().begin, FLUYT_TRY(host(key.str(), value)));
    }
    std::sort(found.begin(), found.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<HostEntry> out;
    for (auto& [position, entry] : found) out.push_back(std::move(entry));
    return out;
  }

  Result<HostsToml> whole(const toml::table& root) const {
    HostsToml out;
    HostEntry server;
    bool server_given = false;
    for (const auto& [key, value] : root) {
      const Place at{std::string(key.str())};
      if (key.str() == "host") {
        out.hosts = FLUYT_TRY(hosts(value));
      } else if (key.str() == "server") {
        server.url = FLUYT_TRY(url(FLUYT_TRY(text(value, at)), at));
        server_given = true;
      } else if (FLUYT_TRY(entry_key(key.str(), value, at, server))) {
        server_given = true;
      } else {
        return at.bad(file,
                      "unknown key: expected server, host, capabilities, ca, client, skip_verify, "
                      "header, override_path, dial_timeout or registry_login");
      }
    }
    if (server_given) out.server = std::move(server);
    return out;
  }
};

// toml++ 3.3 runs into undefined behaviour or an assertion where such bytes stand for a bare key:
// outside ASCII (its tables of Unicode letters end in an unreachable branch) and control
// characters. So they never reach it: in lines of comment they say nothing, anywhere else they are
// refused.
Result<std::string> only_text(std::string_view text, const std::string& file) {
  std::string out;
  size_t number = 0;
  for (const std::string_view line : split(text, '\n')) {
    const bool is_comment = trim(line).starts_with('#');
    if (number++ > 0) out += '\n';
    for (const char c : line) {
      const bool is_plain = (c >= ' ' && c <= '~') || c == '\t' || c == '\r';
      if (!is_plain && !is_comment) {
        return Error(Code::kInvalidArgument,
                     cat(file, ": line ", number, ": ", quote(line),
                         ": expected plain ASCII text outside lines of comment"));
      }
      out += is_plain ? c : '?';
    }
  }
  return out;
}

}  // namespace

Result<HostsToml> parse_hosts_toml(std::string_view text, const std::string& file,
                                   const std::string& folder) {
  if (text.size() > kMaxHostsTomlBytes) {
    return Error(Code::kInvalidArgument,
                 cat(file, ": ", text.size(), " bytes: at most ", kMaxHostsTomlBytes, " are read"));
  }
  const toml::parse_result parsed = toml::parse(FLUYT_TRY(only_text(text, file)), file);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return Error(Code::kInvalidArgument,
                 cat(file, ": line ", error.source().begin.line, ": ", quote(error.description())));
  }
  return Reader{file, folder}.whole(parsed.table());
}

Result<int64_t> parse_go_duration_ms(std::string_view text) {
  const auto bad = [&] {
    return Error(Code::kInvalidArgument,
                 cat(quote(text), ": expected a duration such as \"5s\", \"500ms\" or \"1m30s\""));
  };
  constexpr double kMaxMs = 24.0 * 3600 * 1000;
  if (text.empty() || text.size() > 32) return bad();
  double total_ms = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t digits = std::min(rest.find_first_not_of("0123456789."), rest.size());
    double number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + digits, number);
    if (error != std::errc() || end != rest.data() + digits) return bad();
    rest.remove_prefix(digits);
    const std::string_view unit =
        rest.substr(0, std::min(rest.find_first_of("0123456789."), rest.size()));
    rest.remove_prefix(unit.size());
    if (unit == "ms") {
      total_ms += number;
    } else if (unit == "s") {
      total_ms += number * 1000;
    } else if (unit == "m") {
      total_ms += number * 60'000;
    } else if (unit == "h") {
      total_ms += number * 3'600'000;
    } else {
      return bad();
    }
  }
  if (!(total_ms >= 1) || total_ms > kMaxMs) return bad();
  return static_cast<int64_t>(total_ms);
}

}  // namespace fluyt::image::registry
