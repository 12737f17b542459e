#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "spec/user.h"

/// The input: who, NUL, passwd, NUL, group. Whoever is resolved has ids in range, its primary group
/// among the others, and a home that can be written into a file.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace spec = fluyt::spec;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto next = [&] {
    const size_t end = std::min(rest.find('\0'), rest.size());
    const std::string_view piece = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return std::string(piece);
  };
  const std::string who = next();
  spec::UserFiles files;
  files.passwd = next();
  files.group = std::string(rest);
  const auto identity = spec::resolve_user(who, files);
  if (!identity.ok()) {
    return 0;
  }
  const auto& groups = identity->groups;
  const bool sound = identity->uid <= spec::kMaxId && identity->gid <= spec::kMaxId &&
                     std::is_sorted(groups.begin(), groups.end()) &&
                     std::binary_search(groups.begin(), groups.end(), identity->gid) &&
                     identity->home.starts_with('/') &&
                     identity->home.find('\n') == std::string::npos;
  const bool digits = !who.empty() && who.find_first_not_of("0123456789") == std::string::npos;
  if (!sound || (digits && std::to_string(identity->uid) !=
                               who.substr(std::min(who.find_first_not_of('0'), who.size() - 1)))) {
    abort();
  }
  return 0;
}
