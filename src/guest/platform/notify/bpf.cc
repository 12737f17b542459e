#include "guest/platform/notify/bpf.h"

#include <linux/audit.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstddef>
#include <string_view>

#include "guest/stub/layout.h"

namespace fluyt::guest {
namespace {

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr uint32_t kNotify = SECCOMP_RET_USER_NOTIF;
constexpr uint32_t kKill = SECCOMP_RET_KILL_PROCESS;

constexpr uint32_t kNumber = offsetof(seccomp_data, nr);
constexpr uint32_t kArch = offsetof(seccomp_data, arch);
constexpr uint32_t kAddressLow = offsetof(seccomp_data, instruction_pointer);
constexpr uint32_t kAddressHigh = kAddressLow + 4;
constexpr uint32_t low(int arg) {
  return static_cast<uint32_t>(offsetof(seccomp_data, args)) + 8 * static_cast<uint32_t>(arg);
}
constexpr uint32_t high(int arg) { return low(arg) + 4; }

/// A program written from top to bottom: every test either goes on or returns at once.
class Program {
 public:
  void load(uint32_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset); }
  void add_from(uint32_t offset) {  // A += word at `offset`
    add(BPF_MISC | BPF_TAX, 0);
    load(offset);
    add(BPF_ALU | BPF_ADD | BPF_X, 0);
  }
  void answer(uint32_t action) { add(BPF_RET | BPF_K, action); }
  void answer_if_equal(uint32_t value, uint32_t action) { test(BPF_JEQ, value, 0, 1, action); }
  void answer_unless_equal(uint32_t value, uint32_t action) { test(BPF_JEQ, value, 1, 0, action); }
  void answer_if_at_least(uint32_t value, uint32_t action) { test(BPF_JGE, value, 0, 1, action); }
  void answer_unless_at_least(uint32_t value, uint32_t action) {
    test(BPF_JGE, value, 1, 0, action);
  }
  void answer_if_any(uint32_t bits, uint32_t action) { test(BPF_JSET, bits, 0, 1, action); }
  void answer_unless_any(uint32_t bits, uint32_t action) { test(BPF_JSET, bits, 1, 0, action); }
  /// What follows until end_case runs only for this system call, and must end with an answer.
  size_t begin_case(uint32_t number) {
    add(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 0);
    return code_.size() - 1;
  }
  void end_case(size_t at) { code_[at].jf = static_cast<uint8_t>(code_.size() - at - 1); }
  std::vector<sock_filter> take() { return std::move(code_); }

 private:
  void add(int code, uint32_t k, uint8_t jt = 0, uint8_t jf = 0) {
    code_.push_back({static_cast<uint16_t>(code), jt, jf, k});
  }
  void test(int how, uint32_t value, uint8_t jt, uint8_t jf, uint32_t action) {
    add(BPF_JMP | how | BPF_K, value, jt, jf);
    answer(action);
  }
  std::vector<sock_filter> code_;
};

void answer_unless_in_stub(Program& program, uint32_t action) {
  program.load(kAddressHigh);
  program.answer_unless_equal(STUB_ADDRESS_HIGH, action);
  program.load(kAddressLow);
  program.answer_if_at_least(static_cast<uint32_t>(STUB_TEXT & 0xffffffff) + STUB_TEXT_SIZE + 1,
                             action);
}

/// `address` and `length` are argument numbers: their end lies below the stub.
void kill_unless_guest_range(Program& program, int address, int length) {
  program.load(high(address));
  program.answer_if_at_least(STUB_ADDRESS_HIGH, kKill);
  program.load(high(length));
  program.answer_if_at_least(STUB_ADDRESS_HIGH, kKill);
  program.load(high(address));
  program.add_from(high(length));
  program.answer_if_at_least(GUEST_HIGH_MAX + 1, kKill);
}

void allow_equal(Program& program, uint32_t number, std::initializer_list<uint32_t> values) {
  const size_t at = program.begin_case(number);
  program.load(low(0));
  for (uint32_t value : values) program.answer_if_equal(value, kAllow);
  program.answer(kKill);
  program.end_case(at);
}

}  // namespace

std::vector<sock_filter> base_program(int arena_fd) {
  Program p;
  answer_unless_in_stub(p, kAllow);
  p.load(kArch);
  p.answer_unless_equal(AUDIT_ARCH_X86_64, kKill);
  p.load(kNumber);
  // rseq is the guest threads' alone, whose own filter has the sentry look at it.
  for (uint32_t number : {SYS_rt_sigreturn, SYS_getppid, SYS_exit, SYS_exit_group, SYS_rseq})
    p.answer_if_equal(number, kAllow);
  for (uint32_t number : {STUB_CALL_TRAP, STUB_CALL_START, STUB_CALL_HELPER})
    p.answer_if_equal(number, kAllow);

  size_t at = p.begin_case(SYS_recvfrom);  // no memory is written
  p.load(low(2));
  p.answer_unless_equal(0, kKill);
  p.load(low(4));
  p.answer_unless_equal(0, kKill);
  p.answer(kAllow);
  p.end_case(at);

  at = p.begin_case(SYS_sendto);  // from the boot page, to nobody else
  p.load(high(1));
  p.answer_unless_equal(STUB_ADDRESS_HIGH, kKill);
  p.load(low(1));
  p.answer_unless_equal(STUB_BOOT & 0xffffffff, kKill);
  p.load(low(2));
  p.answer_if_at_least(STUB_PAGE_SIZE, kKill);
  p.load(low(4));
  p.answer_unless_equal(0, kKill);
  p.answer(kAllow);
  p.end_case(at);

  allow_equal(p, SYS_clone, {SPAWN_PROCESS_FLAGS, SPAWN_THREAD_FLAGS});
  allow_equal(p, SYS_seccomp, {SECCOMP_SET_MODE_FILTER});
  allow_equal(p, SYS_arch_prctl, {0x1001, 0x1002});
  allow_equal(p, SYS_prctl, {1});

  at = p.begin_case(SYS_mmap);
  p.load(low(3));
  p.answer_unless_any(MAP_FIXED, kKill);  // nothing chooses its own place
  p.load(high(0));
  {
    // Pages of the arena in the stub's own range: never executable.
    const size_t own = p.begin_case(STUB_ADDRESS_HIGH);
    p.load(low(4));
    p.answer_unless_equal(static_cast<uint32_t>(arena_fd), kKill);
    p.load(low(2));
    p.answer_if_any(PROT_EXEC, kKill);
    p.load(low(0));
    p.answer_unless_at_least(STUB_BOOT & 0xffffffff, kKill);
    p.answer(kAllow);
    p.end_case(own);
  }
  p.load(low(4));
  p.answer_if_equal(static_cast<uint32_t>(arena_fd), kKill);
  kill_unless_guest_range(p, 0, 1);
  p.answer(kAllow);
  p.end_case(at);

  at = p.begin_case(SYS_munmap);
  p.load(high(0));
  {
    const size_t own = p.begin_case(STUB_ADDRESS_HIGH);
    p.load(low(0));
    p.answer_unless_equal(STUB_SLOTS & 0xffffffff, kKill);
    p.answer(kAllow);
    p.end_case(own);
  }
  kill_unless_guest_range(p, 0, 1);
  p.answer(kAllow);
  p.end_case(at);

  for (uint32_t number : {SYS_mprotect, SYS_madvise}) {
    at = p.begin_case(number);
    kill_unless_guest_range(p, 0, 1);
    p.answer(kAllow);
    p.end_case(at);
  }
  allow_equal(
      p, SYS_membarrier,
      {MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE,
       MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ,
       MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ});
  at = p.begin_case(SYS_mremap);  // old address, old size, new size, flags, new address
  kill_unless_guest_range(p, 0, 1);
  kill_unless_guest_range(p, 4, 2);
  p.answer(kAllow);
  p.end_case(at);

  p.answer(kKill);
  return p.take();
}

std::vector<sock_filter> guest_program() {
  Program p;
  p.load(kNumber);
  p.answer_unless_equal(SYS_rt_sigreturn, kNotify);
  p.load(kArch);
  p.answer_unless_equal(AUDIT_ARCH_X86_64, kNotify);
  answer_unless_in_stub(p, kNotify);
  p.answer(kAllow);
  return p.take();
}

std::vector<sock_filter> helper_program() {
  Program p;
  p.load(kArch);
  p.answer_unless_equal(AUDIT_ARCH_X86_64, kKill);
  p.load(kNumber);
  p.answer_if_equal(STUB_CALL_HELPER, kNotify);
  for (uint32_t number :
       {SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_membarrier})
    p.answer_if_equal(number, kAllow);
  p.answer(kKill);
  return p.take();
}

}  // namespace fluyt::guest
