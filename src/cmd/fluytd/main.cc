#include <grpcpp/impl/service_type.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "base/strings.h"
#include "cmd/fluytd/config/load.h"
#include "cmd/fluytd/service/manager.h"
#include "cmd/fluytd/service/watchdog.h"
#include "command_line.h"
#include "config_verbs.h"
#include "control/control_service.h"
#include "cri/service.h"
#include "engine/engine.h"
#include "engine/layout.h"
#include "grpc_server.h"
#include "image/auth/credential_table.h"
#include "image/library.h"
#include "monitor/client/client.h"
#include "network/network.h"
#include "stderr_log.h"
#include "streaming/server.h"
#include "sys/file.h"
#include "sys/memory.h"

/// Builds the parts, hands them down, serves until it is told to end. Containers go on after it.
namespace fluyt::daemon {
namespace {

constexpr int64_t kStopMs = 3'000;

/// Two daemons on one root would undo each other's work. The lock lives as long as the descriptor.
Result<sys::Fd> lock_root(const std::string& root) {
  FLUYT_TRY_CONTEXT(sys::make_dirs(root, 0700), "--root");
  sys::Fd lock = FLUYT_TRY(sys::open(root + "/fluytd.lock", O_RDWR | O_CREAT, 0600));
  if (::flock(lock.raw(), LOCK_EX | LOCK_NB) != 0) {
    constexpr size_t kMaxHolder = 64;
    const auto holder = sys::read_all(lock, kMaxHolder);
    const auto pid = holder.ok() ? parse_number<int64_t>(trim(*holder)) : std::nullopt;
    return Error(Code::kAlreadyExists, cat("--root: ", root, ": another fluytd serves it",
                                           pid ? cat(": pid ", *pid) : std::string()));
  }
  // For the message to the next who comes.
  if (::ftruncate(lock.raw(), 0) == 0) {
    sys::write_all(lock, cat(::getpid(), "\n")).ignore("a full disk is no reason not to start");
  }
  return lock;
}

struct Served {
  std::unique_ptr<engine::Engine> engine;
  image::Library* images;  // of the store that the engine has
};

Result<Served> make_engine(const Settings& settings, Logger& logger) {
  // Before any part looks into the folders, for some tidy up.
  FLUYT_TRY(engine::check_layout(settings.root + "/engine"));
  FLUYT_TRY(engine::check_layout(settings.state));
  const auto proxies =
      FLUYT_TRY(image::registry::proxy_settings_from([](const char* name) -> std::string {
        const char* value = std::getenv(name);
        return value == nullptr ? "" : value;
      }));
  image::CredentialTable credentials;
  for (const auto& [match, entry] : settings.credentials) {
    FLUYT_TRY_CONTEXT(credentials.add(match, entry), "image.credentials");
  }
  engine::Parts parts;
  parts.images =
      FLUYT_TRY_CONTEXT(image::ImageStore::open({.root = settings.root + "/image",
                                                 .certs_dir = settings.certs_dir,
                                                 .unpack_program = settings.unpack_program,
                                                 .parallel_fetches = settings.parallel_fetches,
                                                 .layer_form = settings.layer_form,
                                                 .root_driver = settings.root_driver,
                                                 .keep_blobs = settings.keep_blobs,
                                                 .credentials = std::move(credentials),
                                                 .auth_file = settings.auth_file,
                                                 .proxies = proxies,
                                                 .verify = settings.verify},
                                                logger),
                        "images");
  parts.network =
      FLUYT_TRY_CONTEXT(network::Network::open(
                            {.conf_dir = settings.cni_conf_dir,
                             .bin_dirs = settings.cni_bin_dirs,
                             .cache_dir = settings.root + "/cni",
                             .plugins = settings.network_builtin ? network::Plugins::kBuiltIn
                                                                 : network::Plugins::kProgramsOnly},
                            logger),
                        "network");
  parts.hub = FLUYT_TRY_CONTEXT(monitor::Hub::create(logger), "monitors");
  image::Library& library = image::library_of(*parts.images);
  library.keep_pinned(settings.pinned_images);
  auto engine = engine::Engine::open({.root = settings.root + "/engine",
                                      .state = settings.state,
                                      .logs = settings.root + "/logs",
                                      .monitor_program = settings.monitor_program,
                                      .pod_init_program = settings.pod_init_program,
                                      .cgroup_driver = settings.cgroup_driver,
                                      .default_cgroup_parent = settings.cgroup_parent,
                                      .cdi_dirs = settings.cdi_dirs,
                                      .monitor_cgroup_parent = settings.monitor_cgroup_parent,
                                      .handlers = settings.handlers,
                                      .default_handler = settings.default_handler},
                                     std::move(parts), logger);
  if (!engine.ok()) return std::move(engine).error();
  return Served{std::move(*engine), &library};
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
                  const std::string& serving, streaming::Server& streams, Logger& logger) {
  while (true) {
    int signal = 0;
    if (::sigwait(&signals, &signal) != 0) continue;
    if (signal != SIGHUP) return;
    manager.reloading();
    logger.info(
        "SIGHUP: the streaming certificate is read again; hosts.toml files and CNI configurations "
        "are always read anew; nothing else is");
    streams.reload();
    manager.ready(serving);
  }
}

Result<> serve(const Config& config, ServiceManager& manager, const sigset_t& signals,
               Logger& logger) {
  const Settings& settings = config.settings;
  const sys::Fd lock = FLUYT_TRY(lock_root(settings.root));
  const Served served = FLUYT_TRY(make_engine(settings, logger));
  engine::Engine* const engine = served.engine.get();

  const auto streams = FLUYT_TRY(streaming::Server::start(settings.streaming, *engine, logger));
  const cri::ServerInfo info{.listen = settings.listen,
                             .config_file = join(config.files, ":"),
                             .certs_dir = settings.certs_dir,
                             .cni_conf_dir = settings.cni_conf_dir,
                             .cni_bin_dirs = join(settings.cni_bin_dirs, ":")};
  const auto runtime = cri::make_runtime_service(*engine, *streams, info);
  const auto images = cri::make_image_service(*engine);
  const auto control = control::make_control_service(*engine, *served.images);
  const std::string path = settings.listen.substr(std::string_view("unix:").size());
  const auto server =
      FLUYT_TRY(GrpcServer::start(path, FLUYT_TRY(manager.take_listener(path)),
                                  {runtime.get(), images.get(), control.get()}, logger));
  const std::string serving = cat("serves ", settings.listen);
  logger.info(cat("fluytd " FLUYT_VERSION " ", serving));
  Watchdog watchdog(manager, [engine] { look_at(*engine); }, path, logger);
  manager.ready(serving);
  sys::drop_start_pages().ignore("they are the kernel's to take anyway");

  wait_for_end(signals, manager, serving, *streams, logger);
  manager.stopping();
  watchdog.stop();
  logger.info("stopping; containers go on");
  engine->end_events();
  const Deadline deadline = Deadline::after_ms(kStopMs);
  const bool sessions_ended = streams->stop(deadline);
  if (!server->stop(deadline) || !sessions_ended) {
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
  const auto logger = make_stderr_logger(config->settings.log_level);
  auto manager = ServiceManager::from_environment();
  const Result<> served = manager.ok() ? serve(*config, *manager, signals, *logger)
                                       : Result<>(std::move(manager).error());
  if (!served.ok()) {
    logger->error(served.error().message());
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

int main(int argc, char** argv) { return fluyt::daemon::run(argc, argv); }
