#include "monitor/protocol/messages.h"

#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "base/strings.h"
#include "monitor/protocol/state_folder.h"

namespace fluyt::monitor {

namespace {

using nlohmann::json;

constexpr size_t kMaxListed = 100'000;
constexpr size_t kMaxFds = 16;

constexpr std::array kCodes = {
    Code::kInvalidArgument,    Code::kNotFound,         Code::kAlreadyExists,
    Code::kFailedPrecondition, Code::kPermissionDenied, Code::kUnauthenticated,
    Code::kResourceExhausted,  Code::kDeadlineExceeded, Code::kUnavailable,
    Code::kUnimplemented,      Code::kAborted,          Code::kCancelled,
    Code::kDataLoss,           Code::kInternal};

Code code_of(std::string_view name) {
  for (const Code code : kCodes) {
    if (code_name(code) == name) return code;
  }
  return Code::kInternal;  // a newer monitor's code: still an error
}

// Text from a container or an error may hold any bytes; JSON may not.
std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Reads the fields of one object and remembers the first one that is wrong, so that a message is
// read as a list of assignments and checked once.
class Fields {
 public:
  Fields(const json& object, std::string_view where) : object_(object), where_(where) {
    if (!object.is_object()) fail("", "an object");
  }

  void get(const char* name, std::string& out) {
    const json* value = find(name);
    if (value == nullptr) return;
    if (!value->is_string()) return fail(name, "a string");
    out = *value->get_ptr<const std::string*>();
  }
  void get(const char* name, bool& out) {
    const json* value = find(name);
    if (value == nullptr) return;
    if (!value->is_boolean()) return fail(name, "true or false");
    out = *value->get_ptr<const bool*>();
  }
  template <std::integral T>
    requires(!std::is_same_v<T, bool>)
  void get(const char* name, T& out) {
    const json* value = find(name);
    if (value == nullptr) return;
    if (const auto* natural = value->get_ptr<const uint64_t*>();
        natural != nullptr && value->is_number_unsigned()) {
      if (*natural <= static_cast<uint64_t>(std::numeric_limits<T>::max())) {
        out = static_cast<T>(*natural);
        return;
      }
    } else if (value->is_number_integer()) {
      const int64_t number = *value->get_ptr<const int64_t*>();
      if constexpr (std::is_signed_v<T>) {
        if (number >= std::numeric_limits<T>::min() && number <= std::numeric_limits<T>::max()) {
          out = static_cast<T>(number);
          return;
        }
      }
    }
    fail(name, "a whole number in range");
  }
  void get(const char* name, std::vector<std::string>& out) {
    each(name, [&](const json& item) {
      if (!item.is_string()) return fail(name, "strings");
      out.push_back(*item.get_ptr<const std::string*>());
    });
  }
  void get(const char* name, std::vector<std::pair<std::string, std::string>>& out) {
    each(name, [&](const json& item) {
      if (!item.is_array() || item.size() != 2 || !item[0].is_string() || !item[1].is_string()) {
        return fail(name, "pairs of strings");
      }
      out.emplace_back(*item[0].get_ptr<const std::string*>(),
                       *item[1].get_ptr<const std::string*>());
    });
  }
  template <class Visit>
  void each(const char* name, Visit visit) {
    const json* value = find(name);
    if (value == nullptr) return;
    if (!value->is_array() || value->size() > kMaxListed) return fail(name, "an array");
    for (const json& item : *value) visit(item);
  }
  const json* find(const char* name) const {
    if (!object_.is_object()) return nullptr;
    const auto at = object_.find(name);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }
  void fail(const char* name, std::string_view expected) {
    if (error_) return;
    error_ = Error(Code::kInvalidArgument,
                   cat(where_, *name != '\0' ? "." : "", name, ": expected ", expected));
  }
  void absorb(Result<> result) {
    if (!result.ok() && !error_) error_ = std::move(result).error();
  }
  Result<> check() const {
    if (error_) return *error_;
    return {};
  }

 private:
  const json& object_;
  std::string_view where_;
  std::optional<Error> error_;
};

std::string_view state_name(ContainerState state) {
  switch (state) {
    case ContainerState::kCreated:
      return "created";
    case ContainerState::kRunning:
      return "running";
    case ContainerState::kExited:
      return "exited";
  }
  return "exited";
}

json pairs_of(const std::vector<std::pair<std::string, std::string>>& pairs) {
  json out = json::array();
  for (const auto& [key, value] : pairs) out.push_back({key, value});
  return out;
}

json to_json(const ContainerInfo& info) {
  return {{"id", info.id},
          {"state", state_name(info.state)},
          {"pid", info.pid},
          {"pid_start_time", info.pid_start_time},
          {"created_at", info.created_at},
          {"started_at", info.started_at},
          {"finished_at", info.finished_at},
          {"exit_code", info.exit_code},
          {"oom_killed", info.oom_killed},
          {"message", info.message},
          {"cgroup_unified", info.cgroup_unified},
          {"cgroup_legacy", pairs_of(info.cgroup_legacy)},
          {"cgroup_unit", info.cgroup_unit},
          {"cgroup_slice", info.cgroup_slice},
          {"cgroup_holder", info.cgroup_holder},
          {"log_bytes_dropped", info.log_bytes_dropped}};
}

Result<ContainerInfo> container_from(const json& object) {
  ContainerInfo info;
  Fields fields(object, "container");
  std::string state = "exited";
  fields.get("id", info.id);
  fields.get("state", state);
  fields.get("pid", info.pid);
  fields.get("pid_start_time", info.pid_start_time);
  fields.get("created_at", info.created_at);
  fields.get("started_at", info.started_at);
  fields.get("finished_at", info.finished_at);
  fields.get("exit_code", info.exit_code);
  fields.get("oom_killed", info.oom_killed);
  fields.get("message", info.message);
  fields.get("cgroup_unified", info.cgroup_unified);
  fields.get("cgroup_legacy", info.cgroup_legacy);
  fields.get("cgroup_unit", info.cgroup_unit);
  fields.get("cgroup_slice", info.cgroup_slice);
  fields.get("cgroup_holder", info.cgroup_holder);
  fields.get("log_bytes_dropped", info.log_bytes_dropped);
  if (state == "created") {
    info.state = ContainerState::kCreated;
  } else if (state == "running") {
    info.state = ContainerState::kRunning;
  } else if (state == "exited") {
    info.state = ContainerState::kExited;
  } else {
    fields.fail("state", "created, running or exited");
  }
  if (info.id.empty()) fields.fail("id", "a container's id");
  FLUYT_TRY(fields.check());
  return info;
}

// One pair of functions a verb: the fields written, and the same fields read.
json fields_of(const wire::Hello& v) {
  return {{"verb", "hello"}, {"version", v.version}, {"oldest", v.oldest}, {"client", v.client}};
}
void read(Fields& fields, wire::Hello& v) {
  fields.get("version", v.version);
  fields.get("oldest", v.oldest);
  fields.get("client", v.client);
}

json to_json(const RuntimeProgram& runtime) {
  return {{"path", runtime.path},
          {"options", runtime.options},
          {"systemd_cgroup", runtime.systemd_cgroup},
          {"root", runtime.root}};
}

Result<RuntimeProgram> runtime_from(const json& object) {
  RuntimeProgram runtime;
  Fields fields(object, "runtime");
  fields.get("path", runtime.path);
  fields.get("options", runtime.options);
  fields.get("systemd_cgroup", runtime.systemd_cgroup);
  fields.get("root", runtime.root);
  if (!runtime.path.starts_with('/')) fields.fail("path", "an absolute path");
  if (!runtime.root.starts_with('/')) fields.fail("root", "an absolute path");
  FLUYT_TRY(fields.check());
  return runtime;
}

// A range is three numbers: inside, outside, how many.
void get_ranges(Fields& fields, const char* name, std::vector<sys::IdRange>& out) {
  fields.each(name, [&](const json& item) {
    std::array<uint32_t, 3> numbers{};
    bool good = item.is_array() && item.size() == numbers.size();
    for (size_t i = 0; good && i < numbers.size(); ++i) {
      const auto* number =
          item[i].is_number_unsigned() ? item[i].get_ptr<const uint64_t*>() : nullptr;
      good = number != nullptr && *number <= std::numeric_limits<uint32_t>::max();
      if (good) numbers[i] = static_cast<uint32_t>(*number);
    }
    if (!good) return fields.fail(name, "ranges of three numbers");
    out.push_back({numbers[0], numbers[1], numbers[2]});
  });
}

json to_json(const sys::IdMaps& ids) {
  const auto ranges = [](const std::vector<sys::IdRange>& from) {
    json out = json::array();
    for (const sys::IdRange& range : from)
      out.push_back({range.inside, range.outside, range.count});
    return out;
  };
  return {{"uids", ranges(ids.uids)}, {"gids", ranges(ids.gids)}};
}

void get(Fields& fields, const char* name, sys::IdMaps& ids) {
  const json* object = fields.find(name);
  if (object == nullptr) return;
  Fields inner(*object, name);
  get_ranges(inner, "uids", ids.uids);
  get_ranges(inner, "gids", ids.gids);
  if (ids.uids.empty() != ids.gids.empty()) inner.fail("gids", "both lists, or neither");
  fields.absorb(inner.check());
}

json to_json(const sys::OverlayMount& tree) {
  json out = {{"lower", tree.lower_dirs}, {"upper", tree.upper_dir}, {"work", tree.work_dir}};
  if (!tree.ids.empty()) out["ids"] = to_json(tree.ids);
  if (!tree.sub_path.empty()) out["sub_path"] = tree.sub_path;
  if (!tree.label.empty()) out["label"] = tree.label;
  return out;
}

void get(Fields& fields, const json& object, const char* where, sys::OverlayMount& tree) {
  Fields inner(object, where);
  inner.get("lower", tree.lower_dirs);
  inner.get("upper", tree.upper_dir);
  inner.get("work", tree.work_dir);
  get(inner, "ids", tree.ids);
  inner.get("sub_path", tree.sub_path);
  inner.get("label", tree.label);
  fields.absorb(inner.check());
}

void get(Fields& fields, const json& list, std::vector<Relabel>& relabels) {
  if (!list.is_array() || list.size() > kMaxListed)
    return fields.fail("relabels", "a list of objects");
  for (const json& object : list) {
    Fields inner(object, "create.relabels");
    Relabel& one = relabels.emplace_back();
    inner.get("path", one.path);
    inner.get("label", one.label);
    inner.get("what", one.what);
    inner.get("of_caller", one.of_caller);
    fields.absorb(inner.check());
  }
}

json fields_of(const wire::MakeSandbox& v) {
  json out = {{"verb", "make_sandbox"},
              {"sandbox", v.sandbox.id},
              {"hostname", v.sandbox.hostname},
              {"new_network", v.sandbox.new_network},
              {"new_ipc", v.sandbox.new_ipc},
              {"new_uts", v.sandbox.new_uts},
              {"shared_pid", v.sandbox.shared_pid},
              {"pod_init_cgroup", v.sandbox.pod_init_cgroup},
              {"sysctls", pairs_of(v.sandbox.sysctls)},
              {"users", to_json(v.sandbox.users)},
              {"deadline_ms", v.deadline_ms}};
  if (v.sandbox.runtime) out["runtime"] = to_json(*v.sandbox.runtime);
  return out;
}
void read(Fields& fields, wire::MakeSandbox& v) {
  fields.get("sandbox", v.sandbox.id);
  fields.get("hostname", v.sandbox.hostname);
  fields.get("new_network", v.sandbox.new_network);
  fields.get("new_ipc", v.sandbox.new_ipc);
  fields.get("new_uts", v.sandbox.new_uts);
  fields.get("shared_pid", v.sandbox.shared_pid);
  fields.get("pod_init_cgroup", v.sandbox.pod_init_cgroup);
  fields.get("sysctls", v.sandbox.sysctls);
  get(fields, "users", v.sandbox.users);
  fields.get("deadline_ms", v.deadline_ms);
  if (const json* runtime = fields.find("runtime"); runtime != nullptr) {
    auto read = runtime_from(*runtime);
    if (read.ok()) {
      v.sandbox.runtime = std::move(read).value();
    } else {
      fields.absorb(std::move(read).error());
    }
  }
}

json fields_of(const wire::Create& v) {
  const CreateRequest& c = v.container;
  json out = {{"verb", "create"},           {"container", c.id},
              {"bundle", c.bundle},         {"open_stdin", c.open_stdin},
              {"stdin_once", c.stdin_once}, {"log_directory", c.log_directory},
              {"log_path", c.log_path},     {"deadline_ms", c.deadline_ms}};
  if (!c.joins.empty()) out["joins"] = c.joins;
  if (c.root) out["root"] = to_json(*c.root);
  for (const auto& [name, tree] : c.trees) out["trees"][name] = to_json(tree);
  for (const Relabel& one : c.relabels)
    out["relabels"].push_back({{"path", one.path},
                               {"label", one.label},
                               {"what", one.what},
                               {"of_caller", one.of_caller}});
  return out;
}
void read(Fields& fields, wire::Create& v) {
  CreateRequest& c = v.container;
  fields.get("container", c.id);
  fields.get("bundle", c.bundle);
  fields.get("open_stdin", c.open_stdin);
  fields.get("stdin_once", c.stdin_once);
  fields.get("log_directory", c.log_directory);
  fields.get("log_path", c.log_path);
  fields.get("deadline_ms", c.deadline_ms);
  fields.get("joins", c.joins);
  if (const json* root = fields.find("root"); root != nullptr)
    get(fields, *root, "create.root", c.root.emplace());
  if (const json* relabels = fields.find("relabels"); relabels != nullptr)
    get(fields, *relabels, c.relabels);
  const json* trees = fields.find("trees");
  if (trees == nullptr) return;
  if (!trees->is_object() || trees->size() > kMaxListed)
    return fields.fail("trees", "an object of trees");
  for (const auto& [name, tree] : trees->items()) get(fields, tree, "create.trees", c.trees[name]);
}

json fields_of(const wire::Start& v) {
  return {{"verb", "start"}, {"container", v.id}, {"deadline_ms", v.deadline_ms}};
}
void read(Fields& fields, wire::Start& v) {
  fields.get("container", v.id);
  fields.get("deadline_ms", v.deadline_ms);
}

json fields_of(const wire::Signal& v) {
  return {{"verb", "signal"}, {"container", v.id}, {"signal", v.signal}, {"all", v.all}};
}
void read(Fields& fields, wire::Signal& v) {
  fields.get("container", v.id);
  fields.get("signal", v.signal);
  fields.get("all", v.all);
}

json fields_of(const wire::Exec& v) {
  return {{"verb", "exec"},   {"container", v.id}, {"terminal", v.terminal},      {"in", v.has_in},
          {"out", v.has_out}, {"err", v.has_err},  {"deadline_ms", v.deadline_ms}};
}
void read(Fields& fields, wire::Exec& v) {
  fields.get("container", v.id);
  fields.get("terminal", v.terminal);
  fields.get("in", v.has_in);
  fields.get("out", v.has_out);
  fields.get("err", v.has_err);
  fields.get("deadline_ms", v.deadline_ms);
}

json fields_of(const wire::KillExec& v) {
  return {{"verb", "kill_exec"}, {"exec", v.exec_id}, {"signal", v.signal}};
}
void read(Fields& fields, wire::KillExec& v) {
  fields.get("exec", v.exec_id);
  fields.get("signal", v.signal);
}

json fields_of(const wire::Attach& v) {
  return {{"verb", "attach"},
          {"container", v.id},
          {"in", v.has_in},
          {"out", v.has_out},
          {"err", v.has_err}};
}
void read(Fields& fields, wire::Attach& v) {
  fields.get("container", v.id);
  fields.get("in", v.has_in);
  fields.get("out", v.has_out);
  fields.get("err", v.has_err);
}

json fields_of(const wire::Resize& v) {
  return {{"verb", "resize"}, {"container", v.id}, {"height", v.height}, {"width", v.width}};
}
void read(Fields& fields, wire::Resize& v) {
  fields.get("container", v.id);
  fields.get("height", v.height);
  fields.get("width", v.width);
}

json fields_of(const wire::ReopenLog& v) { return {{"verb", "reopen_log"}, {"container", v.id}}; }
void read(Fields& fields, wire::ReopenLog& v) { fields.get("container", v.id); }

json fields_of(const wire::Update& v) { return {{"verb", "update"}, {"container", v.id}}; }
void read(Fields& fields, wire::Update& v) { fields.get("container", v.id); }

json fields_of(const wire::Remove& v) {
  return {{"verb", "remove"}, {"container", v.id}, {"deadline_ms", v.deadline_ms}};
}
void read(Fields& fields, wire::Remove& v) {
  fields.get("container", v.id);
  fields.get("deadline_ms", v.deadline_ms);
}

json fields_of(const wire::Checkpoint& v) {
  return {{"verb", "checkpoint"},
          {"container", v.id},
          {"bundle", v.bundle},
          {"folder", v.folder},
          {"deadline_ms", v.deadline_ms}};
}
void read(Fields& fields, wire::Checkpoint& v) {
  fields.get("container", v.id);
  fields.get("bundle", v.bundle);
  fields.get("folder", v.folder);
  fields.get("deadline_ms", v.deadline_ms);
}

json fields_of(const wire::Replace& /*v*/) { return {{"verb", "replace"}}; }
void read(Fields& /*fields*/, wire::Replace& /*v*/) {}

json fields_of(const wire::List& /*v*/) { return {{"verb", "list"}}; }
void read(Fields& /*fields*/, wire::List& /*v*/) {}

json fields_of(const wire::Shutdown& v) {
  return {{"verb", "shutdown"}, {"deadline_ms", v.deadline_ms}};
}
void read(Fields& fields, wire::Shutdown& v) { fields.get("deadline_ms", v.deadline_ms); }

// Makes the alternative whose verb is named `name`; its name is what fields_of() writes.
template <size_t I = 0>
bool choose(std::string_view name, wire::Verb& out) {
  if constexpr (I == std::variant_size_v<wire::Verb>) {
    return false;
  } else {
    using Alternative = std::variant_alternative_t<I, wire::Verb>;
    const json sample = fields_of(Alternative{});
    if (*sample.find("verb")->template get_ptr<const std::string*>() != name)
      return choose<I + 1>(name, out);
    out.emplace<I>();
    return true;
  }
}

json outcome_json(const wire::Outcome& outcome) {
  struct Writer {
    json operator()(const wire::Done&) const { return {{"kind", "done"}}; }
    json operator()(const wire::HelloAnswer& v) const {
      return {{"kind", "hello"},
              {"version", v.version},
              {"program", v.program},
              {"sandbox", v.sandbox_id},
              {"pid", v.pid}};
    }
    json operator()(const SandboxNamespaces& v) const {
      return {{"kind", "namespaces"}, {"user", v.user}, {"network", v.network},
              {"ipc", v.ipc},         {"uts", v.uts},   {"pid", v.pid}};
    }
    json operator()(const ContainerInfo& v) const {
      return {{"kind", "container"}, {"container", to_json(v)}};
    }
    json operator()(const wire::ExecAnswer& v) const {
      return {{"kind", "exec"}, {"exec", v.exec_id}, {"pid", v.pid}};
    }
    json operator()(const std::vector<ContainerInfo>& v) const {
      json list = json::array();
      for (const ContainerInfo& info : v) list.push_back(to_json(info));
      return {{"kind", "containers"}, {"containers", std::move(list)}};
    }
  };
  return std::visit(Writer{}, outcome);
}

Result<wire::Outcome> outcome_from(const json& object) {
  Fields fields(object, "answer");
  std::string kind;
  fields.get("kind", kind);
  wire::Outcome out = wire::Done{};
  if (kind == "hello") {
    auto& v = out.emplace<wire::HelloAnswer>();
    fields.get("version", v.version);
    fields.get("program", v.program);
    fields.get("sandbox", v.sandbox_id);
    fields.get("pid", v.pid);
  } else if (kind == "namespaces") {
    auto& v = out.emplace<SandboxNamespaces>();
    fields.get("user", v.user);
    fields.get("network", v.network);
    fields.get("ipc", v.ipc);
    fields.get("uts", v.uts);
    fields.get("pid", v.pid);
  } else if (kind == "container") {
    const json* container = fields.find("container");
    if (container == nullptr)
      return Error(Code::kInvalidArgument, "answer.container: expected an object");
    out = FLUYT_TRY(container_from(*container));
  } else if (kind == "exec") {
    auto& v = out.emplace<wire::ExecAnswer>();
    fields.get("exec", v.exec_id);
    fields.get("pid", v.pid);
  } else if (kind == "containers") {
    auto& list = out.emplace<std::vector<ContainerInfo>>();
    fields.each("containers", [&](const json& item) {
      auto info = container_from(item);
      if (info.ok()) {
        list.push_back(std::move(info).value());
      } else {
        fields.absorb(std::move(info).error());
      }
    });
  }
  FLUYT_TRY(fields.check());
  return out;
}

Result<json> parse(std::string_view text) {
  json value = json::parse(text.begin(), text.end(), nullptr, false);
  if (!value.is_object()) return Error(Code::kInvalidArgument, "frame: expected a JSON object");
  return value;
}

}  // namespace

namespace wire {

std::string encode(const Request& request) {
  json out = std::visit([](const auto& verb) { return fields_of(verb); }, request.verb);
  out["id"] = request.id;
  if (request.fds != 0) out["fds"] = request.fds;
  return dump(out);
}

std::string encode(const Answer& answer) {
  json out;
  if (answer.outcome.ok()) {
    out = outcome_json(*answer.outcome);
  } else {
    const Error& error = answer.outcome.error();
    out["error"] = {{"code", code_name(error.code())}, {"message", error.message()}};
  }
  out["id"] = answer.id;
  if (answer.fds != 0) out["fds"] = answer.fds;
  if (!answer.trace.empty()) out["trace"] = answer.trace;
  return dump(out);
}

std::string encode(const Event& event) {
  struct Writer {
    json operator()(const ContainerInfo& v) const {
      return {{"event", "container"}, {"container", to_json(v)}};
    }
    json operator()(const ExecExited& v) const {
      return {{"event", "exec_exited"}, {"exec", v.exec_id}, {"exit_code", v.exit_code}};
    }
    json operator()(const PodInitEnded&) const { return {{"event", "pod_init_ended"}}; }
  };
  return dump(std::visit(Writer{}, event.what));
}

Result<Request> decode_request(std::string_view text) {
  const json object = FLUYT_TRY(parse(text));
  Request request;
  Fields fields(object, "request");
  std::string verb;
  fields.get("id", request.id);
  fields.get("fds", request.fds);
  fields.get("verb", verb);
  if (request.fds > kMaxFds) fields.fail("fds", "at most 16");
  FLUYT_TRY(fields.check());
  if (!choose(verb, request.verb)) {
    return Error(Code::kUnimplemented,
                 cat("request.verb: ", quote(verb), ": this monitor does not know it"));
  }
  std::visit([&](auto& v) { read(fields, v); }, request.verb);
  FLUYT_TRY(fields.check());
  return request;
}

Result<std::variant<Answer, Event>> decode_reply(std::string_view text) {
  using Reply = std::variant<Answer, Event>;
  const json object = FLUYT_TRY(parse(text));
  Fields fields(object, "reply");
  std::string event;
  fields.get("event", event);
  if (event == "exec_exited") {
    ExecExited exited;
    fields.get("exec", exited.exec_id);
    fields.get("exit_code", exited.exit_code);
    FLUYT_TRY(fields.check());
    return Reply(Event{exited});
  }
  if (event == "container") {
    const json* container = fields.find("container");
    if (container == nullptr)
      return Error(Code::kInvalidArgument, "event.container: expected an object");
    return Reply(Event{FLUYT_TRY(container_from(*container))});
  }
  if (event == "pod_init_ended") return Reply(Event{PodInitEnded{}});
  if (!event.empty()) return Error(Code::kUnimplemented, cat("event ", quote(event), ": unknown"));
  Answer answer;
  fields.get("id", answer.id);
  fields.get("fds", answer.fds);
  fields.get("trace", answer.trace);
  if (answer.fds > kMaxFds) fields.fail("fds", "at most 16");
  FLUYT_TRY(fields.check());
  if (const json* error = fields.find("error"); error != nullptr) {
    Fields inner(*error, "error");
    std::string code;
    std::string message;
    inner.get("code", code);
    inner.get("message", message);
    FLUYT_TRY(inner.check());
    answer.outcome = Error(code_of(code), std::move(message));
  } else {
    answer.outcome = FLUYT_TRY(outcome_from(object));
  }
  return Reply(std::move(answer));
}

}  // namespace wire

std::string encode_record(const ContainerInfo& info) { return dump(to_json(info)); }

Result<ContainerInfo> decode_record(std::string_view text) {
  return container_from(FLUYT_TRY(parse(text)));
}

std::string encode_runtime(const RuntimeProgram& runtime) { return dump(to_json(runtime)); }

Result<RuntimeProgram> decode_runtime(std::string_view text) {
  return runtime_from(FLUYT_TRY(parse(text)));
}

std::string encode(const ProcessRecord& record) {
  return dump({{"pid", record.pid},
               {"start_time", record.start_time},
               {"boot_id", record.boot_id},
               {"cgroup_unified", record.cgroup_unified},
               {"cgroup_legacy", pairs_of(record.cgroup_legacy)},
               {"cgroup_unit", record.cgroup_unit},
               {"cgroup_slice", record.cgroup_slice}});
}

Result<ProcessRecord> decode_process_record(std::string_view text, ToCome to_come) {
  const json object = FLUYT_TRY(parse(text));
  ProcessRecord record;
  Fields fields(object, "process");
  fields.get("pid", record.pid);
  fields.get("start_time", record.start_time);
  fields.get("boot_id", record.boot_id);
  fields.get("cgroup_unified", record.cgroup_unified);
  fields.get("cgroup_legacy", record.cgroup_legacy);
  fields.get("cgroup_unit", record.cgroup_unit);
  fields.get("cgroup_slice", record.cgroup_slice);
  const pid_t least = to_come == ToCome::kTaken ? 0 : 1;
  if (record.pid < least) fields.fail("pid", "a process");
  FLUYT_TRY(fields.check());
  return record;
}

}  // namespace fluyt::monitor
