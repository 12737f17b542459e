#include <grpcpp/impl/service_type.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "base/strings.h"
#include "cmd/fluytd/config/load.h"
#include "cmd/fluytd/log/log.h"
#include "cmd/fluytd/service/manager.h"
#include "cmd/fluytd/service/watchdog.h"
#include "cmd/fluytd/tracing/tracing.h"
#include "command_line.h"
#include "config_verbs.h"
#include "control/control_service.h"
#include "cri/service.h"
#include "engine/engine.h"
#include "engine/layout.h"
#include "grpc_server.h"
#include "image/library.h"
#include "metrics_endpoint.h"
#include "metrics_page.h"
#include "monitor/client/client.h"
#include "network_switch.h"
#include "options.h"
#include "reload.h"
#include "streaming/server.h"
#include "sys/file.h"
#include "sys/memory.h"
#include "sys/pid_lock.h"
#include "sys/precedence.h"

/// Builds the parts, hands them down, serves until it is told to end. Containers go on after it.
namespace fluyt::daemon {
namespace {

constexpr int64_t kStopMs = 3'000;
constexpr int64_t kLockMs = 5'000;  // for children of one that was killed
constexpr int64_t kLastSpansMs = 1'000;

/// Two daemons on one root would undo each other's work. The lock lives as long as the descriptor.
Result<sys::Fd> lock_root(const std::string& root) {
  FLUYT_TRY_CONTEXT(sys::make_dirs(root, 0700), "--root");
  auto lock = sys::take_pid_lock(root + "/fluytd.lock", Deadline::after_ms(kLockMs));
  if (lock.ok() || lock.error().code() != Code::kAlreadyExists) return lock;
  return Error(Code::kAlreadyExists,
               cat("--root: ", root, ": another fluytd serves it: ", lock.error().message()));
}

struct Served {
  std::unique_ptr<engine::Engine> engine;
  image::Library* images;  // of the store that the engine has
  NetworkSwitch* network;  // the engine's
};

Result<Served> make_engine(const Settings& settings, CallTable& network_calls, Logger& logger) {
  // Before any part looks into the folders, for some tidy up.
  FLUYT_TRY(engine::check_layout(settings.root + "/engine"));
  FLUYT_TRY(engine::check_layout(settings.state));
  engine::Parts parts;
  parts.precedence = FLUYT_TRY(sys::Precedence::create());
  image::StoreOptions store = FLUYT_TRY(store_options(settings));
  store.precedence = parts.precedence;
  parts.images = FLUYT_TRY_CONTEXT(image::ImageStore::open(std::move(store), logger), "images");
  auto network = FLUYT_TRY_CONTEXT(
      NetworkSwitch::open(network_options(settings), network_calls, logger), "network");
  NetworkSwitch* const network_switch = network.get();
  parts.network = std::move(network);
  parts.hub = FLUYT_TRY_CONTEXT(monitor::Hub::create(logger), "monitors");
  image::Library& library = image::library_of(*parts.images);
  library.keep_pinned(settings.pinned_images);
  auto engine = FLUYT_TRY(engine::Engine::open(engine_options(settings), std::move(parts), logger));
  return Served{std::move(engine), &library, network_switch};
}

/// Blocks the signals that end us, in this thread and every one it starts.
sigset_t block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

/// Comes back when no lock of the engine's is held for good.
void look_at(engine::Engine& engine) {
  engine.list_sandboxes({});
  engine.list_containers({});
}

void wait_for_end(const sigset_t& signals, const ServiceManager& manager,
                  const std::string& serving, Reloader& reloader, Logger& logger) {
  while (true) {
    int signal = 0;
    if (::sigwait(&signals, &signal) != 0) continue;
    if (signal != SIGHUP) return;
    manager.reloading();
    const Result<> reloaded = reloader.reload();
    if (!reloaded.ok()) {
      logger.error(cat("reload: nothing changed: ", reloaded.error().message()));
    }
    manager.ready(serving);
  }
}

cri::ServerInfo info_of(Reloader& reloader) {
  const auto config = reloader.in_force();
  const Settings& settings = config->settings;
  return {.listen = settings.listen,
          .config_files = config->files,
          .config_loaded_at = config->loaded_at,
          .config_refused = reloader.config().refused,
          .certs_dir = settings.certs_dir,
          .cni_conf_dir = settings.cni_conf_dir,
          .cni_bin_dirs = join(settings.cni_bin_dirs, ":")};
}

Result<> serve(const Invocation& invocation, const Config& config, ServiceManager& manager,
               const sigset_t& signals, Log& logger) {
  const Settings& settings = config.settings;
  const sys::Fd lock = FLUYT_TRY(lock_root(settings.root));
  CallTable rpcs;
  CallTable network_calls;
  const Served served = FLUYT_TRY(make_engine(settings, network_calls, logger));
  engine::Engine* const engine = served.engine.get();

  const auto streams = FLUYT_TRY(streaming::Server::start(settings.streaming, *engine, logger));
  MetricsEndpoint metrics(logger);
  Tracing tracing(settings.tracing, logger);
  Reloader reloader(invocation, config,
                    {*engine, *served.images, *served.network, *streams, metrics, tracing, logger});
  const auto runtime =
      cri::make_runtime_service(*engine, *streams, [&reloader] { return info_of(reloader); });
  const auto images = cri::make_image_service(*engine);
  const auto control = control::make_control_service(*engine, *served.images, reloader);
  const std::string path = settings.listen.substr(std::string_view("unix:").size());
  const auto server = FLUYT_TRY(GrpcServer::start(path, FLUYT_TRY(manager.take_listener(path)),
                                                  {runtime.get(), images.get(), control.get()},
                                                  rpcs, tracing, logger));
  const MetricsSources sources{*engine, reloader, rpcs, network_calls, tracing, logger};
  FLUYT_TRY(metrics.start([&sources] { return metrics_page(sources); }, settings.metrics_listen));
  const std::string serving = cat("serves ", settings.listen);
  logger.info(cat("fluytd " FLUYT_VERSION " ", serving));
  Watchdog watchdog(manager, [engine] { look_at(*engine); }, path, logger);
  manager.ready(serving);
  sys::drop_start_pages().ignore("they are the kernel's to take anyway");

  wait_for_end(signals, manager, serving, reloader, logger);
  manager.stopping();
  watchdog.stop();
  logger.info("stopping; containers go on");
  metrics.stop();
  engine->end_events();
  const Deadline deadline = Deadline::after_ms(kStopMs);
  const bool sessions_ended = streams->stop(deadline);
  const bool calls_ended = server->stop(deadline);
  tracing.stop(Deadline::after_ms(kLastSpansMs));
  if (!calls_ended || !sessions_ended) {
    // A verb hangs in something slow. Every record was written before the world was changed, so
    // ending here is what the next start is made for.
    logger.warn("calls are still under way; the next start finishes them");
    ::_exit(0);
  }
  return {};
}

int serve_until_told(const Invocation& invocation) {
  const auto config = load_config(invocation);
  if (!config.ok()) {
    std::fprintf(stderr, "fluytd: %s\n", config.error().message().c_str());
    return 2;
  }
  ::umask(022);
  (void)std::signal(SIGPIPE, SIG_IGN);
  const sigset_t signals = block_signals();
  const auto log = Log::open(config->settings.log);
  if (!log.ok()) {
    std::fprintf(stderr, "fluytd: %s\n", log.error().message().c_str());
    return 1;
  }
  auto manager = ServiceManager::from_environment();
  const Result<> served = manager.ok() ? serve(invocation, *config, *manager, signals, **log)
                                       : Result<>(std::move(manager).error());
  if (!served.ok()) {
    (*log)->error(served.error().message());
    return 1;
  }
  return 0;
}

int run(int argc, char** argv) {
  const CommandLine command = parse_command_line(argc, argv);
  switch (command.verb) {
    case CommandLine::Verb::kServe:
      return serve_until_told(command.invocation);
    case CommandLine::Verb::kConfigDefault:
      return print_default_config();
    case CommandLine::Verb::kConfigCheck:
      return check_config(command.invocation);
    case CommandLine::Verb::kConfigDump:
      return dump_config(command.invocation);
    case CommandLine::Verb::kDone:
      return 0;
    case CommandLine::Verb::kUsage:
      break;
  }
  return 2;
}

}  // namespace
}  // namespace fluyt::daemon

int main(int argc, char** argv) {
  fluyt::sys::share_heaps();
  return fluyt::daemon::run(argc, argv);
}
