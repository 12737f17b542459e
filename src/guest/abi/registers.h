#pragma once

#include <cstddef>
#include <cstdint>

/// The processor's state as the kernel lays it out on a signal frame, x86-64 (asm/sigcontext.h,
/// arch/x86/include/asm/sigframe.h). The guest's own frames and the stub's have this one layout.
namespace fluyt::guest {

struct Registers {
  uint64_t r8 = 0, r9 = 0, r10 = 0, r11 = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0;
  uint64_t rdi = 0, rsi = 0, rbp = 0, rbx = 0, rdx = 0, rax = 0, rcx = 0, rsp = 0;
  uint64_t rip = 0, rflags = 0x202;
  uint16_t cs = 0x33, gs = 0, fs = 0, ss = 0x2b;
  uint64_t err = 0, trapno = 0, oldmask = 0, cr2 = 0;
};
static_assert(sizeof(Registers) == 184);

struct SignalStack {
  uint64_t sp = 0;
  int32_t flags = 0;
  int32_t padding = 0;
  uint64_t size = 0;
};
static_assert(sizeof(SignalStack) == 24);

struct UserContext {
  uint64_t flags = 0;
  uint64_t link = 0;
  SignalStack stack;
  Registers registers;
  uint64_t fp_state = 0;
  uint64_t reserved[8] = {};
  uint64_t signal_mask = 0;
};
static_assert(sizeof(UserContext) == 304);

/// UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS.
inline constexpr uint64_t kContextFpXstate = 1;
inline constexpr uint64_t kContextFlags = 2 | 4;

/// siginfo_t: what follows the first words depends on who sent it.
struct SignalInfo {
  int32_t signo = 0;
  int32_t error = 0;
  int32_t code = 0;
  int32_t padding = 0;
  uint64_t payload[14] = {};

  uint64_t address() const { return payload[0]; }  // faults
  void set_sender(int32_t pid, uint32_t uid) {
    payload[0] = static_cast<uint32_t>(pid) | (uint64_t{uid} << 32);
  }
  void set_status(int32_t status) { payload[1] = static_cast<uint32_t>(status); }
  void set_value(uint64_t value) { payload[1] = value; }
};
static_assert(sizeof(SignalInfo) == 128);

struct SignalFrame {
  uint64_t return_address = 0;
  UserContext context;
  SignalInfo info;
};
static_assert(sizeof(SignalFrame) == 440);

/// Where the kernel says, inside the legacy part of the XSAVE area, how long the area is.
inline constexpr size_t kFpLegacySize = 512;
inline constexpr size_t kFpSoftwareOffset = 464;
inline constexpr uint32_t kFpMagic1 = 0x46505853;
inline constexpr uint32_t kFpMagic2 = 0x46505845;

}  // namespace fluyt::guest
