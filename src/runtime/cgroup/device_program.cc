#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/strings.h"
#include "runtime/cgroup/devices.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

namespace {

static_assert(sizeof(BpfInstruction) == sizeof(bpf_insn));
static_assert(std::endian::native == std::endian::little);

// r1 holds the context at entry; the program keeps the type in r2, the bits of access that no rule
// has allowed yet in r3, the numbers in r4 and r5, and uses r6.
enum Register : uint8_t { kR0, kR1, kR2, kR3, kR4, kR5, kR6 };

uint8_t registers(Register destination, Register source = kR0) {
  return static_cast<uint8_t>(destination | (source << 4U));
}

/// A small assembler: instructions are appended, and a jump over the rest of a rule gets its
/// distance when the rule ends.
class Assembler {
 public:
  void load(Register to, size_t context_offset) {
    emit({.code = BPF_LDX | BPF_MEM | BPF_W,
          .registers = registers(to, kR1),
          .offset = static_cast<int16_t>(context_offset)});
  }
  void alu(uint8_t operation, Register to, uint32_t value) {
    emit({.code = static_cast<uint8_t>(BPF_ALU | BPF_K | operation),
          .registers = registers(to),
          .immediate = static_cast<int32_t>(value)});
  }
  void copy(Register to, Register from) {
    emit({.code = BPF_ALU | BPF_X | BPF_MOV, .registers = registers(to, from)});
  }
  /// To the end of the rule when `operation` (BPF_JEQ, BPF_JNE) holds.
  void skip_if(uint8_t operation, Register of, uint32_t value) {
    skips_.push_back(code_.size());
    emit({.code = static_cast<uint8_t>(BPF_JMP32 | BPF_K | operation),
          .registers = registers(of),
          .immediate = static_cast<int32_t>(value)});
  }
  void answer(bool allow) {
    emit({.code = BPF_ALU64 | BPF_K | BPF_MOV,
          .registers = registers(kR0),
          .immediate = allow ? 1 : 0});
    emit({.code = BPF_JMP | BPF_EXIT});
  }
  void end_rule() {
    for (const size_t at : skips_) code_[at].offset = static_cast<int16_t>(code_.size() - at - 1);
    skips_.clear();
  }
  std::vector<BpfInstruction> take() { return std::move(code_); }

 private:
  void emit(BpfInstruction instruction) { code_.push_back(instruction); }
  std::vector<BpfInstruction> code_;
  std::vector<size_t> skips_;
};

void add_rule(Assembler& out, const Rule& rule) {
  if (rule.type != 'a')
    out.skip_if(BPF_JNE, kR2, rule.type == 'c' ? BPF_DEVCG_DEV_CHAR : BPF_DEVCG_DEV_BLOCK);
  if (rule.major) out.skip_if(BPF_JNE, kR4, *rule.major);
  if (rule.minor) out.skip_if(BPF_JNE, kR5, *rule.minor);
  if (rule.access != kAllAccess) {
    if (rule.allow) {
      // These bits are settled; the call is allowed when all of them are.
      out.alu(BPF_AND, kR3, ~rule.access);
      out.skip_if(BPF_JNE, kR3, 0);
    } else {
      out.copy(kR6, kR3);
      out.alu(BPF_AND, kR6, rule.access);
      out.skip_if(BPF_JEQ, kR6, 0);
    }
  }
  out.answer(rule.allow);
  out.end_rule();
}

// The whole union, zeroed: some kernels write past the part that a command uses (6.17 to 7.1 in
// BPF_PROG_QUERY), so that a shorter one would be overrun.
struct Attributes {
  union bpf_attr attr;
  std::array<char, 256> slack;
};

Attributes zeroed() {
  Attributes out;
  memset(&out, 0, sizeof out);
  return out;
}

long bpf(int command, Attributes& attributes) {
  return syscall(SYS_bpf, command, &attributes.attr, sizeof attributes.attr);
}

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

Result<sys::Fd> load_program(const std::vector<BpfInstruction>& program) {
  Attributes a = zeroed();
  a.attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  a.attr.insns = address(program.data());
  a.attr.insn_cnt = static_cast<uint32_t>(program.size());
  a.attr.license = address("Apache");
  const long fd = bpf(BPF_PROG_LOAD, a);
  if (fd < 0)
    return Error::from_errno(
        errno, cat("bpf(BPF_PROG_LOAD, CGROUP_DEVICE, ", program.size(), " instructions)"));
  return sys::Fd(static_cast<int>(fd));
}

Result<std::vector<uint32_t>> attached_programs(sys::FdRef directory) {
  std::array<uint32_t, 64> ids{};
  Attributes a = zeroed();
  a.attr.query.target_fd = static_cast<uint32_t>(directory.raw());
  a.attr.query.attach_type = BPF_CGROUP_DEVICE;
  a.attr.query.prog_ids = address(ids.data());
  a.attr.query.prog_cnt = static_cast<uint32_t>(ids.size());
  if (bpf(BPF_PROG_QUERY, a) != 0)
    return Error::from_errno(errno, "bpf(BPF_PROG_QUERY, CGROUP_DEVICE)");
  return std::vector<uint32_t>(ids.begin(),
                               ids.begin() + std::min<size_t>(a.attr.query.prog_cnt, ids.size()));
}

Result<sys::Fd> program_by_id(uint32_t id) {
  Attributes a = zeroed();
  a.attr.prog_id = id;
  const long fd = bpf(BPF_PROG_GET_FD_BY_ID, a);
  if (fd < 0) return Error::from_errno(errno, cat("bpf(BPF_PROG_GET_FD_BY_ID, ", id, ")"));
  return sys::Fd(static_cast<int>(fd));
}

Result<> attach(sys::FdRef directory, sys::FdRef program, sys::FdRef replaced) {
  Attributes a = zeroed();
  a.attr.target_fd = static_cast<uint32_t>(directory.raw());
  a.attr.attach_bpf_fd = static_cast<uint32_t>(program.raw());
  a.attr.attach_type = BPF_CGROUP_DEVICE;
  a.attr.attach_flags = BPF_F_ALLOW_MULTI;
  if (replaced.valid()) {
    a.attr.attach_flags |= BPF_F_REPLACE;
    a.attr.replace_bpf_fd = static_cast<uint32_t>(replaced.raw());
  }
  if (bpf(BPF_PROG_ATTACH, a) != 0)
    return Error::from_errno(errno, "bpf(BPF_PROG_ATTACH, CGROUP_DEVICE)");
  return {};
}

Result<> detach(sys::FdRef directory, sys::FdRef program) {
  Attributes a = zeroed();
  a.attr.target_fd = static_cast<uint32_t>(directory.raw());
  a.attr.attach_bpf_fd = static_cast<uint32_t>(program.raw());
  a.attr.attach_type = BPF_CGROUP_DEVICE;
  if (bpf(BPF_PROG_DETACH, a) != 0)
    return Error::from_errno(errno, "bpf(BPF_PROG_DETACH, CGROUP_DEVICE)");
  return {};
}

}  // namespace

std::vector<BpfInstruction> device_program(const std::vector<Rule>& rules) {
  Assembler out;
  out.load(kR2, offsetof(bpf_cgroup_dev_ctx, access_type));
  out.alu(BPF_AND, kR2, 0xFFFF);
  out.load(kR3, offsetof(bpf_cgroup_dev_ctx, access_type));
  out.alu(BPF_RSH, kR3, 16);
  out.load(kR4, offsetof(bpf_cgroup_dev_ctx, major));
  out.load(kR5, offsetof(bpf_cgroup_dev_ctx, minor));
  // The last rule decides, so it is asked first; behind one that always matches nothing is reached,
  // and the verifier refuses what is not reached.
  for (size_t i = rules.size(); i-- > 0;) {
    add_rule(out, rules[i]);
    if (rules[i].everything()) return out.take();
  }
  out.answer(false);
  return out.take();
}

Result<> attach_device_program(const std::string& directory,
                               const std::vector<BpfInstruction>& program) {
  const sys::Fd target = FLUYT_TRY(sys::open(directory, O_RDONLY | O_DIRECTORY));
  const sys::Fd loaded = FLUYT_TRY(load_program(program));
  const std::vector<uint32_t> before = FLUYT_TRY(attached_programs(target));
  std::vector<sys::Fd> old;
  for (const uint32_t id : before) old.push_back(FLUYT_TRY(program_by_id(id)));
  // One is exchanged in one step. With several (another runtime's) all must allow, so that adding
  // ours before the others go can only refuse more, never less.
  FLUYT_TRY(attach(target, loaded, old.size() == 1 ? old[0].ref() : sys::FdRef()));
  if (old.size() > 1) {
    for (const sys::Fd& one : old) FLUYT_TRY(detach(target, one));
  }
  return {};
}

}  // namespace fluyt::runtime::cgroup
