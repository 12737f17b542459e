#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"

/// A file of the Container Device Interface, 0.3.0 to 1.1.0, as a value: what a device that it
/// describes adds to a container's runtime spec. Field names are the specification's in snake_case.
namespace fluyt::oci::cdi {

struct DeviceNode {
  std::string path;
  std::string host_path;  // empty: `path`
  std::string type;       // b, c, u or p; empty: what host_path is
  std::optional<int64_t> major;
  std::optional<int64_t> minor;
  std::optional<uint32_t> file_mode;
  std::string permissions;  // of r w m, or "none"; empty: all
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  bool operator==(const DeviceNode&) const = default;
};

struct NetDevice {
  std::string host_interface_name;
  std::string name;  // empty: the same
  bool operator==(const NetDevice&) const = default;
};

struct ContainerEdits {
  std::vector<std::string> env;
  std::vector<DeviceNode> device_nodes;
  std::vector<Mount> mounts;
  Hooks hooks;
  std::vector<uint32_t> additional_gids;
  std::optional<IntelRdt> intel_rdt;
  std::vector<NetDevice> net_devices;
  bool operator==(const ContainerEdits&) const = default;
};

struct Device {
  std::string name;
  ContainerEdits edits;
  bool operator==(const Device&) const = default;
};

struct File {
  std::string kind;  // vendor.com/class
  std::vector<Device> devices;
  ContainerEdits edits;  // once for each file that a device is taken from
  bool operator==(const File&) const = default;
};

inline constexpr size_t kMaxFileBytes = 1UL << 20U;

enum class Form { kJson, kYaml };
/// kInvalidArgument names the field, its value and what was expected. Unknown fields, and fields
/// that are newer than the version that the file claims, are refused, as the specification has it.
Result<File> parse_file(std::string_view text, Form form);

struct DeviceName {
  std::string kind;
  std::string name;
  bool operator==(const DeviceName&) const = default;
};
/// "vendor.com/class=name".
Result<DeviceName> parse_device_name(std::string_view text);

}  // namespace fluyt::oci::cdi
