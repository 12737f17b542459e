#include "oci/reference.h"

#include <algorithm>

#include "base/strings.h"

namespace fluyt::oci {
namespace {

constexpr std::string_view kDockerRegistry = "docker.io";
constexpr std::string_view kOldDockerRegistry = "index.docker.io";
constexpr std::string_view kDockerPrefix = "library/";
constexpr std::string_view kDefaultTag = "latest";
constexpr size_t kMaxNameBytes = 255;
constexpr size_t kMaxTagBytes = 128;
// Above name, tag and the longest digest there is nothing to read.
constexpr size_t kMaxReferenceBytes = kMaxNameBytes + kMaxTagBytes + 256;

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alnum(char c) { return is_lower(c) || is_upper(c) || is_digit(c); }
bool is_lower_alnum(char c) { return is_lower(c) || is_digit(c); }

Error wrong(std::string_view part, std::string_view value, std::string_view expected) {
  return {Code::kInvalidArgument, cat(part, " ", quote(value), ": expected ", expected)};
}

bool is_hex_id(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return is_digit(c) || (c >= 'a' && c <= 'f');
         });
}

bool is_host_label(std::string_view label) {
  return !label.empty() && is_alnum(label.front()) && is_alnum(label.back()) &&
         std::all_of(label.begin(), label.end(), [](char c) { return is_alnum(c) || c == '-'; });
}

bool is_host_name(std::string_view host) {
  const auto labels = split(host, '.');
  return std::all_of(labels.begin(), labels.end(), is_host_label);
}

bool is_bracketed_ipv6(std::string_view host) {
  if (host.size() < 4 || host.front() != '[' || host.back() != ']') {
    return false;
  }
  host = host.substr(1, host.size() - 2);
  return host.find(':') != std::string_view::npos &&
         std::all_of(host.begin(), host.end(), [](char c) {
           return is_digit(c) || c == ':' || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
         });
}

Result<> check_registry(std::string_view registry) {
  std::string_view host = registry;
  const size_t bracket = registry.rfind(']');
  const size_t colon = registry.rfind(':');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
    const auto port = parse_number<uint16_t>(registry.substr(colon + 1));
    if (!port || *port == 0) {
      return wrong("registry", registry, "a port from 1 to 65535 behind the ':'");
    }
    host = registry.substr(0, colon);
  }
  if (!is_host_name(host) && !is_bracketed_ipv6(host)) {
    return wrong("registry", registry, "a host name, an IPv4 address or an IPv6 address in []");
  }
  return {};
}

/// [a-z0-9]+ pieces, joined by one '.', one or two '_', or any number of '-'.
bool is_path_component(std::string_view text) {
  size_t at = 0;
  while (true) {
    const size_t start = at;
    while (at < text.size() && is_lower_alnum(text[at])) {
      ++at;
    }
    if (at == start) {
      return false;  // a piece is empty: two separators, or one at either end
    }
    if (at == text.size()) {
      return true;
    }
    const char separator = text[at];
    const size_t first = at;
    while (at < text.size() && text[at] == separator) {
      ++at;
    }
    const size_t count = at - first;
    const bool allowed =
        (separator == '.' && count == 1) || (separator == '_' && count <= 2) || separator == '-';
    if (!allowed) {
      return false;
    }
  }
}

Result<> check_repository(std::string_view repository) {
  if (std::any_of(repository.begin(), repository.end(), is_upper)) {
    return wrong("repository", repository, "lower case");
  }
  for (const std::string_view component : split(repository, '/')) {
    if (!is_path_component(component)) {
      return wrong("repository", repository,
                   "parts of a-z and 0-9, joined inside by '.', '_', '__' or '-', between '/'");
    }
  }
  return {};
}

Result<> check_tag(std::string_view tag) {
  const bool valid =
      !tag.empty() && tag.size() <= kMaxTagBytes && (is_alnum(tag.front()) || tag.front() == '_') &&
      std::all_of(tag.begin(), tag.end(),
                  [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '-'; });
  if (!valid) {
    return wrong("tag", tag, "1 to 128 characters of A-Z a-z 0-9 _ . -, not starting with . or -");
  }
  return {};
}

/// Docker's rule for where the registry ends: the first part is one only if it could not be a part
/// of a repository on Docker Hub.
bool is_registry(std::string_view first_part) {
  return first_part.find_first_of(".:") != std::string_view::npos || first_part == "localhost" ||
         std::any_of(first_part.begin(), first_part.end(), is_upper);
}

void split_name(std::string_view name, Reference& out) {
  const size_t slash = name.find('/');
  if (slash != std::string_view::npos && is_registry(name.substr(0, slash))) {
    out.registry = name.substr(0, slash);
    out.repository = name.substr(slash + 1);
  } else {
    out.registry = kDockerRegistry;
    out.repository = name;
  }
  if (out.registry == kOldDockerRegistry) {
    out.registry = kDockerRegistry;
  }
  if (out.registry == kDockerRegistry && out.repository.find('/') == std::string::npos) {
    out.repository.insert(0, kDockerPrefix);
  }
}

}  // namespace

Result<Reference> Reference::parse(std::string_view text) {
  if (text.empty() || text.size() > kMaxReferenceBytes) {
    return wrong("image name", text, "[registry/]repository[:tag][@digest]");
  }
  Reference out;
  std::string_view name = text;
  if (const size_t at = name.find('@'); at != std::string_view::npos) {
    out.digest =
        FLUYT_TRY_CONTEXT(Digest::parse(name.substr(at + 1)), cat("image name ", quote(text)));
    name = name.substr(0, at);
  }
  const size_t colon = name.rfind(':');
  const size_t slash = name.rfind('/');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    out.tag = name.substr(colon + 1);
    FLUYT_TRY_CONTEXT(check_tag(out.tag), cat("image name ", quote(text)));
    name = name.substr(0, colon);
  } else if (!out.digest) {
    out.tag = kDefaultTag;
  }
  if (is_hex_id(name)) {
    return wrong("image name", text, "a name, not 64 hexadecimal digits, which are an image's id");
  }
  split_name(name, out);
  FLUYT_TRY_CONTEXT(check_registry(out.registry), cat("image name ", quote(text)));
  FLUYT_TRY_CONTEXT(check_repository(out.repository), cat("image name ", quote(text)));
  if (out.name().size() > kMaxNameBytes) {
    return wrong("image name", text, "at most 255 characters of registry and repository");
  }
  return out;
}

std::string Reference::name() const { return cat(registry, "/", repository); }

std::string Reference::text() const {
  return cat(name(), tag.empty() ? "" : ":", tag, digest ? "@" : "", digest ? digest->text() : "");
}

std::string Reference::target() const { return digest ? digest->text() : tag; }

std::string Reference::familiar() const {
  std::string shown = text();
  const std::string_view rest = repository;
  // A first part that looks like a registry would be read as one: docker.io/a.b/c is not "a.b/c".
  if (registry != kDockerRegistry || is_registry(rest.substr(0, rest.find('/')))) {
    return shown;
  }
  shown.erase(0, kDockerRegistry.size() + 1);
  // Only a bare name may lose "library/": docker.io/library/a/b is not "a/b".
  if (rest.starts_with(kDockerPrefix) &&
      rest.find('/', kDockerPrefix.size()) == std::string_view::npos) {
    shown.erase(0, kDockerPrefix.size());
  }
  return shown;
}

}  // namespace fluyt::oci
