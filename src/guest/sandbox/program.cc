#include "guest/sandbox/program.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/program.h"
#include "base/strings.h"
#include "guest/loader/loader.h"
#include "guest/platform/host/io.h"
#include "guest/task/seccomp.h"

namespace fluyt::guest {
namespace {

/// The home of `uid` in the image's /etc/passwd: a regular file, of a limited size.
std::string home_of(Tree& tree, const WalkFrom& from, Caller& caller, uint32_t uid) {
  const ErrnoOr<DentryPtr> found = tree.find(from, "/etc/passwd", LastLink::kFollow);
  if (!found.ok() || !S_ISREG(found.value()->inode->type())) return "/";
  const ErrnoOr<Tree::Opened> opened = tree.open(from, "/etc/passwd", O_RDONLY, 0);
  if (!opened.ok()) return "/";
  std::string text(kMaxPasswdBytes, '\0');
  int64_t at = 0;
  size_t have = 0;
  while (have < text.size()) {
    const ErrnoOr<size_t> got = opened.value().file->read(
        caller, std::as_writable_bytes(std::span(text).subspan(have)), &at);
    if (!got.ok() || got.value() == 0) break;
    have += got.value();
  }
  text.resize(have);
  return find_home(text, uid);
}

Error at_path(const std::string& path, Errno why) {
  return Error::from_errno(why.value(), cat("open(", quote(path, 1024), ")"));
}

/// "exec /bin/x: exec format error": the words that callers look for.
Error not_executed(const std::string& path, Errno why) {
  const char* words = strerrordesc_np(why.value());
  return Error(Error::from_errno(why.value(), "").code(),
               cat("exec ", path, ": ", words == nullptr ? "" : to_lower(words)));
}

struct Executable {
  std::string path;
  FilePtr file;
};

Result<Executable> find_executable(Tree& tree, const WalkFrom& from, const std::string& name,
                                   const std::vector<std::string>& env) {
  Executable out;
  out.path = FLUYT_TRY(find_program(name, env, [&](const std::string& path) -> Result<> {
    ErrnoOr<FilePtr> file = open_executable(tree, from, path);
    if (!file.ok()) return at_path(path, file.error());
    out.file = std::move(file).value();
    return {};
  }));
  return out;
}

/// A missing one is made, as every runtime does.
Errno enter_directory(Tree& tree, const WalkFrom& from, const std::string& path, DentryPtr* out) {
  ErrnoOr<DentryPtr> found = tree.find(from, path, LastLink::kFollow);
  if (!found.ok() && found.error().value() == ENOENT) {
    WalkFrom root = from;
    root.credentials = Credentials();
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
      const Errno made = tree.make(root, path.substr(0, end), S_IFDIR | 0755, 0);
      if (!made.ok() && made.value() != EEXIST) return made;
      if (end == std::string::npos) break;
    }
    found = tree.find(from, path, LastLink::kFollow);
  }
  if (!found.ok()) return found.error();
  if (!found.value()->inode->is_dir()) return Errno(ENOTDIR);
  *out = std::move(found).value();
  return kOk;
}

}  // namespace

Result<Prepared> prepare_program(Kernel& kernel, const ContainerPtr& container,
                                 const ProgramRequest& request, std::array<FilePtr, 3> streams,
                                 const std::shared_ptr<Terminal>& terminal) {
  if (request.arguments.empty())
    return Error(Code::kInvalidArgument, "no program: expected its path and arguments");
  Prepared out;
  {
    std::lock_guard lock(kernel.lock);
    const PidSpacePtr& pids = container->pids ? container->pids : kernel.pids;
    const ErrnoOr<Kernel::NewId> id = kernel.new_id(*pids, *container);
    if (!id.ok()) return Error::from_errno(id.error().value(), "a process id for the program");
    const auto [own, number] = id.value();
    out.process = std::make_shared<Process>(kernel, own, pids, number);
    out.task = std::make_shared<Task>(kernel, out.process, own, number, container);
    out.task->uts = container->uts;
    out.task->ipc = container->ipc;
  }
  // What comes to nothing gives its number back.
  struct Number {
    Kernel& kernel;
    const ProcessPtr process;
    bool is_kept = false;
    ~Number() {
      if (is_kept) return;
      std::lock_guard lock(kernel.lock);
      if (process->is_init() && process->pids->above) process->pids->has_ended = true;
      kernel.release_id(process->pid, process->pids);
    }
  } number{kernel, out.process};
  const ProcessPtr& process = out.process;
  const TaskPtr& task = out.task;
  process->group = process->session = process->pid;
  process->started_ns = host::clock_ns(7);
  process->limits[RLIMIT_STACK].soft = uint64_t{8} << 20;
  process->limits[RLIMIT_CORE].soft = 0;
  process->limits[RLIMIT_NOFILE] = {1024, 524288};
  for (const auto& [resource, limit] : request.limits)
    process->limits.at(static_cast<size_t>(resource)) = {limit.first, limit.second};
  process->file_size_limit = process->limits[RLIMIT_FSIZE].soft;
  task->files = std::make_shared<FdTable>();
  task->files->set_limit(process->limits[RLIMIT_NOFILE].soft);
  for (FilePtr& stream : streams) {
    const ErrnoOr<int> added = task->files->add(std::move(stream), false);
    if (!added.ok()) return Error::from_errno(added.error().value(), "standard streams");
  }
  task->credentials = request.credentials;
  task->no_new_privileges = request.no_new_privileges;
  if (!request.filter.empty()) {
    std::vector<FilterInstruction> code(request.filter.size());
    static_assert(sizeof(FilterInstruction) == sizeof(uint64_t));
    std::memcpy(static_cast<void*>(code.data()), request.filter.data(),
                code.size() * sizeof(FilterInstruction));
    ErrnoOr<std::shared_ptr<const FilterChain>> chain = FilterChain::add(nullptr, code);
    if (!chain.ok()) return Error::from_errno(chain.error().value(), "linux.seccomp");
    std::lock_guard lock(kernel.lock);
    task->install_filter(std::move(chain).value());
  }
  task->fs = std::make_shared<FsContext>();
  task->fs->root = task->fs->cwd = task->mounts->root();
  if (request.umask) task->fs->umask = *request.umask & 0777;
  DentryPtr directory;
  const Errno entered =
      enter_directory(*kernel.tree, task->walk_from(), request.working_directory, &directory);
  if (!entered.ok())
    return Error::from_errno(entered.value(),
                             cat("process.cwd: ", quote(request.working_directory, 1024)));
  task->fs->cwd = std::move(directory);

  Caller caller{task->sleeper, task->credentials, nullptr, nullptr};
  std::vector<std::string> environment = request.environment;
  if (std::erase(environment, "HOME=") != 0 || find_variable(environment, "HOME") == nullptr)
    environment.push_back(
        cat("HOME=", home_of(*kernel.tree, task->walk_from(), caller, task->credentials.uid)));
  Executable found = FLUYT_TRY(
      find_executable(*kernel.tree, task->walk_from(), request.arguments[0], environment));
  const ErrnoOr<Stat> stat = found.file->stat();
  if (!stat.ok()) return at_path(found.path, stat.error());
  const DentryPtr place = found.file->path();
  const ErrnoOr<bool> script = is_script(caller, *found.file);
  if (!script.ok()) return not_executed(found.path, script.error());
  bool secure = false;
  const bool changes_ids = !request.no_new_privileges && !script.value() &&
                           !(place && kernel.tree->has_mount_option(place, "nosuid"));
  ErrnoOr<Credentials> made =
      over_exec(task->credentials,
                {.mode = stat.value().mode,
                 .uid = stat.value().uid,
                 .gid = stat.value().gid,
                 .changes_ids = changes_ids,
                 .capabilities = changes_ids ? capabilities_of(*found.file) : std::nullopt},
                secure);
  if (!made.ok()) return not_executed(found.path, made.error());
  task->credentials = std::move(made).value();
  ErrnoOr<Loaded> loaded =
      load_program({container->platform, *kernel.tree, caller, task->walk_from(), found.path,
                    std::move(found.file), request.arguments, environment, task->credentials, false,
                    process->limits[RLIMIT_STACK].soft});
  if (!loaded.ok()) return not_executed(found.path, loaded.error());
  task->mm = std::move(loaded.value().mm);
  ErrnoOr<std::unique_ptr<Context>> context =
      task->mm->space().create_context(loaded.value().image);
  if (!context.ok()) return not_executed(found.path, context.error());
  task->context = std::move(context).value();
  task->name = found.path.substr(found.path.rfind('/') + 1).substr(0, 15);
  process->executable_path = loaded.value().executable->path();
  process->arguments = request.arguments;
  process->programs = 1;
  // Declared behind the number: it is let go of first.
  std::lock_guard lock(kernel.lock);
  if (container->has_ended || process->pids->has_ended)
    return Error(Code::kFailedPrecondition, "the container has ended");
  kernel.enter(task);
  number.is_kept = true;
  if (terminal) {
    std::lock_guard guard(terminal->mutex);
    terminal->session = terminal->foreground = process->pid;
    process->terminal = terminal;
  }
  return out;
}

}  // namespace fluyt::guest
