// What the stub's assembly and the sentry agree on. Read by both, so only #defines.
#ifndef FLUYT_GUEST_STUB_LAYOUT_H_
#define FLUYT_GUEST_STUB_LAYOUT_H_

// Above everything that a guest may map: text (read, execute), the sandbox's constants and the
// process's requests (read only), then a window a guest thread for signal frames (read, write).
#define STUB_TEXT 0x7fff00000000
#define STUB_TEXT_SIZE 0x1000
#define STUB_BOOT 0x7fff00010000
#define STUB_REQUEST 0x7fff00011000
#define STUB_PAGE_SIZE 0x1000
#define STUB_SLOTS 0x7fff10000000
#define STUB_SLOTS_SIZE 0x20000000
#define STUB_SLOT_SIZE 0x8000
#define STUB_ADDRESS_HIGH 0x7fff
#define STUB_TASK_END 0x7ffffffff000
// Where the host's pages for reading the time go: between what a guest may map and the stub.
#define STUB_CLOCK 0x7ffe00000000

// The first address that no guest mapping may reach. Chosen so that the filter can prove it with
// the high halves alone: address_high + length_high <= GUEST_HIGH_MAX implies an end below
// STUB_TEXT.
#define GUEST_TOP 0x7ffdfffff000
#define GUEST_HIGH_MAX 0x7ffd

// Fixed places in the text.
#define STUB_LAUNCH_OFFSET 0x0
#define STUB_TRAP_OFFSET 0x106  // ten bytes before the next
#define STUB_TRAP_NO_FSGSBASE_OFFSET 0x110

// Calls that no kernel has: the stub's words to the sentry, seen by its listener alone.
#define STUB_MAGIC 0x7e00
#define STUB_CALL_TRAP 0x7e01
#define STUB_CALL_START 0x7e02
#define STUB_CALL_HELPER 0x7e03

// What the sentry answers to STUB_CALL_TRAP, and the last of it to STUB_CALL_START.
#define ANSWER_BACK 0
#define ANSWER_LEAVE 1
#define ANSWER_RENEWED 2
#define ANSWER_RSEQ 3

// The boot page: constants of the sandbox.
#define BOOT_ARENA_FD 0
#define BOOT_SENTRY_PID 8
#define BOOT_BASE_PROGRAM 16
#define BOOT_GUEST_PROGRAM 32
#define BOOT_HELPER_PROGRAM 48
#define BOOT_ACTION 64
#define BOOT_LISTENER_FLAGS 96
#define BOOT_MOVES 104  // from, length, to; a length of 0 ends them
#define BOOT_MOVES_MAX 5
#define BOOT_CLOCK_END 248  // STUB_CLOCK when there are none
#define BOOT_INSTRUCTIONS 256

// The request page: one a stub process.
#define REQUEST_OP 0
#define REQUEST_SLOT_ADDRESS 8
#define REQUEST_SLOT_OFFSET 16
#define REQUEST_FRAME 24
#define REQUEST_FS_BASE 32
#define REQUEST_GS_BASE 40
#define REQUEST_CHILD_OFFSET 48
#define REQUEST_SOCKET 56
#define REQUEST_CALL 128

#define OP_FORK 1
#define OP_THREAD 2
#define OP_HELPER 3

// The last bytes of a slot: descriptors that new threads report. The guest can write them, so the
// sentry proves what they say.
#define SLOT_LISTENER (STUB_SLOT_SIZE - 64)
#define SLOT_HELPER_LISTENER (STUB_SLOT_SIZE - 60)
// What a thread that is used again loads: its own registers, so its own business.
#define SLOT_FS_BASE (STUB_SLOT_SIZE - 56)
#define SLOT_GS_BASE (STUB_SLOT_SIZE - 48)
// The arguments of rseq(2), which the sentry looks at again when the call comes.
#define SLOT_RSEQ_ADDRESS (STUB_SLOT_SIZE - 40)
#define SLOT_RSEQ_LENGTH (STUB_SLOT_SIZE - 32)
#define SLOT_RSEQ_FLAGS (STUB_SLOT_SIZE - 28)
#define SLOT_RSEQ_SIGNATURE (STUB_SLOT_SIZE - 24)
#define SLOT_STACK_SIZE (STUB_SLOT_SIZE - 64)

// clone(2) flags of the two things the spawner may make.
#define SPAWN_PROCESS_FLAGS 0x8411 /* CLONE_PARENT | CLONE_FILES | SIGCHLD */
#define SPAWN_THREAD_FLAGS 0x50f00 /* CLONE_VM|FS|FILES|SIGHAND|THREAD|SYSVSEM */

#endif
