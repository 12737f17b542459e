#include "cri/runtime_service.h"
// after api.h
#include <algorithm>

#include "rpc/status.h"

namespace fluyt::cri {
namespace {

/// CRI clients take no message above 16 MiB: what does not fit is cut, as output beyond the
/// engine's own limit is, rather than the whole answer lost. Standard error keeps a quarter at
/// least.
constexpr size_t kMaxAnswer = (16UL << 20U) - 4096;

void fit(std::string& out, std::string& err) {
  if (out.size() + err.size() <= kMaxAnswer) return;
  const size_t rest = kMaxAnswer - std::min(out.size(), kMaxAnswer);
  err.resize(std::min(err.size(), std::max(rest, kMaxAnswer / 4)));
  out.resize(std::min(out.size(), kMaxAnswer - err.size()));
}

}  // namespace

grpc::Status RuntimeService::ExecSync(grpc::ServerContext* context,
                                      const api::ExecSyncRequest* request,
                                      api::ExecSyncResponse* response) {
  constexpr int64_t kMaxSeconds = 30LL * 24 * 3600;
  if (request->timeout() < 0) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "timeout: " + std::to_string(request->timeout()) + ": expected 0 or more seconds"};
  }
  engine::ExecSyncRequest wanted;
  wanted.container_id = request->container_id();
  wanted.command = {request->cmd().begin(), request->cmd().end()};
  wanted.timeout_ms = std::min<int64_t>(request->timeout(), kMaxSeconds) * 1000;
  wanted.is_given_up = [context] { return context->IsCancelled(); };
  auto done = engine_.exec_sync(wanted);
  if (!done.ok()) return to_status(done.error());
  fit(done->out, done->err);
  response->set_exit_code(done->exit_code);
  response->set_stdout(std::move(done->out));
  response->set_stderr(std::move(done->err));
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
