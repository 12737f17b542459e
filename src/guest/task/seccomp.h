#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "guest/abi/errno.h"
#include "guest/platform/platform.h"

/// seccomp(2) for guests: classic BPF programs that the guest kernel runs over guest calls.
namespace fluyt::guest {

/// struct sock_filter.
struct FilterInstruction {
  uint16_t code = 0;
  uint8_t if_true = 0;
  uint8_t if_false = 0;
  uint32_t k = 0;
};
static_assert(sizeof(FilterInstruction) == 8);

/// struct seccomp_data.
struct FilterInput {
  int32_t number = 0;
  uint32_t arch = 0;
  uint64_t instruction_pointer = 0;
  uint64_t args[6] = {};
};
static_assert(sizeof(FilterInput) == 64);

/// What a filter answers: an action in the high half, its data in the low one.
inline constexpr uint32_t kFilterKillProcess = 0x80000000;
inline constexpr uint32_t kFilterKillThread = 0;
inline constexpr uint32_t kFilterTrap = 0x00030000;
inline constexpr uint32_t kFilterErrno = 0x00050000;
inline constexpr uint32_t kFilterNotify = 0x7fc00000;
inline constexpr uint32_t kFilterTrace = 0x7ff00000;
inline constexpr uint32_t kFilterLog = 0x7ffc0000;
inline constexpr uint32_t kFilterAllow = 0x7fff0000;
inline constexpr uint32_t kFilterActionMask = 0xffff0000;

/// A filter and those that were installed before it. Never changes; a thread has the last of its
/// chain, and its children have it too.
class FilterChain {
 public:
  static constexpr size_t kMaxInstructions = 4096;

  /// `parent`'s chain with one more: EINVAL when the kernel's own check would refuse the program,
  /// ENOMEM when the chain is too long.
  static ErrnoOr<std::shared_ptr<const FilterChain>> add(
      std::shared_ptr<const FilterChain> parent, std::span<const FilterInstruction> program);

  /// What all of them say to a call: the strictest answer, the last installed first.
  uint32_t check(const FilterInput& input) const;
  const std::shared_ptr<const FilterChain>& parent() const { return parent_; }
  bool descends_from(const FilterChain* other) const;
  size_t length() const { return length_; }

 private:
  FilterChain(std::shared_ptr<const FilterChain> parent, std::vector<FilterInstruction> program);
  struct Outcome {
    uint32_t answer = 0;
    bool by_number_alone = true;
  };
  Outcome run(const FilterInput& input) const;

  std::shared_ptr<const FilterChain> parent_;
  std::vector<FilterInstruction> program_;
  std::bitset<512> allowed_;  // by the whole chain, whatever the arguments
  size_t length_ = 0;
};

FilterInput filter_input(const SyscallRequest& call);

}  // namespace fluyt::guest
