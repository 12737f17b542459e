#include <optional>
#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "base/trace.h"
#include "monitor/process/container_runtime.h"
#include "monitor/process/dump_container.h"
#include "monitor/process/propagation.h"
#include "monitor/process/runtime_parts.h"
#include "monitor/protocol/cgroup.h"
#include "oci/runtime_spec.h"
#include "runtime/container.h"
#include "sys/file.h"

/// The runtime that the monitor links: the worker makes the first process itself, and gives the
/// monitor its gate.
namespace fluyt::monitor {

namespace {

// For exec, which needs the profile, namespaces and masks, but not the secrets of the environment.
Result<> keep_spec(const oci::Spec& spec, const std::string& path) {
  oci::Spec kept = spec;
  if (kept.process) kept.process->env.clear();
  return sys::write_file_atomic(sys::kCwd, path, oci::to_json(kept), 0600);
}

runtime::CgroupRecord cgroup_of(const ContainerInfo& info) {
  return cgroup_in<runtime::CgroupRecord>(info);
}

class LinkedRuntime final : public ContainerRuntime {
 public:
  LinkedRuntime(std::string state_dir, std::optional<runtime::cgroup::Host> host)
      : state_dir_(std::move(state_dir)), host_(std::move(host)) {}

  Result<WorkerReply> create(const CreateRequest& request, sys::FdRef spec, Deadline deadline,
                             const Announce& announce) const override;
  Result<> start(const std::string& id, Deadline /*deadline*/) const override {
    return Error(Code::kInternal, cat("container ", id, ": it has a gate to be started by"));
  }
  Result<WorkerReply> exec(const ExecInput& input, Deadline deadline) const override;
  Result<> signal(const std::string& id, int /*signal*/, Deadline /*deadline*/) const override {
    return Error(Code::kInternal, cat("container ", id, ": it is signalled by its pidfd"));
  }
  Result<> update(const ContainerInfo& container, sys::FdRef resources,
                  Deadline deadline) const override;
  Result<> checkpoint(const ContainerInfo& container,
                      const wire::Checkpoint& request) const override {
    return dump_container(container, request, spec_path(state_dir_, container.id));
  }
  Result<std::string> remove(const ContainerInfo& container, Deadline deadline) const override;
  Result<> undo(const std::string& id, const std::string& announced,
                const std::vector<runtime::CgroupRecord>& others, Deadline deadline) const override;
  bool signals_by_pidfd() const override { return true; }

 private:
  const std::string state_dir_;
  const std::optional<runtime::cgroup::Host> host_;
};

Result<WorkerReply> LinkedRuntime::create(const CreateRequest& request, sys::FdRef spec,
                                          Deadline deadline, const Announce& announce) const {
  std::optional<trace::Span> span(std::in_place, "specification read");
  runtime::CreateRequest create;
  create.id = request.id;
  create.bundle = request.bundle;
  create.spec =
      FLUYT_TRY_CONTEXT(oci::parse_spec(FLUYT_TRY(read_memfd(spec, oci::kMaxSpecBytes))), "spec");
  FLUYT_TRY(check_propagation(create.spec));
  create.overlay_root = request.root;
  create.trees = request.trees;
  create.parent = runtime::ParentOf::kCallersParent;
  // A pod's annotations are anybody's words, and a unit's properties can run programs.
  create.unit_properties = runtime::UnitProperties::kIgnore;
  create.deadline = deadline;
  const std::string cgroups_path =
      create.spec.linux_ ? create.spec.linux_->cgroups_path : std::string();
  announce(cgroups_path);

  span.emplace("streams");
  MadeContainer made;
  if (!has_terminal(create.spec)) {
    made.stdio = FLUYT_TRY(make_stdio(request));
    create.stdio = {
        .in = made.stdio.in.read, .out = made.stdio.out.write, .err = made.stdio.err.write};
  }
  sys::Pipe gate = FLUYT_TRY(sys::make_pipe());
  sys::Pipe report = FLUYT_TRY(sys::make_pipe());
  create.gate = gate.read;
  create.report = report.write;
  span.emplace("record");
  // Before the container: one that is half made when monitor and worker die has its cgroup there.
  const auto& host = create.host.emplace(host_ ? *host_ : FLUYT_TRY(runtime::cgroup::probe()));
  create.cgroup_driver = runtime::cgroup::driver_of(cgroups_path);
  const auto cgroup = FLUYT_TRY_CONTEXT(
      runtime::cgroup::locate(host, cgroups_path, request.id, create.cgroup_driver),
      "linux.cgroupsPath");
  FLUYT_TRY(announce_record(request.id, cgroup, state_dir_));
  span.reset();
  // One that runs can always be exec'd into, and what it writes has a place.
  create.meanwhile = [&]() -> Result<> {
    FLUYT_TRY(keep_spec(create.spec, spec_path(state_dir_, request.id)));
    made.log = FLUYT_TRY(open_log_of(request));
    return {};
  };
  auto created = runtime::create(create);
  if (!created.ok()) {
    forget_files(state_dir_, request.id);
    return std::move(created).error();
  }

  made.info = {.id = request.id, .pid = created->init.pid(), .created_at = now_unix_ns()};
  made.info.pid_start_time = created->start_time;
  put_cgroup(created->cgroup, made.info);
  made.own_pid_namespace = has_own_pids(create.spec);
  made.init = std::move(created->init);
  made.console = std::move(created->console);
  made.gate = std::move(gate.write);
  made.report = std::move(report.read);
  return reply_of(std::move(made));
}

Result<WorkerReply> LinkedRuntime::exec(const ExecInput& input, Deadline deadline) const {
  runtime::ExecRequest exec;
  exec.id = input.container.id;
  exec.process = FLUYT_TRY_CONTEXT(
      oci::parse_process(FLUYT_TRY(read_memfd(input.process, oci::kMaxSpecBytes))), "process");
  FLUYT_TRY(check_terminal(exec.process, input));
  exec.spec = FLUYT_TRY(oci::parse_spec(
      FLUYT_TRY(sys::read_file(spec_path(state_dir_, exec.id), oci::kMaxSpecBytes))));
  exec.init_pid = input.container.pid;
  exec.init_start_time = input.container.pid_start_time;
  exec.cgroup = cgroup_of(input.container);
  exec.stdio = {.in = input.in, .out = input.out, .err = input.err};
  exec.parent = runtime::ParentOf::kCallersParent;
  exec.deadline = deadline;
  auto executed = FLUYT_TRY(runtime::exec(exec));
  return reply_of(StartedExec{std::move(executed.process), std::move(executed.console)});
}

Result<> LinkedRuntime::update(const ContainerInfo& container, sys::FdRef resources,
                               Deadline /*deadline*/) const {
  const auto parsed = FLUYT_TRY_CONTEXT(
      oci::parse_resources(FLUYT_TRY(read_memfd(resources, oci::kMaxSpecBytes))), "resources");
  return runtime::update(cgroup_of(container), parsed);
}

Result<std::string> LinkedRuntime::remove(const ContainerInfo& container, Deadline deadline) const {
  const trace::Span span("cgroup");
  const auto cgroup = cgroup_of(container);
  if (cgroup != runtime::CgroupRecord{}) FLUYT_TRY(runtime::cgroup::end(cgroup, deadline));
  return std::string();
}

Result<> LinkedRuntime::undo(const std::string& id, const std::string& announced,
                             const std::vector<runtime::CgroupRecord>& others,
                             Deadline deadline) const {
  FLUYT_TRY(end_announced(id, announced, others, deadline));
  forget_files(state_dir_, id);
  return {};
}

}  // namespace

std::unique_ptr<ContainerRuntime> make_linked_runtime(std::string state_dir,
                                                      std::optional<runtime::cgroup::Host> host) {
  return std::make_unique<LinkedRuntime>(std::move(state_dir), std::move(host));
}

}  // namespace fluyt::monitor
