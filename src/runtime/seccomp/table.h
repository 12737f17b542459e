#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

/// System-call numbers by name, from the kernel's own headers (up to Linux 6.19).
namespace fluyt::runtime::seccomp {

enum class Arch : uint8_t { kX86_64, kX86, kX32, kAarch64, kArm };
inline constexpr size_t kArchs = 5;

/// __X32_SYSCALL_BIT: x32 shares x86_64's audit architecture and sets this in the number.
inline constexpr int32_t kX32Bit = 0x40000000;

struct Syscall {
  std::string_view name;
  std::array<int32_t, kArchs> numbers;  // by Arch; -1: the architecture has none of that name
  int32_t number(Arch arch) const { return numbers[static_cast<size_t>(arch)]; }
};

/// nullptr when no architecture knows the name.
const Syscall* find_syscall(std::string_view name);
/// Sorted by name.
std::span<const Syscall> all_syscalls();

/// 32-bit x86 also reaches some calls through one number, told apart by its first argument:
/// socketcall(2) and ipc(2).
struct Multiplexed {
  std::string_view name;
  int32_t through;  // the x86 number of socketcall or ipc
  uint32_t first_argument;
};
const Multiplexed* find_multiplexed(std::string_view name);
/// ipc(2) keeps a version in the upper half of its first argument; socketcall(2) looks at all of
/// it.
inline constexpr int32_t kX86Socketcall = 102;
inline constexpr int32_t kX86Ipc = 117;

}  // namespace fluyt::runtime::seccomp
