#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/guarded.h"
#include "base/result.h"

namespace fluyt::engine {

/// The SELinux levels that pods have: each one's own is a pair of categories that no other pod has,
/// so that none may touch another's files and processes. Thread-safe.
class McsLevels {
  struct Table {
    std::map<std::string, size_t> had;  // level to how many pods have it
  };
  using Shared = std::shared_ptr<Guarded<Table>>;

 public:
  static constexpr uint32_t kCategories = 1024;  // c0 to c1023
  static constexpr uint32_t kPairs = kCategories * (kCategories - 1) / 2;

  /// That somebody has a level: while this lives.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept
        : table_(std::move(other.table_)), level_(std::exchange(other.level_, {})) {}
    Hold& operator=(Hold&& other) noexcept;
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold();
    const std::string& level() const { return level_; }  // empty: none

   private:
    friend class McsLevels;
    Hold(Shared table, std::string level) : table_(std::move(table)), level_(std::move(level)) {}
    Shared table_;
    std::string level_;
  };

  /// Of one that is on record, or that somebody chose: several may have it.
  Hold hold(const std::string& level);
  /// The first that nobody has from number `from` on, all around; kResourceExhausted: all are had.
  Result<Hold> take(uint32_t from);
  /// From anywhere, so that levels do not tell which pod came first.
  Result<Hold> take();

 private:
  Shared table_ = std::make_shared<Guarded<Table>>();
};

/// Of pair `number`, below kPairs: "s0:c0,c1", "s0:c0,c2" and so on.
std::string mcs_level(uint32_t number);

}  // namespace fluyt::engine
