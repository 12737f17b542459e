#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "runtime/seccomp/compile.h"

/// Runs a program as the kernel would. For tests. Nothing when it does what the kernel's checker
/// refuses: an unknown instruction, a jump or a load out of bounds, no return at the end.
namespace fluyt::runtime::seccomp {

inline std::optional<uint32_t> interpret(std::span<const Instruction> code,
                                         const seccomp_data& data) {
  uint32_t a = 0;
  for (size_t at = 0; at < code.size(); ++at) {
    const Instruction& i = code[at];
    const auto jump = [&](bool taken) { at += taken ? i.jump_true : i.jump_false; };
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (i.k % 4 != 0 || i.k + 4 > sizeof data) return std::nullopt;
        memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, sizeof a);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= i.k;
        break;
      case BPF_JMP | BPF_JA:
        at += i.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        jump(a == i.k);
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        jump(a > i.k);
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        jump(a >= i.k);
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        jump((a & i.k) != 0);
        break;
      case BPF_RET | BPF_K:
        return i.k;
      default:
        return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace fluyt::runtime::seccomp
