#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "commands.h"

namespace fluyt::hostile {

// socketcall FAMILY: socket(FAMILY, SOCK_SEQPACKET, 0) as a 32-bit program would ask for it,
// through a call whose arguments a filter cannot see. Prints what the kernel answered.
int socketcall(Arguments args) {
#if defined(__x86_64__)
  if (args.size() != 1) return 2;
  void* low =
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  if (low == MAP_FAILED) return 2;
  auto* words = static_cast<uint32_t*>(low);
  words[0] = static_cast<uint32_t>(atoi(args[0]));
  words[1] = 5;
  words[2] = 0;
  long result = 102;
  constexpr long kSocket = 1;
  // NOLINTNEXTLINE(hicpp-no-assembler): there is no other way to make a 32-bit call
  __asm__ volatile("int $0x80"
                   : "+a"(result)
                   : "b"(kSocket), "c"(low)
                   : "memory", "r8", "r9", "r10", "r11");
  std::printf("%d\n", static_cast<int>(result));
  return 0;
#else
  (void)args;
  return 2;
#endif
}

}  // namespace fluyt::hostile
