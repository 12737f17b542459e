#include "image/auth/credential_table.h"

#include "base/strings.h"

namespace fluyt::image {

namespace {

constexpr size_t kMaxKeyBytes = 1024;

// "https://index.docker.io/v1/" and the like become "docker.io"; a path that is the version of an
// API is no repository.
std::string normalised(std::string_view key) {
  const bool is_url = key.find("://") != std::string_view::npos;
  const std::string host = to_lower(host_of_address(key));
  if (is_url) return host;
  const size_t slash = key.find('/');
  std::string path = slash == std::string_view::npos ? "" : std::string(key.substr(slash));
  while (path.ends_with('/')) path.pop_back();
  return path == "/v1" || path == "/v2" ? host : host + path;
}

bool is_below(std::string_view host, std::string_view pattern) {
  const std::string_view suffix = pattern.substr(1);  // ".example.org"
  return host.size() > suffix.size() && host.ends_with(suffix);
}

Result<std::string> name_of(std::string_view key) {
  const std::string name = normalised(key);
  if (name.empty() || name.size() > kMaxKeyBytes || has_control_characters(name) ||
      name.find(' ') != std::string::npos) {
    return Error(Code::kInvalidArgument,
                 cat(quote(key), ": expected host[:port][/repository] or *.domain"));
  }
  const size_t star = name.find('*');
  if (star != std::string::npos && (!name.starts_with("*.") || name.rfind('*') != 0)) {
    return Error(Code::kInvalidArgument,
                 cat(quote(key), ": expected \"*.\" at the very start, or no \"*\""));
  }
  return name;
}

int rank_of(std::string_view key, std::string_view name) {
  if (key == "https://index.docker.io/v1/") return 2;
  return key == name ? 1 : 0;
}

}  // namespace

Result<> CredentialTable::add(std::string_view key, Credentials credentials) {
  const std::string name = FLUYT_TRY(name_of(key));
  if (!entries_.emplace(name, Entry{std::move(credentials)}).second) {
    return Error(Code::kInvalidArgument, cat(quote(key), ": is there twice"));
  }
  return {};
}

Result<> CredentialTable::add_or_prefer(std::string_view key, Credentials credentials) {
  const std::string name = FLUYT_TRY(name_of(key));
  const int rank = rank_of(key, name);
  const auto known = entries_.find(name);
  if (known == entries_.end() || rank > known->second.rank) {
    entries_.insert_or_assign(name, Entry{std::move(credentials), rank});
  }
  return {};
}

const Credentials* CredentialTable::find(std::string_view registry,
                                         std::string_view repository) const {
  const std::string host = to_lower(host_of_address(registry));
  std::string path(repository);
  while (true) {
    const auto found = entries_.find(path.empty() ? host : cat(host, "/", path));
    if (found != entries_.end()) return &found->second.credentials;
    if (path.empty()) break;
    const size_t slash = path.rfind('/');
    path.resize(slash == std::string::npos ? 0 : slash);
  }
  // The wildcards: the longest domain, then the longest path below it.
  const Credentials* best = nullptr;
  std::pair<size_t, size_t> best_length{0, 0};
  for (const auto& [key, entry] : entries_) {
    if (!key.starts_with("*.")) continue;
    const size_t slash = std::min(key.find('/'), key.size());
    const std::string_view prefix = std::string_view(key).substr(slash);
    const std::string whole = cat("/", repository, "/");
    if (!is_below(host, key.substr(0, slash)) ||
        (!prefix.empty() && !whole.starts_with(cat(prefix, "/")))) {
      continue;
    }
    const std::pair length{slash, prefix.size()};
    if (best == nullptr || length > best_length) {
      best = &entry.credentials;
      best_length = length;
    }
  }
  return best;
}

}  // namespace fluyt::image
