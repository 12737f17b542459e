#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/seccomp/compile.h"
#include "runtime/seccomp/interpreter.h"
#include "runtime/seccomp/model.h"
#include "runtime/seccomp/profile.h"
#include "runtime/seccomp/table.h"

namespace {

namespace seccomp = fluyt::runtime::seccomp;
namespace oci = fluyt::oci;

/// Numbers from the input, zeros behind its end.
class Source {
 public:
  Source(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  uint64_t number(size_t bytes) {
    uint64_t out = 0;
    for (size_t i = 0; i < bytes; ++i) out = out << 8U | (at_ < size_ ? data_[at_++] : 0);
    return out;
  }
  size_t below(size_t limit) { return number(2) % limit; }
  /// Of any size, for most values of profiles are small.
  uint64_t value() { return number(1 + below(8)); }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

const std::string& one_of(const std::vector<std::string>& words, Source& source) {
  static const std::string kNone = "SCMP_NONE";
  const size_t at = source.below(words.size() * 16 + 1);
  return at == words.size() * 16 ? kNone : words[at % words.size()];
}

oci::Seccomp profile_from(Source& source) {
  oci::Seccomp out;
  const auto actions = seccomp::known_actions();
  const auto operators = seccomp::known_operators();
  const auto all = seccomp::all_syscalls();
  out.default_action = one_of(actions, source);
  if (source.below(4) == 0) out.default_errno_ret = static_cast<uint32_t>(source.below(5000));
  const size_t archs = source.below(8);
  if ((archs & 1U) != 0) out.architectures.emplace_back("SCMP_ARCH_X86");
  if ((archs & 2U) != 0) out.architectures.emplace_back("SCMP_ARCH_X32");
  if ((archs & 4U) != 0) out.architectures.emplace_back("SCMP_ARCH_X86_64");
  if (source.below(2) == 0) out.listener_path = "/run/listener";
  for (size_t rules = source.below(24); rules > 0 && !source.empty(); --rules) {
    oci::SeccompSyscalls rule;
    rule.action = one_of(actions, source);
    if (source.below(3) == 0) rule.errno_ret = static_cast<uint32_t>(source.below(5000));
    for (size_t names = source.below(12); names > 0; --names)
      rule.names.emplace_back(all[source.below(all.size())].name);
    for (size_t args = source.below(4); args > 0; --args) {
      rule.args.push_back({.index = static_cast<uint32_t>(source.below(6)),
                           .value = source.value(),
                           .value_two = source.value(),
                           .op = one_of(operators, source)});
    }
    out.syscalls.push_back(std::move(rule));
  }
  return out;
}

void compare(const seccomp::Program& program, const seccomp::Profile& profile,
             const seccomp_data& data) {
  const auto got = seccomp::interpret(program.code, data);
  if (!got || *got != seccomp::model::meaning(profile, data)) abort();
}

// Values beside the ones that rules compare with are where a mistake would show.
uint64_t argument(const seccomp::Profile& profile, Source& source) {
  if (profile.rules.empty() || source.below(4) == 0) return source.value();
  const auto& conditions = profile.rules[source.below(profile.rules.size())].conditions;
  if (conditions.empty()) return source.value();
  const seccomp::Condition& one = conditions[source.below(conditions.size())];
  const uint64_t near = source.below(2) == 0 ? one.value : one.value_two;
  switch (source.below(5)) {
    case 0:
      return near + 1;
    case 1:
      return near - 1;
    case 2:
      return near ^ (1ULL << source.below(64));
    default:
      return near;
  }
}

}  // namespace

/// The input makes a profile, and calls to ask its program about. Whatever compiles answers each
/// call as the model does, and is a program that the kernel takes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Source source(data, size);
  const oci::Seccomp spec = profile_from(source);
  const auto program = seccomp::compile(spec);
  const auto profile = seccomp::parse_profile(spec);
  if (!program.ok()) return 0;
  if (!profile.ok() || program->code.size() > seccomp::kMaxInstructions) abort();
  constexpr uint32_t kArchs[] = {AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64};
  for (int round = 0; round < 64; ++round) {
    seccomp_data call{};
    call.arch = kArchs[source.below(3)];
    // Half of them calls that a rule names.
    const auto all = seccomp::all_syscalls();
    const auto& named = all[source.below(all.size())];
    if (!profile->rules.empty() && source.below(2) == 0) {
      const auto& calls = profile->rules[source.below(profile->rules.size())].calls;
      const auto& it = calls.empty() ? named : *calls[source.below(calls.size())];
      call.nr = it.number(static_cast<seccomp::Arch>(source.below(3)));
    } else {
      call.nr = source.below(8) == 0 ? static_cast<int>(source.value())
                                     : named.number(static_cast<seccomp::Arch>(source.below(3)));
    }
    for (auto& arg : call.args) arg = argument(*profile, source);
    compare(*program, *profile, call);
  }
  return 0;
}
