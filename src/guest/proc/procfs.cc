#include "guest/proc/procfs.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <utility>

#include "guest/net/network.h"
#include "guest/platform/host/io.h"
#include "guest/proc/nodes.h"

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

/// Files by their paths, and the folders that they lie in.
void add_settings(Directory& dir, const std::map<std::string, std::string>& values,
                  uint64_t& number) {
  std::map<std::string, std::map<std::string, std::string>> folders;
  for (const auto& [path, text] : values) {
    const size_t slash = path.find('/');
    if (slash != std::string::npos) {
      folders[path.substr(0, slash)][path.substr(slash + 1)] = text;
      continue;
    }
    dir.add(path.c_str(), 8, [ino = number++, value = text]() -> InodePtr {
      return std::make_shared<TextInode>(
          0444, ino, [value]() -> ErrnoOr<std::string> { return value; }, nullptr);
    });
  }
  for (const auto& [name, below] : folders) {
    auto made = std::make_shared<Directory>(number++);
    add_settings(*made, below, number);
    dir.add(name.c_str(), 4, [made]() -> InodePtr { return made; });
  }
}

/// What a thread is, for as long as somebody looks at it under /proc. Its task may end meanwhile.
struct Seen {
  ProcessPtr process;
  std::shared_ptr<Mm> mm;
  std::shared_ptr<FdTable> files;
  std::shared_ptr<FsContext> fs;
  std::string name;
  Credentials credentials;
  SignalSet blocked = 0;
  SignalSet pending = 0;
  int32_t tid = 0;
  bool no_new_privileges = false;
  int seccomp_mode = 0;
  int seccomp_filters = 0;
};

/// A process by its pid, or a thread of it.
class Watched {
 public:
  Watched(Kernel& kernel, int32_t tid) : kernel_(kernel), tid_(tid) {}
  ErrnoOr<Seen> look() const {
    std::lock_guard lock(kernel_.lock);
    Seen seen;
    seen.tid = tid_;
    const auto thread = kernel_.tasks.find(tid_);
    if (thread != kernel_.tasks.end()) {
      const Task& task = *thread->second;
      seen.process = task.process;
      seen.mm = task.mm;
      seen.files = task.files;
      seen.fs = task.fs;
      seen.name = task.name;
      seen.credentials = task.credentials;
      seen.blocked = task.blocked;
      seen.no_new_privileges = task.no_new_privileges;
      for (const FilterChain* at = task.filters.get(); at != nullptr; at = at->parent().get())
        ++seen.seccomp_filters;
      seen.seccomp_mode = task.strict ? 1 : seen.seccomp_filters != 0 ? 2 : 0;
      seen.pending = task.pending.set();
      return seen;
    }
    const auto process = kernel_.processes.find(tid_);
    if (process == kernel_.processes.end()) return Errno(ESRCH);
    seen.process = process->second;
    return seen;
  }
  Kernel& kernel() const { return kernel_; }

 private:
  Kernel& kernel_;
  int32_t tid_;
};

std::string maps_of(const Watched& who, const Seen& seen, bool detailed) {
  std::string out;
  if (!seen.mm) return out;
  for (const auto& [start, area] : seen.mm->areas()) {
    std::string path = area.name;
    uint64_t device = 0;
    uint64_t ino = 0;
    if (area.file) {
      path = area.file->path()
                 ? who.kernel().tree->path_of(area.file->path(), who.kernel().tree->root())
                 : area.file->describe();
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
    if (detailed) print(out, "Size: %15lu kB\nRss: %16d kB\n", (area.end - start) / 1024, 0);
  }
  return out;
}

char state_of(const Process& process) {
  if (process.zombie) return 'Z';
  if (process.stopped) return 'T';
  return Task::current() != nullptr && Task::current()->process.get() == &process ? 'R' : 'S';
}

std::string stat_of(const Watched& who, const Seen& seen) {
  Kernel& kernel = who.kernel();
  const uint64_t size = seen.mm ? seen.mm->mapped_bytes() : 0;
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
  print(out, "%d (%s) %c %d %d %d %d %d 0 0 0 0 0 %ld %ld %ld %ld %d %d %zu 0 %ld %lu 0 ", seen.tid,
        seen.name.c_str(), state_of(process), parent ? parent->pid : 0, process.group,
        process.session, tty, foreground, own.user_ns / kTick, own.system_ns / kTick,
        process.children_usage.user_ns / kTick, process.children_usage.system_ns / kTick, 20 + nice,
        nice, std::max<size_t>(process.threads.size(), 1), (process.started_ns) / 10'000'000, size);
  print(out, "18446744073709551615 %lu %lu %lu 0 0 %lu %lu 0 0 0 0 0 17 0 0 0 0 0 0 ",
        seen.mm ? seen.mm->layout.code_start : 0, seen.mm ? seen.mm->layout.code_end : 0,
        seen.mm ? seen.mm->layout.stack : 0, seen.pending & 0x7fffffff, seen.blocked & 0x7fffffff);
  print(out, "0 0 0 %lu %lu %lu %lu %d\n", seen.mm ? seen.mm->layout.arguments : 0,
        seen.mm ? seen.mm->layout.arguments_end : 0, seen.mm ? seen.mm->layout.environment : 0,
        seen.mm ? seen.mm->layout.environment_end : 0, process.exit_status);
  return out;
}

std::string status_of(const Watched& who, const Seen& seen) {
  const uint64_t size = seen.mm ? seen.mm->mapped_bytes() : 0;
  uint32_t mask = 022;
  if (seen.fs) {
    std::lock_guard guard(seen.fs->lock);
    mask = seen.fs->umask;
  }
  std::lock_guard lock(who.kernel().lock);
  const Process& process = *seen.process;
  const ProcessPtr parent = process.parent.lock();
  const Credentials& c = seen.credentials;
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
        seen.name.c_str(), mask, state, word, process.pid, seen.tid, parent ? parent->pid : 0);
  print(out, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nFDSize:\t64\nGroups:\t", c.uid, c.euid,
        c.suid, c.fsuid, c.gid, c.egid, c.sgid, c.fsgid);
  for (uint32_t group : c.groups) print(out, "%u ", group);
  print(out, "\nVmSize:\t%8lu kB\nVmRSS:\t%8lu kB\nThreads:\t%zu\n", size / 1024, size / 4096,
        std::max<size_t>(process.threads.size(), 1));
  print(
      out,
      "SigQ:\t0/"
      "4096\nSigPnd:\t%016lx\nShdPnd:\t%016lx\nSigBlk:\t%016lx\nSigIgn:\t%016lx\nSigCgt:\t%016lx\n",
      seen.pending, process.pending.set(), seen.blocked, ignored, caught);
  print(out,
        "CapInh:\t%016lx\nCapPrm:\t%016lx\nCapEff:\t%016lx\nCapBnd:\t%016lx\nCapAmb:\t%016lx\n",
        c.inheritable, c.permitted, c.effective, c.bounding, c.ambient);
  const unsigned processors = host::processors();
  print(out,
        "NoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t%d\nCpus_allowed:\t%x\nCpus_allowed_list:"
        "\t0-%u\n",
        seen.no_new_privileges ? 1 : 0, seen.seccomp_mode, seen.seccomp_filters,
        (1U << std::min(processors, 31U)) - 1, processors - 1);
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
  const Seen seen = GUEST_TRY(who.look());
  if (!seen.files || !seen.files->get(fd).ok()) return Errno(ENOENT);
  return fd;
}

/// proc_pid_fdinfo(5).
ErrnoOr<std::string> describe_descriptor(const Watched& who, int fd) {
  const Seen seen = GUEST_TRY(who.look());
  if (!seen.files) return Errno(ENOENT);
  const FilePtr file = GUEST_TRY(seen.files->get(fd));
  const bool close_on_exec = GUEST_TRY(seen.files->close_on_exec(fd));
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

InodePtr make_fdinfo_dir(const Watched& who, uint64_t ino) {
  auto dir = std::make_shared<Directory>(ino, 0500);
  dir->add_dynamic(
      [who, ino](std::string_view name) -> ErrnoOr<InodePtr> {
        const int fd = GUEST_TRY(open_descriptor(who, name));
        return InodePtr(std::make_shared<TextInode>(
            0444, ino + static_cast<uint64_t>(fd) + 1,
            [who, fd]() -> ErrnoOr<std::string> { return describe_descriptor(who, fd); }, nullptr));
      },
      [who, ino] {
        std::vector<DirEntry> out;
        ErrnoOr<Seen> seen = who.look();
        if (!seen.ok() || !seen->files) return out;
        for (int fd : seen->files->numbers())
          out.push_back({std::to_string(fd), ino + static_cast<uint64_t>(fd) + 1, 8});
        return out;
      });
  return dir;
}

InodePtr make_fd_dir(const Watched& who, uint64_t ino) {
  auto dir = std::make_shared<Directory>(ino, 0500);
  dir->add_dynamic(
      [who, ino](std::string_view name) -> ErrnoOr<InodePtr> {
        const int fd = GUEST_TRY(open_descriptor(who, name));
        const auto file = [who, fd]() -> ErrnoOr<FilePtr> {
          const Seen now = GUEST_TRY(who.look());
          if (!now.files) return Errno(ENOENT);
          return now.files->get(fd);
        };
        return InodePtr(std::make_shared<LinkInode>(
            ino + static_cast<uint64_t>(fd) + 1,
            [who, file]() -> ErrnoOr<std::string> {
              const FilePtr open = GUEST_TRY(file());
              if (!open->path()) return open->describe();
              return who.kernel().tree->path_of(open->path(), who.kernel().tree->root());
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
        ErrnoOr<Seen> seen = who.look();
        if (!seen.ok() || !seen->files) return out;
        for (int fd : seen->files->numbers())
          out.push_back({std::to_string(fd), ino + static_cast<uint64_t>(fd) + 1, 10});
        return out;
      });
  return dir;
}

std::string mounts_text(Kernel& kernel, bool detailed) {
  std::string out;
  int id = 20;
  for (const DentryPtr& mount : kernel.tree->mounts()) {
    const DentryPtr below = mount->below.lock();
    const std::string path = below ? kernel.tree->path_of(below, kernel.tree->root()) : "/";
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

InodePtr make_process_dir(Kernel& kernel, int32_t tid, bool is_thread) {
  const Watched who(kernel, tid);
  const uint64_t ino =
      uint64_t{0x10000} + static_cast<uint64_t>(tid) * 4096 + (is_thread ? 2048 : 0);
  auto dir = std::make_shared<Directory>(ino);
  if (!is_thread) {
    std::lock_guard lock(kernel.lock);
    if (const auto found = kernel.processes.find(tid); found != kernel.processes.end())
      dir->show(found->second);
  }
  uint64_t next = ino;
  const auto text = [&](const char* name, uint32_t mode, auto make) {
    const uint64_t number = ++next;
    dir->add(name, 8, [who, number, mode, make] {
      return std::make_shared<TextInode>(
          mode, number,
          [who, make]() -> ErrnoOr<std::string> {
            const Seen seen = GUEST_TRY(who.look());
            return make(who, seen);
          },
          nullptr);
    });
  };
  const auto link = [&](const char* name, auto target) {
    const uint64_t number = ++next;
    dir->add(name, 10, [who, number, target] {
      return std::make_shared<LinkInode>(
          number,
          [who, target]() -> ErrnoOr<std::string> {
            const Seen seen = GUEST_TRY(who.look());
            const DentryPtr at = GUEST_TRY(target(seen));
            return who.kernel().tree->path_of(at, who.kernel().tree->root());
          },
          [who, target]() -> ErrnoOr<DentryPtr> {
            const Seen seen = GUEST_TRY(who.look());
            return target(seen);
          });
    });
  };
  using Out = ErrnoOr<std::string>;
  text("maps", 0444, [](const Watched& w, const Seen& s) -> Out { return maps_of(w, s, false); });
  text("smaps", 0444, [](const Watched& w, const Seen& s) -> Out { return maps_of(w, s, true); });
  text("stat", 0444, [](const Watched& w, const Seen& s) -> Out { return stat_of(w, s); });
  text("status", 0444, [](const Watched& w, const Seen& s) -> Out { return status_of(w, s); });
  text("statm", 0444, [](const Watched&, const Seen& s) -> Out {
    const uint64_t pages = s.mm ? s.mm->mapped_bytes() / kPageSize : 0;
    return std::to_string(pages) + " " + std::to_string(pages) + " 0 0 0 0 0\n";
  });
  text("comm", 0644, [](const Watched&, const Seen& s) -> Out { return s.name + "\n"; });
  text("cmdline", 0444, [](const Watched&, const Seen& s) -> Out {
    return s.mm ? memory_text(s, s.mm->layout.arguments, s.mm->layout.arguments_end)
                : Out(std::string());
  });
  text("environ", 0400, [](const Watched&, const Seen& s) -> Out {
    return s.mm ? memory_text(s, s.mm->layout.environment, s.mm->layout.environment_end)
                : Out(std::string());
  });
  text("auxv", 0400, [](const Watched&, const Seen& s) -> Out {
    return s.mm ? s.mm->layout.auxv : std::string();
  });
  text("cgroup", 0444, [](const Watched&, const Seen&) -> Out { return std::string("0::/\n"); });
  text("uid_map", 0644, [](const Watched& w, const Seen&) -> Out { return w.kernel().uid_map; });
  text("gid_map", 0644, [](const Watched& w, const Seen&) -> Out { return w.kernel().gid_map; });
  text("setgroups", 0644,
       [](const Watched&, const Seen&) -> Out { return std::string("allow\n"); });
  text("oom_score_adj", 0644,
       [](const Watched&, const Seen&) -> Out { return std::string("0\n"); });
  text("oom_score", 0444, [](const Watched&, const Seen&) -> Out { return std::string("0\n"); });
  text("loginuid", 0644,
       [](const Watched&, const Seen&) -> Out { return std::string("4294967295"); });
  text("wchan", 0444, [](const Watched&, const Seen&) -> Out { return std::string("0"); });
  text("mounts", 0444,
       [](const Watched& w, const Seen&) -> Out { return mounts_text(w.kernel(), false); });
  text("mountinfo", 0444,
       [](const Watched& w, const Seen&) -> Out { return mounts_text(w.kernel(), true); });
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
  dir->add("fd", 4, [who, fd_ino] { return make_fd_dir(who, fd_ino); });
  const uint64_t fdinfo_ino = ino + (uint64_t{1} << 40);
  dir->add("fdinfo", 4, [who, fdinfo_ino] { return make_fdinfo_dir(who, fdinfo_ino); });
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
    dir->add("task", 4, [&kernel, ino, threads]() -> InodePtr {
      auto tasks = std::make_shared<Directory>(ino + 63);
      tasks->add_dynamic(
          [&kernel, threads](std::string_view name) -> ErrnoOr<InodePtr> {
            for (int32_t thread : threads())
              if (std::to_string(thread) == name) return make_process_dir(kernel, thread, true);
            return Errno(ENOENT);
          },
          [threads] {
            std::vector<DirEntry> out;
            for (int32_t thread : threads())
              out.push_back({std::to_string(thread), static_cast<uint64_t>(thread), 4});
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
  const auto owner = [&out](const IpcPermissions& p) {
    print(out, "%5u %5u %5u %5u", p.uid, p.gid, p.cuid, p.cgid);
  };
  if (std::string_view(kind) == "shm") {
    out =
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  "
        "cgid      atime      dtime      ctime                   rss                  swap\n";
    for (const auto& [id, one] : sysv.segments.by_id) {
      const long attached = one->mapped.use_count() - (one->memory ? 1 : 0);
      print(out, "%10d %10d  %4o %21lu %5d %5d  %5ld ", one->permissions.key, id,
            one->permissions.mode, one->size, one->creator, one->last, std::max(attached, 0L));
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
            one->permissions.mode, one->bytes, one->messages.size(), one->last_sender,
            one->last_receiver);
      owner(one->permissions);
      print(out, " %10ld %10ld %10ld\n", one->sent_s, one->received_s, one->changed_s);
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> namespaced_settings() {
  std::vector<std::string> out;
  for (const char* name : {"shmmax", "shmall", "shmmni", "shm_rmid_forced", "msgmax", "msgmnb",
                           "msgmni", "sem", "auto_msgmni"})
    out.push_back(std::string("kernel/") + name);
  for (const char* name :
       {"msg_default", "msg_max", "msgsize_default", "msgsize_max", "queues_max"})
    out.push_back(std::string("fs/mqueue/") + name);
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

InodePtr make_procfs(Kernel& kernel, HostFacts facts) {
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
  link("self", []() -> ErrnoOr<std::string> {
    const Task* task = Task::current();
    if (task == nullptr) return Errno(ENOENT);
    return std::to_string(task->process->pid);
  });
  link("thread-self", []() -> ErrnoOr<std::string> {
    const Task* task = Task::current();
    if (task == nullptr) return Errno(ENOENT);
    return std::to_string(task->process->pid) + "/task/" + std::to_string(task->tid);
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
  text_in(*root, "cpuinfo", fixed(std::move(facts.cpuinfo)));
  text_in(*root, "version", fixed("Linux version 6.1.0-fluyt (fluyt) #1 SMP fluyt guest\n"));
  text_in(*root, "locks",
          [&kernel]() -> ErrnoOr<std::string> { return kernel.file_locks.describe(); });
  text_in(*root, "filesystems", fixed("nodev\tproc\nnodev\ttmpfs\nnodev\tdevpts\nnodev\thost\n"));
  text_in(*root, "cmdline", fixed("\n"));
  text_in(*root, "loadavg", [&kernel]() -> ErrnoOr<std::string> {
    std::lock_guard lock(kernel.lock);
    return "0.00 0.00 0.00 1/" + std::to_string(kernel.tasks.size()) + " " +
           std::to_string(kernel.tasks.empty() ? 0 : kernel.tasks.rbegin()->first) + "\n";
  });
  text_in(*root, "uptime", [&kernel]() -> ErrnoOr<std::string> {
    const double up = static_cast<double>(host::clock_ns(7) - kernel.booted_ns) / 1e9;
    std::string out;
    print(out, "%.2f %.2f\n", up, up);
    return out;
  });
  text_in(*root, "meminfo",
          fixed("MemTotal:        2097152 kB\nMemFree:         1048576 kB\n"
                "MemAvailable:    1572864 kB\nBuffers:               0 kB\n"
                "Cached:           524288 kB\nSwapCached:            0 kB\n"
                "SwapTotal:             0 kB\nSwapFree:              0 kB\n"
                "Shmem:                 0 kB\nHugePages_Total:       0\n"
                "Hugepagesize:       2048 kB\n"));
  text_in(*root, "stat", [&kernel]() -> ErrnoOr<std::string> {
    std::string out = "cpu  0 0 0 0 0 0 0 0 0 0\n";
    for (unsigned i = 0; i < host::processors(); ++i) print(out, "cpu%u 0 0 0 0 0 0 0 0 0 0\n", i);
    std::lock_guard lock(kernel.lock);
    print(
        out, "intr 0\nctxt 0\nbtime %ld\nprocesses %lu\nprocs_running 1\nprocs_blocked 0\n",
        host::clock_ns(0) / 1'000'000'000 - (host::clock_ns(7) - kernel.booted_ns) / 1'000'000'000,
        kernel.forks);
    return out;
  });

  root->add("sys", 4, [&kernel, settings = std::move(facts.settings)]() -> InodePtr {
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
      add("random_boot", 108, is("0\n"));
      add("threads-max", 109, is("4096\n"));
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
    std::map<std::string, std::string> below = {{"net/core/somaxconn", "4096\n"},
                                                {"net/core/rmem_max", "212992\n"},
                                                {"net/core/wmem_max", "212992\n"},
                                                {"net/ipv4/ip_local_port_range", "32768\t60999\n"},
                                                {"net/ipv4/ip_unprivileged_port_start", "1024\n"},
                                                {"net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"},
                                                {"net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"},
                                                {"net/unix/max_dgram_qlen", "512\n"},
                                                {"fs/file-max", "9223372036854775807\n"},
                                                {"fs/nr_open", "1048576\n"},
                                                {"fs/pipe-max-size", "1048576\n"},
                                                {"fs/inotify/max_queued_events", "16384\n"},
                                                {"fs/inotify/max_user_watches", "65536\n"},
                                                {"fs/inotify/max_user_instances", "128\n"}};
    for (const auto& [path, text] : settings)
      if (!path.starts_with("kernel/")) below.insert_or_assign(path, text);
    uint64_t number = 1000;
    add_settings(*sys, below, number);
    return sys;
  });

  root->add_dynamic(
      [&kernel](std::string_view name) -> ErrnoOr<InodePtr> {
        int32_t pid = 0;
        if (name.empty() || name.size() > 7) return Errno(ENOENT);
        for (char digit : name) {
          if (digit < '0' || digit > '9') return Errno(ENOENT);
          pid = pid * 10 + (digit - '0');
        }
        {
          std::lock_guard lock(kernel.lock);
          if (!kernel.processes.contains(pid)) return Errno(ENOENT);
        }
        return make_process_dir(kernel, pid, false);
      },
      [&kernel] {
        std::vector<DirEntry> out;
        std::lock_guard lock(kernel.lock);
        for (const auto& [pid, process] : kernel.processes)
          out.push_back({std::to_string(pid), 0x10000 + static_cast<uint64_t>(pid) * 4096, 4});
        return out;
      });
  return root;
}

}  // namespace fluyt::guest
