#include "engine/selinux.h"

#include <cerrno>
#include <optional>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

constexpr std::string_view kField = "linux.security_context.selinux_options";
constexpr size_t kMaxFile = 1UL << 20U;
constexpr size_t kMaxLabel = 4096;  // of selinuxfs: a page

spec::SelinuxOptions options_of(const std::optional<SelinuxOptions>& from) {
  if (!from) return {};
  return {from->user, from->role, from->type, from->level};
}

/// Nothing: there is no such file.
Result<std::optional<std::string>> read_if_there(const std::string& path) {
  auto text = sys::read_file(path, kMaxFile);
  if (!text.ok() && text.error().errno_value() == ENOENT) return std::optional<std::string>();
  return std::optional(FLUYT_TRY(std::move(text)));
}

/// What is there of it: container-selinux's file, which is for all policies, else the policy's own.
Result<spec::SelinuxLabels> policy_labels(const SelinuxPlaces& places) {
  std::string from = places.contexts;
  auto text = FLUYT_TRY(read_if_there(from));
  if (!text) {
    const auto config = FLUYT_TRY(read_if_there(places.policies + "/config"));
    const std::string policy = spec::selinux_policy_of(config.value_or(""));
    from = cat(places.policies, "/", policy, "/contexts/lxc_contexts");
    text = FLUYT_TRY(read_if_there(from));
  }
  return FLUYT_TRY_CONTEXT(spec::parse_container_contexts(text.value_or("")), from);
}

}  // namespace

Result<std::string> canonical_label(const SelinuxPlaces& places, const std::string& label) {
  if (places.canonical) return places.canonical(label);
  auto known = sys::transact(places.selinuxfs + "/context",
                             std::string_view(label.c_str(), label.size() + 1), kMaxLabel);
  if (!known.ok() && known.error().errno_value() == EINVAL) {
    return Error(Code::kInvalidArgument,
                 cat(quote(label), ": the host's SELinux policy knows no such label"));
  }
  const std::string text = FLUYT_TRY(std::move(known));
  return text.substr(0, text.find('\0'));
}

Result<SelinuxHost> selinux_of(const Options& options) {
  const SelinuxPlaces& places = options.selinux_places;
  SelinuxHost host;
  if (!options.selinux || !sys::exists(places.selinuxfs + "/enforce")) return host;
  host.containers = FLUYT_TRY(policy_labels(places));
  for (const spec::SelinuxContext* one : {&host.containers.process, &host.containers.file}) {
    auto known = canonical_label(places, one->text());
    if (known.ok()) continue;
    if (known.error().code() != Code::kInvalidArgument) return std::move(known).error();
    host.lacks = cat("an SELinux policy for containers: ", known.error().message());
    return host;
  }
  host.enabled = true;
  return host;
}

Result<McsLevels::Hold> label_sandbox(const Options& options, McsLevels& levels, Logger& logger,
                                      Sandbox& sandbox) {
  const spec::SelinuxOptions asked = options_of(sandbox.config.selinux);
  const SelinuxHost host = FLUYT_TRY_CONTEXT(selinux_of(options), "SELinux");
  if (!host.enabled) {
    if (host.lacks.empty()) return McsLevels::Hold();
    if (asked != spec::SelinuxOptions{})
      return Error(Code::kFailedPrecondition, cat(kField, ": this host lacks ", host.lacks));
    logger.warn(cat("sandbox ", sandbox.id, " has no labels: this host lacks ", host.lacks));
    return McsLevels::Hold();
  }
  spec::SelinuxLabels labels =
      FLUYT_TRY_CONTEXT(spec::selinux_labels(host.containers, asked), kField);
  McsLevels::Hold level;
  if (asked.level.empty() && !labels.process.level.empty()) {  // a policy may have none
    level = FLUYT_TRY(levels.take());
    labels.process.level = labels.file.level = level.level();
  }
  const SelinuxPlaces& places = options.selinux_places;
  sandbox.process_label = FLUYT_TRY_CONTEXT(canonical_label(places, labels.process.text()), kField);
  sandbox.file_label = FLUYT_TRY_CONTEXT(canonical_label(places, labels.file.text()), kField);
  if (!asked.level.empty()) level = hold_level(levels, sandbox.file_label);
  return level;
}

std::optional<spec::SelinuxLabels> labels_of(const Sandbox& sandbox) {
  auto process = spec::parse_selinux_context(sandbox.process_label);
  auto file = spec::parse_selinux_context(sandbox.file_label);
  if (!process.ok() || !file.ok()) return std::nullopt;
  return spec::SelinuxLabels{std::move(process).value(), std::move(file).value()};
}

McsLevels::Hold hold_level(McsLevels& levels, const std::string& file_label) {
  const auto label = spec::parse_selinux_context(file_label);
  return label.ok() && !label->level.empty() ? levels.hold(label->level) : McsLevels::Hold();
}

}  // namespace fluyt::engine
