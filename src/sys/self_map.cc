#include <elf.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/self.h"
#include "sys/self_mount.h"

// The program's own pages, mapped anew from another path to the same file, so that the kernel lets
// go of the old path (it keeps the file that we run from for as long as one page of it is mapped).
namespace fluyt::sys {

// NOLINTBEGIN(performance-no-int-to-ptr): a program's headers give addresses as numbers.
namespace {

constexpr uintptr_t kPage = 4096;

uintptr_t page_of(uintptr_t address) { return address & ~(kPage - 1); }
uintptr_t page_after(uintptr_t address) { return page_of(address + kPage - 1); }

/// The pages of a segment that come from the file.
struct Piece {
  uintptr_t start = 0;
  size_t size = 0;
  off_t offset = 0;
  int protection = 0;
};

struct Layout {
  std::vector<Piece> pieces;
  uintptr_t sealed_start = 0;  // made read-only once relocations were done (PT_GNU_RELRO)
  size_t sealed_size = 0;
};

int protection_of(uint32_t flags) {
  return ((flags & PF_R) != 0 ? PROT_READ : 0) | ((flags & PF_W) != 0 ? PROT_WRITE : 0) |
         ((flags & PF_X) != 0 ? PROT_EXEC : 0);
}

Result<Layout> own_layout() {
  const auto* headers = reinterpret_cast<const Elf64_Phdr*>(getauxval(AT_PHDR));
  const std::span<const Elf64_Phdr> all(headers, getauxval(AT_PHNUM));
  if (headers == nullptr || getauxval(AT_PHENT) != sizeof(Elf64_Phdr) ||
      getauxval(AT_PAGESZ) != kPage) {
    return Error(Code::kUnimplemented, "the program's headers are not of the expected form");
  }
  // Where the program was loaded: the headers' address less where the file says they are. A program
  // that is not position-independent need not say.
  uintptr_t base = 0;
  for (const Elf64_Phdr& header : all) {
    if (header.p_type == PT_PHDR) base = reinterpret_cast<uintptr_t>(headers) - header.p_vaddr;
  }
  Layout out;
  for (const Elf64_Phdr& header : all) {
    const uintptr_t start = base + header.p_vaddr;
    if (header.p_type == PT_LOAD && header.p_filesz > 0) {
      const uintptr_t first = page_of(start);
      out.pieces.push_back({.start = first,
                            .size = page_after(start + header.p_filesz) - first,
                            .offset = static_cast<off_t>(page_of(header.p_offset)),
                            .protection = protection_of(header.p_flags)});
    } else if (header.p_type == PT_GNU_RELRO) {
      out.sealed_start = page_of(start);
      out.sealed_size = page_of(start + header.p_memsz) - out.sealed_start;
    }
  }
  return out;
}

#if defined(__SANITIZE_ADDRESS__)
// A segment holds also what AddressSanitizer keeps between our variables, and memcpy() is its own.
[[gnu::no_sanitize("address")]] void copy_segment(void* to, const void* from, size_t size) {
  auto* out = static_cast<volatile char*>(to);
  const auto* in = static_cast<const volatile char*>(from);
  for (size_t i = 0; i < size; ++i) out[i] = in[i];
}
#else
void copy_segment(void* to, const void* from, size_t size) { memcpy(to, from, size); }
#endif

// Our data, as it is, in memory of nobody's: moved over its old place in one call, between which
// and the copy nothing of ours is written.
Result<> copy_writable(const Piece& piece) {
  void* copy = mmap(nullptr, piece.size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (copy == MAP_FAILED) return Error::from_errno(errno, cat("mmap(", piece.size, " bytes)"));
  auto* place = reinterpret_cast<void*>(piece.start);
  copy_segment(copy, place, piece.size);
  if (mremap(copy, piece.size, piece.size, MREMAP_MAYMOVE | MREMAP_FIXED, place) != MAP_FAILED)
    return {};
  Error error = Error::from_errno(errno, "mremap(own data)");
  munmap(copy, piece.size);
  return error;
}

Result<> remap(const Layout& layout, FdRef file) {
  // What may fail for reasons of its own comes first: nothing else has happened then.
  for (const Piece& piece : layout.pieces) {
    if ((piece.protection & PROT_WRITE) != 0) FLUYT_TRY(copy_writable(piece));
  }
  if (layout.sealed_size != 0 &&
      mprotect(reinterpret_cast<void*>(layout.sealed_start), layout.sealed_size, PROT_READ) != 0) {
    return Error::from_errno(errno, "mprotect(own relocated data)");
  }
  for (const Piece& piece : layout.pieces) {
    if ((piece.protection & PROT_WRITE) != 0) continue;
    // The same bytes at the same place: also those of the code that does this.
    if (mmap(reinterpret_cast<void*>(piece.start), piece.size, piece.protection,
             MAP_PRIVATE | MAP_FIXED, file.raw(), piece.offset) == MAP_FAILED) {
      return Error::from_errno(errno, "mmap(own code)");
    }
  }
  return {};
}

// PR_SET_MM_MAP sets all of it at once: what is now, but for the file.
Result<prctl_mm_map> current_map() {
  const std::string stat = FLUYT_TRY(read_file("/proc/self/stat", 8192));
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos)
    return Error(Code::kInternal, "/proc/self/stat: no program name");
  const auto fields = split_words(trim(std::string_view(stat).substr(name_end + 1)));
  auto field = [&](size_t number) -> uint64_t {  // as proc_pid_stat(5) numbers them
    return number - 3 < fields.size() ? parse_number<uint64_t>(fields[number - 3]).value_or(0) : 0;
  };
  prctl_mm_map map{};
  map.start_code = field(26);
  map.end_code = field(27);
  map.start_stack = field(28);
  map.start_data = field(45);
  map.end_data = field(46);
  map.start_brk = field(47);
  map.arg_start = field(48);
  map.arg_end = field(49);
  map.env_start = field(50);
  map.env_end = field(51);
  return map;
}

#if defined(__x86_64__)

struct EndsAtOnce {
  Elf64_Ehdr header;
  Elf64_Phdr segment;
  std::array<uint8_t, 12> code;
};

// What /proc/PID/exe shall be: a file of nobody else's, for whoever opens ours to write keeps us
// from being executed for that moment (ETXTBSY), also where the open itself is refused; a container
// would only have to go on trying. Executed
// ("#!/proc/self/exe"), it ends with 127.
Result<Fd> stand_in() {
  constexpr Elf64_Addr kBase = 0x400000;
  EndsAtOnce program{};
  memcpy(program.header.e_ident, ELFMAG, SELFMAG);
  program.header.e_ident[EI_CLASS] = ELFCLASS64;
  program.header.e_ident[EI_DATA] = ELFDATA2LSB;
  program.header.e_ident[EI_VERSION] = EV_CURRENT;
  program.header.e_type = ET_EXEC;
  program.header.e_machine = EM_X86_64;
  program.header.e_version = EV_CURRENT;
  program.header.e_entry = kBase + offsetof(EndsAtOnce, code);
  program.header.e_phoff = offsetof(EndsAtOnce, segment);
  program.header.e_ehsize = sizeof program.header;
  program.header.e_phentsize = sizeof program.segment;
  program.header.e_phnum = 1;
  program.segment.p_type = PT_LOAD;
  program.segment.p_flags = PF_R | PF_X;
  program.segment.p_vaddr = program.segment.p_paddr = kBase;
  program.segment.p_filesz = program.segment.p_memsz = sizeof program;
  program.segment.p_align = kPage;
  program.code = {0xbf, 127,
                  0,    0,
                  0,  // mov $127, %edi
                  0xb8, SYS_exit_group,
                  0,    0,
                  0,            // mov $SYS_exit_group, %eax
                  0x0f, 0x05};  // syscall
  return sealed_memfd("fluyt", {reinterpret_cast<const char*>(&program), sizeof program});
}

#else

Result<Fd> stand_in() { return Error(Code::kUnimplemented, "not done on this architecture"); }

#endif

}  // namespace

Result<Fd> protect_in_place() {
  const Layout layout = FLUYT_TRY(own_layout());
  const Fd shown = FLUYT_TRY(stand_in());
  Fd mount = FLUYT_TRY(read_only_self());
  const Fd file = FLUYT_TRY(open(cat("/proc/self/fd/", mount.raw()), O_RDONLY));
  prctl_mm_map map = FLUYT_TRY(current_map());
  FLUYT_TRY(remap(layout, file));
  map.exe_fd = static_cast<uint32_t>(shown.raw());
  map.brk = static_cast<uint64_t>(syscall(SYS_brk, 0));
  if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) != 0)
    return Error::from_errno(errno, "prctl(PR_SET_MM_MAP)");
  return mount;
}

// NOLINTEND(performance-no-int-to-ptr)

}  // namespace fluyt::sys
