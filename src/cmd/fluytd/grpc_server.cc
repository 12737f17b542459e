#include "grpc_server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "base/strings.h"
#include "rpc_watch.h"
#include "sys/epoll.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::daemon {
namespace {

constexpr mode_t kSocketMode = 0660;
/// ExecSync answers with up to 16 MiB of each stream.
constexpr int kMaxSendBytes = 40 << 20;
constexpr int kMaxReceiveBytes = 16 << 20;
/// A thread a call that blocks: exec, attach, stop with its grace. Beyond it calls are refused.
constexpr int kMaxThreads = 1024;
constexpr auto kAfterDeadline = std::chrono::milliseconds(500);

/// Somebody who can write to the folder could put another socket in our place.
Result<> check_folder(const std::string& path) {
  const std::string folder = path.substr(0, path.rfind('/'));
  FLUYT_TRY(sys::make_dirs(folder, 0755));
  const sys::Fd dir = FLUYT_TRY(sys::open(folder, O_PATH | O_DIRECTORY));
  const struct stat info = FLUYT_TRY(sys::stat_of(dir));
  if (info.st_uid != 0 || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Error(Code::kPermissionDenied,
                 cat("listen: ", folder, ": expected a folder that only root can write to"));
  }
  return {};
}

/// Whose the socket's name is: with socket activation it stays when we go.
enum class Name { kOurs, kOthers };

class SocketServer final : public GrpcServer {
 public:
  SocketServer(std::string path, Name name, sys::Fd listener, sys::Pipe wake, sys::Epoll epoll,
               Logger& logger)
      : path_(std::move(path)),
        name_(name),
        listener_(std::move(listener)),
        wake_(std::move(wake)),
        epoll_(std::move(epoll)),
        logger_(logger) {}
  SocketServer(const SocketServer&) = delete;
  SocketServer& operator=(const SocketServer&) = delete;
  ~SocketServer() override { stop_accepting(); }

  Result<> serve(const std::vector<grpc::Service*>& services, CallTable& calls, Tracing& tracing) {
    grpc::ServerBuilder builder;
    grpc::ResourceQuota quota("fluytd");
    quota.SetMaxThreads(kMaxThreads);
    builder.SetResourceQuota(quota);
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> watches;
    watches.push_back(make_rpc_watch(calls, tracing));
    builder.experimental().SetInterceptorCreators(std::move(watches));
    builder.SetMaxReceiveMessageSize(kMaxReceiveBytes);
    builder.SetMaxSendMessageSize(kMaxSendBytes);
    for (grpc::Service* service : services) builder.RegisterService(service);
    server_ = builder.BuildAndStart();
    if (!server_) return Error(Code::kInternal, "grpc: the server does not start");
    FLUYT_TRY(epoll_.add(listener_, EPOLLIN, [this](uint32_t) { accept(); }));
    FLUYT_TRY(epoll_.add(wake_.read, EPOLLIN | EPOLLHUP, [this](uint32_t) { stopping_ = true; }));
    thread_ = std::thread([this] { run(); });
    return {};
  }

  bool stop(Deadline deadline) override {
    stop_accepting();
    const auto left = std::chrono::milliseconds(std::max(deadline.poll_timeout_ms(), 0));
    server_->Shutdown(std::chrono::system_clock::now() + left);
    // Shutdown cancels what is left at the deadline, but a verb in the middle of its work does not
    // look: it must not keep us, its record says where to go on.
    auto done = std::async(std::launch::async, [this] { server_->Wait(); });
    const bool ended = done.wait_for(left + kAfterDeadline) == std::future_status::ready;
    if (!ended) abandoned_ = std::make_unique<std::future<void>>(std::move(done));
    return ended;
  }

 private:
  void run() {
    while (!stopping_) {
      const auto waited = epoll_.wait(-1);
      if (!waited.ok()) {
        logger_.error(cat("listen: ", waited.error().message()));
        return;
      }
    }
  }

  void accept() {
    auto accepted = sys::accept_from(listener_);
    if (!accepted.ok()) {
      logger_.warn(cat("listen: ", accepted.error().message()));
      // Out of descriptors, most likely: the listener stays ready, so do not spin on it.
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      return;
    }
    const auto unblocked = sys::set_nonblocking(*accepted, true);
    if (!unblocked.ok()) {
      logger_.warn(cat("listen: ", unblocked.error().message()));
      return;
    }
    grpc::AddInsecureChannelFromFd(server_.get(), accepted->release());
  }

  void stop_accepting() {
    wake_.write.reset();  // end of file wakes the thread
    if (thread_.joinable()) thread_.join();
    if (listener_.valid()) {
      listener_.reset();
      if (name_ == Name::kOthers) return;
      sys::remove_file(sys::kCwd, path_).ignore("the next start replaces a dead socket");
    }
  }

  std::string path_;
  Name name_;
  sys::Fd listener_;
  sys::Pipe wake_;
  sys::Epoll epoll_;
  Logger& logger_;
  std::atomic<bool> stopping_{false};
  std::unique_ptr<grpc::Server> server_;
  std::thread thread_;
  std::unique_ptr<std::future<void>> abandoned_;
};

}  // namespace

Result<std::unique_ptr<GrpcServer>> GrpcServer::start(const std::string& path, sys::Fd listener,
                                                      const std::vector<grpc::Service*>& services,
                                                      CallTable& calls, Tracing& tracing,
                                                      Logger& logger) {
  FLUYT_TRY(check_folder(path));
  const Name name = listener.valid() ? Name::kOthers : Name::kOurs;
  if (name == Name::kOurs) {
    listener = FLUYT_TRY_CONTEXT(sys::listen_unix(path, SOCK_STREAM, kSocketMode), "listen");
  } else {
    FLUYT_TRY(sys::set_nonblocking(listener, true));
  }
  auto server =
      std::make_unique<SocketServer>(path, name, std::move(listener), FLUYT_TRY(sys::make_pipe()),
                                     FLUYT_TRY(sys::Epoll::create()), logger);
  FLUYT_TRY(server->serve(services, calls, tracing));
  return std::unique_ptr<GrpcServer>(std::move(server));
}

}  // namespace fluyt::daemon
