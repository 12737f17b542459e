// How this program starts: as glibc's __libc_start_main starts a static one, but for its questions
// to the processor. Those are some two dozen CPUID instructions, each of which is an exit to the
// hypervisor in a virtual machine: of all that a process of glibc's costs from execve(2) to main()
// they are half and more, there. They choose among variants of functions such as memcpy(); without
// an answer the ones for any x86-64 are taken, which is as good for the little that we copy.
//
// It takes the place of libc.a's member libc-start.o and calls what that one calls, in its order:
// names that are glibc's own and may be others in another glibc. So it is for 2.36 alone, linked
// statically; elsewhere glibc starts us itself.

#include <features.h>

#if defined(FLUYT_STATIC) && defined(__x86_64__) && __GLIBC__ == 2 && __GLIBC_MINOR__ == 36

#include <elf.h>
#include <link.h>

#include <cstdint>
#include <cstdlib>
#include <span>

// NOLINTBEGIN(bugprone-reserved-identifier,cert-*,readability-identifier-naming): glibc's names.

extern "C" {

using Initializer = void (*)(int, char**, char**);
using Variant = Elf64_Addr (*)();

extern char** __environ;
extern void* __libc_stack_end;
extern int __libc_enable_secure;
extern const uint64_t* _dl_random;
void _dl_aux_init(Elf64_auxv_t* values);
void __tunables_init(char** environment);
void __libc_setup_tls();
void __libc_early_init(bool first);
void __libc_init_first(int argc, char** argv, char** environment);
void __libc_check_standard_fds();
void _init();
extern const Elf64_Rela __rela_iplt_start[];
extern const Elf64_Rela __rela_iplt_end[];
extern const Initializer __preinit_array_start[];
extern const Initializer __preinit_array_end[];
extern const Initializer __init_array_start[];
extern const Initializer __init_array_end[];

// What is defined in libc-start.o besides: when to copy and to fill memory in which way, in bytes.
// They are its values for a processor that tells nothing, with a second-level cache of 1 MiB.
long __x86_data_cache_size_half = 32 * 1024 / 2;
long __x86_data_cache_size = 32 * 1024;
long __x86_shared_cache_size_half = 1024 * 1024 / 2;
long __x86_shared_cache_size = 1024 * 1024;
long __x86_shared_non_temporal_threshold = 1024 * 1024 * 3 / 4;
long __x86_rep_movsb_threshold = 2048;
long __x86_rep_stosb_threshold = 2048;
long __x86_rep_movsb_stop_threshold = 1024 * 1024 * 3 / 4;
int __x86_string_control = 0;

}  // extern "C"

namespace {

void call_all(std::span<const Initializer> functions, int argc, char** argv) {
  for (const Initializer function : functions) function(argc, argv, __environ);
}

// Functions of which there are several variants: which one is called. Until then nothing calls one,
// and until there is thread-local storage nothing looks for the guard of its stack.
[[gnu::no_stack_protector]] void choose_variants() {
  for (const Elf64_Rela& place : std::span(__rela_iplt_start, __rela_iplt_end)) {
    // NOLINTBEGIN(performance-no-int-to-ptr): a relocation gives addresses as numbers.
    *reinterpret_cast<Elf64_Addr*>(place.r_offset) = reinterpret_cast<Variant>(place.r_addend)();
    // NOLINTEND(performance-no-int-to-ptr)
  }
}

}  // namespace

// The guard of the stack is made in here. Nothing is registered for exit(3): main() ends by
// _exit(2).
extern "C" [[noreturn, gnu::no_stack_protector]] int __libc_start_main(
    int (*main)(int, char**, char**), int argc, char** argv, void (*)(), void (*)(), void (*)(),
    void* stack_end) {
  __environ = argv + argc + 1;
  __libc_stack_end = stack_end;
  char** end = __environ;
  while (*end != nullptr) ++end;
  _dl_aux_init(reinterpret_cast<Elf64_auxv_t*>(end + 1));
  __tunables_init(__environ);
  choose_variants();
  __libc_setup_tls();
  // A guard's first byte in memory is zero, so that no string can be made to hold it.
  asm volatile("movq %0, %%fs:0x28" : : "r"(_dl_random[0] & ~uint64_t{0xff}));
  asm volatile("movq %0, %%fs:0x30" : : "r"(_dl_random[1]));  // against pointers that were replaced
  __libc_early_init(true);
  __libc_init_first(argc, argv, __environ);
  if (__libc_enable_secure != 0) __libc_check_standard_fds();
  call_all({__preinit_array_start, __preinit_array_end}, argc, argv);
  _init();
  call_all({__init_array_start, __init_array_end}, argc, argv);
  exit(main(argc, argv, __environ));
}

// NOLINTEND(bugprone-reserved-identifier,cert-*,readability-identifier-naming)

#endif
