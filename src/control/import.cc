#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "control/image_message.h"
#include "control/layer_reports.h"
#include "control/service.h"
#include "rpc/status.h"
#include "sys/file.h"

namespace fluyt::control {

namespace {

constexpr uint64_t kMaxUploadBytes = 256ULL << 30U;
constexpr uint64_t kReserveBytes = 64UL << 20U;  // what an upload leaves on the disk

// Of who sends it nothing is known before the end but that it goes on.
Result<uint64_t> room_for_upload(sys::FdRef file) {
  struct statvfs info{};
  if (::fstatvfs(file.raw(), &info) != 0) return Error::from_errno(errno, "fstatvfs(upload)");
  const uint64_t free_bytes = uint64_t{info.f_bavail} * info.f_frsize;
  return free_bytes - std::min(free_bytes, kReserveBytes);
}

// The archive in a file that has no name: nothing is left of it whatever happens.
using Stream = grpc::ServerReaderWriter<v1::ImportResponse, v1::ImportRequest>;

Result<sys::Fd> receive(const std::string& folder, Stream& stream) {
  FLUYT_TRY(sys::make_dirs(folder, 0700));
  sys::Fd file = FLUYT_TRY(sys::open(folder, O_TMPFILE | O_RDWR, 0600));
  const uint64_t room = FLUYT_TRY_CONTEXT(room_for_upload(file), "import");
  v1::ImportRequest request;
  uint64_t size = 0;
  while (stream.Read(&request)) {
    if (request.part_case() != v1::ImportRequest::kData) {
      return Error(Code::kInvalidArgument,
                   "import: data is expected in every message but the first");
    }
    size += request.data().size();
    if (size > kMaxUploadBytes) {
      return Error(Code::kResourceExhausted, cat("import: more than ", kMaxUploadBytes, " bytes"));
    }
    if (size > room) {
      return Error(Code::kResourceExhausted,
                   cat("import: the archive's first ", size, " bytes do not fit: ", room,
                       " are to be had on the disk"));
    }
    FLUYT_TRY_CONTEXT(sys::write_all(file, request.data()), "import: keeping the upload");
  }
  if (size == 0) return Error(Code::kInvalidArgument, "import: the archive is empty");
  return file;
}

// The path of our own file says nothing to the caller, who knows it as the archive.
Error without_path(const Error& error, const std::string& path) {
  std::string message = error.message();
  const std::string shown = quote(path);
  if (const size_t at = message.find(shown); at != std::string::npos) {
    message.replace(at, shown.size(), "the archive");
  }
  return {error.code(), message};
}

Result<std::vector<image::Image>> import_from(engine::Engine& engine, image::Library& library,
                                              const v1::ImportRequest::Start& start,
                                              grpc::ServerContext& context, Stream& stream) {
  image::ImportOptions options;
  options.name = start.name();
  if (!start.platform().empty()) {
    options.platform = FLUYT_TRY(oci::Platform::parse(start.platform()));
  }
  const auto import = [&](const std::string& path) {
    return with_progress<std::vector<image::Image>>(
        context,
        [&](LayerMessages& changed) {
          v1::ImportResponse response;
          response.mutable_layers()->Swap(&changed);
          return stream.Write(response);
        },
        [&](const ProgressSink& progress, const std::atomic<bool>& cancelled) {
          // The engine imports, so that it tells of the images; the store tells how far it is.
          const auto watch = library.watch_import(path, {progress, &cancelled});
          return engine.import_image(path, options);
        });
  };
  if (!start.folder_path().empty()) {
    if (!start.folder_path().starts_with('/')) {
      return Error(Code::kInvalidArgument,
                   cat("folder_path: ", quote(start.folder_path()), " is not absolute"));
    }
    return import(start.folder_path());
  }
  const sys::Fd file = FLUYT_TRY(receive(engine.options().root, stream));
  // A caller that died in the middle has sent half an archive, which may look whole.
  if (context.IsCancelled()) return Error(Code::kCancelled, "import: the caller went away");
  // By our pid and not "self", since a process of ours may be the one that reads it.
  const std::string path = cat("/proc/", ::getpid(), "/fd/", file.raw());
  auto images = import(path);
  if (!images.ok()) return without_path(images.error(), path);
  return images;
}

}  // namespace

grpc::Status ControlService::Import(grpc::ServerContext* context, Stream* stream) {
  v1::ImportRequest first;
  if (!stream->Read(&first) || !first.has_start()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "import: the first message must be start"};
  }
  auto images = import_from(engine_, images_, first.start(), *context, *stream);
  if (!images.ok()) return to_status(images.error());
  v1::ImportResponse last;
  for (const image::Image& image : *images) fill(image, *last.add_images());
  stream->Write(last);
  return grpc::Status::OK;
}

}  // namespace fluyt::control
