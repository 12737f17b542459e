#include <algorithm>
#include <mutex>
#include <optional>

#include "base/strings.h"
#include "network/cni_network.h"

namespace fluyt::network {

namespace {
constexpr int64_t kTurnMs = 60'000;
}

Deadline part_of(Deadline deadline, size_t parts) {
  const int left_ms = deadline.poll_timeout_ms();
  if (left_ms < 0) return deadline;
  return Deadline::after_ms(left_ms / static_cast<int64_t>(std::max<size_t>(parts, 1)));
}

// The specification halts at the first failure. We go on, since each DEL frees what the others do
// not know of (a lease, a rule), and report the first failure. One that hangs must not leave the
// others without time, and neither must the wait for a turn: where a node's pods all go at once, a
// DEL that is killed and tried again helps nobody.
Result<> CniNetwork::delete_all(const Record& record, Deadline deadline) {
  AttachmentArgs args = record.args;
  if (!is_namespace(args.netns)) args.netns.clear();
  // prevResult came to DEL with 0.4.0.
  const bool wants_result = !version_before(record.network.version, "0.4.0");
  std::optional<Error> first;
  size_t left = record.network.plugins.size();
  const bool bounded = deadline.poll_timeout_ms() >= 0;
  int64_t left_ms = deadline.poll_timeout_ms();
  for (auto plugin = record.network.plugins.rbegin(); plugin != record.network.plugins.rend();
       ++plugin) {
    const auto run = [&]() -> Result<> {
      const auto turn = FLUYT_TRY(take_turn(*plugin, Deadline::after_ms(kTurnMs)));
      const Deadline until = bounded ? Deadline::after_ms(left_ms) : deadline;
      auto done = call(Command::kDel, record, *plugin, args, wants_result ? record.result : "",
                       part_of(until, left));
      if (bounded) left_ms = until.poll_timeout_ms();
      FLUYT_TRY(std::move(done));
      return {};
    };
    auto deleted = run();
    --left;
    if (deleted.ok()) continue;
    if (!first) {
      first = std::move(deleted).error();
    } else {
      logger_.warn(cat("network ", quote(record.network.name), ", sandbox ", args.container_id,
                       ": ", deleted.error().message()));
    }
  }
  if (first) return std::move(*first).add_context(cat("network ", quote(record.network.name)));
  return {};
}

// A record that a power cut or a full disk broke must not keep a sandbox for ever: then the present
// configuration is the best there is.
Result<std::optional<Record>> CniNetwork::record_to_delete(const SandboxNetwork& sandbox) {
  auto args = FLUYT_TRY(make_args(sandbox));
  auto record = cache_.find(sandbox.sandbox_id);
  if (record.ok()) return record;
  if (record.error().code() != Code::kDataLoss) return record;
  logger_.warn(cat("sandbox ", sandbox.sandbox_id, ": ", record.error().message(),
                   ": DEL with the present network configuration"));
  auto network = current();
  if (!network.ok()) return std::move(record).error();
  Record made{.network = std::move(network).value(), .args = std::move(args)};
  return std::optional(std::move(made));
}

Result<> CniNetwork::detach_recorded(const Record& record, Deadline deadline) {
  FLUYT_TRY(delete_all(record, deadline));
  return cache_.remove(record.args.container_id);
}

Result<> CniNetwork::detach(const SandboxNetwork& sandbox, Deadline deadline) {
  const std::shared_lock collecting(collecting_);
  const auto record = FLUYT_TRY(record_to_delete(sandbox));
  // The record is written before the first ADD: without one nothing was done.
  if (!record) return {};
  return detach_recorded(*record, deadline);
}

}  // namespace fluyt::network
