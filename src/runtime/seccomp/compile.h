#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "sys/fd.h"

/// linux.seccomp to a BPF program, without libseccomp, and its loading.
namespace fluyt::runtime::seccomp {

/// One instruction of classic BPF: the layout of struct sock_filter.
struct Instruction {
  uint16_t code = 0;
  uint8_t jump_true = 0;
  uint8_t jump_false = 0;
  uint32_t k = 0;
  bool operator==(const Instruction&) const = default;
};

/// What the kernel takes at most (BPF_MAXINSNS).
inline constexpr size_t kMaxInstructions = 4096;

struct Program {
  std::vector<Instruction> code;
  uint32_t flags = 0;     // SECCOMP_FILTER_FLAG_*
  bool notifies = false;  // some call is SCMP_ACT_NOTIFY: load() gives a listener
  /// Names in the profile that no table of ours knows: skipped, as runc does. For a debug line.
  std::vector<std::string> unknown_names;
};

/// Pure. The program decides by architecture, then by a binary tree over the call numbers, then by
/// arguments; calls newer than every one that the profile names get ENOSYS where the default action
/// is an error or a kill (so that a C library falls back, as runc has it). Unknown actions,
/// operators, architectures and flags are kInvalidArgument with the field's path; more than
/// kMaxInstructions is kResourceExhausted.
Result<Program> compile(const oci::Seccomp& profile);

/// Puts the program on the calling thread (all threads with TSYNC): seccomp(2). Needs no_new_privs
/// or CAP_SYS_ADMIN. Returns the listener when the program notifies, else an invalid Fd. Allocates
/// nothing on success.
Result<sys::Fd> load(const Program& program);

/// What `features` lists: "SCMP_ACT_ALLOW", "SCMP_CMP_EQ", "SCMP_ARCH_X86_64",
/// "SECCOMP_FILTER_FLAG_LOG".
std::vector<std::string> known_actions();
std::vector<std::string> known_operators();
std::vector<std::string> known_architectures();
std::vector<std::string> known_flags();
/// The flags of known_flags() that the running kernel takes.
std::vector<std::string> supported_flags();

}  // namespace fluyt::runtime::seccomp
