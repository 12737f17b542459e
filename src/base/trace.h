#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// Where the time of a request went: a walk is one request with its parts, nested as they were
/// called, on one thread. The last walks of each sandbox are kept, to be asked for.
namespace fluyt::trace {

struct Part {
  std::string name;
  int64_t begin_ns = 0;  // since the walk began
  int64_t took_ns = 0;
  int depth = 0;  // 0: the walk's own
};

struct Walk {
  std::string verb;  // of CRI: "RunPodSandbox"
  std::string sandbox_id;
  std::string container_id;   // empty: of the sandbox as a whole
  int64_t began_unix_ns = 0;  // CLOCK_REALTIME
  int64_t took_ns = 0;
  std::string error;        // empty: it succeeded
  std::vector<Part> parts;  // in the order in which they began
};

/// The last walks, by sandbox. Bounded: a few of each verb a sandbox, and the sandboxes that were
/// heard of last. Thread-safe.
class Recorder {
 public:
  static constexpr size_t kWalksAVerb = 4;
  static constexpr size_t kSandboxes = 1024;

  void add(Walk walk);
  /// Oldest first; of one container where `container_id` is not empty.
  std::vector<Walk> walks_of(const std::string& sandbox_id, const std::string& container_id) const;
  /// Called with every walk from now on, on the thread that made it; one at most.
  void also(std::function<void(const Walk&)> listener);

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::deque<Walk>> walks_;
  std::deque<std::string> order_;  // of their first walks
  std::shared_ptr<const std::function<void(const Walk&)>> listener_;
};

/// One request on this thread, for as long as it lives; inside another one it is a part of that.
/// Recorded at the end if it is known whose it was.
class Request {
 public:
  Request(Recorder& recorder, std::string_view verb);
  ~Request();
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  void of(std::string_view sandbox_id, std::string_view container_id = {});
  /// Notes an error, if it is one, and hands it through.
  template <class T>
  Result<T> ended(Result<T> result) {
    if (!result.ok()) fail(result.error().message());
    return result;
  }

 private:
  void fail(const std::string& why);
  Recorder& recorder_;
  Walk walk_;
  int64_t began_boot_ns_;
  bool outermost_;
};

/// A part of this thread's walk, for as long as it lives; nothing where there is none. At most
/// kMost a walk: the rest is not told.
class Span {
 public:
  static constexpr size_t kMost = 64;
  explicit Span(std::string_view name);
  ~Span();
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  size_t place_;  // in the walk's parts; kMost: not told
};

/// The parts of a walk that goes on in another process: collected on this thread for as long as it
/// lives, to be told there as text.
class Collector {
 public:
  Collector();
  ~Collector();
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;
  /// A line a part: when it began (CLOCK_BOOTTIME, ns), how long it took (ns), depth and name.
  std::string text() const;

 private:
  Walk walk_;
  int64_t began_boot_ns_;
};

/// Puts what a Collector has told below the spans that are open on this thread; nothing where there
/// is no walk. Lines of another form are left out.
void graft(std::string_view text);

}  // namespace fluyt::trace
