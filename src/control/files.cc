#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

namespace {

v1::StatFileResponse::Kind kind_of(engine::FileStatus::Kind kind) {
  switch (kind) {
    case engine::FileStatus::Kind::kFile:
      return v1::StatFileResponse::FILE;
    case engine::FileStatus::Kind::kDirectory:
      return v1::StatFileResponse::DIRECTORY;
    case engine::FileStatus::Kind::kLink:
      return v1::StatFileResponse::LINK;
    case engine::FileStatus::Kind::kOther:
      break;
  }
  return v1::StatFileResponse::OTHER;
}

engine::LastLink last_link(bool follow) {
  return follow ? engine::LastLink::kFollow : engine::LastLink::kKeep;
}

}  // namespace

grpc::Status ControlService::StatFile(grpc::ServerContext* /*context*/,
                                      const v1::StatFileRequest* request,
                                      v1::StatFileResponse* response) {
  const auto status = engine_.stat_file(request->container_id(), request->path(),
                                        last_link(request->follow_link()));
  if (!status.ok()) return to_status(status.error());
  response->set_kind(kind_of(status->kind));
  response->set_size(status->size);
  response->set_mode(status->mode);
  response->set_mtime(status->mtime);
  response->set_link(status->link);
  return grpc::Status::OK;
}

grpc::Status ControlService::ReadFiles(grpc::ServerContext* context,
                                       const v1::ReadFilesRequest* request,
                                       grpc::ServerWriter<v1::ReadFilesResponse>* writer) {
  const auto read =
      engine_.read_files(request->container_id(),
                         {request->path(), request->name(), last_link(request->follow_link())},
                         [&](std::string_view bytes) -> Result<> {
                           v1::ReadFilesResponse piece;
                           piece.mutable_data()->assign(bytes);
                           if (writer->Write(piece) && !context->IsCancelled()) return {};
                           return Error(Code::kCancelled, "copy: the caller went away");
                         });
  return read.ok() ? grpc::Status::OK : to_status(read.error());
}

grpc::Status ControlService::WriteFiles(grpc::ServerContext* context,
                                        grpc::ServerReader<v1::WriteFilesRequest>* reader,
                                        v1::WriteFilesResponse* /*response*/) {
  v1::WriteFilesRequest request;
  if (!reader->Read(&request) || !request.has_start())
    return {grpc::StatusCode::INVALID_ARGUMENT, "copy: the first message must be start"};
  const v1::WriteFilesRequest::Start start = request.start();
  const auto written =
      engine_.write_files(start.container_id(),
                          {start.folder(), start.keep_owners() ? engine::WriteFiles::Owner::kKept
                                                               : engine::WriteFiles::Owner::kRoot},
                          [&]() -> Result<std::string> {
                            while (reader->Read(&request)) {
                              if (!request.data().empty())
                                return std::move(*request.mutable_data());
                            }
                            // Of a caller that died in the middle the end is none.
                            if (context->IsCancelled())
                              return Error(Code::kCancelled, "copy: the caller went away");
                            return std::string();
                          });
  return written.ok() ? grpc::Status::OK : to_status(written.error());
}

}  // namespace fluyt::control
