#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"

namespace fluyt::daemon {

/// The other end: OTLP over HTTP/1.1, by libcurl. One connection, one thread.
class Collector {
 public:
  explicit Collector(std::string endpoint);
  ~Collector();
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  struct Answer {
    int status = 0;
    int64_t retry_after_ms = 0;  // 0: it did not say
    std::string body;            // its beginning
  };
  /// POST to /v1/traces below the endpoint. An error when there was no answer: kDeadlineExceeded
  /// after `timeout_ms`, kCancelled once `deadline_ns` (boot time) has passed, which may change
  /// meanwhile, else kUnavailable.
  Result<Answer> post(const std::string& body, int64_t timeout_ms,
                      const std::atomic<int64_t>& deadline_ns);
  const std::string& url() const { return url_; }

 private:
  struct Handle;
  std::string url_;
  std::unique_ptr<Handle> handle_;
};

}  // namespace fluyt::daemon
