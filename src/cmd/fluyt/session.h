#pragma once

#include <functional>
#include <optional>
#include <string>

#include "cmd/fluyt/client.h"
#include "cmd/fluyt/terminal.h"
#include "cmd/fluyt/text/detach_keys.h"

/// A person beside a process in a container: streams, terminal, signals. Used by exec, attach, run.
namespace fluyt::cli {

/// Runs `start` with our standard streams; the exit code. Signals that we get go to the process.
/// With a terminal, TERM and HUP end the exec instead, the terminal put back first; so does the
/// third INT or TERM in any case.
Result<int> run_exec(Client& client, Input& input, control::ExecRequest::Start start);

struct AttachEnd {
  std::optional<int> detached_by;  // a signal, or SIGPIPE's number when nobody reads our output
  bool left = false;               // by the keys for it: the container goes on
  std::optional<int> exit_code;    // where the container has ended by then
};
/// Moves the container's streams until its output ends, or `keys` are typed at its terminal;
/// signals as for run_exec. `attached` is called once we are sure to see everything that is written
/// from then on (to start it, say); its error is ours.
Result<AttachEnd> run_attach(Client& client, Input& input, control::AttachRequest::Start start,
                             DetachKeys keys, const std::function<Result<>()>& attached);

}  // namespace fluyt::cli
