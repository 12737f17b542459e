#include "cmd/fluyt/targets.h"

#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

Result<Target> find_target(Client& client, const std::string& reference) {
  Target target;
  auto container = find_container(client, reference);
  if (!container.ok()) {
    if (container.error().code() != Code::kNotFound) return std::move(container).error();
    auto sandbox = find_sandbox(client, reference);
    if (sandbox.ok()) {
      target.sandbox = std::move(*sandbox);
      return target;
    }
    if (sandbox.error().code() != Code::kNotFound) return std::move(sandbox).error();
    return Error(Code::kNotFound, cat("no container or pod ", quote(reference, 128)));
  }
  target.container = std::move(*container);
  const auto sandboxes = FLUYT_TRY(client.list_sandboxes());
  for (const cri::PodSandbox& sandbox : sandboxes.items()) {
    if (sandbox.id() == target.container->pod_sandbox_id() && is_run_sandbox(sandbox)) {
      target.sandbox = sandbox;
    }
  }
  return target;
}

namespace {

// Prints the references that went well and tells of each that did not.
Result<int> for_each(const std::vector<std::string>& references,
                     const std::function<Result<>(const std::string&)>& act) {
  int status = 0;
  for (const std::string& reference : references) {
    const auto done = act(reference);
    if (done.ok()) {
      print(printable(reference) + "\n");
      continue;
    }
    complain(done.error());
    status = kExitFailed;
  }
  return status;
}

}  // namespace

Result<int> for_each_target(Client& client, const std::vector<std::string>& references,
                            const std::function<Result<>(const Target&)>& act) {
  return for_each(references, [&](const std::string& reference) -> Result<> {
    return act(FLUYT_TRY(find_target(client, reference)));
  });
}

Result<int> for_each_container(Client& client, const std::vector<std::string>& references,
                               const std::function<Result<>(const cri::Container&)>& act) {
  return for_each(references, [&](const std::string& reference) -> Result<> {
    return act(FLUYT_TRY(find_container(client, reference)));
  });
}

}  // namespace fluyt::cli
