#include <algorithm>

#include "oci/runtime_spec_internal.h"

namespace fluyt::oci {
namespace {

using internal::read_absolute;
using json::Node;
using json::Object;

constexpr uint32_t kMajorVersion = 1;
constexpr uint32_t kNewestMinorVersion = 3;

/// 1.x.y up to 1.3, with or without a pre-release or build behind it.
bool is_known_version(std::string_view version) {
  const auto parts = split(version.substr(0, version.find_first_of("-+")), '.');
  if (parts.size() != 3) {
    return false;
  }
  const auto major = parse_number<uint32_t>(parts[0]);
  const auto minor = parse_number<uint32_t>(parts[1]);
  const auto patch = parse_number<uint32_t>(parts[2]);
  return major == kMajorVersion && minor && *minor <= kNewestMinorVersion && patch.has_value();
}

void read_mount(const Node& node, Mount& out) {
  const Object object(node);
  object.require("destination");
  object.with("destination", [&](const Node& at) {
    read(at, out.destination);
    if (out.destination.empty()) {
      at.expected("a path");
    }
  });
  object.field("type", out.type);
  object.field("source", out.source);
  object.field("options", out.options);
  object.object("uidMappings", out.uid_mappings, internal::read_mappings);
  object.object("gidMappings", out.gid_mappings, internal::read_mappings);
  if (out.uid_mappings.empty() != out.gid_mappings.empty()) {
    object.refuse(out.uid_mappings.empty() ? "uidMappings" : "gidMappings",
                  "missing: expected mappings of both kinds, or of none");
  }
}

void read_root(const Node& node, Root& out) {
  const Object object(node);
  object.require("path");
  object.with("path", [&](const Node& at) {
    read(at, out.path);
    if (out.path.empty()) {
      at.expected("a path");
    }
  });
  object.field("readonly", out.readonly);
}

void read_hook(const Node& node, Hook& out) {
  const Object object(node);
  object.require("path");
  object.object("path", out.path, read_absolute);
  object.field("args", out.args);
  object.list("env", out.env, internal::read_env_entry);
  object.with("timeout", [&](const Node& at) {
    read(at, out.timeout.emplace());
    if (*out.timeout <= 0) {
      at.expected("more than 0 seconds");
    }
  });
}

void read_hooks(const Node& node, Hooks& out) {
  const Object object(node);
  object.list("prestart", out.prestart, read_hook);
  object.list("createRuntime", out.create_runtime, read_hook);
  object.list("createContainer", out.create_container, read_hook);
  object.list("startContainer", out.start_container, read_hook);
  object.list("poststart", out.poststart, read_hook);
  object.list("poststop", out.poststop, read_hook);
}

bool has_namespace(const Spec& spec, NamespaceType type) {
  return spec.linux_ && std::any_of(spec.linux_->namespaces.begin(), spec.linux_->namespaces.end(),
                                    [&](const Namespace& one) { return one.type == type; });
}

/// Rules between fields: what would change the host if it were let through.
void check_namespaces_suffice(const Object& object, const Spec& spec) {
  if (!spec.hostname.empty() && !has_namespace(spec, NamespaceType::kUts)) {
    object.refuse("hostname", "expected a uts namespace in linux.namespaces");
  }
  if (!spec.domainname.empty() && !has_namespace(spec, NamespaceType::kUts)) {
    object.refuse("domainname", "expected a uts namespace in linux.namespaces");
  }
  if (!spec.linux_) {
    return;
  }
  const bool mapped = !spec.linux_->uid_mappings.empty() || !spec.linux_->gid_mappings.empty();
  if (mapped && !has_namespace(spec, NamespaceType::kUser)) {
    object.refuse("linux", "uidMappings or gidMappings: expected a user namespace in namespaces");
  }
  if (!spec.linux_->time_offsets.empty() && !has_namespace(spec, NamespaceType::kTime)) {
    object.refuse("linux", "timeOffsets: expected a time namespace in namespaces");
  }
}

void read_spec(const Node& node, Spec& out) {
  const Object object(node);
  object.require("ociVersion");
  object.with("ociVersion", [&](const Node& at) {
    read(at, out.oci_version);
    if (!is_known_version(out.oci_version)) {
      at.expected("a version of the runtime specification from 1.0.0 to 1.3.x");
    }
  });
  object.object("process", out.process, internal::read_process);
  object.object("root", out.root, read_root);
  object.field("hostname", out.hostname);
  object.field("domainname", out.domainname);
  object.list("mounts", out.mounts, read_mount);
  object.object("hooks", out.hooks, read_hooks);
  object.field("annotations", out.annotations);
  object.object("linux", out.linux_, internal::read_linux);
  check_namespaces_suffice(object, out);
}

}  // namespace

Result<Spec> parse_spec(std::string_view text) {
  const json::Json document =
      FLUYT_TRY_CONTEXT(json::parse_text(text, kMaxSpecBytes), "runtime spec");
  json::Findings findings;
  Spec out;
  read_spec(Node(document, findings), out);
  FLUYT_TRY_CONTEXT(findings.take(), "runtime spec");
  return out;
}

}  // namespace fluyt::oci
