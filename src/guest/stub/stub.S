// All code of ours that runs in a guest's address space. It has no stack and no data: what it needs
// it takes from pages that are mapped read-only here and that the sentry alone writes, and what it
// learns it keeps in registers, because a guest thread can write every other byte at any moment.
// Entered by the sentry's clone at `launch`, wherever that lies; everything after `jmp *%rax` runs at
// STUB_TEXT.
//
// Three kinds of thread run it. The *spawner* (the process's first thread) waits on its socket and
// clones: it has no listener, because a listener is inherited and a thread can have but one. The
// *helper* carries out memory operations, between two notifications. *Guest threads* are here only
// to start and when a host signal was delivered to them.
#include "guest/stub/layout.h"

#define SYS_mmap 9
#define SYS_munmap 11
#define SYS_rt_sigaction 13
#define SYS_rt_sigreturn 15
#define SYS_sendto 44
#define SYS_mremap 25
#define SYS_recvfrom 45
#define SYS_clone 56
#define SYS_exit 60
#define SYS_getppid 110
#define SYS_prctl 157
#define SYS_arch_prctl 158
#define SYS_exit_group 231
#define SYS_seccomp 317
#define SYS_rseq 334

// A message of %rdx bytes to the sentry.
.macro say
  movabs $STUB_REQUEST, %rbx
  mov REQUEST_SOCKET(%rbx), %rdi
  movabs $STUB_BOOT, %rsi
  mov $0x4000, %r10d            // MSG_NOSIGNAL
  xor %r8d, %r8d
  xor %r9d, %r9d
  mov $SYS_sendto, %eax
  syscall
.endm

// rseq(2) with what the slot at %rbx says: a call like others, for the sentry to let through.
.macro rseq
  mov SLOT_RSEQ_ADDRESS(%rbx), %rdi
  mov SLOT_RSEQ_LENGTH(%rbx), %esi
  mov SLOT_RSEQ_FLAGS(%rbx), %edx
  mov SLOT_RSEQ_SIGNATURE(%rbx), %r10d
  mov $SYS_rseq, %eax
  syscall
.endm

  .text
  .globl _start
_start:
launch:
  // r12: the stub's image, r13: the arena, r14 and r15: offsets of boot and request page in it.
  movabs $STUB_TEXT, %rdi
  mov $STUB_TEXT_SIZE, %esi
  mov $5, %edx
  mov $0x12, %r10d              // MAP_PRIVATE | MAP_FIXED
  mov %r12, %r8
  xor %r9d, %r9d
  mov $SYS_mmap, %eax
  syscall
  movabs $settle, %rax
  jmp *%rax

  // A host signal: rdi its number, rsi siginfo, rdx ucontext, rsp the frame. The sentry reads the
  // frame through its own mapping of the slot and edits it. ANSWER_LEAVE ends this thread,
  // ANSWER_RENEWED makes it another guest thread, with the bases that its slot says; behind
  // ANSWER_RSEQ it is here again, as it was.
  .org STUB_TRAP_OFFSET
trap:
  rdfsbase %r10
  rdgsbase %r8
  .org STUB_TRAP_NO_FSGSBASE_OFFSET
trap_without_fsgsbase:
  mov $STUB_CALL_TRAP, %eax
  syscall
  test %eax, %eax
  jnz not_back
back:
  add $8, %rsp
  mov $SYS_rt_sigreturn, %eax
  syscall
  hlt
not_back:
  cmp $ANSWER_RSEQ, %eax
  je again
  cmp $ANSWER_RENEWED, %eax
  jne leave
  mov %rsp, %rbx
  and $-STUB_SLOT_SIZE, %rbx
  mov SLOT_FS_BASE(%rbx), %rcx
  wrfsbase %rcx
  mov SLOT_GS_BASE(%rbx), %rcx
  wrgsbase %rcx
  jmp back
again:
  mov %rdi, %r12
  mov %rsi, %r13
  mov %rdx, %r14
  mov %r10, %r15
  mov %rsp, %rbx
  and $-STUB_SLOT_SIZE, %rbx
  rseq
  mov %r12, %rdi
  mov %r13, %rsi
  mov %r14, %rdx
  mov %r15, %r10
  jmp trap_without_fsgsbase
leave:
  xor %edi, %edi
  mov $SYS_exit, %eax
  syscall
  hlt

settle:
  movabs $STUB_BOOT, %rdi
  mov %r14, %r9
  mov %r13, %r8
  mov $STUB_PAGE_SIZE, %esi
  mov $1, %edx
  mov $0x11, %r10d              // MAP_SHARED | MAP_FIXED
  mov $SYS_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne die
  movabs $STUB_REQUEST, %rdi
  mov %r15, %r9
  mov $SYS_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne die
  // The host's vdso and what it reads the time from move out of the way; the kernel knows where to.
  movabs $(STUB_BOOT + BOOT_MOVES), %rbx
1:
  mov 8(%rbx), %rsi
  test %rsi, %rsi
  jz 2f
  mov (%rbx), %rdi
  mov %rsi, %rdx
  mov $3, %r10d                 // MREMAP_MAYMOVE | MREMAP_FIXED
  mov 16(%rbx), %r8
  mov $SYS_mremap, %eax
  syscall
  cmp %r8, %rax
  jne die
  add $24, %rbx
  jmp 1b
2:
  // Nothing of the sentry's memory stays mapped.
  xor %edi, %edi
  movabs $STUB_CLOCK, %rsi
  mov $SYS_munmap, %eax
  syscall
  test %eax, %eax
  jnz die
  movabs $(STUB_BOOT + BOOT_CLOCK_END), %rbx
  mov (%rbx), %rdi
  movabs $STUB_TEXT, %rsi
  sub %rdi, %rsi
  mov $SYS_munmap, %eax
  syscall
  test %eax, %eax
  jnz die
  movabs $(STUB_TEXT + STUB_TEXT_SIZE), %rdi
  mov $(STUB_BOOT - STUB_TEXT - STUB_TEXT_SIZE), %esi
  mov $SYS_munmap, %eax
  syscall
  test %eax, %eax
  jnz die
  movabs $(STUB_REQUEST + STUB_PAGE_SIZE), %rdi
  movabs $(STUB_TASK_END - STUB_REQUEST - STUB_PAGE_SIZE), %rsi
  mov $SYS_munmap, %eax
  syscall
  test %eax, %eax
  jnz die
  // The faults, and SIGUSR1 by which the sentry calls a thread in.
  .irp signal, 4, 5, 7, 8, 11, 10
  mov $\signal, %edi
  movabs $(STUB_BOOT + BOOT_ACTION), %rsi
  xor %edx, %edx
  mov $8, %r10d
  mov $SYS_rt_sigaction, %eax
  syscall
  test %eax, %eax
  jnz die
  .endr
  mov $1, %edi                  // SECCOMP_SET_MODE_FILTER
  xor %esi, %esi
  movabs $(STUB_BOOT + BOOT_BASE_PROGRAM), %rdx
  mov $SYS_seccomp, %eax
  syscall
  test %eax, %eax
  jnz die
  xor %eax, %eax
  jmp reply

  // The answer is the length of a message, so that no memory carries it: 1, or 1 + errno.
reply:
  mov $1, %edx
  test %rax, %rax
  jns 1f
  sub %rax, %rdx
1:
  say
serve:
  movabs $STUB_REQUEST, %rbx
  mov REQUEST_SOCKET(%rbx), %rdi
  xor %esi, %esi
  xor %edx, %edx
  xor %r10d, %r10d
  xor %r8d, %r8d
  xor %r9d, %r9d
  mov $SYS_recvfrom, %eax
  syscall
  cmp $-4, %eax                 // EINTR
  je serve
  test %eax, %eax
  js die
perform:
  movabs $STUB_REQUEST, %rbx
  mov REQUEST_OP(%rbx), %rax
  cmp $OP_FORK, %eax
  je fork
  cmp $OP_THREAD, %eax
  je thread
  cmp $OP_HELPER, %eax
  je thread
die:
  mov $1, %edi
  mov $SYS_exit_group, %eax
  syscall
  hlt

fork:
  mov REQUEST_CHILD_OFFSET(%rbx), %r12
  mov $SPAWN_PROCESS_FLAGS, %edi
  xor %esi, %esi
  xor %edx, %edx
  xor %r10d, %r10d
  xor %r8d, %r8d
  mov $SYS_clone, %eax
  syscall
  test %rax, %rax
  js reply
  jz child
  // Who it is, in two pieces: should the child end before its first word, somebody has to wait for it.
  mov %rax, %r13
  mov $1, %edx
  say
  mov %r13, %rdx
  and $0x7ff, %edx
  inc %edx
  say
  mov %r13, %rdx
  shr $11, %rdx
  inc %edx
  say
  jmp serve
child:
  // The child: it dies with the sentry, has no sight of its parent's slots and requests, and does
  // what its own request page says.
  mov $1, %edi                  // PR_SET_PDEATHSIG
  mov $9, %esi
  mov $SYS_prctl, %eax
  syscall
  mov $SYS_getppid, %eax
  syscall
  movabs $STUB_BOOT, %rbx
  cmp BOOT_SENTRY_PID(%rbx), %rax
  jne die
  movabs $STUB_SLOTS, %rdi
  mov $STUB_SLOTS_SIZE, %esi
  mov $SYS_munmap, %eax
  syscall
  test %eax, %eax
  jnz die
  movabs $STUB_REQUEST, %rdi
  mov $STUB_PAGE_SIZE, %esi
  mov $1, %edx
  mov $0x11, %r10d
  mov BOOT_ARENA_FD(%rbx), %r8
  mov %r12, %r9
  mov $SYS_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne die
  jmp perform

thread:
  mov %rax, %r12
  movabs $STUB_BOOT, %rcx
  mov BOOT_ARENA_FD(%rcx), %r8
  mov REQUEST_SLOT_ADDRESS(%rbx), %rdi
  mov REQUEST_SLOT_OFFSET(%rbx), %r9
  mov $STUB_SLOT_SIZE, %esi
  mov $3, %edx
  mov $0x11, %r10d
  mov $SYS_mmap, %eax
  syscall
  test %rax, %rax
  js reply
  mov %rax, %r13
  mov $SPAWN_THREAD_FLAGS, %edi
  xor %esi, %esi
  xor %edx, %edx
  xor %r10d, %r10d
  xor %r8d, %r8d
  mov $SYS_clone, %eax
  syscall
  test %rax, %rax
  jnz answer_made
  cmp $OP_HELPER, %r12d
  je helper

  // A guest thread. After seccomp(2) each call of it is the sentry's, but for the last one here.
  mov $0x1002, %edi             // ARCH_SET_FS
  mov REQUEST_FS_BASE(%rbx), %rsi
  mov $SYS_arch_prctl, %eax
  syscall
  mov $0x1001, %edi             // ARCH_SET_GS
  mov REQUEST_GS_BASE(%rbx), %rsi
  mov $SYS_arch_prctl, %eax
  syscall
  mov REQUEST_FRAME(%rbx), %rbp
  mov $1, %edi
  movabs $STUB_BOOT, %rcx
  mov BOOT_LISTENER_FLAGS(%rcx), %rsi
  movabs $(STUB_BOOT + BOOT_GUEST_PROGRAM), %rdx
  mov $SYS_seccomp, %eax
  syscall
  mov %eax, SLOT_LISTENER(%r13)
  mov $STUB_CALL_START, %eax
  syscall
  cmp $ANSWER_RSEQ, %eax
  jne 1f
  mov %r13, %rbx
  rseq
1:
  mov %rbp, %rsp
  mov $SYS_rt_sigreturn, %eax
  syscall
  hlt

helper:
  mov $1, %edi
  movabs $STUB_BOOT, %rcx
  mov BOOT_LISTENER_FLAGS(%rcx), %rsi
  movabs $(STUB_BOOT + BOOT_HELPER_PROGRAM), %rdx
  mov $SYS_seccomp, %eax
  syscall
  mov %eax, SLOT_HELPER_LISTENER(%r13)
  xor %edi, %edi
1:
  mov $STUB_CALL_HELPER, %eax
  syscall
  movabs $STUB_REQUEST, %rbx
  mov REQUEST_CALL + 0(%rbx), %rax
  mov REQUEST_CALL + 8(%rbx), %rdi
  mov REQUEST_CALL + 16(%rbx), %rsi
  mov REQUEST_CALL + 24(%rbx), %rdx
  mov REQUEST_CALL + 32(%rbx), %r10
  mov REQUEST_CALL + 40(%rbx), %r8
  mov REQUEST_CALL + 48(%rbx), %r9
  syscall
  mov %rax, %rdi
  jmp 1b

  // The new thread reports its listener in its slot: nothing of a guest's holds the spawner up.
answer_made:
  js reply
  xor %eax, %eax
  jmp reply

  .section .note.GNU-stack, "", @progbits
