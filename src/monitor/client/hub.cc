#include <sys/stat.h>

#include <cerrno>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/strings.h"
#include "monitor/client/clean.h"
#include "monitor/client/client.h"
#include "monitor/client/connection.h"
#include "monitor/client/hub_thread.h"
#include "monitor/client/launch.h"
#include "monitor/protocol/release.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

constexpr int64_t kReadyMs = 20'000;
constexpr int64_t kHelloMs = 10'000;

class SocketHub final : public Hub {
 public:
  explicit SocketHub(std::shared_ptr<HubThread> thread) : thread_(std::move(thread)) {}
  ~SocketHub() override {
    thread_->stop();
    for (const auto& weak : *connections_.lock()) {
      if (auto connection = weak.lock()) connection->fail_all("the hub was stopped");
    }
  }
  SocketHub(const SocketHub&) = delete;
  SocketHub& operator=(const SocketHub&) = delete;

  Result<std::shared_ptr<Client>> launch(const LaunchOptions& options, Events events) override {
    const sys::FdRef monitor =
        FLUYT_TRY_CONTEXT(program(options.monitor_program), "monitor program");
    const sys::FdRef pod_init =
        FLUYT_TRY_CONTEXT(program(options.pod_init_program), "pod init program");
    FLUYT_TRY(sys::make_dirs(options.state_dir, 0700));
    if (chmod(options.state_dir.c_str(), 0700) != 0) {
      return Error::from_errno(errno, cat("chmod(", quote(options.state_dir, 1024), ")"));
    }
    FLUYT_TRY(start_monitor(options, monitor, pod_init, Deadline::after_ms(kReadyMs)));
    return open(options.sandbox_id, options.state_dir, std::move(events));
  }

  Result<std::shared_ptr<Client>> adopt(const std::string& sandbox_id, const std::string& state_dir,
                                        Events events) override {
    auto opened = open(sandbox_id, state_dir, std::move(events));
    if (opened.ok() || opened.error().code() == Code::kNotFound) return opened;
    // It may have ended while it was asked.
    const auto lacks = lacks_monitor(state_dir);
    if (!lacks.ok() || !*lacks) return opened;
    return std::move(opened).error().with_code(Code::kNotFound);
  }

  Result<bool> renew(Client& client, const LaunchOptions& options, Deadline deadline) override {
    if (client.program() == release()) return false;
    const sys::FdRef monitor =
        FLUYT_TRY_CONTEXT(program(options.monitor_program), "monitor program");
    const sys::FdRef pod_init =
        FLUYT_TRY_CONTEXT(program(options.pod_init_program), "pod init program");
    FLUYT_TRY(client.replace(monitor, pod_init, deadline));
    return true;
  }

 private:
  Result<std::shared_ptr<Client>> open(const std::string& sandbox_id, const std::string& state_dir,
                                       Events events) {
    auto connection = FLUYT_TRY(Connection::open(thread_, sandbox_id, state_dir, std::move(events),
                                                 Deadline::after_ms(kHelloMs)));
    auto connections = connections_.lock();
    std::erase_if(*connections, [](const auto& weak) { return weak.expired(); });
    connections->push_back(connection);
    return std::shared_ptr<Client>(std::move(connection));
  }

  // Mounted once: every monitor is started from the same mount.
  Result<sys::FdRef> program(const std::string& path) {
    auto programs = programs_.lock();
    const auto known = programs->find(path);
    if (known != programs->end()) return known->second.ref();
    sys::Fd mounted = FLUYT_TRY(mount_program(path));
    return programs->emplace(path, std::move(mounted)).first->second.ref();
  }

  std::shared_ptr<HubThread> thread_;
  Guarded<std::map<std::string, sys::Fd>> programs_;
  Guarded<std::vector<std::weak_ptr<Connection>>> connections_;
};

}  // namespace

Result<std::unique_ptr<Hub>> Hub::create(Logger& logger) {
  return std::unique_ptr<Hub>(std::make_unique<SocketHub>(FLUYT_TRY(HubThread::create(logger))));
}

}  // namespace fluyt::monitor
