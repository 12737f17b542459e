#include "oci/cdi/cdi.h"

#include <algorithm>
#include <array>

#include "oci/cdi/yaml.h"
#include "oci/json_reader.h"

namespace fluyt::oci::cdi {

namespace {

using json::Node;
using json::Object;

struct Version {
  uint32_t major = 0;
  uint32_t minor = 0;
  auto operator<=>(const Version&) const = default;
};
constexpr Version kOldest{0, 3};
constexpr Version kNewest{1, 1};

std::optional<Version> parse_version(std::string_view text) {
  const auto parts = split(text.substr(0, text.find_first_of("-+")), '.');
  if (parts.size() != 3) return std::nullopt;
  const auto major = parse_number<uint32_t>(parts[0]);
  const auto minor = parse_number<uint32_t>(parts[1]);
  if (!major || !minor || !parse_number<uint32_t>(parts[2])) return std::nullopt;
  return Version{*major, *minor};
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_alphanumeric(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }

// Letters and digits at both ends, and between them the others too.
bool is_word(std::string_view text, std::string_view others) {
  return !text.empty() && is_alphanumeric(text.front()) && is_alphanumeric(text.back()) &&
         std::all_of(text.begin(), text.end(), [&](char c) {
           return is_alphanumeric(c) || others.find(c) != std::string_view::npos;
         });
}

bool is_kind(std::string_view text) {
  constexpr size_t kMaxVendor = 253;
  constexpr size_t kMaxClass = 63;
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string_view vendor = text.substr(0, slash);
  const std::string_view kind = text.substr(slash + 1);
  return is_word(vendor, "_-.") && is_letter(vendor.front()) && vendor.size() <= kMaxVendor &&
         is_word(kind, "_-.") && is_letter(kind.front()) && kind.size() <= kMaxClass;
}

bool is_device_name(std::string_view text) {
  constexpr size_t kMaxName = 253;
  return is_word(text, "_-.:") && text.size() <= kMaxName;
}

class Reader {
 public:
  void file(const Node& node, File& out) {
    const Object object(node);
    only(object, {"cdiVersion", "kind", "annotations", "devices", "containerEdits"});
    object.require("cdiVersion");
    object.require("kind");
    object.require("devices");
    object.with("cdiVersion", [&](const Node& at) { version(at); });
    object.with("kind", [&](const Node& at) {
      json::read(at, out.kind);
      if (!is_kind(out.kind)) return at.expected("vendor.com/class");
      if (out.kind.find('.', out.kind.find('/')) != std::string::npos) since(at, {0, 6});
    });
    annotations(object);
    object.list("devices", out.devices, [&](const Node& at, Device& one) { device(at, one); });
    object.with("devices", [&](const Node& at) {
      if (out.devices.empty()) at.expected("one device or more");
    });
    object.object("containerEdits", out.edits,
                  [&](const Node& at, ContainerEdits& edits) { read_edits(at, edits); });
  }

 private:
  void version(const Node& at) {
    std::string text;
    json::read(at, text);
    const auto parsed = parse_version(text);
    if (!parsed || *parsed < kOldest || *parsed > kNewest) return at.expected("0.3.0 to 1.1.0");
    version_ = *parsed;
  }

  // The specification: "loading fails on unknown fields".
  static void only(const Object& object, std::initializer_list<std::string_view> known) {
    const json::Json& value = object.node().value();
    if (!value.is_object()) return;
    for (auto it = value.begin(); it != value.end(); ++it) {
      if (std::find(known.begin(), known.end(), it.key()) == known.end())
        return object.refuse(it.key(), "unknown: no field of this object");
    }
  }
  void since(const Node& at, Version needed) const {
    if (version_ >= needed) return;
    at.refuse(cat("expected cdiVersion ", needed.major, ".", needed.minor, ".0 or later"));
  }
  void annotations(const Object& object) const {
    std::map<std::string, std::string> ignored;  // for consumers other than runtimes
    object.field("annotations", ignored);
    object.with("annotations", [&](const Node& at) { since(at, {0, 6}); });
  }

  void device(const Node& node, Device& out) const {
    const Object object(node);
    only(object, {"name", "annotations", "containerEdits"});
    object.require("name");
    object.require("containerEdits");
    object.with("name", [&](const Node& at) {
      json::read(at, out.name);
      if (!is_device_name(out.name))
        return at.expected("letters, digits and _-.: with a letter or digit at both ends");
      if (!is_letter(out.name.front())) since(at, {0, 5});
    });
    annotations(object);
    object.object("containerEdits", out.edits,
                  [&](const Node& at, ContainerEdits& edits) { read_edits(at, edits); });
  }

  void read_edits(const Node& node, ContainerEdits& out) const {
    const Object object(node);
    only(object,
         {"env", "deviceNodes", "mounts", "hooks", "additionalGids", "intelRdt", "netDevices"});
    object.list("env", out.env, variable);
    object.list("deviceNodes", out.device_nodes,
                [&](const Node& at, DeviceNode& one) { device_node(at, one); });
    object.list("mounts", out.mounts, [&](const Node& at, Mount& one) { mount(at, one); });
    object.with("hooks", [&](const Node& at) { hooks(at, out.hooks); });
    if (object.field("additionalGids", out.additional_gids))
      object.with("additionalGids", [&](const Node& at) { since(at, {0, 7}); });
    object.object("intelRdt", out.intel_rdt,
                  [&](const Node& at, IntelRdt& rdt) { intel_rdt(at, rdt); });
    object.list("netDevices", out.net_devices, [&](const Node& at, NetDevice& one) {
      since(at, {1, 1});
      const Object device(at);
      only(device, {"hostInterfaceName", "name"});
      device.require("hostInterfaceName");
      device.field("hostInterfaceName", one.host_interface_name);
      device.field("name", one.name);
    });
  }

  static void variable(const Node& at, std::string& out) {
    json::read(at, out);
    const size_t equals = out.find('=');
    if (equals == 0 || equals == std::string::npos) at.expected("NAME=value");
  }
  static void absolute(const Node& at, std::string& out) {
    json::read(at, out);
    if (!out.starts_with('/') || has_control_characters(out)) at.expected("an absolute path");
  }

  void device_node(const Node& node, DeviceNode& out) const {
    const Object object(node);
    only(object,
         {"path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"});
    object.require("path");
    object.object("path", out.path, absolute);
    object.with("hostPath", [&](const Node& at) {
      absolute(at, out.host_path);
      since(at, {0, 5});
    });
    constexpr std::array<std::string_view, 5> kTypes = {"", "b", "c", "u", "p"};
    object.one_of("type", out.type, kTypes);
    object.field("major", out.major);
    object.field("minor", out.minor);
    object.field("fileMode", out.file_mode);
    object.with("permissions", [&](const Node& at) {
      json::read(at, out.permissions);
      if (out.permissions != "none" &&
          out.permissions.find_first_not_of("rwm") != std::string::npos)
        at.expected("letters of r, w and m, or none");
    });
    object.field("uid", out.uid);
    object.field("gid", out.gid);
  }

  void mount(const Node& node, Mount& out) const {
    const Object object(node);
    only(object, {"hostPath", "containerPath", "type", "options"});
    object.require("hostPath");
    object.require("containerPath");
    object.with("hostPath", [&](const Node& at) {
      json::read(at, out.source);
      if (out.source.empty() || has_control_characters(out.source)) at.expected("a path");
    });
    object.object("containerPath", out.destination, absolute);
    object.with("type", [&](const Node& at) {
      json::read(at, out.type);
      if (!out.type.empty()) since(at, {0, 4});
    });
    object.field("options", out.options);
  }

  static void hooks(const Node& node, Hooks& out) {
    struct Named {
      std::string name;
      Hook hook;
    };
    std::vector<Named> all;
    read_list(node, all, [](const Node& at, Named& one) {
      const Object object(at);
      only(object, {"hookName", "path", "args", "env", "timeout"});
      object.require("hookName");
      object.require("path");
      constexpr std::array<std::string_view, 6> kNames = {"prestart",        "createRuntime",
                                                          "createContainer", "startContainer",
                                                          "poststart",       "poststop"};
      object.one_of("hookName", one.name, kNames);
      object.object("path", one.hook.path, absolute);
      object.field("args", one.hook.args);
      object.list("env", one.hook.env, variable);
      object.with("timeout", [&](const Node& timeout) {
        json::read(timeout, one.hook.timeout.emplace());
        if (*one.hook.timeout <= 0) timeout.expected("more than 0 seconds");
      });
    });
    for (Named& one : all) {
      std::vector<Hook>& list = one.name == "prestart"          ? out.prestart
                                : one.name == "createRuntime"   ? out.create_runtime
                                : one.name == "createContainer" ? out.create_container
                                : one.name == "startContainer"  ? out.start_container
                                : one.name == "poststart"       ? out.poststart
                                                                : out.poststop;
      list.push_back(std::move(one.hook));
    }
  }

  void intel_rdt(const Node& node, IntelRdt& out) const {
    since(node, {0, 7});
    const Object object(node);
    only(object, {"closID", "l3CacheSchema", "memBwSchema", "schemata", "enableMonitoring"});
    object.field("closID", out.clos_id);
    object.field("l3CacheSchema", out.l3_cache_schema);
    object.field("memBwSchema", out.mem_bw_schema);
    for (const char* key : {"schemata", "enableMonitoring"})
      object.with(key, [&](const Node& at) { since(at, {1, 1}); });
    object.field("schemata", out.schemata);
    object.field("enableMonitoring", out.enable_monitoring);
  }

  Version version_ = kNewest;
};

}  // namespace

Result<File> parse_file(std::string_view text, Form form) {
  if (text.size() > kMaxFileBytes) {
    return Error(Code::kInvalidArgument,
                 cat(text.size(), " bytes: expected at most ", kMaxFileBytes));
  }
  const json::Json tree = form == Form::kYaml ? FLUYT_TRY(internal::json_of_yaml(text))
                                              : FLUYT_TRY(json::parse_text(text, kMaxFileBytes));
  json::Findings findings;
  File file;
  Reader().file(Node(tree, findings), file);
  FLUYT_TRY(findings.take());
  return file;
}

Result<DeviceName> parse_device_name(std::string_view text) {
  const size_t equals = text.find('=');
  DeviceName out;
  if (equals != std::string_view::npos) {
    out.kind = text.substr(0, equals);
    out.name = text.substr(equals + 1);
  }
  if (is_kind(out.kind) && is_device_name(out.name)) return out;
  return Error(Code::kInvalidArgument, cat(quote(text), ": expected vendor.com/class=name"));
}

}  // namespace fluyt::oci::cdi
