#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace fluyt::streaming {

/// Which of a process's streams a client wants to hold.
struct Streams {
  bool in = false;
  bool out = false;
  bool err = false;
  bool terminal = false;
};

struct ExecCall {
  std::string container_id;
  std::vector<std::string> command;
  Streams streams;
};
struct AttachCall {
  std::string container_id;
  Streams streams;
  bool container_terminal = false;  // found by attach_url()
};
struct PortForwardCall {
  std::string sandbox_id;
};

/// Gives out addresses at which one client may do one thing within one minute. Thread-safe. The
/// objects are looked at now, so that a wrong request is told to who made it; they are looked at
/// again when the client comes. kResourceExhausted while too many addresses wait for their client.
class Urls {
 public:
  virtual ~Urls() = default;
  virtual Result<std::string> exec_url(ExecCall call) = 0;
  virtual Result<std::string> attach_url(AttachCall call) = 0;
  virtual Result<std::string> port_forward_url(PortForwardCall call) = 0;
};

}  // namespace fluyt::streaming
