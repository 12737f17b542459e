#include "engine/engine.h"

#include "base/id.h"
#include "base/strings.h"
#include "engine/cgroup_parent.h"
#include "engine/core.h"
#include "engine/layout.h"
#include "engine/selinux.h"
#include "engine/spec_input.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::engine {
namespace {

class HandlerSubscription final : public Subscription {
 public:
  explicit HandlerSubscription(std::shared_ptr<Engine::Core::Handler> handler)
      : handler_(std::move(handler)) {}
  HandlerSubscription(const HandlerSubscription&) = delete;
  HandlerSubscription& operator=(const HandlerSubscription&) = delete;
  ~HandlerSubscription() override {
    const std::scoped_lock lock(handler_->mutex);
    handler_->function = nullptr;
  }

 private:
  std::shared_ptr<Engine::Core::Handler> handler_;
};

Result<> check_cgroups(const Options& options) {
  const CgroupDriver driver = options.cgroup_driver;
  for (const auto& [key, parent] : {std::pair{"cgroup.parent", &options.default_cgroup_parent},
                                    {"cgroup.monitors", &options.monitor_cgroup_parent}}) {
    if (!parent->empty()) FLUYT_TRY_CONTEXT(check_cgroup_parent(driver, *parent), key);
  }
  if (driver == CgroupDriver::kCgroupfs) return {};
  FLUYT_TRY_CONTEXT(runtime::cgroup::check_driver(runtime::cgroup::Driver::kSystemd),
                    "cgroup.driver: \"systemd\"");
  return {};
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::open(Options options, Parts parts, Logger& logger) {
  FLUYT_TRY(check_cgroups(options));
  if (options.default_cgroup_parent.empty())
    options.default_cgroup_parent = default_parent(options.cgroup_driver);
  if (options.monitor_cgroup_parent.empty())
    options.monitor_cgroup_parent = default_monitor_parent(options.cgroup_driver);
  FLUYT_TRY(check_layout(options.root));
  FLUYT_TRY(check_layout(options.state));
  FLUYT_TRY(sys::make_dirs(options.root, 0700));
  // Containers' processes of other users pass through here to their mounts' sources: no listing.
  FLUYT_TRY(sys::make_dirs(options.state + "/sandboxes", 0711));
  auto store = FLUYT_TRY(Store::open(options.root + "/engine.db"));
  const auto core =
      std::make_shared<Core>(std::move(options), std::move(parts), std::move(store), logger);
  core->log_if_failed(mark_layout(core->options.root), "layout");
  core->log_if_failed(mark_layout(core->options.state), "layout");
  core->boot_id = FLUYT_TRY(sys::boot_id());
  core->host = probe_host();
  if (const auto ids = core->parts.images->probe_ids(); !ids.ok()) {
    core->host.no_user_namespaces = ids.error().message();
    core->host.lacks.push_back(
        cat("what pods' user namespaces take: ", core->host.no_user_namespaces));
  }
  core->spec_host = std::make_shared<const spec::Host>(probe_spec_host(core->host));
  core->cgroup_host =
      std::make_shared<const runtime::cgroup::Host>(FLUYT_TRY(runtime::cgroup::probe()));
  if (core->spec_host->apparmor && core->spec_host->apparmor_default.empty()) {
    core->host.lacks.emplace_back(
        "an AppArmor profile of the name fluyt-default: containers with RuntimeDefault have none");
  }
  if (const auto selinux = selinux_of(*core->now()); !selinux.ok()) {
    core->host.lacks.push_back(
        cat("SELinux's contexts, without which no pod is made: ", selinux.error().message()));
  } else if (!selinux->lacks.empty()) {
    core->host.lacks.push_back(cat(selinux->lacks, ": containers have no labels"));
  }
  core->instance = make_id().substr(0, 12);
  for (const auto& lack : core->host.lacks) logger.warn(cat("this host lacks ", lack));
  core->features.ask_all(*core->now(), core->logger);
  FLUYT_TRY(core->recover());
  return std::unique_ptr<Engine>(new Engine(core));
}

Engine::Engine(std::shared_ptr<Core> core) : core_(std::move(core)) {}

Engine::~Engine() {
  core_->worker.stop();
  core_->enders.stop();
  core_->network_worker.stop();
  core_->renewer.stop();
  core_->layer_usage.stop();
  // Connections first, then their thread: after this no event comes any more.
  for (const auto& entry : core_->sandboxes()) entry->set_client(nullptr);
  core_->parts.hub.reset();
}

Options Engine::options() const { return *core_->now(); }

Result<std::function<void()>> Engine::prepare(Options options) {
  options.root = core_->options.root;
  options.state = core_->options.state;
  options.logs = core_->options.logs;
  options.cgroup_driver = core_->options.cgroup_driver;
  FLUYT_TRY(check_cgroups(options));
  for (const RuntimeHandler& handler : options.handlers) FLUYT_TRY(check_handler(handler));
  auto next = std::make_shared<const Options>(std::move(options));
  FLUYT_TRY(choose_handler(*next, next->default_handler));
  core_->features.ask_changed(*next, core_->logger);
  return std::function<void()>([core = core_, next] { *core->changing.lock() = next; });
}

size_t Engine::count_monitors() {
  size_t count = 0;
  for (const auto& entry : core_->sandboxes()) count += entry->client() ? 1 : 0;
  return count;
}

uint64_t Engine::count_dropped_log_bytes() const { return core_->log_bytes_dropped; }

HostStatus Engine::status() {
  HostStatus status;
  status.network = core_->parts.network->status();
  status.handlers = core_->handler_statuses();
  status.user_namespaces = core_->host.no_user_namespaces.empty();
  status.instance = core_->instance;
  status.lacks = core_->host.lacks;
  const std::vector<BrokenRecord> broken = *core_->broken.lock();
  for (const auto& record : broken) {
    status.set_aside.push_back(cat(record.kind, " ", record.id, ": ", record.reason));
  }
  return status;
}

void Engine::end_events() {
  const std::scoped_lock order(core_->event_order);
  core_->tell(Event{.kind = Event::Kind::kEnd,
                    .time = now_unix_ns(),
                    .sandbox = {},
                    .container = {},
                    .containers = {},
                    .image = {}});
}

std::unique_ptr<Subscription> Engine::subscribe(std::function<void(const Event&)> handler) {
  auto shared = std::make_shared<Core::Handler>();
  shared->function = std::move(handler);
  // Between two events, so that of a change and its event it gets both or neither.
  const std::scoped_lock order(core_->event_order);
  core_->handlers.lock()->push_back(shared);
  return std::make_unique<HandlerSubscription>(std::move(shared));
}

}  // namespace fluyt::engine
