#include "runtime/cgroup/systemd.h"

#include <cstdlib>
#include <limits>

#include "base/strings.h"
#include "runtime/cgroup/systemd_name.h"
#include "sys/identity.h"

namespace fluyt::runtime::cgroup::systemd {

namespace {

constexpr const char* kService = "org.freedesktop.systemd1";
constexpr const char* kObject = "/org/freedesktop/systemd1";
constexpr const char* kInterface = "org.freedesktop.systemd1.Manager";
constexpr const char* kScopeInterface = "org.freedesktop.systemd1.Scope";

using dbus::Endpoint;

std::vector<Endpoint> endpoints(Manager::Instance instance) {
  if (instance == Manager::Instance::kSystem) {
    return {{.path = "/run/systemd/private", .sort = Endpoint::Sort::kPeer},
            {.path = "/run/dbus/system_bus_socket", .sort = Endpoint::Sort::kBus}};
  }
  std::vector<Endpoint> out;
  if (const char* folder = getenv("XDG_RUNTIME_DIR"); folder != nullptr && folder[0] == '/') {
    out.push_back({.path = cat(folder, "/systemd/private"), .sort = Endpoint::Sort::kPeer});
    out.push_back({.path = cat(folder, "/bus"), .sort = Endpoint::Sort::kBus});
  }
  return out;
}

dbus::Message manager_call(std::string member, std::string signature, dbus::Writer body) {
  dbus::Message call;
  call.path = kObject;
  call.interface = kInterface;
  call.member = std::move(member);
  call.destination = kService;
  call.signature = std::move(signature);
  call.body = body.take();
  return call;
}

dbus::Message get_call(std::string path, std::string_view interface, std::string_view name) {
  dbus::Writer body;
  body.string(interface);
  body.string(name);
  dbus::Message call;
  call.path = std::move(path);
  call.interface = "org.freedesktop.DBus.Properties";
  call.member = "Get";
  call.destination = kService;
  call.signature = "ss";
  call.body = body.take();
  return call;
}

// a(sv)
void write_properties(dbus::Writer& out, const std::vector<Property>& properties) {
  const dbus::Writer::Array array = out.begin_array(8);
  for (const Property& one : properties) {
    out.align(8);
    out.string(one.name);
    dbus::write_variant(out, one.value);
  }
  out.end_array(array);
}

Error unexpected(std::string_view what) { return Error(Code::kInternal, cat("systemd: ", what)); }

std::vector<Property> scope_properties(const SystemdUnit& unit, pid_t process) {
  return {{.name = "Description", .value = cat("fluyt ", unit.name)},
          {.name = "Slice", .value = unit.slice},
          {.name = "Delegate", .value = true},
          {.name = "PIDs", .value = std::vector<uint32_t>{static_cast<uint32_t>(process)}},
          {.name = "MemoryAccounting", .value = true},
          {.name = "CPUAccounting", .value = true},
          {.name = "IOAccounting", .value = true},
          {.name = "TasksAccounting", .value = true},
          // Not the manager's default: without a limit of its own a container has none.
          {.name = "TasksMax", .value = std::numeric_limits<uint64_t>::max()},
          // No dependency on what a shutdown stops first.
          {.name = "DefaultDependencies", .value = false}};
}

}  // namespace

Result<Manager> Manager::connect(Instance instance, Deadline deadline) {
  std::optional<Error> last;
  for (Endpoint& endpoint : endpoints(instance)) {
    if (sys::in_user_namespace()) endpoint.identity = Endpoint::Identity::kBySocket;
    auto connection = dbus::Connection::open(endpoint, deadline);
    if (!connection.ok()) {
      last = std::move(connection).error();
      continue;
    }
    Manager manager(std::move(*connection));
    FLUYT_TRY(manager.connection_.match(kInterface, "JobRemoved", deadline));
    const std::string version = FLUYT_TRY_CONTEXT(
        manager.text_property(kObject, kInterface, "Version", deadline), "systemd");
    manager.version_ = parse_version(version);
    return manager;
  }
  if (!last) {
    return Error(Code::kFailedPrecondition,
                 "systemd: the user's own instance is found through XDG_RUNTIME_DIR, which is not "
                 "set");
  }
  return std::move(*last).with_code(Code::kFailedPrecondition).add_context("systemd");
}

Result<std::string> Manager::text_property(std::string path, std::string_view interface,
                                           std::string_view name, Deadline deadline) {
  const dbus::Message reply =
      FLUYT_TRY(connection_.call(get_call(std::move(path), interface, name), deadline));
  dbus::Reader in(reply.body);
  if (reply.signature != "v" || FLUYT_TRY(in.signature()) != "s")
    return unexpected(cat("property ", name, " is no text"));
  return in.string();
}

Result<std::string> Manager::control_group(Deadline deadline) {
  return text_property(kObject, kInterface, "ControlGroup", deadline);
}

Result<std::string> Manager::wait_job(const dbus::Message& reply, Deadline deadline) {
  if (reply.signature != "o") return unexpected("a reply without a job");
  const std::string job = FLUYT_TRY(dbus::Reader(reply.body).object_path());
  while (true) {
    const dbus::Message signal = FLUYT_TRY(connection_.next_signal(deadline));
    if (signal.signature != "uoss") continue;
    dbus::Reader in(signal.body);
    FLUYT_TRY(in.u32());
    if (FLUYT_TRY(in.object_path()) != job) continue;
    FLUYT_TRY(in.string());
    return in.string();
  }
}

Result<dbus::Message> Manager::call_start(const SystemdUnit& unit,
                                          const std::vector<Property>& properties,
                                          Deadline deadline) {
  dbus::Writer body;
  body.string(unit.name);
  body.string("replace");
  write_properties(body, properties);
  body.end_array(body.begin_array(8));  // no auxiliary units
  return connection_.call(manager_call("StartTransientUnit", "ssa(sv)a(sa(sv))", std::move(body)),
                          deadline);
}

Result<> Manager::reset_failed(const SystemdUnit& unit, Deadline deadline) {
  dbus::Writer body;
  body.string(unit.name);
  auto reset = connection_.call(manager_call("ResetFailedUnit", "s", std::move(body)), deadline);
  if (!reset.ok() && reset.error().code() != Code::kNotFound) return std::move(reset).error();
  return {};
}

Result<> Manager::start_scope(const SystemdUnit& unit, pid_t process, OomPolicy policy,
                              const std::vector<Property>& properties, Deadline deadline) {
  std::vector<Property> all = scope_properties(unit, process);
  // Scopes have it from 253 on; before, systemd does nothing about OOM kills in them, and sets
  // memory.oom.group to 0 when it writes.
  if (version_ >= 253) {
    all.push_back({.name = "OOMPolicy",
                   .value = std::string(policy == OomPolicy::kKill ? "kill" : "continue")});
  }
  all.insert(all.end(), properties.begin(), properties.end());
  const std::string shown = cat("systemd: start ", unit.name);
  auto reply = call_start(unit, all, deadline);
  if (!reply.ok() && reply.error().code() == Code::kAlreadyExists) {
    // Perhaps one that failed and was left; one that lives stays, and is told.
    FLUYT_TRY_CONTEXT(reset_failed(unit, deadline), shown);
    reply = call_start(unit, all, deadline);
  }
  if (!reply.ok()) return std::move(reply).error().add_context(shown);
  auto result = wait_job(*reply, deadline);
  if (result.ok() && *result == "done") return {};
  reset_failed(unit, Deadline::after_ms(1000)).ignore("the job's result is the one to tell");
  if (!result.ok()) return std::move(result).error().add_context(shown);
  return Error(Code::kFailedPrecondition, cat(shown, ": the job ended with ", quote(*result)));
}

Result<> Manager::set_properties(const SystemdUnit& unit, const std::vector<Property>& properties,
                                 Deadline deadline) {
  if (properties.empty()) return {};
  dbus::Writer body;
  body.string(unit.name);
  body.boolean(true);  // until the unit goes
  write_properties(body, properties);
  const uint32_t set =
      FLUYT_TRY(connection_.send(manager_call("SetUnitProperties", "sba(sv)", std::move(body))));
  // systemd answers first and writes to the cgroup before it takes the next message: the answer to
  // this question says that it has written.
  const uint32_t asked = FLUYT_TRY(
      connection_.send(get_call(unit_object(unit.name), kScopeInterface, "ControlGroup")));
  FLUYT_TRY_CONTEXT(connection_.reply(set, deadline),
                    cat("systemd: set properties of ", unit.name));
  FLUYT_TRY_CONTEXT(connection_.reply(asked, deadline), cat("systemd: ", unit.name));
  return {};
}

Result<> Manager::stop(const SystemdUnit& unit, Deadline deadline) {
  const std::string shown = cat("systemd: stop ", unit.name);
  dbus::Writer body;
  body.string(unit.name);
  body.string("replace");
  auto reply = connection_.call(manager_call("StopUnit", "ss", std::move(body)), deadline);
  if (reply.ok()) {
    FLUYT_TRY_CONTEXT(wait_job(*reply, deadline), shown);
  } else if (reply.error().code() != Code::kNotFound) {
    return std::move(reply).error().add_context(shown);
  }
  FLUYT_TRY_CONTEXT(reset_failed(unit, deadline), shown);
  return {};
}

}  // namespace fluyt::runtime::cgroup::systemd
