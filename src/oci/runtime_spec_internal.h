#pragma once

#include "oci/json_reader.h"
#include "oci/json_writer.h"
#include "oci/runtime_spec.h"

/// What the bodies that read and write the runtime spec share: one pair of functions a group.
namespace fluyt::oci::internal {

void read_process(const json::Node& node, Process& out);
void read_linux(const json::Node& node, Linux& out);
void read_resources(const json::Node& node, Resources& out);
void read_seccomp(const json::Node& node, Seccomp& out);
/// Mappings of one kind: sizes, overflow and overlaps are checked.
void read_mappings(const json::Node& node, std::vector<IdMapping>& out);
/// An absolute path.
void read_absolute(const json::Node& node, std::string& out);
/// "NAME=value".
void read_env_entry(const json::Node& node, std::string& out);

json::Ordered write_process(const Process& process);
json::Ordered write_linux(const Linux& linux_);
json::Ordered write_resources(const Resources& resources);
json::Ordered write_seccomp(const Seccomp& seccomp);
json::Ordered write_mapping(const IdMapping& mapping);

}  // namespace fluyt::oci::internal
