#include "rpc_watch.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_interceptor.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "base/time.h"
#include "base/walk_listener.h"
#include "cmd/fluytd/tracing/traced_call.h"

namespace fluyt::daemon {
namespace {

namespace experimental = grpc::experimental;

/// What becomes of a call in tracing. gRPC's threads run all of a call, from its metadata to its
/// status, and so do the walks in it.
class Trace {
 public:
  Trace(Tracing& tracing, const char* method) : tracing_(tracing), method_(method) {}

  void begin(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) {
    // Also where there is nothing to hear, for a call before may have ended without a status.
    trace::listen_on_this_thread({});
    if (!tracing_.is_on()) return;
    auto call = std::make_shared<TracedCall>();
    if (const auto found = metadata.find("traceparent"); found != metadata.end()) {
      call->origin = parse_traceparent({found->second.data(), found->second.size()});
    }
    if (call->origin && !call->origin->sampled) return;
    call->began_unix_ns = now_unix_ns();
    call_ = call;
    trace::listen_on_this_thread([call](const trace::Walk& walk) { call->walks.push_back(walk); });
  }

  void end(const grpc::Status& status, int64_t took_ns) {
    if (!call_) return;
    trace::listen_on_this_thread({});
    if (call_->walks.empty()) return;
    call_->method = method_;
    call_->took_ns = took_ns;
    call_->status_code = status.error_code();
    call_->status_message = status.error_message();
    tracing_.add(std::move(*call_));
    call_.reset();
  }

 private:
  Tracing& tracing_;
  const char* const method_;  // the server's
  std::shared_ptr<TracedCall> call_;
};

class Watch final : public experimental::Interceptor {
 public:
  Watch(Calls& calls, Tracing& tracing, const char* method)
      : calls_(calls), trace_(tracing, method), began_ns_(now_boot_ns()) {
    ++calls_.running;
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  /// A call whose caller has gone may never come to send its status.
  ~Watch() override {
    if (!counted_) count(grpc::StatusCode::CANCELLED);
  }

  void Intercept(experimental::InterceptorBatchMethods* methods) override {
    using experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      trace_.begin(*methods->GetRecvInitialMetadata());
    }
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const grpc::Status status = methods->GetSendStatus();
      count(status.error_code());  // whoever has the answer finds it counted
      trace_.end(status, now_boot_ns() - began_ns_);
    }
    methods->Proceed();
  }

 private:
  void count(int code) {
    calls_.end(code, now_boot_ns() - began_ns_);
    counted_ = true;
  }

  Calls& calls_;
  Trace trace_;
  const int64_t began_ns_;
  bool counted_ = false;
};

class Factory final : public experimental::ServerInterceptorFactoryInterface {
 public:
  Factory(CallTable& calls, Tracing& tracing) : calls_(calls), tracing_(tracing) {}
  experimental::Interceptor* CreateServerInterceptor(experimental::ServerRpcInfo* info) override {
    // "/runtime.v1.RuntimeService/Version"
    std::string_view name = info->method();
    name.remove_prefix(std::min<size_t>(name.starts_with('/') ? 1 : 0, name.size()));
    const size_t slash = std::min(name.find('/'), name.size());
    return new Watch(
        calls_.of(name.substr(0, slash), name.substr(std::min(slash + 1, name.size()))), tracing_,
        info->method());  // gRPC's to delete
  }

 private:
  CallTable& calls_;
  Tracing& tracing_;
};

}  // namespace

std::unique_ptr<experimental::ServerInterceptorFactoryInterface> make_rpc_watch(CallTable& calls,
                                                                                Tracing& tracing) {
  return std::make_unique<Factory>(calls, tracing);
}

}  // namespace fluyt::daemon
