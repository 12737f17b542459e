#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "cmd/fluytd/metrics/histogram.h"

namespace fluyt::daemon {

/// Calls of one kind.
struct Calls {
  static constexpr size_t kCodes = 17;  // gRPC's
  Histogram took;
  std::atomic<int64_t> running{0};
  std::array<std::atomic<uint64_t>, kCodes> ended{};  // by code
  void end(int code, int64_t ns);
};

/// What fluytd counts while it works. Entries are made at first use and stay: a pointer to one may
/// be kept. Any thread.
class CallTable {
 public:
  using Key = std::pair<std::string, std::string>;  // service and method
  /// Of what nobody serves, or once there are too many: a common one, for names are the client's.
  Calls& of(std::string_view service, std::string_view method);
  std::vector<std::pair<Key, const Calls*>> all() const;

 private:
  Guarded<std::map<Key, std::unique_ptr<Calls>>> calls_;
};

}  // namespace fluyt::daemon
