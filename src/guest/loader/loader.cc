#include "guest/loader/loader.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "guest/platform/host/io.h"

namespace fluyt::guest {
namespace {

constexpr int kMaxScripts = 4;
constexpr size_t kMaxHeaders = 512;
// All of it is mapped from the beginning, so that "unlimited" is not.
constexpr uint64_t kMinStack = uint64_t{256} << 10;
constexpr uint64_t kMaxStack = uint64_t{256} << 20;
constexpr uint64_t kPieBase = 0x555555554000;
// argv and envp together: a quarter of the stack (execve(2)).
constexpr size_t kMinStrings = size_t{128} << 10;
constexpr size_t kMaxStrings = size_t{6} << 20;

uint64_t page_up(uint64_t value) { return (value + kPageSize - 1) & ~(kPageSize - 1); }
uint64_t page_down(uint64_t value) { return value & ~(kPageSize - 1); }

uint64_t random_pages(int bits) {
  uint64_t value = 0;
  host::fill_random(std::as_writable_bytes(std::span(&value, 1)));
  return (value & ((uint64_t{1} << bits) - 1)) * kPageSize;
}

ErrnoOr<size_t> read_at(Caller& caller, File& file, uint64_t offset, std::span<std::byte> to) {
  size_t done = 0;
  auto at = static_cast<int64_t>(offset);
  while (done < to.size()) {
    const size_t step = GUEST_TRY(file.read(caller, to.subspan(done), &at));
    if (step == 0) break;
    done += step;
  }
  return done;
}

struct Elf {
  Elf64_Ehdr header{};
  std::vector<Elf64_Phdr> segments;
  std::string interpreter;
};

ErrnoOr<Elf> read_elf(Caller& caller, File& file) {
  Elf elf;
  const size_t got =
      GUEST_TRY(read_at(caller, file, 0, std::as_writable_bytes(std::span(&elf.header, 1))));
  const Elf64_Ehdr& header = elf.header;
  if (got != sizeof header || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != EM_X86_64 || (header.e_type != ET_EXEC && header.e_type != ET_DYN) ||
      header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 ||
      header.e_phnum > kMaxHeaders)
    return Errno(ENOEXEC);
  elf.segments.resize(header.e_phnum);
  const auto bytes = std::as_writable_bytes(std::span(elf.segments));
  const size_t had = GUEST_TRY(read_at(caller, file, header.e_phoff, bytes));
  if (had != bytes.size()) return Errno(ENOEXEC);
  uint64_t last = 0;
  for (const Elf64_Phdr& segment : elf.segments) {
    if (segment.p_type == PT_INTERP && elf.interpreter.empty()) {
      if (segment.p_filesz < 2 || segment.p_filesz > PATH_MAX) return Errno(ENOEXEC);
      elf.interpreter.resize(segment.p_filesz);
      const size_t length = GUEST_TRY(read_at(caller, file, segment.p_offset,
                                              std::as_writable_bytes(std::span(elf.interpreter))));
      if (length != segment.p_filesz || elf.interpreter.back() != 0) return Errno(ENOEXEC);
      elf.interpreter.resize(std::strlen(elf.interpreter.c_str()));
    }
    if (segment.p_type != PT_LOAD) continue;
    if (segment.p_memsz < segment.p_filesz || segment.p_memsz > kGuestTop ||
        segment.p_vaddr > kGuestTop - segment.p_memsz || segment.p_vaddr < last ||
        segment.p_offset % kPageSize != segment.p_vaddr % kPageSize ||
        segment.p_offset + segment.p_filesz < segment.p_offset)
      return Errno(ENOEXEC);
    last = segment.p_vaddr + segment.p_memsz;
  }
  if (last == 0) return Errno(ENOEXEC);
  return elf;
}

struct Placed {
  uint64_t bias = 0;
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t code_end = 0;
  uint64_t headers = 0;  // where the program headers are mapped
};

int protection_of(uint32_t flags) {
  return ((flags & PF_R) != 0 ? PROT_READ : 0) | ((flags & PF_W) != 0 ? PROT_WRITE : 0) |
         ((flags & PF_X) != 0 ? PROT_EXEC : 0);
}

ErrnoOr<Placed> place(Mm& mm, const FilePtr& file, const Elf& elf, uint64_t base) {
  Placed placed;
  uint64_t low = kGuestTop;
  uint64_t high = 0;
  for (const Elf64_Phdr& segment : elf.segments) {
    if (segment.p_type != PT_LOAD) continue;
    low = std::min(low, page_down(segment.p_vaddr));
    high = std::max(high, page_up(segment.p_vaddr + segment.p_memsz));
  }
  if (elf.header.e_type == ET_DYN) {
    // All of it in one piece, so that nothing gets between.
    const uint64_t at =
        GUEST_TRY(mm.map(base, high - low, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, nullptr, 0));
    placed.bias = at - low;
  } else if (low < kGuestBottom) {
    return Errno(EPERM);
  }
  placed.start = low + placed.bias;
  placed.end = high + placed.bias;
  for (const Elf64_Phdr& segment : elf.segments) {
    if (segment.p_type != PT_LOAD) continue;
    const uint64_t address = segment.p_vaddr + placed.bias;
    const uint64_t start = page_down(address);
    const uint64_t file_end = address + segment.p_filesz;
    const uint64_t end = address + segment.p_memsz;
    const int protection = protection_of(segment.p_flags);
    if (segment.p_filesz != 0)
      GUEST_TRY(mm.map(start, file_end - start, protection, MAP_PRIVATE | MAP_FIXED, file,
                       page_down(segment.p_offset)));
    const uint64_t zero_from = segment.p_filesz != 0 ? page_up(file_end) : start;
    if (end > zero_from)
      GUEST_TRY(mm.map(zero_from, end - zero_from, protection,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, nullptr, 0));
    if (segment.p_memsz > segment.p_filesz && segment.p_filesz != 0 &&
        (protection & PROT_WRITE) != 0 && file_end % kPageSize != 0) {
      const std::vector<std::byte> zeros(std::min(page_up(file_end), page_up(end)) - file_end);
      // A page wholly behind the end of the file is SIGBUS there as well.
      if (mm.space().write(file_end, zeros) != zeros.size()) return Errno(ENOEXEC);
    }
    if ((segment.p_flags & PF_X) != 0) placed.code_end = std::max(placed.code_end, file_end);
    if (elf.header.e_phoff >= segment.p_offset &&
        elf.header.e_phoff < segment.p_offset + segment.p_filesz)
      placed.headers = elf.header.e_phoff - segment.p_offset + address;
  }
  return placed;
}

/// The first words of a `#!` line: the interpreter, and all the rest as one argument.
ErrnoOr<std::vector<std::string>> read_script(std::string_view text) {
  constexpr size_t kMaxLine = 256;
  text = text.substr(2, std::min(text.size() - 2, kMaxLine));
  const size_t line = text.find('\n');
  if (line == std::string_view::npos && text.size() == kMaxLine) return Errno(ENOEXEC);
  text = text.substr(0, line);
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos)
    text = text.substr(0, zero);
  const auto trim = [](std::string_view word) {
    while (!word.empty() && (word.front() == ' ' || word.front() == '\t')) word.remove_prefix(1);
    while (!word.empty() && (word.back() == ' ' || word.back() == '\t')) word.remove_suffix(1);
    return word;
  };
  text = trim(text);
  if (text.empty()) return Errno(ENOEXEC);
  const size_t space = text.find_first_of(" \t");
  std::vector<std::string> out{std::string(text.substr(0, space))};
  if (space != std::string_view::npos)
    if (const std::string_view rest = trim(text.substr(space)); !rest.empty())
      out.emplace_back(rest);
  return out;
}

/// The initial stack, from its top downwards.
class StackWriter {
 public:
  explicit StackWriter(uint64_t top, size_t room) : top_(top), bytes_(room) { at_ = room; }
  ErrnoOr<uint64_t> push(std::span<const std::byte> data) {
    if (data.size() > at_) return Errno(E2BIG);
    at_ -= data.size();
    std::copy(data.begin(), data.end(), bytes_.begin() + static_cast<ptrdiff_t>(at_));
    return address();
  }
  ErrnoOr<uint64_t> push_text(const std::string& text) {
    return push(std::as_bytes(std::span(text.c_str(), text.size() + 1)));
  }
  void align(size_t to) { at_ -= (at_ + (top_ - bytes_.size())) % to; }
  uint64_t address() const { return top_ - (bytes_.size() - at_); }
  std::span<const std::byte> written() const { return std::span(bytes_).subspan(at_); }

 private:
  uint64_t top_;
  std::vector<std::byte> bytes_;
  size_t at_;
};

uint64_t stack_size(const LoadRequest& request) {
  return page_down(std::clamp(request.stack_bytes, kMinStack, kMaxStack));
}

ErrnoOr<uint64_t> write_stack(Mm& mm, uint64_t top, const LoadRequest& request, const Elf& elf,
                              const Placed& program, uint64_t interpreter_base, uint64_t entry) {
  const uint64_t library = request.platform.clock_pages().library;
  size_t room = 8192;
  for (const auto* list : {&request.arguments, &request.environment})
    for (const std::string& text : *list) room += text.size() + 1 + 16;
  const uint64_t size = stack_size(request);
  const size_t most = std::clamp<size_t>(size / 4, kMinStrings, kMaxStrings);
  if (room > most + 8192 || room > size / 4 * 3) return Errno(E2BIG);
  StackWriter stack(top, room);
  const uint64_t zero = 0;
  GUEST_TRY(stack.push(std::as_bytes(std::span(&zero, 1))));
  const uint64_t name = GUEST_TRY(stack.push_text(request.path));
  std::vector<uint64_t> environment;
  std::vector<uint64_t> arguments;
  mm.layout.environment_end = stack.address();
  for (auto text = request.environment.rbegin(); text != request.environment.rend(); ++text)
    environment.push_back(GUEST_TRY(stack.push_text(*text)));
  mm.layout.environment = mm.layout.arguments_end = stack.address();
  for (auto text = request.arguments.rbegin(); text != request.arguments.rend(); ++text)
    arguments.push_back(GUEST_TRY(stack.push_text(*text)));
  mm.layout.arguments = stack.address();
  std::reverse(environment.begin(), environment.end());
  std::reverse(arguments.begin(), arguments.end());
  const uint64_t platform = GUEST_TRY(stack.push_text("x86_64"));
  std::byte seed[16];
  host::fill_random(seed);
  const uint64_t random = GUEST_TRY(stack.push(seed));

  // Linux tells of them since 6.3.
  const bool has_rseq = request.platform.has_rseq() && getauxval(AT_RSEQ_ALIGN) != 0;
  const Credentials& who = request.credentials;
  const uint64_t auxv[][2] = {
      {AT_HWCAP, getauxval(AT_HWCAP)},
      {AT_PAGESZ, kPageSize},
      {AT_CLKTCK, 100},
      {AT_PHDR, program.headers},
      {AT_PHENT, sizeof(Elf64_Phdr)},
      {AT_PHNUM, elf.header.e_phnum},
      {AT_BASE, interpreter_base},
      {AT_FLAGS, 0},
      {AT_ENTRY, entry},
      {AT_UID, who.shown_uid(who.uid)},
      {AT_EUID, who.shown_uid(who.euid)},
      {AT_GID, who.shown_gid(who.gid)},
      {AT_EGID, who.shown_gid(who.egid)},
      {AT_SECURE, request.secure ? 1U : 0U},
      {AT_RANDOM, random},
      {AT_HWCAP2, getauxval(AT_HWCAP2)},
      {AT_EXECFN, name},
      {AT_PLATFORM, platform},
      {AT_MINSIGSTKSZ, getauxval(AT_MINSIGSTKSZ)},
      {has_rseq ? uint64_t{AT_RSEQ_FEATURE_SIZE} : uint64_t{AT_IGNORE},
       getauxval(AT_RSEQ_FEATURE_SIZE)},
      {has_rseq ? uint64_t{AT_RSEQ_ALIGN} : uint64_t{AT_IGNORE}, getauxval(AT_RSEQ_ALIGN)},
      {library != 0 ? uint64_t{AT_SYSINFO_EHDR} : uint64_t{AT_NULL}, library},
      {AT_NULL, 0},
  };
  mm.layout.auxv.assign(reinterpret_cast<const char*>(auxv), sizeof auxv);
  std::vector<uint64_t> words;
  words.push_back(arguments.size());
  words.insert(words.end(), arguments.begin(), arguments.end());
  words.push_back(0);
  words.insert(words.end(), environment.begin(), environment.end());
  words.push_back(0);
  for (const auto& entry_pair : auxv) words.insert(words.end(), {entry_pair[0], entry_pair[1]});
  // The stack pointer of a new program is a multiple of 16.
  stack.align(16);
  const std::vector<std::byte> padding((16 - words.size() * 8 % 16) % 16);
  GUEST_TRY(stack.push(padding));
  const uint64_t sp = GUEST_TRY(stack.push(std::as_bytes(std::span(words))));
  if (mm.space().write(sp, stack.written()) != stack.written().size()) return Errno(ENOMEM);
  return sp;
}

}  // namespace

ErrnoOr<FilePtr> open_executable(Tree& tree, const WalkFrom& from, const std::string& path) {
  const DentryPtr found = GUEST_TRY(tree.find(from, path, LastLink::kFollow));
  const Stat stat = GUEST_TRY(found->inode->stat());
  if (!S_ISREG(stat.mode)) return Errno(EACCES);
  GUEST_TRY(may_access(from.credentials, stat, 1));
  if ((stat.mode & 0111) == 0 || tree.has_mount_option(found, "noexec")) return Errno(EACCES);
  FilePtr file = GUEST_TRY(found->inode->open(found, O_RDONLY));
  file->tell_opened(tree.watches);
  return file;
}

ErrnoOr<bool> is_script(Caller& caller, File& file) {
  std::array<char, 2> start{};
  GUEST_TRY(read_at(caller, file, 0, std::as_writable_bytes(std::span(start))));
  return start[0] == '#' && start[1] == '!';
}

ErrnoOr<Loaded> load_program(LoadRequest request) {
  std::string name = request.path;
  std::shared_ptr<void> running;
  for (int scripts = 0;; ++scripts) {
    running = GUEST_TRY(hold_for_running(request.file->inode()));
    char start[258] = {};
    const size_t got = GUEST_TRY(
        read_at(request.caller, *request.file, 0, std::as_writable_bytes(std::span(start))));
    if (got < 2 || start[0] != '#' || start[1] != '!') break;
    if (scripts == kMaxScripts) return Errno(ELOOP);
    std::vector<std::string> words = GUEST_TRY(read_script({start, got}));
    // The script's own name takes the place of argv[0].
    std::vector<std::string> arguments = std::move(words);
    const std::string interpreter = arguments[0];
    arguments.push_back(name);
    if (request.arguments.size() > 1)
      arguments.insert(arguments.end(), request.arguments.begin() + 1, request.arguments.end());
    request.arguments = std::move(arguments);
    request.file = GUEST_TRY(open_executable(request.tree, request.from, interpreter));
    name = interpreter;
  }
  const Elf elf = GUEST_TRY(read_elf(request.caller, *request.file));

  Loaded loaded;
  loaded.mm = GUEST_TRY(Mm::create(request.platform));
  Mm& mm = *loaded.mm;
  mm.run_from(std::move(running));
  const uint64_t stack_top = kGuestTop - kPageSize - random_pages(22);
  const uint64_t stack_bytes = stack_size(request);
  mm.set_map_base(page_down(stack_top - stack_bytes - (uint64_t{64} << 20) - random_pages(20)));
  const uint64_t base =
      elf.interpreter.empty() && elf.header.e_type == ET_DYN ? 0 : kPieBase + random_pages(24);
  const Placed program = GUEST_TRY(place(mm, request.file, elf, base));
  uint64_t start = elf.header.e_entry + program.bias;
  uint64_t interpreter_base = 0;
  const uint64_t entry = start;
  if (!elf.interpreter.empty()) {
    const FilePtr file = GUEST_TRY(open_executable(request.tree, request.from, elf.interpreter));
    const std::shared_ptr<void> loading = GUEST_TRY(hold_for_running(file->inode()));
    const Elf interpreter = GUEST_TRY(read_elf(request.caller, *file));
    const Placed where = GUEST_TRY(place(mm, file, interpreter, 0));
    start = interpreter.header.e_entry + where.bias;
    interpreter_base = where.bias;
  } else if (elf.header.e_type == ET_EXEC) {
    GUEST_TRY(mm.keep_page_tables());  // others have something there
  }
  const auto marked = std::ranges::find(elf.segments, uint32_t{PT_GNU_STACK}, &Elf64_Phdr::p_type);
  const bool runs = marked != elf.segments.end() && (marked->p_flags & PF_X) != 0;
  GUEST_TRY(mm.map(stack_top - stack_bytes, stack_bytes,
                   PROT_READ | PROT_WRITE | (runs ? PROT_EXEC : 0),
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, nullptr, 0, "[stack]"));
  mm.start_break(program.end + (elf.header.e_type == ET_DYN ? random_pages(13) : 0));
  const uint64_t sp =
      GUEST_TRY(write_stack(mm, stack_top, request, elf, program, interpreter_base, entry));
  mm.layout.code_start = program.start;
  mm.layout.code_end = program.code_end;
  mm.layout.stack = sp;
  loaded.image.registers.rip = start;
  loaded.image.registers.rsp = sp;
  loaded.executable = request.file;
  loaded.arguments = std::move(request.arguments);
  return loaded;
}

}  // namespace fluyt::guest
