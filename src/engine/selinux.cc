#include "engine/selinux.h"

#include <optional>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

constexpr std::string_view kField = "linux.security_context.selinux_options";
constexpr size_t kMaxFile = 1UL << 20U;

spec::SelinuxOptions options_of(const std::optional<SelinuxOptions>& from) {
  if (!from) return {};
  return {from->user, from->role, from->type, from->level};
}

/// What is there of it: container-selinux's file, which is for all policies, else the policy's own.
std::string container_contexts(const SelinuxPlaces& places) {
  if (auto text = sys::read_file(places.contexts, kMaxFile); text.ok()) return *text;
  const auto config = sys::read_file(places.policies + "/config", kMaxFile);
  const std::string policy = spec::selinux_policy_of(config.ok() ? *config : std::string());
  auto text = sys::read_file(cat(places.policies, "/", policy, "/contexts/lxc_contexts"), kMaxFile);
  return text.ok() ? *text : std::string();
}

Result<spec::SelinuxLabels> policy_labels(const SelinuxPlaces& places) {
  spec::SelinuxLabels labels =
      FLUYT_TRY_CONTEXT(spec::parse_container_contexts(container_contexts(places)), "lxc_contexts");
  FLUYT_TRY(check_selinux_label(places, labels.process.text()));
  FLUYT_TRY(check_selinux_label(places, labels.file.text()));
  return labels;
}

}  // namespace

Result<> check_selinux_label(const SelinuxPlaces& places, const std::string& label) {
  auto known = sys::write_file(sys::kCwd, places.selinuxfs + "/context", label);
  if (known.ok() || known.error().errno_value() != EINVAL) return known;
  return Error(Code::kInvalidArgument,
               cat(quote(label), ": the host's SELinux policy knows no such label"));
}

SelinuxHost selinux_of(const Options& options) {
  SelinuxHost host;
  if (!options.selinux || !sys::exists(options.selinux_places.selinuxfs + "/enforce")) return host;
  auto labels = policy_labels(options.selinux_places);
  host.enabled = labels.ok();
  if (labels.ok()) {
    host.containers = std::move(labels).value();
  } else {
    host.lacks = cat("an SELinux policy for containers: ", labels.error().message());
  }
  return host;
}

Result<McsLevels::Hold> label_sandbox(const Options& options, McsLevels& levels, Sandbox& sandbox) {
  const spec::SelinuxOptions asked = options_of(sandbox.config.selinux);
  const SelinuxHost host = selinux_of(options);
  if (!host.enabled) {
    if (asked == spec::SelinuxOptions{} || host.lacks.empty()) return McsLevels::Hold();
    return Error(Code::kFailedPrecondition, cat(kField, ": this host lacks ", host.lacks));
  }
  spec::SelinuxLabels labels =
      FLUYT_TRY_CONTEXT(spec::selinux_labels(host.containers, asked), kField);
  McsLevels::Hold level;
  if (!asked.level.empty()) {
    level = levels.hold(asked.level);
  } else if (!labels.process.level.empty()) {  // a policy may have none
    level = FLUYT_TRY(levels.take());
    labels.process.level = labels.file.level = level.level();
  }
  FLUYT_TRY_CONTEXT(check_selinux_label(options.selinux_places, labels.process.text()), kField);
  FLUYT_TRY_CONTEXT(check_selinux_label(options.selinux_places, labels.file.text()), kField);
  sandbox.process_label = labels.process.text();
  sandbox.file_label = labels.file.text();
  return level;
}

std::optional<spec::SelinuxLabels> labels_of(const Sandbox& sandbox) {
  auto process = spec::parse_selinux_context(sandbox.process_label);
  auto file = spec::parse_selinux_context(sandbox.file_label);
  if (!process.ok() || !file.ok()) return std::nullopt;
  return spec::SelinuxLabels{std::move(process).value(), std::move(file).value()};
}

McsLevels::Hold hold_level(McsLevels& levels, const Sandbox& sandbox) {
  const auto labels = labels_of(sandbox);
  return labels && !labels->process.level.empty() ? levels.hold(labels->process.level)
                                                  : McsLevels::Hold();
}

}  // namespace fluyt::engine
