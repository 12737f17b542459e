#include "spec/cdi.h"

#include <algorithm>
#include <set>

#include "base/strings.h"

namespace fluyt::spec::cdi {

namespace {

using oci::cdi::ContainerEdits;

constexpr size_t kMaxDevices = 256;

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

void append(oci::Hooks& to, const oci::Hooks& from) {
  append(to.prestart, from.prestart);
  append(to.create_runtime, from.create_runtime);
  append(to.create_container, from.create_container);
  append(to.start_container, from.start_container);
  append(to.poststart, from.poststart);
  append(to.poststop, from.poststop);
}

void append(ContainerEdits& to, const ContainerEdits& from) {
  append(to.env, from.env);
  append(to.device_nodes, from.device_nodes);
  append(to.mounts, from.mounts);
  append(to.hooks, from.hooks);
  append(to.additional_gids, from.additional_gids);
  if (from.intel_rdt) to.intel_rdt = from.intel_rdt;
  append(to.net_devices, from.net_devices);
}

struct Place {
  const Found* found = nullptr;
  const oci::cdi::Device* device = nullptr;
};

Result<Place> find_device(const std::vector<Found>& files, const oci::cdi::DeviceName& name) {
  Place best;
  const Found* rival = nullptr;
  for (const Found& found : files) {
    if (found.file.kind != name.kind) continue;
    for (const oci::cdi::Device& device : found.file.devices) {
      if (device.name != name.name) continue;
      if (best.found == nullptr || found.folder > best.found->folder) {
        best = {&found, &device};
        rival = nullptr;
      } else if (found.folder == best.found->folder) {
        rival = &found;
      }
    }
  }
  if (best.found == nullptr) {
    return Error(Code::kInvalidArgument,
                 cat(quote(cat(name.kind, "=", name.name)), ": no CDI file has such a device"));
  }
  if (rival != nullptr) {
    return Error(Code::kFailedPrecondition,
                 cat(quote(cat(name.kind, "=", name.name)), ": is both in ", best.found->path,
                     " and in ", rival->path));
  }
  return best;
}

void set_variable(std::vector<std::string>& env, const std::string& variable) {
  const std::string name = variable.substr(0, variable.find('=') + 1);
  for (std::string& old : env) {
    if (!old.starts_with(name)) continue;
    old = variable;
    return;
  }
  env.push_back(variable);
}

Result<> add_node(const oci::cdi::DeviceNode& node, oci::Spec& spec) {
  if (node.type.empty() || !node.major || !node.minor) {
    return Error(Code::kInternal, cat("device node ", quote(node.path), ": not looked at"));
  }
  oci::Linux& out = *spec.linux_;
  const char type = node.type == "u" ? 'c' : node.type.front();
  // As for other devices: a process that is not root can use what it was given.
  const auto own = [](const std::optional<uint32_t>& said, uint32_t process) {
    return said || process == 0 ? said : std::optional(process);
  };
  const oci::User user = spec.process ? spec.process->user : oci::User{};
  std::erase_if(out.devices, [&](const oci::Device& one) { return one.path == node.path; });
  out.devices.push_back({.path = node.path,
                         .type = type,
                         .major = *node.major,
                         .minor = *node.minor,
                         .file_mode = node.file_mode,
                         .uid = own(node.uid, user.uid),
                         .gid = own(node.gid, user.gid)});
  if (type == 'p' || node.permissions == "none") return {};
  if (!out.resources) out.resources.emplace();
  out.resources->devices.push_back({.allow = true,
                                    .type = type,
                                    .major = *node.major,
                                    .minor = *node.minor,
                                    .access = node.permissions.empty() ? "rwm" : node.permissions});
  return {};
}

// Parents before children; of two at one depth in the order in which they came.
void add_mounts(const std::vector<oci::Mount>& mounts, std::vector<oci::Mount>& all) {
  for (const oci::Mount& mount : mounts) {
    std::erase_if(all, [&](const oci::Mount& one) { return one.destination == mount.destination; });
    all.push_back(mount);
  }
  if (mounts.empty()) return;
  std::stable_sort(all.begin(), all.end(), [](const oci::Mount& a, const oci::Mount& b) {
    const auto depth = [](const oci::Mount& one) {
      return std::count(one.destination.begin(), one.destination.end(), '/');
    };
    return depth(a) < depth(b);
  });
}

}  // namespace

Result<ContainerEdits> edits_of(const std::vector<Found>& files,
                                const std::vector<std::string>& devices) {
  if (devices.size() > kMaxDevices) {
    return Error(Code::kInvalidArgument,
                 cat("CDI_devices: ", devices.size(), ": expected at most ", kMaxDevices));
  }
  ContainerEdits edits;
  std::set<const Found*> used;
  std::set<const oci::cdi::Device*> given;
  for (size_t i = 0; i < devices.size(); ++i) {
    const std::string field = cat("CDI_devices[", i, "].name");
    const auto name = FLUYT_TRY_CONTEXT(oci::cdi::parse_device_name(devices[i]), field);
    const Place place = FLUYT_TRY_CONTEXT(find_device(files, name), field);
    if (!given.insert(place.device).second) continue;  // asked for twice: there is one
    if (used.insert(place.found).second) append(edits, place.found->file.edits);
    append(edits, place.device->edits);
  }
  return edits;
}

Result<> apply(const ContainerEdits& edits, oci::Spec& spec) {
  if (!spec.linux_) spec.linux_.emplace();
  if (spec.process) {
    for (const std::string& variable : edits.env) set_variable(spec.process->env, variable);
    std::vector<uint32_t>& groups = spec.process->user.additional_gids;
    for (const uint32_t group : edits.additional_gids) {
      if (group == 0 || std::find(groups.begin(), groups.end(), group) != groups.end()) continue;
      groups.push_back(group);
    }
  }
  for (const oci::cdi::DeviceNode& node : edits.device_nodes) FLUYT_TRY(add_node(node, spec));
  add_mounts(edits.mounts, spec.mounts);
  if (edits.hooks != oci::Hooks{}) {
    if (!spec.hooks) spec.hooks.emplace();
    append(*spec.hooks, edits.hooks);
  }
  if (edits.intel_rdt) spec.linux_->intel_rdt = edits.intel_rdt;
  for (const oci::cdi::NetDevice& device : edits.net_devices)
    spec.linux_->net_devices[device.host_interface_name] = device.name;
  return {};
}

}  // namespace fluyt::spec::cdi
