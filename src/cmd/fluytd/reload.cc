#include "reload.h"

#include <utility>

#include "base/log_levels.h"
#include "base/strings.h"
#include "options.h"

namespace fluyt::daemon {

Reloader::Reloader(Invocation invocation, daemon::Config config, ReloadParts parts)
    : invocation_(std::move(invocation)),
      parts_(parts),
      in_force_(InForce{.config = std::make_shared<const daemon::Config>(std::move(config)),
                        .refused = {}}) {}

control::Daemon::Config Reloader::config() {
  const InForce now = *in_force_.lock();
  return {.files = now.config->files, .loaded_at = now.config->loaded_at, .refused = now.refused};
}

void Reloader::set_log_level(LogLevel level) {
  const LogLevel before = parts_.log.level();
  parts_.log.set_level(level);
  parts_.log.info(cat("log level: ", log_level_name(before), " -> ", log_level_name(level)));
}

Result<> Reloader::reload() {
  const std::scoped_lock one_at_a_time(reloading_);
  Result<> done = try_to();
  in_force_.lock()->refused = done.ok() ? std::string() : done.error().message();
  return done;
}

Result<> Reloader::try_to() {
  const auto old = in_force();
  daemon::Config next = FLUYT_TRY(load_config(invocation_));
  const std::vector<Change> changes = changes_between(old->settings, next);
  keep_fixed(old->settings, next.settings);
  for (const Commit& commit : FLUYT_TRY(prepare(next.settings, changes))) commit();
  say(changes, next);
  in_force_.lock()->config = std::make_shared<const daemon::Config>(std::move(next));
  return {};
}

Result<std::vector<Reloader::Commit>> Reloader::prepare(const Settings& settings,
                                                        const std::vector<Change>& changes) {
  std::vector<Commit> commits;
  // Every time, for files behind the same names: a log that was moved away, a new certificate.
  commits.push_back(FLUYT_TRY(parts_.log.prepare(settings.log)));
  commits.push_back(FLUYT_TRY(parts_.streams.prepare(settings.streaming)));
  commits.push_back(FLUYT_TRY(parts_.metrics.prepare(settings.metrics_listen)));
  commits.push_back(parts_.tracing.prepare(settings.tracing));
  if (touches(changes, "image") || touches(changes, "programs")) {
    commits.push_back(
        FLUYT_TRY_CONTEXT(parts_.images.prepare(FLUYT_TRY(store_change(settings))), "image"));
  }
  if (touches(changes, "cni") || touches(changes, "network")) {
    commits.push_back(
        FLUYT_TRY_CONTEXT(parts_.network.prepare(network_options(settings), parts_.log), "cni"));
  }
  commits.push_back(FLUYT_TRY(parts_.engine.prepare(engine_options(settings))));
  return commits;
}

void Reloader::say(const std::vector<Change>& changes, const daemon::Config& config) {
  size_t count = 0;
  for (const Change& change : changes) {
    // Secrets look alike.
    const std::string what =
        change.from == change.to ? "changed" : cat(change.from, " -> ", change.to);
    const std::string line =
        cat("reload: ", change.key, ": ", what, " (", change.place.text(), ")");
    if (change.by_restart) {
      parts_.log.warn(cat(line, ": takes a restart: ", change.from, " stays in force"));
    } else {
      parts_.log.info(line);
      ++count;
    }
  }
  parts_.log.info(cat("reload: ", count, " keys changed; read: ",
                      config.files.empty() ? "no file" : join(config.files, ", ")));
}

}  // namespace fluyt::daemon
