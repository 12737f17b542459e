#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "cmd/fluytd/service/manager.h"

namespace fluyt::daemon {

/// Whether somebody accepts at `path` and speaks HTTP/2 there: what a client of gRPC's would see
/// first.
Result<> check_answers(const std::string& path, Deadline deadline);

/// Tells the service manager that we are alive, twice as often as it wants to hear it, but only
/// after a look at ourselves: `look` has come back (from whatever locks it takes), and our socket
/// answers. A thread of its own where the manager asked for it, else nothing.
class Watchdog {
 public:
  Watchdog(const ServiceManager& manager, std::function<void()> look, std::string path,
           Logger& logger);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog() { stop(); }
  void stop();

 private:
  void run(int64_t period_ms);

  const ServiceManager& manager_;
  const std::function<void()> look_;
  const std::string path_;
  Logger& logger_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fluyt::daemon
