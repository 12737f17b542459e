#include "spec/sysctls.h"

#include <algorithm>
#include <string_view>

#include "base/strings.h"

namespace fluyt::spec {
namespace {

constexpr size_t kMaxSysctls = 256;
constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMaxValueBytes = 4096;
constexpr const char* kPortStart = "net.ipv4.ip_unprivileged_port_start";
constexpr const char* kPingRange = "net.ipv4.ping_group_range";

enum class Owner { kNetwork, kIpc, kUser };
struct Family {
  std::string_view prefix;  // a whole name, or the start of one when it ends in '.'
  Owner owner;
};
/// What the kernel keeps one of a namespace (namespaces(7), ipc_namespaces(7)).
constexpr Family kFamilies[] = {{"net.", Owner::kNetwork},
                                {"fs.mqueue.", Owner::kIpc},
                                {"kernel.msgmax", Owner::kIpc},
                                {"kernel.msgmnb", Owner::kIpc},
                                {"kernel.msgmni", Owner::kIpc},
                                {"kernel.msg_next_id", Owner::kIpc},
                                {"kernel.sem", Owner::kIpc},
                                {"kernel.sem_next_id", Owner::kIpc},
                                {"kernel.shmall", Owner::kIpc},
                                {"kernel.shmmax", Owner::kIpc},
                                {"kernel.shmmni", Owner::kIpc},
                                {"kernel.shm_next_id", Owner::kIpc},
                                {"kernel.shm_rmid_forced", Owner::kIpc},
                                {"user.", Owner::kUser}};

Error wrong(std::string_view name, std::string_view why) {
  return {Code::kInvalidArgument, cat("sysctls[", quote(name), "]: ", why)};
}

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.' || c == '/';
}

/// sysctl(8)'s rule: the first separator says which of '.' and '/' separates; the other one is then
/// part of a word, as in an interface's name.
std::string dotted(std::string_view name) {
  std::string out(name);
  const size_t first = out.find_first_of("./");
  if (first != std::string::npos && out[first] == '/') {
    std::transform(out.begin(), out.end(), out.begin(), [](char c) {
      return c == '/' ? '.' : c == '.' ? '/' : c;
    });
  }
  return out;
}

bool is_well_formed(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), is_name_character) &&
         // An empty word, or one of dots alone, would be a way out of its folder.
         name.find("..") == std::string_view::npos && name.find("./") == std::string_view::npos &&
         name.find("/.") == std::string_view::npos && name.find("//") == std::string_view::npos &&
         std::string_view("./").find(name.front()) == std::string_view::npos &&
         std::string_view("./").find(name.back()) == std::string_view::npos;
}

const Family* find_family(std::string_view name) {
  for (const Family& family : kFamilies) {
    if (family.prefix.ends_with('.') ? name.starts_with(family.prefix) : name == family.prefix) {
      return &family;
    }
  }
  return nullptr;
}

Result<> check_owner(std::string_view name, const OwnNamespaces& own) {
  const Family* family = find_family(name);
  if (family == nullptr) {
    return wrong(name, "is the host's: expected one of a network, IPC or user namespace");
  }
  switch (family->owner) {
    case Owner::kNetwork:
      if (!own.network) {
        return wrong(name, "expected a sandbox with a network namespace of its own");
      }
      break;
    case Owner::kIpc:
      if (!own.ipc) {
        return wrong(name, "expected a sandbox with an IPC namespace of its own");
      }
      break;
    case Owner::kUser:
      if (!own.user) {
        return wrong(name, "expected a sandbox with a user namespace of its own");
      }
      break;
  }
  return {};
}

Result<> check_value(std::string_view name, std::string_view value) {
  if (value.empty() || value.size() > kMaxValueBytes || has_control_characters(value) ||
      !is_utf8(value) || value.find_first_of("+=") != std::string_view::npos) {
    return wrong(name, cat(quote(value),
                           ": expected a value without '+', '=' or control "
                           "characters"));
  }
  return {};
}

}  // namespace

Result<std::map<std::string, std::string>> sandbox_sysctls(
    const std::map<std::string, std::string>& asked, const OwnNamespaces& own) {
  if (asked.size() > kMaxSysctls) {
    return Error(Code::kInvalidArgument,
                 cat("sysctls: ", asked.size(), ": expected at most ", kMaxSysctls));
  }
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : asked) {
    if (!is_well_formed(name)) {
      return wrong(name, "expected a name such as net.core.somaxconn");
    }
    const std::string spelt = dotted(name);
    FLUYT_TRY(check_owner(spelt, own));
    FLUYT_TRY(check_value(name, value));
    if (!out.emplace(spelt, value).second) {
      return wrong(name, "stands twice");
    }
  }
  if (own.network) {
    out.emplace(kPortStart, "0");
    if (!own.user) {  // the range must be mapped, and an arbitrary user namespace's is not
      out.emplace(kPingRange, "0 2147483647");
    }
  }
  return out;
}

}  // namespace fluyt::spec
