#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "runtime/checkpoint/criu_message.h"
#include "sys/fd.h"
#include "sys/patience.h"
#include "sys/process.h"

namespace fluyt::runtime::checkpoint {

/// The number of CRIU's end of the socket in its process (`criu swrk 3`).
inline constexpr int kCriuSocket = 3;

/// The program, found in PATH; kFailedPrecondition names what is missing.
Result<std::string> find_criu();

/// A `criu swrk` at the other end of a socket. Killed at the end of its life if it still runs.
class Criu {
 public:
  /// A stop makes every wait for an answer an error, kCancelled.
  Criu(sys::Process process, sys::Fd socket, sys::Stop stop = {})
      : process_(std::move(process)), socket_(std::move(socket)), stop_(stop) {}
  Criu(const Criu&) = delete;
  Criu& operator=(const Criu&) = delete;
  Criu(Criu&&) = default;
  Criu& operator=(Criu&&) = default;
  ~Criu();

  /// Starts one that has nothing but the socket.
  static Result<Criu> start();

  /// kFailedPrecondition for one older than 3.15, which cannot do without paths for namespaces.
  Result<> check_version();
  /// Memory tracking and lazy pages.
  Result<Response> features();
  /// Called with each notification; an error makes CRIU give up, and is what request() returns.
  using Notified = std::function<Result<>(const Response&, std::vector<sys::Fd>& fds)>;
  /// A dump or restore to its end. CRIU's own first error is in the message, `log` says where the
  /// others are.
  Result<Response> request(RequestType type, const CriuOptions& options, const Notified& notified,
                           const std::string& log);
  /// Waits for its end.
  Result<> finish();
  const sys::Process& process() const { return process_; }

 private:
  Result<Response> receive(std::vector<sys::Fd>& fds);
  Result<Response> ask(RequestType type);
  sys::Process process_;
  sys::Fd socket_;
  sys::Stop stop_;
  bool ended_ = false;
};

}  // namespace fluyt::runtime::checkpoint
