#include "rpc_watch.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_interceptor.h>

#include <algorithm>
#include <string_view>

#include "base/time.h"

namespace fluyt::daemon {
namespace {

namespace experimental = grpc::experimental;

class Watch final : public experimental::Interceptor {
 public:
  explicit Watch(Calls& calls) : calls_(calls), began_ns_(now_boot_ns()) { ++calls_.running; }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  /// A call whose caller has gone may never come to send its status.
  ~Watch() override { calls_.end(code_, now_boot_ns() - began_ns_); }

  void Intercept(experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            experimental::InterceptionHookPoints::PRE_SEND_STATUS)) {
      code_ = methods->GetSendStatus().error_code();
    }
    methods->Proceed();
  }

 private:
  Calls& calls_;
  const int64_t began_ns_;
  int code_ = grpc::StatusCode::CANCELLED;
};

class Factory final : public experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(CallTable& calls) : calls_(calls) {}
  experimental::Interceptor* CreateServerInterceptor(experimental::ServerRpcInfo* info) override {
    // "/runtime.v1.RuntimeService/Version"
    std::string_view name = info->method();
    name.remove_prefix(std::min<size_t>(name.starts_with('/') ? 1 : 0, name.size()));
    const size_t slash = std::min(name.find('/'), name.size());
    return new Watch(calls_.of(name.substr(0, slash),
                               name.substr(std::min(slash + 1, name.size()))));  // gRPC's to delete
  }

 private:
  CallTable& calls_;
};

}  // namespace

std::unique_ptr<experimental::ServerInterceptorFactoryInterface> make_rpc_watch(CallTable& calls) {
  return std::make_unique<Factory>(calls);
}

}  // namespace fluyt::daemon
