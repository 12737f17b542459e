#include "guest/task/seccomp.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace fluyt::guest {
namespace {

// Classic BPF, as linux/bpf_common.h has it.
constexpr uint16_t kClass = 0x07;
constexpr uint16_t kLd = 0x00, kLdx = 0x01, kSt = 0x02, kStx = 0x03, kAlu = 0x04, kJmp = 0x05,
                   kRet = 0x06, kMisc = 0x07;
constexpr uint16_t kWordAbsolute = 0x20, kImmediate = 0x00, kMemory = 0x60, kLengthMode = 0x80;
constexpr uint16_t kOfX = 0x08;
constexpr uint16_t kAdd = 0x00, kSub = 0x10, kMul = 0x20, kDiv = 0x30, kOr = 0x40, kAnd = 0x50,
                   kLsh = 0x60, kRsh = 0x70, kNeg = 0x80, kXor = 0xa0;
constexpr uint16_t kAlways = 0x00, kEqual = 0x10, kGreater = 0x20, kAtLeast = 0x30, kAnySet = 0x40;
constexpr uint16_t kRetA = 0x10;
constexpr uint16_t kTxa = 0x80;
constexpr size_t kCells = 16;
constexpr uint32_t kArchX86 = 0xc000003e;
constexpr size_t kMaxChain = 32768;  // instructions, and four more a program

bool known(const FilterInstruction& at) {
  const uint16_t code = at.code;
  switch (code & kClass) {
    case kLd:
      if (code == (kLd | kWordAbsolute)) return at.k < sizeof(FilterInput) && at.k % 4 == 0;
      if (code == (kLd | kMemory)) return at.k < kCells;
      return code == (kLd | kImmediate) || code == (kLd | kLengthMode);
    case kLdx:
      if (code == (kLdx | kMemory)) return at.k < kCells;
      return code == (kLdx | kImmediate) || code == (kLdx | kLengthMode);
    case kSt:
    case kStx:
      return (code == kSt || code == kStx) && at.k < kCells;
    case kAlu: {
      const auto op = static_cast<uint16_t>(code & ~(kClass | kOfX));
      const bool by_x = (code & kOfX) != 0;
      switch (op) {
        case kAdd:
        case kSub:
        case kMul:
        case kOr:
        case kAnd:
        case kXor:
          return true;
        case kDiv:
          return by_x || at.k != 0;
        case kLsh:
        case kRsh:
          return by_x || at.k < 32;
        case kNeg:
          return !by_x;
        default:
          return false;
      }
    }
    case kJmp: {
      const auto op = static_cast<uint16_t>(code & ~(kClass | kOfX));
      if (op == kAlways) return (code & kOfX) == 0;
      return op == kEqual || op == kGreater || op == kAtLeast || op == kAnySet;
    }
    case kRet:
      return code == kRet || code == (kRet | kRetA);
    default:
      return code == kMisc || code == (kMisc | kTxa);
  }
}

/// The kernel's own check: known instructions, jumps within, a return at the end, and no cell of
/// memory read that was not written on every way there.
bool verified(std::span<const FilterInstruction> program) {
  if (program.empty() || program.size() > FilterChain::kMaxInstructions) return false;
  std::vector<uint16_t> written(program.size(), 0xffff);
  uint16_t valid = 0;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const FilterInstruction& at = program[pc];
    if (!known(at)) return false;
    valid &= written[pc];
    switch (at.code & kClass) {
      case kSt:
      case kStx:
        valid = static_cast<uint16_t>(valid | (1U << at.k));
        break;
      case kLd:
      case kLdx:
        if ((at.code & 0xe0) == kMemory && (valid & (1U << at.k)) == 0) return false;
        break;
      case kJmp: {
        const size_t left = program.size() - pc - 1;
        if ((at.code & ~(kClass | kOfX)) == kAlways) {
          if (at.k >= left) return false;
          written[pc + 1 + at.k] &= valid;
        } else {
          if (at.if_true >= left || at.if_false >= left) return false;
          written[pc + 1 + at.if_true] &= valid;
          written[pc + 1 + at.if_false] &= valid;
        }
        valid = 0xffff;
        break;
      }
      default:
        break;
    }
  }
  return (program.back().code & kClass) == kRet;
}

}  // namespace

FilterChain::FilterChain(std::shared_ptr<const FilterChain> parent,
                         std::vector<FilterInstruction> program)
    : parent_(std::move(parent)), program_(std::move(program)) {
  length_ = program_.size() + (parent_ ? parent_->length_ + 4 : 0);
  FilterInput input;
  input.arch = kArchX86;
  for (size_t number = 0; number < allowed_.size(); ++number) {
    if (parent_ && !parent_->allowed_[number]) continue;
    input.number = static_cast<int32_t>(number);
    const Outcome outcome = run(input);
    allowed_[number] =
        outcome.by_number_alone && (outcome.answer & kFilterActionMask) == kFilterAllow;
  }
}

ErrnoOr<std::shared_ptr<const FilterChain>> FilterChain::add(
    std::shared_ptr<const FilterChain> parent, std::span<const FilterInstruction> program) {
  if (!verified(program)) return Errno(EINVAL);
  if (parent && parent->length_ + 4 + program.size() > kMaxChain) return Errno(ENOMEM);
  return std::shared_ptr<const FilterChain>(
      new FilterChain(std::move(parent), {program.begin(), program.end()}));
}

bool FilterChain::descends_from(const FilterChain* other) const {
  if (other == nullptr) return true;
  for (const FilterChain* at = this; at != nullptr; at = at->parent_.get())
    if (at == other) return true;
  return false;
}

uint32_t FilterChain::check(const FilterInput& input) const {
  if (input.arch == kArchX86 && input.number >= 0 &&
      static_cast<size_t>(input.number) < allowed_.size() &&
      allowed_[static_cast<size_t>(input.number)])
    return kFilterAllow;
  uint32_t strictest = kFilterAllow;
  const auto rank = [](uint32_t answer) {
    return static_cast<int32_t>(answer & kFilterActionMask);
  };
  for (const FilterChain* at = this; at != nullptr; at = at->parent_.get()) {
    const uint32_t answer = at->run(input).answer;
    if (rank(answer) < rank(strictest)) strictest = answer;
  }
  return strictest;
}

FilterChain::Outcome FilterChain::run(const FilterInput& input) const {
  Outcome out;
  uint32_t a = 0;
  uint32_t x = 0;
  std::array<uint32_t, kCells> cells{};
  for (size_t pc = 0; pc < program_.size(); ++pc) {
    const FilterInstruction& at = program_[pc];
    const uint32_t operand = (at.code & kOfX) != 0 ? x : at.k;
    switch (at.code & kClass) {
      case kLd:
        switch (at.code & 0xe0) {
          case kWordAbsolute:
            if (at.k >= 8) out.by_number_alone = false;
            std::memcpy(&a, reinterpret_cast<const char*>(&input) + at.k, sizeof a);
            break;
          case kMemory:
            a = cells[at.k];
            break;
          case kLengthMode:
            a = sizeof(FilterInput);
            break;
          default:
            a = at.k;
        }
        break;
      case kLdx:
        switch (at.code & 0xe0) {
          case kMemory:
            x = cells[at.k];
            break;
          case kLengthMode:
            x = sizeof(FilterInput);
            break;
          default:
            x = at.k;
        }
        break;
      case kSt:
        cells[at.k] = a;
        break;
      case kStx:
        cells[at.k] = x;
        break;
      case kAlu:
        switch (at.code & ~(kClass | kOfX)) {
          case kAdd:
            a += operand;
            break;
          case kSub:
            a -= operand;
            break;
          case kMul:
            a *= operand;
            break;
          case kDiv:
            if (operand == 0) {
              out.answer = 0;
              return out;
            }
            a /= operand;
            break;
          case kOr:
            a |= operand;
            break;
          case kAnd:
            a &= operand;
            break;
          case kXor:
            a ^= operand;
            break;
          case kLsh:
            a <<= operand & 31;
            break;
          case kRsh:
            a >>= operand & 31;
            break;
          default:
            a = 0U - a;
        }
        break;
      case kJmp: {
        const auto op = at.code & ~(kClass | kOfX);
        if (op == kAlways) {
          pc += at.k;
          break;
        }
        const bool holds = op == kEqual     ? a == operand
                           : op == kGreater ? a > operand
                           : op == kAtLeast ? a >= operand
                                            : (a & operand) != 0;
        pc += holds ? at.if_true : at.if_false;
        break;
      }
      case kRet:
        out.answer = (at.code & kRetA) != 0 ? a : at.k;
        return out;
      default:
        if ((at.code & kTxa) != 0)
          a = x;
        else
          x = a;
    }
  }
  return out;
}

FilterInput filter_input(const SyscallRequest& call) {
  FilterInput input;
  input.number = call.number;
  input.arch = call.arch;
  input.instruction_pointer = call.instruction_pointer;
  std::copy(std::begin(call.args), std::end(call.args), std::begin(input.args));
  return input;
}

}  // namespace fluyt::guest
