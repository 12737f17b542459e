#include "monitor/program/command.h"

#include <utility>

namespace fluyt::monitor {

namespace {

// Options of its own come first, so that none of them can be taken for an argument of ours.
Words in_front(const RuntimeProgram& runtime, const CallFiles& files, std::string command) {
  Words words = {runtime.path};
  words.insert(words.end(), runtime.options.begin(), runtime.options.end());
  words.insert(words.end(), {"--root", runtime.root});
  if (runtime.systemd_cgroup) words.emplace_back("--systemd-cgroup");
  if (!files.log.empty()) words.insert(words.end(), {"--log", files.log, "--log-format", "json"});
  words.push_back(std::move(command));
  return words;
}

void add_streams(Words& words, const CallFiles& files) {
  words.insert(words.end(), {"--pid-file", files.pid});
  if (!files.console_socket.empty())
    words.insert(words.end(), {"--console-socket", files.console_socket});
}

}  // namespace

Words create_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id,
                     const std::string& bundle) {
  Words words = in_front(runtime, files, "create");
  words.insert(words.end(), {"--bundle", bundle});
  add_streams(words, files);
  words.push_back(id);
  return words;
}

Words start_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id) {
  Words words = in_front(runtime, files, "start");
  words.push_back(id);
  return words;
}

Words exec_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id,
                   const std::string& process) {
  Words words = in_front(runtime, files, "exec");
  words.insert(words.end(), {"--process", process, "--detach"});
  add_streams(words, files);
  words.push_back(id);
  return words;
}

Words kill_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id,
                   int signal) {
  Words words = in_front(runtime, files, "kill");
  words.insert(words.end(), {id, std::to_string(signal)});
  return words;
}

Words update_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id,
                     const std::string& resources) {
  Words words = in_front(runtime, files, "update");
  words.insert(words.end(), {"--resources", resources, id});
  return words;
}

Words delete_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id) {
  Words words = in_front(runtime, files, "delete");
  words.insert(words.end(), {"--force", id});
  return words;
}

const Words& program_environment() {
  static const Words environment = {
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  return environment;
}

}  // namespace fluyt::monitor
