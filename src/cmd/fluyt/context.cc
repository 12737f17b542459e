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

}  // namespace fluyt::cli
