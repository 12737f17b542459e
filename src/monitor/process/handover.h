#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "monitor/protocol/messages.h"
#include "monitor/protocol/state_folder.h"

/// What a monitor hands to the program that takes its place in the same process: values and the
/// numbers of descriptors that stay open. It travels in a memfd as CBOR; fields that the other side
/// does not know are ignored, absent ones have the defaults below, so that it may be another
/// release, newer or older.
namespace fluyt::monitor {

inline constexpr int kNoFd = -1;

inline bool operator==(const SandboxNamespaces& a, const SandboxNamespaces& b) {
  return std::tie(a.user, a.network, a.ipc, a.uts, a.pid) ==
         std::tie(b.user, b.network, b.ipc, b.uts, b.pid);
}

struct HandoverStreams {
  bool terminal = false;
  std::array<int, 2> outputs = {kNoFd, kNoFd};  // the console is the first
  int input = kNoFd;
  bool stdin_once = false;
  std::string input_backlog;
  int log = kNoFd;
  std::array<std::string, 2> unfinished_lines;
  uint64_t dropped_bytes = 0;
  bool torn = false;
  struct Client {
    int in = kNoFd;
    int out = kNoFd;
    int err = kNoFd;
    std::string out_backlog;
    std::string err_backlog;
    bool operator==(const Client&) const = default;
  };
  std::vector<Client> clients;
  bool operator==(const HandoverStreams&) const = default;
};

struct HandoverContainer {
  ContainerInfo info;
  bool own_pid_namespace = true;
  std::string log_directory;
  std::string log_path;
  int init = kNoFd;  // pidfd
  bool gated = true;
  int gate = kNoFd;
  int report = kNoFd;
  HandoverStreams streams;
  bool operator==(const HandoverContainer&) const = default;
};

struct HandoverExec {
  int32_t pid = 0;  // of one that has ended: its session
  uint64_t id = 0;
  std::string container_id;
  int process = kNoFd;               // pidfd; of one that has ended: none
  std::optional<int32_t> exit_code;  // of one that has ended, where it is known
  bool operator==(const HandoverExec&) const = default;
};

struct HandoverPeer {
  int socket = kNoFd;
  std::string client;
  bool operator==(const HandoverPeer&) const = default;
};

struct HandoverAnswer {
  std::string client;
  uint64_t id = 0;
  std::string answer;
  bool operator==(const HandoverAnswer&) const = default;
};

struct Handover {
  int previous = kNoFd;  // the program that hands over, to go back to when this cannot be taken
  int pod_init_program = kNoFd;
  int listener = kNoFd;
  std::vector<HandoverPeer> peers;
  std::vector<HandoverAnswer> answers;  // that are remembered, the oldest first
  std::string asked_by;                 // the client and the id of the request for all this
  uint64_t request = 0;
  bool sandbox_made = false;
  SandboxNamespaces namespaces;
  int pod_init = kNoFd;  // pidfd
  ProcessRecord pod_init_record;
  std::vector<HandoverContainer> containers;
  std::vector<HandoverExec> execs;
  std::vector<HandoverExec> ended_execs;
  uint64_t next_exec = 1;
  std::vector<int32_t> given_up_sessions;
  uint64_t logged_bytes = 0;
  bool refused = false;  // the other program has given it back; not handed over
  bool operator==(const Handover&) const = default;
};

/// Every descriptor that it names.
std::vector<int> descriptors_of(const Handover& handover);

std::string encode(const Handover& handover);
/// kFailedPrecondition for one of a format that this release does not know, kInvalidArgument for
/// what is none.
Result<Handover> decode_handover(std::string_view bytes);

}  // namespace fluyt::monitor
