#include "base/strings.h"
#include "control/layer_reports.h"
#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

namespace {

// Protocol buffers take text that is UTF-8 alone, and names on a disk are bytes.
std::string text(const std::string& bytes) { return is_utf8(bytes) ? bytes : quote(bytes, 4096); }

v1::GarbageItem::Kind kind_of(image::GcItem::Kind kind) {
  switch (kind) {
    case image::GcItem::Kind::kLayer:
      return v1::GarbageItem::LAYER;
    case image::GcItem::Kind::kBlob:
      return v1::GarbageItem::BLOB;
    case image::GcItem::Kind::kFixup:
      return v1::GarbageItem::FIXUP;
    case image::GcItem::Kind::kRoot:
      return v1::GarbageItem::ROOT;
    case image::GcItem::Kind::kUnfinished:
      return v1::GarbageItem::UNFINISHED;
    case image::GcItem::Kind::kTrash:
      return v1::GarbageItem::TRASH;
    case image::GcItem::Kind::kCatalog:
      return v1::GarbageItem::CATALOG;
    case image::GcItem::Kind::kUnknown:
      break;
  }
  return v1::GarbageItem::UNKNOWN;
}

v1::ImageDamage::Outcome outcome_of(image::Damage::Outcome outcome) {
  switch (outcome) {
    case image::Damage::Outcome::kFound:
      return v1::ImageDamage::FOUND;
    case image::Damage::Outcome::kRepaired:
      return v1::ImageDamage::REPAIRED;
    case image::Damage::Outcome::kNotRepaired:
      break;
  }
  return v1::ImageDamage::NOT_REPAIRED;
}

void fill(const image::VerifyReport& report, v1::VerifyImagesResponse::Report& message) {
  message.set_images(report.images);
  message.set_blobs(report.blobs);
  message.set_layers_compared(report.layers_compared);
  message.set_layers_counted(report.layers_counted);
  for (const image::Damage& damage : report.damages) {
    v1::ImageDamage& to = *message.add_damages();
    to.set_kind(damage.kind == image::Damage::Kind::kLayer ? v1::ImageDamage::LAYER
                                                           : v1::ImageDamage::BLOB);
    to.set_digest(damage.digest);
    to.set_finding(text(damage.finding));
    for (const std::string& id : damage.images) to.add_images(id);
    for (const std::string& id : damage.containers) to.add_containers(id);
    to.set_outcome(outcome_of(damage.outcome));
    to.set_note(text(damage.note));
  }
}

}  // namespace

grpc::Status ControlService::CollectGarbage(grpc::ServerContext* /*context*/,
                                            const v1::CollectGarbageRequest* request,
                                            v1::CollectGarbageResponse* response) {
  using Mode = image::GcOptions::Mode;
  const auto report = images_.collect_garbage(
      {.mode = request->collect() ? Mode::kCollect : Mode::kExplain,
       .is_container = [this](const std::string& root) { return engine_.may_need_root(root); }});
  if (!report.ok()) return to_status(report.error());
  for (const image::GcItem& item : report->items) {
    v1::GarbageItem& to = *response->add_items();
    to.set_kind(kind_of(item.kind));
    to.set_name(text(item.name));
    to.set_bytes(item.bytes);
    to.set_inodes(item.inodes);
    to.set_goes(item.goes);
    to.set_reason(text(item.reason));
    for (const std::string& holder : item.holders) to.add_holders(text(holder));
  }
  response->set_going_bytes(report->going_bytes);
  response->set_going_inodes(report->going_inodes);
  response->set_staying_bytes(report->staying_bytes);
  return grpc::Status::OK;
}

grpc::Status ControlService::VerifyImages(grpc::ServerContext* context,
                                          const v1::VerifyImagesRequest* request,
                                          grpc::ServerWriter<v1::VerifyImagesResponse>* writer) {
  image::VerifyOptions options;
  options.images.assign(request->images().begin(), request->images().end());
  options.repair = request->repair();
  const auto report = with_progress<image::VerifyReport>(
      *context,
      [&](LayerMessages& changed) {
        v1::VerifyImagesResponse response;
        response.mutable_layers()->Swap(&changed);
        return writer->Write(response);
      },
      [&](const ProgressSink& progress, const std::atomic<bool>& cancelled) {
        options.progress = progress;
        options.cancelled = &cancelled;
        return images_.verify(options);
      });
  if (!report.ok()) return to_status(report.error());
  v1::VerifyImagesResponse last;
  fill(*report, *last.mutable_report());
  writer->Write(last);
  return grpc::Status::OK;
}

}  // namespace fluyt::control
