#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"

namespace fluyt::cli {

Context::Context(std::string socket_path) : socket(std::move(socket_path)) {}
Context::~Context() = default;

Result<Client*> Context::client() {
  if (!connection) connection = FLUYT_TRY(Client::connect(socket));
  return connection.get();
}

Error Context::usage(std::string text) {
  is_usage = true;
  return {Code::kInvalidArgument, std::move(text)};
}

int exit_of_program(const Error& error) {
  const std::string& said = error.message();
  auto says = [&](std::string_view words) { return said.find(words) != std::string::npos; };
  if (!says("process.args[0]") && !says("exec ")) return 0;
  if (error.code() == Code::kPermissionDenied) return kExitNotExecutable;
  const bool missing = says("executable file not found") || says("no such file or directory");
  return missing ? kExitNoProgram : 0;
}

}  // namespace fluyt::cli
