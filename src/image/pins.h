#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "oci/digest.h"

namespace fluyt::image {

/// Content that work under way needs, by digest: diff ids of layers and digests of documents. What
/// is pinned is not collected; what is being collected cannot be pinned, so a pull never finds a
/// layer that is on its way out. Thread-safe.
class Pins {
 public:
  class Pin {
   public:
    Pin() = default;
    Pin(Pins& pins, std::vector<oci::Digest> digests)
        : pins_(&pins), digests_(std::move(digests)) {}
    Pin(Pin&& other) noexcept
        : pins_(std::exchange(other.pins_, nullptr)), digests_(std::move(other.digests_)) {}
    Pin& operator=(Pin&& other) = delete;
    ~Pin() { release(); }
    void release();

   private:
    Pins* pins_ = nullptr;
    std::vector<oci::Digest> digests_;
  };

  /// Waits while one of them is being collected.
  Pin pin(std::vector<oci::Digest> digests);

  /// Of `candidates` those that nobody has pinned; they are the caller's to remove until done().
  std::vector<oci::Digest> claim(const std::vector<oci::Digest>& candidates);
  void done(const std::vector<oci::Digest>& claimed);

 private:
  void unpin(const std::vector<oci::Digest>& digests);
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<oci::Digest, int> pinned_;
  std::set<oci::Digest> claimed_;
};

}  // namespace fluyt::image
