#include "base/strings.h"
#include "oci/image.h"
#include "oci/json_reader.h"
#include "oci/json_writer.h"

namespace fluyt::oci {
namespace {

using json::Json;
using json::Node;
using json::Object;
using json::Ordered;

constexpr size_t kMaxHistory = 4096;

/// A set in JSON's clothes: {"80/tcp": {}}.
void read_key_set(const Node& node, std::vector<std::string>& out) {
  const Object object(node);
  if (node.failed()) {
    return;
  }
  for (auto it = node.value().begin(); it != node.value().end(); ++it) {
    out.push_back(it.key());
  }
}

/// An entry without '=' would make some programs take the value from their own environment
/// (CVE-2026-57231).
void read_env(const Node& node, std::string& out) {
  read(node, out);
  const size_t equals = out.find('=');
  if (equals == std::string::npos || equals == 0) {
    node.expected("NAME=value");
  }
}

void read_exec(const Node& node, ImageConfig::Exec& out) {
  const Object object(node);
  object.field("User", out.user);
  object.with("ExposedPorts", [&](const Node& at) { read_key_set(at, out.exposed_ports); });
  object.list("Env", out.env, read_env);
  object.field("Entrypoint", out.entrypoint);
  object.field("Cmd", out.cmd);
  object.with("Volumes", [&](const Node& at) { read_key_set(at, out.volumes); });
  object.field("WorkingDir", out.working_dir);
  object.field("Labels", out.labels);
  object.field("StopSignal", out.stop_signal);
  object.field("Shell", out.shell);
}

void read_diff_ids(const Node& node, std::vector<Digest>& out) {
  std::vector<std::string> texts;
  read(node, texts);
  if (texts.size() > kMaxLayers) {
    node.refuse(cat(texts.size(), " entries: expected at most ", kMaxLayers));
  }
  for (const std::string& text : texts) {
    auto digest = Digest::parse(text);
    if (!digest.ok()) {
      node.refuse(digest.error().message());
      return;
    }
    out.push_back(std::move(digest).value());
  }
}

void read_rootfs(const Node& node, std::vector<Digest>& out) {
  static constexpr std::string_view kTypes[] = {"layers"};
  const Object object(node);
  std::string type;
  object.one_of("type", type, kTypes);
  object.with("diff_ids", [&](const Node& at) { read_diff_ids(at, out); });
}

void read_history(const Node& node, ImageConfig::History& out) {
  const Object object(node);
  object.field("created", out.created);
  object.field("created_by", out.created_by);
  object.field("author", out.author);
  object.field("comment", out.comment);
  object.field("empty_layer", out.empty_layer);
}

Ordered write_key_set(const std::vector<std::string>& keys) {
  Ordered out = Ordered::object();
  for (const std::string& key : keys) {
    out[key] = Ordered::object();
  }
  return out;
}

Ordered write_exec(const ImageConfig::Exec& exec) {
  Ordered out = Ordered::object();
  json::put(out, "User", exec.user);
  if (!exec.exposed_ports.empty()) {
    out["ExposedPorts"] = write_key_set(exec.exposed_ports);
  }
  json::put(out, "Env", exec.env);
  json::put(out, "Entrypoint", exec.entrypoint);
  json::put(out, "Cmd", exec.cmd);
  if (!exec.volumes.empty()) {
    out["Volumes"] = write_key_set(exec.volumes);
  }
  json::put(out, "WorkingDir", exec.working_dir);
  json::put(out, "Labels", exec.labels);
  json::put(out, "StopSignal", exec.stop_signal);
  json::put(out, "Shell", exec.shell);
  return out;
}

Ordered write_history(const ImageConfig::History& history) {
  Ordered out = Ordered::object();
  json::put(out, "created", history.created);
  json::put(out, "created_by", history.created_by);
  json::put(out, "author", history.author);
  json::put(out, "comment", history.comment);
  json::put(out, "empty_layer", history.empty_layer);
  return out;
}

}  // namespace

Result<ImageConfig> parse_image_config(std::string_view text) {
  const Json document = FLUYT_TRY_CONTEXT(json::parse_text(text, kMaxConfigBytes), "image config");
  json::Findings findings;
  const Node root(document, findings);
  const Object object(root);
  ImageConfig out;
  object.field("os", out.platform.os);
  object.field("architecture", out.platform.architecture);
  object.field("variant", out.platform.variant);
  object.field("os.version", out.platform.os_version);
  object.field("os.features", out.platform.os_features);
  object.field("created", out.created);
  object.field("author", out.author);
  object.object("config", out.config, read_exec);
  object.require("rootfs");
  object.with("rootfs", [&](const Node& at) { read_rootfs(at, out.diff_ids); });
  object.list("history", out.history, read_history);
  if (out.history.size() > kMaxHistory) {
    object.refuse("history", cat(out.history.size(), " entries: expected at most ", kMaxHistory));
  }
  FLUYT_TRY_CONTEXT(findings.take(), "image config");
  return out;
}

std::string to_json(const ImageConfig& config) {
  Ordered out = Ordered::object();
  json::put(out, "created", config.created);
  json::put(out, "author", config.author);
  out["architecture"] = config.platform.architecture;
  out["os"] = config.platform.os;
  json::put(out, "os.version", config.platform.os_version);
  json::put(out, "os.features", config.platform.os_features);
  json::put(out, "variant", config.platform.variant);
  out["config"] = write_exec(config.config);
  Ordered diff_ids = Ordered::array();
  for (const Digest& digest : config.diff_ids) {
    diff_ids.push_back(digest.text());
  }
  out["rootfs"] = Ordered{{"type", "layers"}, {"diff_ids", std::move(diff_ids)}};
  json::put(out, "history", config.history, write_history);
  return json::text(out);
}

}  // namespace fluyt::oci
