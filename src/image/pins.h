#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <string>
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
    Pin(Pins& pins, std::vector<oci::Digest> digests, std::string owner)
        : pins_(&pins), digests_(std::move(digests)), owner_(std::move(owner)) {}
    Pin(Pin&& other) noexcept
        : pins_(std::exchange(other.pins_, nullptr)),
          digests_(std::move(other.digests_)),
          owner_(std::move(other.owner_)) {}
    Pin& operator=(Pin&& other) = delete;
    ~Pin() { release(); }
    void release();

   private:
    Pins* pins_ = nullptr;
    std::vector<oci::Digest> digests_;
    std::string owner_;
  };

  /// Waits while one of them is being collected.
  /// `owner` is what people call the work.
  Pin pin(std::vector<oci::Digest> digests, std::string owner = "work under way");

  /// What is pinned now, and by whom.
  std::map<oci::Digest, std::vector<std::string>> owners();

  enum class Pinned { kLeave, kWaitFor };
  /// Of `candidates` those that nobody has pinned, or all once nobody has; they are the caller's to
  /// remove until done(). Waits while another has claimed one of them: what that one found in use
  /// may be unused now. Who claims of two kinds does it in one order.
  std::vector<oci::Digest> claim(const std::vector<oci::Digest>& candidates,
                                 Pinned pinned = Pinned::kLeave);
  void done(const std::vector<oci::Digest>& claimed);

 private:
  void unpin(const std::vector<oci::Digest>& digests, const std::string& owner);
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<oci::Digest, std::multiset<std::string>> pinned_;  // and by whom
  std::set<oci::Digest> claimed_;
};

}  // namespace fluyt::image
