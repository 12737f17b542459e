#include "base/strings.h"
#include "control/service.h"
#include "engine/finding.h"
#include "rpc/status.h"

namespace fluyt::control {

namespace {

// Protocol buffers take text that is UTF-8 alone, and names on a disk are bytes.
std::string text(const std::string& bytes) { return is_utf8(bytes) ? bytes : quote(bytes, 4096); }

v1::Finding::Kind kind_of(engine::Finding::Kind kind) {
  using Kind = engine::Finding::Kind;
  switch (kind) {
    case Kind::kCgroup:
      return v1::Finding::CGROUP;
    case Kind::kMount:
      return v1::Finding::MOUNT;
    case Kind::kFolder:
      return v1::Finding::FOLDER;
    case Kind::kNetwork:
      return v1::Finding::NETWORK;
    case Kind::kProcess:
      return v1::Finding::PROCESS;
    case Kind::kSandbox:
      return v1::Finding::SANDBOX;
    case Kind::kContainer:
      return v1::Finding::CONTAINER;
    case Kind::kRecord:
      return v1::Finding::RECORD;
  }
  return v1::Finding::UNKNOWN;
}

}  // namespace

grpc::Status ControlService::Examine(grpc::ServerContext* /*context*/,
                                     const v1::ExamineRequest* request,
                                     v1::ExamineResponse* response) {
  const bool repair = request->repair();
  for (const engine::Finding& finding :
       engine_.examine(repair ? engine::Repair::kYes : engine::Repair::kNo)) {
    v1::Finding& to = *response->add_findings();
    to.set_kind(kind_of(finding.kind));
    to.set_name(text(finding.name));
    to.set_what(text(finding.what));
    to.set_mend(text(finding.mend));
    to.set_mendable(finding.mendable);
    to.set_mended(finding.mended);
    to.set_failure(text(finding.failure));
  }
  // What the store holds for nobody, as `fluyt gc` finds it.
  using Mode = image::GcOptions::Mode;
  const auto garbage = images_.collect_garbage(
      {.mode = repair ? Mode::kCollect : Mode::kExplain,
       .is_container = [this](const std::string& root) { return engine_.may_need_root(root); }});
  if (!garbage.ok()) return to_status(garbage.error());
  for (const image::GcItem& item : garbage->items) {
    if (!item.goes) continue;
    v1::Finding& to = *response->add_findings();
    to.set_kind(v1::Finding::IMAGE_STORE);
    to.set_name(text(item.name));
    to.set_what(text(cat(item.reason, " (", item.bytes, " bytes)")));
    to.set_mend("fluyt gc");
    to.set_mendable(true);
    to.set_mended(repair);
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::control
