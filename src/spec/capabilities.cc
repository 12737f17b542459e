#include "spec/capabilities.h"

#include <algorithm>

#include "base/strings.h"
#include "oci/capability_names.h"

namespace fluyt::spec {
namespace {

constexpr std::string_view kPrefix = "CAP_";

constexpr std::string_view kDefault[] = {
    "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",
    "CAP_MKNOD",   "CAP_NET_RAW",      "CAP_SETGID",           "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
    "CAP_KILL",    "CAP_AUDIT_WRITE"};

using Names = std::vector<std::string>;

bool holds(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void add_to(Names& names, const std::string& name) {
  if (!holds(names, name)) {
    names.push_back(name);
  }
}

bool is_all(std::string_view text) { return to_lower(text) == "all"; }

Result<Names> single_names(const Names& list, std::string_view field) {
  Names out;
  for (size_t i = 0; i < list.size(); ++i) {
    if (!is_all(list[i])) {
      out.push_back(FLUYT_TRY_CONTEXT(capability_name(list[i]), cat(field, "[", i, "]")));
    }
  }
  return out;
}

}  // namespace

std::span<const std::string_view> all_capabilities() { return oci::kCapabilityNames; }
std::span<const std::string_view> default_capabilities() { return kDefault; }

Result<std::string> capability_name(std::string_view text) {
  std::string name(text);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  if (!name.starts_with(kPrefix)) {
    name.insert(0, kPrefix);
  }
  const auto all = all_capabilities();
  if (std::find(all.begin(), all.end(), name) == all.end()) {
    return Error(Code::kInvalidArgument,
                 cat(quote(text), ": expected a capability such as NET_ADMIN, or ALL"));
  }
  return name;
}

Result<oci::Capabilities> capability_sets(const Names& add, const Names& drop, const Names& ambient,
                                          const Names& all) {
  const Names additions = FLUYT_TRY(single_names(add, "capabilities.add_capabilities"));
  const Names drops = FLUYT_TRY(single_names(drop, "capabilities.drop_capabilities"));
  Names raised = FLUYT_TRY(single_names(ambient, "capabilities.add_ambient_capabilities"));
  if (std::any_of(ambient.begin(), ambient.end(), is_all)) {
    raised = all;
  }
  Names held(std::begin(kDefault), std::end(kDefault));
  if (std::any_of(add.begin(), add.end(), is_all)) {
    held = all;
  }
  if (std::any_of(drop.begin(), drop.end(), is_all)) {
    held.clear();
  }
  for (const Names* names : {&additions, &std::as_const(raised)}) {
    for (const std::string& name : *names) {
      add_to(held, name);
    }
  }
  for (const std::string& name : drops) {
    std::erase(held, name);
    std::erase(raised, name);
  }
  // Inheritable stays empty but for the ambient ones, which need it (CVE-2022-24769).
  return oci::Capabilities{.bounding = held,
                           .effective = held,
                           .inheritable = raised,
                           .permitted = held,
                           .ambient = raised};
}

oci::Capabilities every_capability(const Names& all) {
  return {.bounding = all, .effective = all, .permitted = all};
}

}  // namespace fluyt::spec
