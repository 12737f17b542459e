#include "image/policy/lookaside.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::image::policy {

namespace {

constexpr size_t kMaxFiles = 256;
constexpr size_t kMaxScopes = 10'000;

struct Line {
  size_t number = 0;
  size_t indent = 0;
  std::string key;
  std::string value;
};

struct Reader {
  const std::string& file;

  Error wrong(size_t number, std::string_view what) const {
    return Error(Code::kInvalidArgument, cat(file, ":", number, ": ", what));
  }

  // A plain or quoted text at the start of `text`, which it leaves; `stop` ends a plain one.
  Result<std::string> take_text(std::string_view& text, std::string_view stop,
                                size_t number) const {
    if (text.starts_with('"') || text.starts_with('\'')) {
      const size_t end = text.find(text.front(), 1);
      if (end == std::string_view::npos ||
          text.substr(0, end).find('\\') != std::string_view::npos) {
        return wrong(number, "expected a quoted text that ends in its line, without \\");
      }
      std::string out(text.substr(1, end - 1));
      text.remove_prefix(end + 1);
      return out;
    }
    if (!text.empty() &&
        std::string_view("[]{}&*!|>%@`-?#").find(text.front()) != std::string_view::npos) {
      return wrong(number, "expected a plain text: \"key: value\" and nothing else of YAML");
    }
    const size_t end = stop.empty() ? text.size() : std::min(text.find(stop), text.size());
    std::string out(trim(text.substr(0, end)));
    text.remove_prefix(end);
    return out;
  }

  Result<std::optional<Line>> read(std::string_view raw, size_t number) const {
    if (raw.find('\t') != std::string_view::npos || has_control_characters(trim(raw))) {
      return wrong(number, "tabs and control characters are not taken");
    }
    if (raw.starts_with("---") || trim(raw).empty() || trim(raw).starts_with('#')) {
      return std::optional<Line>();
    }
    Line out;
    out.number = number;
    out.indent = raw.find_first_not_of(' ');
    std::string_view rest = trim(raw);
    if (const size_t comment = rest.find(" #"); comment != std::string_view::npos) {
      rest = trim(rest.substr(0, comment));
    }
    // A key may hold a port: it ends at a colon with a space or nothing behind it.
    std::string_view stop = rest.find(": ") != std::string_view::npos ? ": " : ":";
    if (stop == ":" && !rest.ends_with(':'))
      return wrong(number, "expected \"key:\" or \"key: value\"");
    if (stop == ":") {
      rest.remove_suffix(1);
      out.key = FLUYT_TRY(take_text(rest, "", number));
      if (!trim(rest).empty()) return wrong(number, "expected a colon behind the key");
    } else {
      out.key = FLUYT_TRY(take_text(rest, stop, number));
      if (!rest.starts_with(':')) return wrong(number, "expected a colon behind the key");
      rest = trim(rest.substr(1));
      out.value = FLUYT_TRY(take_text(rest, "", number));
      if (!trim(rest).empty()) return wrong(number, "expected the line to end behind the value");
    }
    return std::optional<Line>(std::move(out));
  }
};

bool is_base(std::string_view url) {
  return url.starts_with("https://") || url.starts_with("http://") || url.starts_with("file:///");
}

}  // namespace

Result<> read_lookaside(std::string_view yaml, const std::string& file, Lookaside& out) {
  const Reader reader{file};
  std::string section;
  std::string scope;
  size_t scope_indent = 0;
  size_t number = 0;
  if (yaml.size() > kMaxLookasideBytes) {
    return reader.wrong(1, cat("expected at most ", kMaxLookasideBytes, " bytes"));
  }
  for (const std::string_view raw : split(yaml, '\n')) {
    ++number;
    auto line = reader.read(raw.ends_with('\r') ? raw.substr(0, raw.size() - 1) : raw, number);
    if (!line.ok()) return std::move(line).error();
    if (!line->has_value()) continue;
    const Line& at = **line;
    if (at.indent == 0) {
      section = at.key;
      scope.clear();
      scope_indent = 0;
      if ((section != "docker" && section != "default-docker") ||
          (!at.value.empty() && at.value != "{}")) {
        return reader.wrong(number, cat(quote(at.key), ": expected default-docker: or docker:"));
      }
      continue;
    }
    if (section == "docker" && at.value.empty() &&
        (scope_indent == 0 || at.indent <= scope_indent)) {
      scope = at.key;
      scope_indent = at.indent;
      continue;
    }
    const bool in_scope =
        section == "default-docker" || (!scope.empty() && at.indent > scope_indent);
    if (!in_scope) return reader.wrong(number, "expected a scope before this");
    if (at.key == "lookaside-staging" || at.key == "sigstore-staging" ||
        at.key == "use-sigstore-attachments") {
      continue;
    }
    if (at.key != "lookaside" && at.key != "sigstore") {
      return reader.wrong(number, cat(quote(at.key),
                                      ": expected lookaside, lookaside-staging or "
                                      "use-sigstore-attachments"));
    }
    if (!is_base(at.value)) {
      return reader.wrong(
          number, cat(at.key, ": ", quote(at.value), ": expected a URL of https, http or file"));
    }
    std::string& place = section == "docker" ? out.docker[scope] : out.fallback;
    if (!place.empty() && at.key == "lookaside") place.clear();  // the newer name wins
    if (place.empty()) place = at.value;
    if (out.docker.size() > kMaxScopes) return reader.wrong(number, "too many scopes");
  }
  return {};
}

Result<Lookaside> read_lookaside_folder(const std::string& folder) {
  Lookaside out;
  if (folder.empty() || !sys::exists(folder)) return out;
  const auto names = FLUYT_TRY(sys::list_dir(folder));
  size_t count = 0;
  for (const std::string& name : names) {
    if (!name.ends_with(".yaml")) continue;
    if (++count > kMaxFiles) {
      return Error(Code::kInvalidArgument, cat(folder, ": expected at most ", kMaxFiles, " files"));
    }
    const std::string path = cat(folder, "/", name);
    const std::string text = FLUYT_TRY(sys::read_file(path, kMaxLookasideBytes));
    FLUYT_TRY(read_lookaside(text, path, out));
  }
  return out;
}

std::string signatures_url(const Lookaside& lookaside, const oci::Reference& reference,
                           const oci::Digest& manifest) {
  std::string base;
  std::string scope = reference.name();
  while (true) {
    const auto found = lookaside.docker.find(scope);
    if (found != lookaside.docker.end()) {
      base = found->second;
      break;
    }
    const size_t slash = scope.rfind('/');
    if (slash == std::string::npos) break;
    scope.resize(slash);
  }
  if (base.empty()) base = lookaside.fallback;
  if (base.empty()) return {};
  while (base.ends_with('/')) base.pop_back();
  return cat(base, "/", reference.repository, "@", manifest.algorithm(), "=", manifest.hex());
}

}  // namespace fluyt::image::policy
