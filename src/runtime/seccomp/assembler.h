#pragma once

#include <linux/bpf_common.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/seccomp/compile.h"

/// Writes a classic BPF program from its end to its start: classic BPF only jumps forward, so every
/// jump's target is there when the jump is written.
namespace fluyt::runtime::seccomp {

class Assembler {
 public:
  /// A place in the program: its distance from the end.
  using Label = size_t;

  /// `return value`. One already written is used again.
  Label answer(uint32_t value) {
    for (const auto& [known, label] : answers_) {
      if (known == value) return label;
    }
    const Label label = push({.code = BPF_RET | BPF_K, .k = value});
    answers_.emplace_back(value, label);
    return label;
  }
  /// A = the word at `offset` of struct seccomp_data; goes on at `next`.
  Label load(uint32_t offset, Label next) {
    continue_at(next);
    return push({.code = BPF_LD | BPF_W | BPF_ABS, .k = offset});
  }
  /// A &= mask.
  Label mask(uint32_t mask, Label next) {
    continue_at(next);
    return push({.code = BPF_ALU | BPF_AND | BPF_K, .k = mask});
  }
  /// `operation` is BPF_JEQ, BPF_JGT or BPF_JGE, comparing A with `value`.
  Label branch(uint16_t operation, uint32_t value, Label if_true, Label if_false) {
    if (if_true == if_false) return if_true;
    // A jump has one byte for its distance: what is further off gets a stepping stone, which in
    // turn moves the other target one further away.
    while (distance(if_true) > kReach || distance(if_false) > kReach) {
      Label& far = distance(if_true) > kReach ? if_true : if_false;
      far = stepping_stone(far);
    }
    return push({.code = static_cast<uint16_t>(BPF_JMP | operation | BPF_K),
                 .jump_true = static_cast<uint8_t>(distance(if_true)),
                 .jump_false = static_cast<uint8_t>(distance(if_false)),
                 .k = value});
  }
  size_t size() const { return reversed_.size(); }
  /// The program whose first instruction is the one written last.
  std::vector<Instruction> take() { return {reversed_.rbegin(), reversed_.rend()}; }

 private:
  static constexpr size_t kReach = 255;

  size_t distance(Label target) const { return reversed_.size() - 1 - target; }
  Label push(Instruction instruction) {
    reversed_.push_back(instruction);
    return reversed_.size() - 1;
  }
  // So that what is written next falls through to `next`.
  void continue_at(Label next) {
    if (distance(next) != 0) stepping_stone(next);
  }
  Label stepping_stone(Label target) {
    const Instruction there = reversed_[target];
    if (there.code == (BPF_RET | BPF_K)) {
      for (auto& [known, label] : answers_) {
        if (known == there.k) label = reversed_.size();  // the nearer one from now on
      }
      return push(there);
    }
    return push({.code = BPF_JMP | BPF_JA, .k = static_cast<uint32_t>(distance(target))});
  }

  std::vector<Instruction> reversed_;
  std::vector<std::pair<uint32_t, Label>> answers_;  // few: a handful of actions
};

}  // namespace fluyt::runtime::seccomp
