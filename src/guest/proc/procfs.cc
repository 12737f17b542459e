#include "guest/proc/procfs.h"

#include <sys/mman.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <optional>
#include <utility>

#include "base/strings.h"
#include "guest/net/network.h"
#include "guest/platform/host/io.h"
#include "guest/proc/nodes.h"
#include "guest/proc/user_file.h"
#include "guest/task/namespaces.h"

namespace fluyt::guest {
namespace {

constexpr NodeSystem kProc{.magic = 0x9fa0, .device = make_device(0, 15), .block_size = 1024};

class TextInode final : public TextNode {
 public:
  TextInode(uint32_t mode, uint64_t ino, Text text, TakeText write)
      : TextNode(kProc, mode, ino, std::move(text), std::move(write)) {}
};

class LinkInode final : public LinkNode {
 public:
  LinkInode(uint64_t ino, Text target, Jump jump)
      : LinkNode(kProc, ino, std::move(target), std::move(jump)) {}
};

class Directory final : public DirectoryNode {
 public:
  explicit Directory(uint64_t ino, uint32_t mode = 0555) : DirectoryNode(kProc, ino, mode) {}
  void show(const ProcessPtr& process) { process_ = process; }
  std::shared_ptr<void> process() override { return process_.lock(); }

 private:
  std::weak_ptr<Process> process_;
};

/// A file below /proc/sys. A null `write`: it cannot be written.
struct Setting {
  Text text;
  TakeText write;
};
using Settings = std::map<std::string, Setting>;

Setting fixed_setting(std::string text) {
  return {[text = std::move(text)]() -> ErrnoOr<std::string> { return text; }, nullptr};
}

/// Files by their paths, and the folders that they lie in.
void add_settings(Directory& dir, const Settings& values, uint64_t& number) {
  std::map<std::string, Settings> folders;
  for (const auto& [path, setting] : values) {
    const size_t slash = path.find('/');
    if (slash != std::string::npos) {
      folders[path.substr(0, slash)][path.substr(slash + 1)] = setting;
      continue;
    }
    dir.add(path.c_str(), 8, [ino = number++, of = setting]() -> InodePtr {
      return std::make_shared<TextInode>(of.write ? 0644 : 0444, ino, of.text, of.write);
    });
  }
  for (const auto& [name, below] : folders) {
    auto made = std::make_shared<Directory>(number++);
    add_settings(*made, below, number);
    dir.add(name.c_str(), 4, [made]() -> InodePtr { return made; });
  }
}

constexpr std::string_view kQueueFolder = "fs/mqueue/";

/// A number with blanks around it, as sysctls are written.
std::optional<int64_t> read_setting(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\n");
  if (begin == std::string_view::npos) return std::nullopt;
  text = text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Of the reader's IPC namespace.
Setting queue_setting(Kernel& kernel, size_t which) {
  const auto queues = [&kernel] {
    const Task* task = Task::current();
    return (task != nullptr ? task->sysv() : kernel.sysv).posix_queues;
  };
  return {[queues, which]() -> ErrnoOr<std::string> {
            return std::to_string(queues()->limits()[which]) + "\n";
          },
          [queues, which](std::string_view text) {
            const std::optional<int64_t> value = read_setting(text);
            const QueueLimitName& of = kQueueLimits[which];
            if (!value || *value < of.least || *value > of.most) return Errno(EINVAL);
            queues()->set_limit(static_cast<QueueLimit>(which), *value);
            return kOk;
          }};
}

/// What a thread is, for as long as somebody looks at it under /proc. Its task may end meanwhile.
struct Seen {
  ProcessPtr process;
  std::shared_ptr<Mm> mm;
  std::shared_ptr<FsContext> fs;
  std::string name;
  Credentials credentials;
  SignalSet blocked = 0;
  SignalSet pending = 0;
  int32_t tid = 0;
  std::shared_ptr<MountSpace> mounts;
  bool no_new_privileges = false;
  int seccomp_mode = 0;
  int seccomp_filters = 0;
  std::vector<uint64_t> processors;
};

/// A process by its pid, or a thread of it.
class Watched {
 public:
  Watched(const ProcView& view, int32_t tid) : view_(view), tid_(tid) {}
  ErrnoOr<Seen> look() const {
    std::lock_guard lock(kernel().lock);
    Seen seen;
    seen.tid = tid_;
    const auto thread = kernel().tasks.find(tid_);
    if (thread != kernel().tasks.end()) {
      const Task& task = *thread->second;
      seen.process = task.process;
      seen.mm = task.mm;
      seen.fs = task.fs;
      seen.mounts = task.mounts;
      seen.name = task.name;
      seen.credentials = task.credentials;
      seen.blocked = task.blocked;
      seen.no_new_privileges = task.no_new_privileges;
      for (const FilterChain* at = task.filters.get(); at != nullptr; at = at->parent().get())
        ++seen.seccomp_filters;
      seen.seccomp_mode = task.strict ? 1 : seen.seccomp_filters != 0 ? 2 : 0;
      seen.pending = task.pending.set();
      seen.processors = task.processors();
      return seen;
    }
    seen.process = kernel().find_process(tid_);
    if (!seen.process) return Errno(ESRCH);
    return seen;
  }
  /// Its descriptors; ENOENT: it has none any more. Only for who looks at them: who has the table
  /// when its process lets it go is the one to close what is in it.
  ErrnoOr<std::shared_ptr<FdTable>> files() const {
    std::lock_guard lock(kernel().lock);
    const auto thread = kernel().tasks.find(tid_);
    if (thread == kernel().tasks.end() || !thread->second->files) return Errno(ENOENT);
    return thread->second->files;
  }
  Kernel& kernel() const { return view_.kernel; }
  const ProcView& view() const { return view_; }
  int32_t tid() const { return tid_; }
  /// What the number of an id is where this procfs was mounted.
  int32_t shown(int32_t id) const { return view_.pids->number_of(id); }

 private:
  ProcView view_;
  int32_t tid_;
};

/// Of namespaces and what links lead to: who may see into a process.
bool may_look_into(const Task* asks, const Task& other) {
  return asks != nullptr && may_look_into(*asks, other, LookBy::kFileIds);
}

/// What its links lead to is only for those.
ErrnoOr<Seen> look_into(const Watched& who) {
  Seen seen = GUEST_TRY(who.look());
  std::lock_guard lock(who.kernel().lock);
  const auto found = who.kernel().tasks.find(seen.tid);
  if (found != who.kernel().tasks.end() && !may_look_into(Task::current(), *found->second))
    return Errno(EACCES);
  return seen;
}

/// proc_pid_smaps(5). What of it has pages the host alone knows: at most all that can be used.
void add_details(std::string& out, const Mm::Area& area, uint64_t size) {
  const uint64_t most = area.protection == PROT_NONE ? 0 : size / 1024;
  const bool written = (area.protection & PROT_WRITE) != 0;
  print(out,
        "Size:           %8lu kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n"
        "Rss:            %8lu kB\nPss:            %8lu kB\n",
        size / 1024, most, most);
  const auto row = [&](const char* name, bool shared, bool dirty) {
    print(out, "%s %8lu kB\n", name, area.shared == shared && written == dirty ? most : 0);
  };
  row("Shared_Clean:  ", true, false);
  row("Shared_Dirty:  ", true, true);
  row("Private_Clean: ", false, false);
  row("Private_Dirty: ", false, true);
  print(out, "Anonymous:      %8lu kB\nSwap:           %8d kB\n",
        area.file || area.shared ? 0 : most, 0);
}

/// As whoever asks would name it; what is in no tree has its own text for a name.
std::string path_shown(Kernel& kernel, const DentryPtr& place) {
  if (!place->parent && place->name != "/") return place->name;
  const Task* task = Task::current();
  DentryPtr root = kernel.tree->root();
  if (task != nullptr && task->fs) {
    std::lock_guard lock(task->fs->lock);
    root = task->fs->root;
  }
  return kernel.tree->path_of(place, root);
}

std::string maps_of(const Watched& who, const Seen& seen, bool detailed) {
  std::string out;
  if (!seen.mm) return out;
  for (const auto& [start, area] : seen.mm->areas()) {
    std::string path = area.name;
    uint64_t device = 0;
    uint64_t ino = 0;
    if (area.file) {
      path =
          area.file->path() ? path_shown(who.kernel(), area.file->path()) : area.file->describe();
      const ErrnoOr<Stat> stat = area.file->stat();
      if (stat.ok()) {
        device = stat.value().dev;
        ino = stat.value().ino;
      }
    }
    const size_t begin = out.size();
    print(out, "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %lu ", start, area.end,
          (area.protection & 1) != 0 ? 'r' : '-', (area.protection & 2) != 0 ? 'w' : '-',
          (area.protection & 4) != 0 ? 'x' : '-', area.shared ? 's' : 'p',
          area.file ? area.offset : 0, static_cast<unsigned>(device >> 8 & 0xfff),
          static_cast<unsigned>(device & 0xff), ino);
    if (!path.empty()) {
      while (out.size() - begin < 73) out += ' ';
      out += path;
    }
    out += '\n';
    if (detailed) add_details(out, area, area.end - start);
  }
  return out;
}

/// Of whoever asks: ids are shown as its user namespace has them.
Credentials reader_credentials() {
  const Task* task = Task::current();
  return task != nullptr ? task->credentials : Credentials();
}

char state_of(const Process& process) {
  if (process.zombie) return 'Z';
  if (process.stopped) return 'T';
  if (Task::current() != nullptr && Task::current()->process.get() == &process) return 'R';
  return std::ranges::any_of(process.threads, &Task::is_running) ? 'R' : 'S';
}

std::string stat_of(const Watched& who, const Seen& seen) {
  Kernel& kernel = who.kernel();
  const Mm::Sizes sizes = seen.mm ? seen.mm->sizes() : Mm::Sizes();
  std::lock_guard lock(kernel.lock);
  const Process& process = *seen.process;
  const ProcessPtr parent = process.parent.lock();
  int32_t tty = 0;
  int32_t foreground = -1;
  if (process.terminal) {
    tty = static_cast<int32_t>(process.terminal->device());
    std::lock_guard guard(process.terminal->mutex);
    foreground = process.terminal->foreground;
  }
  constexpr int64_t kTick = 10'000'000;
  const Usage own = process.usage();
  const int nice = process.threads.empty() ? 0 : process.threads.front()->schedule.nice;
  std::string out;
  print(out, "%d (%s) %c %d %d %d %d %d 0 0 0 0 0 %ld %ld %ld %ld %d %d %zu 0 %ld %lu %lu ",
        who.shown(seen.tid), seen.name.c_str(), state_of(process),
        parent ? who.shown(parent->pid) : 0, who.shown(process.group), who.shown(process.session),
        tty, foreground > 0 ? who.shown(foreground) : foreground, own.user_ns / kTick,
        own.system_ns / kTick, process.children_usage.user_ns / kTick,
        process.children_usage.system_ns / kTick, 20 + nice, nice,
        std::max<size_t>(process.threads.size(), 1), process.started_ns / kTick, sizes.mapped,
        sizes.usable / kPageSize);
  print(out, "18446744073709551615 %lu %lu %lu 0 0 %lu %lu 0 0 0 0 0 17 0 0 0 0 0 0 ",
        seen.mm ? seen.mm->layout.code_start : 0, seen.mm ? seen.mm->layout.code_end : 0,
        seen.mm ? seen.mm->layout.stack : 0, seen.pending & 0x7fffffff, seen.blocked & 0x7fffffff);
  print(out, "0 0 0 %lu %lu %lu %lu %d\n", seen.mm ? seen.mm->layout.arguments : 0,
        seen.mm ? seen.mm->layout.arguments_end : 0, seen.mm ? seen.mm->layout.environment : 0,
        seen.mm ? seen.mm->layout.environment_end : 0, process.exit_status);
  return out;
}

/// Words of 32 bits, the highest first.
std::string as_words(const std::vector<uint64_t>& bits) {
  std::string out;
  for (size_t i = bits.size() * 2; i-- > 0;) {
    const auto word = static_cast<uint32_t>(bits[i / 2] >> (i % 2 * 32));
    if (out.empty() && word == 0 && i != 0) continue;
    print(out, out.empty() ? "%x" : ",%08x", word);
  }
  return out;
}

/// "0-2,5".
std::string as_ranges(const std::vector<uint64_t>& bits) {
  std::string out;
  const auto has = [&](size_t i) {
    return i / 64 < bits.size() && (bits[i / 64] >> (i % 64) & 1) != 0;
  };
  for (size_t i = 0; i < bits.size() * 64; ++i) {
    if (!has(i)) continue;
    const size_t first = i;
    while (has(i + 1)) ++i;
    print(out, "%s%zu", out.empty() ? "" : ",", first);
    if (i != first) print(out, "-%zu", i);
  }
  return out;
}

uint64_t code_bytes(const Seen& seen) {
  return seen.mm ? seen.mm->layout.code_end - seen.mm->layout.code_start : 0;
}

/// proc_pid_statm(5). Resident is what can be used: of what of it has pages the host alone knows.
std::string statm_of(const Seen& seen) {
  const Mm::Sizes sizes = seen.mm ? seen.mm->sizes() : Mm::Sizes();
  std::string out;
  print(out, "%lu %lu %lu %lu 0 %lu 0\n", sizes.mapped / kPageSize, sizes.usable / kPageSize,
        sizes.of_files / kPageSize, code_bytes(seen) / kPageSize,
        (sizes.data + sizes.stack) / kPageSize);
  return out;
}

/// proc_pid_io(5). What reaches storage is the host's business, and not known.
std::string io_of(const Seen& seen) {
  const Process::Traffic& traffic = seen.process->traffic;
  std::string out;
  print(out,
        "rchar: %lu\nwchar: %lu\nsyscr: %lu\nsyscw: %lu\nread_bytes: 0\nwrite_bytes: 0\n"
        "cancelled_write_bytes: 0\n",
        traffic.read_bytes.load(), traffic.written_bytes.load(), traffic.reads.load(),
        traffic.writes.load());
  return out;
}

std::string status_of(const Watched& who, const Seen& seen) {
  const Mm::Sizes sizes = seen.mm ? seen.mm->sizes() : Mm::Sizes();
  uint32_t mask = 022;
  if (seen.fs) {
    std::lock_guard guard(seen.fs->lock);
    mask = seen.fs->umask;
  }
  std::lock_guard lock(who.kernel().lock);
  const Process& process = *seen.process;
  const ProcessPtr parent = process.parent.lock();
  const Credentials& c = seen.credentials;
  const Credentials reader = reader_credentials();
  SignalSet ignored = 0;
  SignalSet caught = 0;
  for (int signal = 1; signal <= kSignals; ++signal) {
    const uint64_t handler = process.actions->of[static_cast<size_t>(signal)].handler;
    if (handler == 1) ignored |= signal_bit(signal);
    if (handler > 1) caught |= signal_bit(signal);
  }
  const char state = state_of(process);
  const char* word = state == 'Z'   ? "zombie"
                     : state == 'T' ? "stopped"
                     : state == 'R' ? "running"
                                    : "sleeping";
  std::string out;
  print(out,
        "Name:\t%s\nUmask:\t%04o\nState:\t%c "
        "(%s)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\n",
        seen.name.c_str(), mask, state, word, who.shown(process.pid), who.shown(seen.tid),
        parent ? who.shown(parent->pid) : 0);
  print(out, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nFDSize:\t64\nGroups:\t",
        reader.shown_uid(c.uid), reader.shown_uid(c.euid), reader.shown_uid(c.suid),
        reader.shown_uid(c.fsuid), reader.shown_gid(c.gid), reader.shown_gid(c.egid),
        reader.shown_gid(c.sgid), reader.shown_gid(c.fsgid));
  for (uint32_t group : c.groups) print(out, "%u ", reader.shown_gid(group));
  out += '\n';
  // From here down to its own namespace.
  std::vector<const PidSpace*> levels;
  for (const PidSpace* at = process.pids.get(); at != nullptr; at = at->above.get()) {
    levels.push_back(at);
    if (at == who.view().pids.get()) break;
  }
  const auto numbers = [&](const char* name, int32_t id) {
    out += name;
    for (auto level = levels.rbegin(); level != levels.rend(); ++level)
      print(out, "\t%d", (*level)->number_of(id));
    out += '\n';
  };
  numbers("NStgid:", process.pid);
  numbers("NSpid:", seen.tid);
  numbers("NSpgid:", process.group);
  numbers("NSsid:", process.session);
  if (seen.mm)
    print(out,
          "VmSize:\t%8lu kB\nVmRSS:\t%8lu kB\nRssAnon:\t%8lu kB\nRssFile:\t%8lu kB\n"
          "VmData:\t%8lu kB\nVmStk:\t%8lu kB\nVmExe:\t%8lu kB\nVmSwap:\t%8d kB\n",
          sizes.mapped / 1024, sizes.usable / 1024, (sizes.usable - sizes.of_files) / 1024,
          sizes.of_files / 1024, sizes.data / 1024, sizes.stack / 1024, code_bytes(seen) / 1024, 0);
  print(out, "Threads:\t%zu\n", std::max<size_t>(process.threads.size(), 1));
  print(
      out,
      "SigQ:\t0/"
      "4096\nSigPnd:\t%016lx\nShdPnd:\t%016lx\nSigBlk:\t%016lx\nSigIgn:\t%016lx\nSigCgt:\t%016lx\n",
      seen.pending, process.pending.set(), seen.blocked, ignored, caught);
  print(out,
        "CapInh:\t%016lx\nCapPrm:\t%016lx\nCapEff:\t%016lx\nCapBnd:\t%016lx\nCapAmb:\t%016lx\n",
        c.inheritable, c.permitted, c.effective, c.bounding, c.ambient);
  print(out, "NoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t%d\n",
        seen.no_new_privileges ? 1 : 0, seen.seccomp_mode, seen.seccomp_filters);
  out += "Cpus_allowed:\t" + as_words(seen.processors) + "\nCpus_allowed_list:\t" +
         as_ranges(seen.processors) + "\n";
  return out;
}

ErrnoOr<std::string> memory_text(const Seen& seen, uint64_t start, uint64_t end) {
  constexpr uint64_t kMax = uint64_t{2} << 20;
  if (!seen.mm || end <= start) return std::string();
  std::string out(std::min(end - start, kMax), 0);
  const size_t got = seen.mm->space().read(start, std::as_writable_bytes(std::span(out)));
  out.resize(got);
  return out;
}

/// The number of a descriptor that is open.
ErrnoOr<int> open_descriptor(const Watched& who, std::string_view name) {
  int fd = 0;
  if (name.empty() || name.size() > 9) return Errno(ENOENT);
  for (char digit : name) {
    if (digit < '0' || digit > '9') return Errno(ENOENT);
    fd = fd * 10 + (digit - '0');
  }
  GUEST_TRY(who.look());
  const std::shared_ptr<FdTable> files = GUEST_TRY(who.files());
  return files->get(fd).ok() ? ErrnoOr<int>(fd) : Errno(ENOENT);
}

/// proc_pid_fdinfo(5).
ErrnoOr<std::string> describe_descriptor(const Watched& who, int fd) {
  GUEST_TRY(who.look());
  const std::shared_ptr<FdTable> files = GUEST_TRY(who.files());
  const FilePtr file = GUEST_TRY(files->get(fd));
  const bool close_on_exec = GUEST_TRY(files->close_on_exec(fd));
  int64_t position = 0;
  if (file->seekable()) {  // a stream's lock may be held for as long as a read waits
    std::lock_guard lock(file->position_lock);
    position = file->position;
  }
  const ErrnoOr<Stat> stat = file->stat();
  constexpr int kLargeFile = 0100000;
  constexpr int kCloseOnExec = 02000000;
  std::string out;
  print(out, "pos:\t%ld\nflags:\t0%o\nmnt_id:\t0\nino:\t%lu\n", position,
        static_cast<unsigned>(file->flags() | kLargeFile | (close_on_exec ? kCloseOnExec : 0)),
        stat.ok() ? stat.value().ino : uint64_t{0});
  return out;
}

struct Owner {
  uint32_t uid = 0;
  uint32_t gid = 0;
};

/// Of what may not be dumped, root's to everybody but the process itself (proc_pid_fd(5)).
class DescriptorsDirectory final : public DirectoryNode {
 public:
  DescriptorsDirectory(const Watched& who, uint64_t ino)
      : DirectoryNode(kProc, ino, 0500), who_(who) {}
  ErrnoOr<Stat> stat() override {
    Stat out = GUEST_TRY(DirectoryNode::stat());
    const Task* by = Task::current();
    if (by == nullptr) return out;
    ErrnoOr<Seen> seen = who_.look();
    if (!seen.ok() || seen->process != by->process) return out;
    out.uid = by->credentials.fsuid;
    out.gid = by->credentials.fsgid;
    return out;
  }

 private:
  Watched who_;
};

InodePtr make_fdinfo_dir(const Watched& who, uint64_t ino, Owner owner) {
  auto dir = std::make_shared<DescriptorsDirectory>(who, ino);
  dir->set_owner(owner.uid, owner.gid);
  dir->add_dynamic(
      [who, ino](std::string_view name) -> ErrnoOr<InodePtr> {
        const int fd = GUEST_TRY(open_descriptor(who, name));
        return InodePtr(std::make_shared<TextInode>(
            0444, ino + static_cast<uint64_t>(fd) + 1,
            [who, fd]() -> ErrnoOr<std::string> { return describe_descriptor(who, fd); }, nullptr));
      },
      [who, ino] {
        std::vector<DirEntry> out;
        const auto files = who.files();
        if (!files.ok()) return out;
        for (int fd : files.value()->numbers())
          out.push_back({std::to_string(fd), ino + static_cast<uint64_t>(fd) + 1, 8});
        return out;
      });
  return dir;
}

InodePtr make_fd_dir(const Watched& who, uint64_t ino, Owner owner) {
  auto dir = std::make_shared<DescriptorsDirectory>(who, ino);
  dir->set_owner(owner.uid, owner.gid);
  dir->add_dynamic(
      [who, ino](std::string_view name) -> ErrnoOr<InodePtr> {
        const int fd = GUEST_TRY(open_descriptor(who, name));
        const auto file = [who, fd]() -> ErrnoOr<FilePtr> {
          GUEST_TRY(look_into(who));
          const std::shared_ptr<FdTable> files = GUEST_TRY(who.files());
          return files->get(fd);
        };
        return InodePtr(std::make_shared<LinkInode>(
            ino + static_cast<uint64_t>(fd) + 1,
            [who, file]() -> ErrnoOr<std::string> {
              const FilePtr open = GUEST_TRY(file());
              if (!open->path()) return open->describe();
              return path_shown(who.kernel(), open->path());
            },
            [file]() -> ErrnoOr<DentryPtr> {
              const FilePtr open = GUEST_TRY(file());
              if (open->path()) return open->path();
              // No name of its own: one that leads nowhere else.
              return std::make_shared<Dentry>(nullptr, open->describe(), open->inode());
            }));
      },
      [who, ino] {
        std::vector<DirEntry> out;
        const auto files = who.files();
        if (!files.ok()) return out;
        for (int fd : files.value()->numbers())
          out.push_back({std::to_string(fd), ino + static_cast<uint64_t>(fd) + 1, 10});
        return out;
      });
  return dir;
}

ErrnoOr<std::string> mounts_text(Kernel& kernel, const Seen& seen, bool detailed) {
  if (!seen.mounts) return Errno(EINVAL);
  const DentryPtr root = seen.mounts->root();
  std::string out;
  int id = 20;
  for (const DentryPtr& mount : kernel.tree->mounts(root)) {
    const DentryPtr below = mount->below.lock();
    const std::string path = below ? kernel.tree->path_of(below, root) : "/";
    const std::string& type = mount->file_system;
    const std::string& options = mount->options;
    if (detailed)
      print(out, "%d %d 0:%d / %s %s - %s %s rw\n", id, below ? 20 : 1, id, path.c_str(),
            options.c_str(), type.c_str(), type.c_str());
    else
      print(out, "%s %s %s %s 0 0\n", type.c_str(), path.c_str(), type.c_str(), options.c_str());
    ++id;
  }
  return out;
}

InodePtr make_namespaces_dir(const Watched& who, int32_t tid, uint64_t ino) {
  auto dir = std::make_shared<Directory>(ino, 0511);
  uint64_t next = ino;
  for (const NamespaceName& name : kNamespaces) {
    const auto find = [who, tid, &name]() -> ErrnoOr<std::shared_ptr<NamespaceInode>> {
      std::lock_guard lock(who.kernel().lock);
      const auto found = who.kernel().tasks.find(tid);
      if (found == who.kernel().tasks.end()) return Errno(ENOENT);
      if (!may_look_into(Task::current(), *found->second)) return Errno(EACCES);
      std::shared_ptr<NamespaceInode> inode = namespace_of(*found->second, name);
      if (!inode) return Errno(ENOENT);
      return inode;
    };
    dir->add(std::string(name.name), 10, [find, number = ++next]() -> InodePtr {
      return std::make_shared<LinkInode>(
          number,
          [find]() -> ErrnoOr<std::string> {
            const auto inode = GUEST_TRY(find());
            return inode->describe();
          },
          [find]() -> ErrnoOr<DentryPtr> {
            auto inode = GUEST_TRY(find());
            std::string text = inode->describe();
            return std::make_shared<Dentry>(nullptr, std::move(text), std::move(inode));
          });
    });
  }
  return dir;
}

/// proc_pid_comm(5): threads name each other within their process.
Errno name_thread(const Watched& who, std::string_view given) {
  constexpr size_t kLongest = 15;
  const Task* by = Task::current();
  std::lock_guard lock(who.kernel().lock);
  const auto found = who.kernel().tasks.find(who.tid());
  if (found == who.kernel().tasks.end()) return Errno(ESRCH);
  if (by == nullptr || by->process != found->second->process) return Errno(EINVAL);
  found->second->name = std::string(given.substr(0, kLongest));
  return kOk;
}

/// proc_pid_oom_score_adj(5): remembered and shown. The host ends whom it likes.
Errno set_oom_score(const Watched& who, std::string_view given) {
  constexpr int kMost = 1000;
  const auto value = parse_number<int>(trim(given));
  if (!value || *value < -kMost || *value > kMost) return Errno(EINVAL);
  const Seen seen = GUEST_TRY(who.look());
  const Task* by = Task::current();
  const bool may_all = by != nullptr && by->credentials.can(kCapSysResource);
  if (*value < seen.process->oom_score_floor && !may_all) return Errno(EACCES);
  seen.process->oom_score_adj = *value;
  if (may_all) seen.process->oom_score_floor = *value;
  return kOk;
}

InodePtr make_process_dir(const ProcView& view, int32_t tid, bool is_thread) {
  Kernel& kernel = view.kernel;
  const Watched who(view, tid);
  const uint64_t ino =
      uint64_t{0x10000} + static_cast<uint64_t>(tid) * 4096 + (is_thread ? 2048 : 0);
  auto dir = std::make_shared<Directory>(ino);
  Owner owner;
  {
    std::lock_guard lock(kernel.lock);
    const auto found = kernel.processes.find(tid);
    if (!is_thread && found != kernel.processes.end()) dir->show(found->second);
    const auto thread = kernel.tasks.find(tid);
    // What may not be dumped is root's (prctl(2), PR_SET_DUMPABLE).
    if (thread != kernel.tasks.end()) {
      const Credentials& who_is = thread->second->credentials;
      if (thread->second->process->dumpable)
        owner = {who_is.euid, who_is.egid};
      else if (who_is.user && who_is.root() != kNoId)
        owner = {who_is.root(), 0};
    }
  }
  dir->set_owner(owner.uid, owner.gid);
  uint64_t next = ino;
  const auto text = [&](const char* name, uint32_t mode, auto make) {
    const uint64_t number = ++next;
    dir->add(name, 8, [who, number, mode, make, owner] {
      auto node = std::make_shared<TextInode>(
          mode, number,
          [who, make]() -> ErrnoOr<std::string> {
            const Seen seen = GUEST_TRY(who.look());
            return make(who, seen);
          },
          nullptr);
      node->set_owner(owner.uid, owner.gid);
      return node;
    });
  };
  /// As text, and `take` gets what is written.
  const auto setting = [&](const char* name, auto make, auto take) {
    const uint64_t number = ++next;
    dir->add(name, 8, [who, number, make, take, owner] {
      auto node = std::make_shared<TextInode>(
          0644, number,
          [who, make]() -> ErrnoOr<std::string> {
            const Seen seen = GUEST_TRY(who.look());
            return make(who, seen);
          },
          [who, take](std::string_view given) -> Errno { return take(who, given); });
      node->set_owner(owner.uid, owner.gid);
      return node;
    });
  };
  const auto link = [&](const char* name, auto target) {
    const uint64_t number = ++next;
    dir->add(name, 10, [who, number, target] {
      return std::make_shared<LinkInode>(
          number,
          [who, target]() -> ErrnoOr<std::string> {
            const Seen seen = GUEST_TRY(look_into(who));
            const DentryPtr at = GUEST_TRY(target(seen));
            return path_shown(who.kernel(), at);
          },
          [who, target]() -> ErrnoOr<DentryPtr> {
            const Seen seen = GUEST_TRY(look_into(who));
            return target(seen);
          });
    });
  };
  // Only for who may see into the process (proc(5): PTRACE_MODE_READ_FSCREDS).
  const auto inner_text = [&](const char* name, uint32_t mode, auto make) {
    text(name, mode, [make](const Watched& w, const Seen&) -> ErrnoOr<std::string> {
      const Seen seen = GUEST_TRY(look_into(w));
      return make(w, seen);
    });
  };
  using Out = ErrnoOr<std::string>;
  inner_text("maps", 0444,
             [](const Watched& w, const Seen& s) -> Out { return maps_of(w, s, false); });
  inner_text("smaps", 0444,
             [](const Watched& w, const Seen& s) -> Out { return maps_of(w, s, true); });
  text("stat", 0444, [](const Watched& w, const Seen& s) -> Out { return stat_of(w, s); });
  text("status", 0444, [](const Watched& w, const Seen& s) -> Out { return status_of(w, s); });
  text("statm", 0444, [](const Watched&, const Seen& s) -> Out { return statm_of(s); });
  inner_text("io", 0400, [](const Watched&, const Seen& s) -> Out { return io_of(s); });
  setting("comm", [](const Watched&, const Seen& s) -> Out { return s.name + "\n"; }, name_thread);
  text("cmdline", 0444, [](const Watched&, const Seen& s) -> Out {
    return s.mm ? memory_text(s, s.mm->layout.arguments, s.mm->layout.arguments_end)
                : Out(std::string());
  });
  inner_text("environ", 0400, [](const Watched&, const Seen& s) -> Out {
    return s.mm ? memory_text(s, s.mm->layout.environment, s.mm->layout.environment_end)
                : Out(std::string());
  });
  inner_text("auxv", 0400, [](const Watched&, const Seen& s) -> Out {
    return s.mm ? s.mm->layout.auxv : std::string();
  });
  text("cgroup", 0444, [](const Watched&, const Seen&) -> Out { return std::string("0::/\n"); });
  for (const UserFile::Kind kind :
       {UserFile::Kind::kUidMap, UserFile::Kind::kGidMap, UserFile::Kind::kSetGroups}) {
    const uint64_t number = ++next;
    dir->add(UserFile::name(kind), 8, [who, kind, number, owner]() -> InodePtr {
      auto node = std::make_shared<UserFile>(kProc, number, who.kernel(), kind,
                                             [who]() -> ErrnoOr<UserSpacePtr> {
                                               Seen seen = GUEST_TRY(who.look());
                                               return std::move(seen.credentials.user);
                                             });
      node->set_owner(owner.uid, owner.gid);
      return node;
    });
  }
  setting(
      "oom_score_adj",
      [](const Watched&, const Seen& s) -> Out {
        return std::to_string(s.process->oom_score_adj.load()) + "\n";
      },
      set_oom_score);
  text("oom_score", 0444, [](const Watched&, const Seen&) -> Out { return std::string("0\n"); });
  text("loginuid", 0644,
       [](const Watched&, const Seen&) -> Out { return std::string("4294967295"); });
  text("wchan", 0444, [](const Watched&, const Seen&) -> Out { return std::string("0"); });
  text("mounts", 0444,
       [](const Watched& w, const Seen& s) -> Out { return mounts_text(w.kernel(), s, false); });
  text("mountinfo", 0444,
       [](const Watched& w, const Seen& s) -> Out { return mounts_text(w.kernel(), s, true); });
  text("limits", 0444, [](const Watched& w, const Seen& s) -> Out {
    static constexpr const char* kNames[] = {
        "Max cpu time",       "Max file size",     "Max data size",         "Max stack size",
        "Max core file size", "Max resident set",  "Max processes",         "Max open files",
        "Max locked memory",  "Max address space", "Max file locks",        "Max pending signals",
        "Max msgqueue size",  "Max nice priority", "Max realtime priority", "Max realtime timeout"};
    std::lock_guard lock(w.kernel().lock);
    std::string out =
        "Limit                     Soft Limit           Hard Limit           Units     \n";
    const auto show = [](uint64_t value) {
      return value == ~uint64_t{0} ? std::string("unlimited") : std::to_string(value);
    };
    for (size_t i = 0; i < kLimits; ++i)
      print(out, "%-25s %-20s %-20s %-10s\n", kNames[i], show(s.process->limits[i].soft).c_str(),
            show(s.process->limits[i].hard).c_str(), "");
    return out;
  });
  using At = ErrnoOr<DentryPtr>;
  link("exe", [](const Seen& s) -> At {
    std::lock_guard lock(s.process->kernel.lock);  // execve(2) puts another in its place
    if (!s.process->executable_path) return Errno(ENOENT);
    return s.process->executable_path;
  });
  link("cwd", [](const Seen& s) -> At {
    if (!s.fs) return Errno(ENOENT);
    std::lock_guard lock(s.fs->lock);
    return s.fs->cwd;
  });
  link("root", [](const Seen& s) -> At {
    if (!s.fs) return Errno(ENOENT);
    std::lock_guard lock(s.fs->lock);
    return s.fs->root;
  });
  const uint64_t fd_ino = ino + 64;
  dir->add("fd", 4, [who, fd_ino, owner] { return make_fd_dir(who, fd_ino, owner); });
  const uint64_t fdinfo_ino = ino + (uint64_t{1} << 40);
  dir->add("fdinfo", 4,
           [who, fdinfo_ino, owner] { return make_fdinfo_dir(who, fdinfo_ino, owner); });
  const uint64_t ns_ino = ino + (uint64_t{1} << 41);
  dir->add("ns", 4, [who, tid, ns_ino] { return make_namespaces_dir(who, tid, ns_ino); });
  dir->add("net", 4, [&kernel, ino]() -> InodePtr {
    auto net = std::make_shared<Directory>(ino + 65);
    uint64_t at = ino + 66;
    for (const std::string& name : proc_net_names())
      net->add(name, 8, [&kernel, name, number = at++]() -> InodePtr {
        return std::make_shared<TextInode>(
            0444, number,
            [&kernel, name]() -> ErrnoOr<std::string> {
              return proc_net_text(*kernel.network, name);
            },
            nullptr);
      });
    return net;
  });
  if (!is_thread) {
    const auto threads = [&kernel, tid] {
      std::vector<int32_t> out;
      std::lock_guard lock(kernel.lock);
      const auto process = kernel.processes.find(tid);
      if (process == kernel.processes.end()) return out;
      for (const Task* task : process->second->threads) out.push_back(task->tid);
      std::sort(out.begin(), out.end());
      return out;
    };
    dir->add("task", 4, [view, ino, threads]() -> InodePtr {
      auto tasks = std::make_shared<Directory>(ino + 63);
      tasks->add_dynamic(
          [view, threads](std::string_view name) -> ErrnoOr<InodePtr> {
            for (int32_t thread : threads())
              if (std::to_string(view.pids->number_of(thread)) == name)
                return make_process_dir(view, thread, true);
            return Errno(ENOENT);
          },
          [view, threads] {
            std::vector<DirEntry> out;
            for (int32_t thread : threads())
              out.push_back(
                  {std::to_string(view.pids->number_of(thread)), static_cast<uint64_t>(thread), 4});
            return out;
          });
      return tasks;
    });
  }
  return dir;
}

}  // namespace

namespace {

/// proc_sysvipc(5), of the namespace of whoever asks.
std::string sysv_text(const char* kind) {
  Task* task = Task::current();
  std::string out;
  if (task == nullptr) return out;
  SysV& sysv = task->sysv();
  std::lock_guard lock(sysv.lock);
  const auto owner = [&out, &reader = task->credentials](const IpcPermissions& p) {
    print(out, "%5u %5u %5u %5u", reader.shown_uid(p.uid), reader.shown_gid(p.gid),
          reader.shown_uid(p.cuid), reader.shown_gid(p.cgid));
  };
  if (std::string_view(kind) == "shm") {
    out =
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  "
        "cgid      atime      dtime      ctime                   rss                  swap\n";
    for (const auto& [id, one] : sysv.segments.by_id) {
      const long attached = one->mapped.use_count() - (one->memory ? 1 : 0);
      print(out, "%10d %10d  %4o %21lu %5d %5d  %5ld ", one->permissions.key, id,
            one->permissions.mode, one->size, task->shown(one->creator), task->shown(one->last),
            std::max(attached, 0L));
      owner(one->permissions);
      print(out, " %10ld %10ld %10ld %21d %21d\n", one->attached_s, one->detached_s, one->changed_s,
            0, 0);
    }
  } else if (std::string_view(kind) == "sem") {
    out = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
    for (const auto& [id, one] : sysv.sets.by_id) {
      print(out, "%10d %10d  %4o %10zu ", one->permissions.key, id, one->permissions.mode,
            one->semaphores.size());
      owner(one->permissions);
      print(out, " %10ld %10ld\n", one->operated_s, one->changed_s);
    }
  } else {
    out =
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid    "
        "  stime      rtime      ctime\n";
    for (const auto& [id, one] : sysv.queues.by_id) {
      print(out, "%10d %10d  %4o  %10lu %10zu %5d %5d ", one->permissions.key, id,
            one->permissions.mode, one->bytes, one->messages.size(), task->shown(one->last_sender),
            task->shown(one->last_receiver));
      owner(one->permissions);
      print(out, " %10ld %10ld %10ld\n", one->sent_s, one->received_s, one->changed_s);
    }
  }
  return out;
}

/// Of what the host says of its processors, as many as programs are told of.
std::string first_processors(const std::string& cpuinfo, unsigned count) {
  size_t end = 0;
  for (unsigned i = 0; i < count; ++i) {
    const size_t gap = cpuinfo.find("\n\n", end);
    if (gap == std::string::npos) return cpuinfo;
    end = gap + 2;
  }
  return cpuinfo.substr(0, end);
}

std::string meminfo_of(const host::MemoryFigures& figures) {
  std::string out;
  const auto row = [&out](const char* name, uint64_t bytes) {
    print(out, "%-15s %8lu kB\n", name, bytes / 1024);
  };
  row("MemTotal:", figures.total);
  row("MemFree:", figures.free);
  row("MemAvailable:", figures.available);
  row("Buffers:", figures.buffers);
  row("Cached:", figures.cached);
  row("SwapCached:", 0);
  row("Active:", figures.active);
  row("Inactive:", figures.inactive);
  row("SwapTotal:", figures.swap_total);
  row("SwapFree:", figures.swap_free);
  row("Shmem:", figures.shared);
  row("SReclaimable:", figures.reclaimable);
  out += "HugePages_Total:       0\nHugePages_Free:        0\n";
  row("Hugepagesize:", uint64_t{2} << 20);
  return out;
}

/// Since the kernel's start, of all processors together.
struct ProcessorTimes {
  int64_t up_ns = 0;  // of one
  int64_t user_ns = 0;
  int64_t system_ns = 0;
  int64_t idle_ns = 0;
};

ProcessorTimes processor_times(const Kernel& kernel, unsigned processors) {  // under lock
  const Usage used = kernel.usage();
  ProcessorTimes out;
  out.up_ns = host::clock_ns(CLOCK_BOOTTIME) - kernel.booted_ns;
  out.user_ns = used.user_ns;
  out.system_ns = used.system_ns;
  out.idle_ns = std::max<int64_t>(out.up_ns * processors - used.user_ns - used.system_ns, 0);
  return out;
}

/// proc_stat(5).
std::string kernel_stat(Kernel& kernel, unsigned processors) {
  constexpr int64_t kTick = 10'000'000;
  constexpr int64_t kSecond = 1'000'000'000;
  std::string out;
  std::lock_guard lock(kernel.lock);
  const ProcessorTimes times = processor_times(kernel, processors);
  const int64_t count = processors;
  // Which of them was used the host alone knows: each gets the same, and all of it is given.
  const auto row = [&](const std::string& name, int64_t first, int64_t end) {
    const auto ticks = [&](int64_t ns) {
      return ns / kTick * end / count - ns / kTick * first / count;
    };
    print(out, "%s %ld 0 %ld %ld 0 0 0 0 0 0\n", name.c_str(), ticks(times.user_ns),
          ticks(times.system_ns), ticks(times.idle_ns));
  };
  row("cpu ", 0, count);
  for (int64_t i = 0; i < count; ++i) row("cpu" + std::to_string(i), i, i + 1);
  print(out, "intr 0\nctxt 0\nbtime %ld\nprocesses %lu\nprocs_running %zu\nprocs_blocked 0\n",
        host::clock_ns(CLOCK_REALTIME) / kSecond - times.up_ns / kSecond, kernel.forks,
        kernel.running());
  return out;
}

}  // namespace

std::vector<std::string> namespaced_settings() {
  std::vector<std::string> out;
  for (const char* name : {"shmmax", "shmall", "shmmni", "shm_rmid_forced", "msgmax", "msgmnb",
                           "msgmni", "sem", "auto_msgmni"})
    out.push_back(std::string("kernel/") + name);
  for (const QueueLimitName& limit : kQueueLimits)
    out.push_back(std::string(kQueueFolder) + limit.name);
  for (const char* name :
       {"ip_forward", "ip_local_port_range", "ip_unprivileged_port_start", "ip_nonlocal_bind",
        "ping_group_range", "tcp_fin_timeout", "tcp_keepalive_intvl", "tcp_keepalive_probes",
        "tcp_keepalive_time", "tcp_max_syn_backlog", "tcp_rmem", "tcp_syncookies", "tcp_tw_reuse",
        "tcp_wmem"})
    out.push_back(std::string("net/ipv4/") + name);
  out.emplace_back("net/core/somaxconn");
  out.emplace_back("net/unix/max_dgram_qlen");
  for (const char* where : {"all", "default", "lo", "eth0"}) {
    out.push_back(std::string("net/ipv6/conf/") + where + "/disable_ipv6");
    out.push_back(std::string("net/ipv4/conf/") + where + "/rp_filter");
  }
  return out;
}

QueueLimits read_queue_limits(const std::map<std::string, std::string>& settings) {
  QueueLimits out{};
  for (size_t i = 0; i < out.size(); ++i) {
    const QueueLimitName& of = kQueueLimits[i];
    const auto found = settings.find(std::string(kQueueFolder) + of.name);
    const auto value = found == settings.end() ? std::nullopt : read_setting(found->second);
    out[i] = value && *value >= of.least && *value <= of.most ? *value : of.usual;
  }
  return out;
}

InodePtr make_procfs(const ProcView& view, HostFacts facts) {
  Kernel& kernel = view.kernel;
  auto root = std::make_shared<Directory>(1);
  uint64_t next = 2;
  const auto text_in = [&next](Directory& dir, const char* name, Text text) {
    const uint64_t number = ++next;
    dir.add(name, 8, [number, text = std::move(text)] {
      return std::make_shared<TextInode>(0444, number, text, nullptr);
    });
  };
  const auto fixed = [](std::string value) {
    return [value = std::move(value)]() -> ErrnoOr<std::string> { return value; };
  };
  const auto link = [&](const char* name, std::function<ErrnoOr<std::string>()> target) {
    const uint64_t number = ++next;
    root->add(name, 10, [number, target = std::move(target)] {
      return std::make_shared<LinkInode>(number, target, nullptr);
    });
  };
  const auto processors = [of = view.container] {
    const auto container = of.lock();
    return container ? container->processors() : host::processors();
  };
  const auto shown_to_us = [pids = view.pids](int32_t id) { return pids->number_of(id); };
  link("self", [shown_to_us]() -> ErrnoOr<std::string> {
    const Task* task = Task::current();
    const int32_t own = task == nullptr ? 0 : shown_to_us(task->process->pid);
    if (own == 0) return Errno(ENOENT);
    return std::to_string(own);
  });
  link("thread-self", [shown_to_us]() -> ErrnoOr<std::string> {
    const Task* task = Task::current();
    const int32_t own = task == nullptr ? 0 : shown_to_us(task->process->pid);
    if (own == 0) return Errno(ENOENT);
    return std::to_string(own) + "/task/" + std::to_string(shown_to_us(task->tid));
  });
  link("mounts", fixed("self/mounts"));
  root->add("sysvipc", 4, []() -> InodePtr {
    auto dir = std::make_shared<Directory>(90);
    uint64_t number = 91;
    for (const char* kind : {"shm", "sem", "msg"})
      dir->add(kind, 8, [kind, ino = number++]() -> InodePtr {
        return std::make_shared<TextInode>(
            0444, ino, [kind]() -> ErrnoOr<std::string> { return sysv_text(kind); }, nullptr);
      });
    return dir;
  });
  link("net", fixed("self/net"));
  text_in(*root, "cpuinfo", fixed(first_processors(facts.cpuinfo, processors())));
  text_in(*root, "version", fixed("Linux version 6.1.0-fluyt (fluyt) #1 SMP fluyt guest\n"));
  text_in(*root, "locks", [&kernel, shown_to_us]() -> ErrnoOr<std::string> {
    return kernel.file_locks.describe(shown_to_us);
  });
  text_in(*root, "filesystems",
          fixed("nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevpts\n"
                "nodev\tramfs\nnodev\tmqueue\nnodev\thost\n"));
  text_in(*root, "cmdline", fixed("\n"));
  text_in(*root, "loadavg", [&kernel, shown_to_us]() -> ErrnoOr<std::string> {
    std::string out;
    std::lock_guard lock(kernel.lock);
    const auto load = kernel.load();
    print(out, "%.2f %.2f %.2f %zu/%zu %d\n", load[0], load[1], load[2], kernel.running(),
          kernel.tasks.size(),
          kernel.tasks.empty() ? 0 : shown_to_us(kernel.tasks.rbegin()->first));
    return out;
  });
  text_in(*root, "uptime", [&kernel, processors]() -> ErrnoOr<std::string> {
    std::string out;
    std::lock_guard lock(kernel.lock);
    const ProcessorTimes times = processor_times(kernel, processors());
    print(out, "%.2f %.2f\n", static_cast<double>(times.up_ns) / 1e9,
          static_cast<double>(times.idle_ns) / 1e9);
    return out;
  });
  text_in(*root, "meminfo", [of = view.container]() -> ErrnoOr<std::string> {
    const auto container = of.lock();
    if (!container) return Errno(ESRCH);
    return meminfo_of(container->memory.read());
  });
  text_in(*root, "stat", [&kernel, processors]() -> ErrnoOr<std::string> {
    return kernel_stat(kernel, processors());
  });

  const auto make_sys = [&kernel](const std::map<std::string, std::string>& settings) {
    auto sys = std::make_shared<Directory>(100);
    sys->add("kernel", 4, [&kernel, settings]() -> InodePtr {
      auto dir = std::make_shared<Directory>(101);
      const auto add = [&dir](const char* name, uint64_t ino, Text value) {
        dir->add(name, 8,
                 [ino, value] { return std::make_shared<TextInode>(0444, ino, value, nullptr); });
      };
      const auto is = [](std::string value) {
        return [value = std::move(value)]() -> ErrnoOr<std::string> { return value; };
      };
      uint64_t number = 2000;
      for (const auto& [path, text] : settings)
        if (path.starts_with("kernel/"))
          add(path.c_str() + std::strlen("kernel/"), number++, is(text));
      add("ostype", 102, is("Linux\n"));
      add("osrelease", 103, is("6.1.0-fluyt\n"));
      add("version", 104, is("#1 SMP fluyt guest\n"));
      add("pid_max", 105, is("4194304\n"));
      add("cap_last_cap", 106, is("40\n"));
      add("ngroups_max", 107, is("65536\n"));
      add("overflowuid", 111, is("65534\n"));
      add("overflowgid", 112, is("65534\n"));
      add("threads-max", 109, is("4096\n"));
      dir->add("random", 4, [boot_id = kernel.boot_id]() -> InodePtr {
        auto random = std::make_shared<Directory>(113);
        const auto add_text = [&random](const char* name, uint64_t ino, Text value) {
          random->add(name, 8, [ino, value] {
            return std::make_shared<TextInode>(0444, ino, value, nullptr);
          });
        };
        const auto always = [](const std::string& value) {
          return [value]() -> ErrnoOr<std::string> { return value + "\n"; };
        };
        add_text("boot_id", 114, always(boot_id));
        add_text("uuid", 115, []() -> ErrnoOr<std::string> { return host::random_uuid() + "\n"; });
        add_text("entropy_avail", 116, always("256"));
        add_text("poolsize", 117, always("256"));
        return random;
      });
      add("hostname", 110, [&kernel]() -> ErrnoOr<std::string> {
        std::lock_guard lock(kernel.lock);
        const Task* reader = Task::current();
        return (reader != nullptr ? reader->names() : kernel.names).host + "\n";
      });
      return dir;
    });
    sys->add("vm", 4, []() -> InodePtr {
      auto dir = std::make_shared<Directory>(120);
      const auto add = [&dir](const char* name, uint64_t ino, std::string value) {
        dir->add(name, 8, [ino, value] {
          return std::make_shared<TextInode>(
              0444, ino, [value]() -> ErrnoOr<std::string> { return value; }, nullptr);
        });
      };
      add("overcommit_memory", 121, "0\n");
      add("max_map_count", 122, "65530\n");
      add("mmap_min_addr", 123, "65536\n");
      return dir;
    });
    std::map<std::string, std::string> texts = {{"net/core/somaxconn", "4096\n"},
                                                {"net/core/rmem_max", "212992\n"},
                                                {"net/core/wmem_max", "212992\n"},
                                                {"net/ipv4/ip_local_port_range", "32768\t60999\n"},
                                                {"net/ipv4/ip_unprivileged_port_start", "1024\n"},
                                                {"net/ipv4/igmp_max_memberships", "20\n"},
                                                {"net/ipv4/ping_group_range", "0\t2147483647\n"},
                                                {"net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"},
                                                {"net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"},
                                                {"net/unix/max_dgram_qlen", "512\n"},
                                                {"fs/file-max", "9223372036854775807\n"},
                                                {"fs/nr_open", "1048576\n"},
                                                {"fs/pipe-max-size", "1048576\n"},
                                                {"fs/inotify/max_queued_events", "16384\n"},
                                                {"fs/inotify/max_user_watches", "65536\n"},
                                                {"fs/inotify/max_user_instances", "128\n"}};
    for (const char* kind : {"cgroup", "ipc", "mnt", "pid", "user", "uts"})
      texts.emplace(std::string("user/max_") + kind + "_namespaces",
                    std::to_string(Kernel::kMaxNamespaces) + "\n");
    for (const auto& [path, text] : settings)
      if (!path.starts_with("kernel/")) texts.insert_or_assign(path, text);
    Settings below;
    for (auto& [path, text] : texts) below.emplace(path, fixed_setting(std::move(text)));
    for (size_t i = 0; i < kQueueLimits.size(); ++i)
      below.insert_or_assign(std::string(kQueueFolder) + kQueueLimits[i].name,
                             queue_setting(kernel, i));
    uint64_t number = 1000;
    add_settings(*sys, below, number);
    return sys;
  };
  // The folder itself is looked up wherever a container makes it read-only; what is in it is not.
  auto sys = std::make_shared<Directory>(100);
  const auto inside = [make_sys, ask = std::move(facts.settings),
                       lock = std::make_shared<std::mutex>(),
                       made = std::make_shared<std::shared_ptr<Directory>>()] {
    std::lock_guard guard(*lock);
    if (!*made) *made = make_sys(ask ? ask() : std::map<std::string, std::string>());
    return *made;
  };
  sys->add_dynamic(
      [inside](std::string_view name) -> ErrnoOr<InodePtr> { return inside()->lookup(name); },
      [inside]() -> std::vector<DirEntry> {
        ErrnoOr<std::vector<DirEntry>> all = inside()->list();
        return all.ok() ? std::move(all).value() : std::vector<DirEntry>();
      });
  root->add("sys", 4, [sys]() -> InodePtr { return sys; });

  root->add_dynamic(
      [view](std::string_view name) -> ErrnoOr<InodePtr> {
        int32_t pid = 0;
        if (name.empty() || name.size() > 7) return Errno(ENOENT);
        for (char digit : name) {
          if (digit < '0' || digit > '9') return Errno(ENOENT);
          pid = pid * 10 + (digit - '0');
        }
        pid = view.pids->id_of(pid);
        {
          std::lock_guard lock(view.kernel.lock);
          if (!view.kernel.processes.contains(pid)) return Errno(ENOENT);
        }
        return make_process_dir(view, pid, false);
      },
      [view] {
        std::vector<DirEntry> out;
        std::lock_guard lock(view.kernel.lock);
        for (const auto& [pid, process] : view.kernel.processes) {
          const int32_t number = view.pids->number_of(pid);
          if (number == 0) continue;
          out.push_back({std::to_string(number), 0x10000 + static_cast<uint64_t>(pid) * 4096, 4});
        }
        return out;
      });
  return root;
}

}  // namespace fluyt::guest
