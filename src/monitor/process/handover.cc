#include "monitor/process/handover.h"

#include <nlohmann/json.hpp>

#include "base/strings.h"

namespace fluyt::monitor {

using nlohmann::json;

namespace {

// Raised when an older program would misread what is written; what is only added does not count.
constexpr int kFormat = 1;

// Bytes of containers and paths need not be UTF-8.
json bytes_of(const std::string& text) {
  return json::binary(std::vector<uint8_t>(text.begin(), text.end()));
}

// Reads what is there; what is of another kind is an error that from_cbor's caller catches.
template <class T>
void get(const json& object, const char* name, T& out) {
  const auto at = object.find(name);
  if (at != object.end()) at->get_to(out);
}
void get_bytes(const json& object, const char* name, std::string& out) {
  const auto at = object.find(name);
  if (at == object.end()) return;
  const auto& bytes = at->get_binary();
  out.assign(bytes.begin(), bytes.end());
}

json to_json(const HandoverStreams& v) {
  json clients = json::array();
  for (const auto& client : v.clients) {
    clients.push_back({{"in", client.in},
                       {"out", client.out},
                       {"err", client.err},
                       {"out_backlog", bytes_of(client.out_backlog)},
                       {"err_backlog", bytes_of(client.err_backlog)}});
  }
  return {{"terminal", v.terminal},
          {"outputs", v.outputs},
          {"input", v.input},
          {"stdin_once", v.stdin_once},
          {"input_backlog", bytes_of(v.input_backlog)},
          {"log", v.log},
          {"unfinished_out", bytes_of(v.unfinished_lines[0])},
          {"unfinished_err", bytes_of(v.unfinished_lines[1])},
          {"dropped_bytes", v.dropped_bytes},
          {"torn", v.torn},
          {"clients", std::move(clients)}};
}

HandoverStreams streams_from(const json& object) {
  HandoverStreams v;
  get(object, "terminal", v.terminal);
  get(object, "outputs", v.outputs);
  get(object, "input", v.input);
  get(object, "stdin_once", v.stdin_once);
  get_bytes(object, "input_backlog", v.input_backlog);
  get(object, "log", v.log);
  get_bytes(object, "unfinished_out", v.unfinished_lines[0]);
  get_bytes(object, "unfinished_err", v.unfinished_lines[1]);
  get(object, "dropped_bytes", v.dropped_bytes);
  get(object, "torn", v.torn);
  for (const json& client : object.at("clients")) {
    auto& to = v.clients.emplace_back();
    get(client, "in", to.in);
    get(client, "out", to.out);
    get(client, "err", to.err);
    get_bytes(client, "out_backlog", to.out_backlog);
    get_bytes(client, "err_backlog", to.err_backlog);
  }
  return v;
}

json to_json(const HandoverContainer& v) {
  return {{"info", encode_record(v.info)},
          {"own_pid_namespace", v.own_pid_namespace},
          {"log_directory", bytes_of(v.log_directory)},
          {"log_path", bytes_of(v.log_path)},
          {"init", v.init},
          {"gated", v.gated},
          {"gate", v.gate},
          {"report", v.report},
          {"streams", to_json(v.streams)}};
}

Result<HandoverContainer> container_from(const json& object) {
  HandoverContainer v;
  v.info = FLUYT_TRY(decode_record(object.at("info").get<std::string>()));
  get(object, "own_pid_namespace", v.own_pid_namespace);
  get_bytes(object, "log_directory", v.log_directory);
  get_bytes(object, "log_path", v.log_path);
  get(object, "init", v.init);
  get(object, "gated", v.gated);
  get(object, "gate", v.gate);
  get(object, "report", v.report);
  v.streams = streams_from(object.at("streams"));
  return v;
}

json to_json(const std::vector<HandoverExec>& execs) {
  json out = json::array();
  for (const auto& v : execs) {
    json& exec = out.emplace_back(
        json{{"pid", v.pid}, {"id", v.id}, {"container", v.container_id}, {"process", v.process}});
    if (v.exit_code) exec["exit_code"] = *v.exit_code;
  }
  return out;
}

void get_execs(const json& object, const char* name, std::vector<HandoverExec>& out) {
  const auto at = object.find(name);
  if (at == object.end()) return;
  for (const json& exec : *at) {
    auto& to = out.emplace_back();
    get(exec, "pid", to.pid);
    get(exec, "id", to.id);
    get(exec, "container", to.container_id);
    get(exec, "process", to.process);
    if (exec.contains("exit_code")) get(exec, "exit_code", to.exit_code.emplace());
  }
}

json to_json(const Handover& v) {
  json peers = json::array();
  for (const auto& peer : v.peers)
    peers.push_back({{"socket", peer.socket}, {"client", peer.client}});
  json answers = json::array();
  for (const auto& answer : v.answers)
    answers.push_back({{"client", answer.client}, {"id", answer.id}, {"answer", answer.answer}});
  json containers = json::array();
  for (const auto& container : v.containers) containers.push_back(to_json(container));
  return {{"format", kFormat},
          {"previous", v.previous},
          {"pod_init_program", v.pod_init_program},
          {"listener", v.listener},
          {"peers", std::move(peers)},
          {"answers", std::move(answers)},
          {"asked_by", v.asked_by},
          {"request", v.request},
          {"sandbox_made", v.sandbox_made},
          {"namespaces",
           {{"user", v.namespaces.user},
            {"network", v.namespaces.network},
            {"ipc", v.namespaces.ipc},
            {"uts", v.namespaces.uts},
            {"pid", v.namespaces.pid}}},
          {"pod_init", v.pod_init},
          {"pod_init_record", v.pod_init == kNoFd ? std::string() : encode(v.pod_init_record)},
          {"containers", std::move(containers)},
          {"execs", to_json(v.execs)},
          {"ended_execs", to_json(v.ended_execs)},
          {"next_exec", v.next_exec},
          {"given_up_sessions", v.given_up_sessions},
          {"logged_bytes", v.logged_bytes}};
}

Result<Handover> handover_from(const json& object) {
  Handover v;
  get(object, "previous", v.previous);
  get(object, "pod_init_program", v.pod_init_program);
  get(object, "listener", v.listener);
  for (const json& peer : object.at("peers")) {
    auto& to = v.peers.emplace_back();
    get(peer, "socket", to.socket);
    get(peer, "client", to.client);
  }
  for (const json& answer : object.at("answers")) {
    auto& to = v.answers.emplace_back();
    get(answer, "client", to.client);
    get(answer, "id", to.id);
    get(answer, "answer", to.answer);
  }
  get(object, "asked_by", v.asked_by);
  get(object, "request", v.request);
  get(object, "sandbox_made", v.sandbox_made);
  const json& namespaces = object.at("namespaces");
  get(namespaces, "user", v.namespaces.user);
  get(namespaces, "network", v.namespaces.network);
  get(namespaces, "ipc", v.namespaces.ipc);
  get(namespaces, "uts", v.namespaces.uts);
  get(namespaces, "pid", v.namespaces.pid);
  get(object, "pod_init", v.pod_init);
  if (v.pod_init != kNoFd) {
    v.pod_init_record =
        FLUYT_TRY(decode_process_record(object.at("pod_init_record").get<std::string>()));
  }
  for (const json& container : object.at("containers"))
    v.containers.push_back(FLUYT_TRY(container_from(container)));
  get_execs(object, "execs", v.execs);
  get_execs(object, "ended_execs", v.ended_execs);
  get(object, "next_exec", v.next_exec);
  get(object, "given_up_sessions", v.given_up_sessions);
  get(object, "logged_bytes", v.logged_bytes);
  return v;
}

}  // namespace

std::vector<int> descriptors_of(const Handover& handover) {
  std::vector<int> all = {handover.previous, handover.pod_init_program, handover.listener,
                          handover.pod_init};
  for (const auto& peer : handover.peers) all.push_back(peer.socket);
  for (const auto& container : handover.containers) {
    const HandoverStreams& streams = container.streams;
    for (const int fd : {container.init, container.gate, container.report, streams.outputs[0],
                         streams.outputs[1], streams.input, streams.log})
      all.push_back(fd);
    for (const auto& client : streams.clients) {
      for (const int fd : {client.in, client.out, client.err}) all.push_back(fd);
    }
  }
  for (const auto& exec : handover.execs) all.push_back(exec.process);
  std::erase(all, kNoFd);
  return all;
}

std::string encode(const Handover& handover) {
  std::string bytes;
  json::to_cbor(to_json(handover), bytes);
  return bytes;
}

Result<Handover> decode_handover(std::string_view bytes) {
  try {
    const json object = json::from_cbor(bytes);
    const int format = object.at("format").get<int>();
    if (format != kFormat) {
      return Error(Code::kFailedPrecondition,
                   cat("handover: format ", format, ", expected ", kFormat));
    }
    return handover_from(object);
  } catch (const json::exception& e) {
    return Error(Code::kInvalidArgument, cat("handover: ", quote(e.what())));
  }
}

}  // namespace fluyt::monitor
