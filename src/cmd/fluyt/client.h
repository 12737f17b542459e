#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "cri/v1/api.pb.h"
#include "fluyt/v1/control.pb.h"

namespace fluyt::cli {

namespace cri = runtime::v1;
namespace control = v1;

/// One bidirectional call. write() and read() may be called by two threads at the same time.
template <class Request, class Response>
class Duplex {
 public:
  virtual ~Duplex() = default;
  virtual bool write(const Request& request) = 0;
  /// False at the end: finish() says why.
  virtual bool read(Response& response) = 0;
  virtual void close_writing() = 0;
  virtual void cancel() = 0;
  virtual Result<> finish() = 0;
};
using ExecCall = Duplex<control::ExecRequest, control::ExecResponse>;
using AttachCall = Duplex<control::AttachRequest, control::AttachResponse>;

/// fluytd's socket: CRI and fluyt.v1 as calls that return a Result. gRPC stays in client.cc.
class Client {
 public:
  /// Fails at once when nobody listens, and says so in a person's words.
  static Result<std::unique_ptr<Client>> connect(const std::string& socket);
  virtual ~Client() = default;

  // CRI
  virtual Result<cri::VersionResponse> version() = 0;
  virtual Result<cri::StatusResponse> status() = 0;
  virtual Result<cri::RunPodSandboxResponse> run_sandbox(const cri::RunPodSandboxRequest& r) = 0;
  virtual Result<> stop_sandbox(const std::string& id) = 0;
  virtual Result<> remove_sandbox(const std::string& id) = 0;
  virtual Result<cri::PodSandboxStatusResponse> sandbox_status(const std::string& id) = 0;
  virtual Result<cri::ListPodSandboxResponse> list_sandboxes() = 0;
  virtual Result<cri::CreateContainerResponse> create(const cri::CreateContainerRequest& r) = 0;
  virtual Result<> start(const std::string& id) = 0;
  virtual Result<> stop(const std::string& id, int64_t grace_seconds) = 0;
  virtual Result<> remove(const std::string& id) = 0;
  virtual Result<cri::ListContainersResponse> list_containers() = 0;
  virtual Result<cri::ContainerStatusResponse> container_status(const std::string& id) = 0;
  virtual Result<cri::ListContainerStatsResponse> list_stats() = 0;
  virtual Result<cri::ListPodSandboxStatsResponse> list_pod_stats() = 0;
  virtual Result<cri::ListImagesResponse> list_images() = 0;
  /// Without an image in it when there is none.
  virtual Result<cri::ImageStatusResponse> image_status(const std::string& name) = 0;
  virtual Result<> remove_image(const std::string& name) = 0;
  /// Bytes that images take.
  virtual Result<uint64_t> image_fs_info() = 0;

  // fluyt.v1
  virtual Result<control::InfoResponse> info() = 0;
  virtual Result<control::SetLogLevelResponse> set_log_level(const std::string& level) = 0;
  virtual Result<control::Image> pull(
      const control::PullRequest& request,
      const std::function<void(const control::PullResponse&)>& progress) = 0;
  /// `next` gives the archive piece by piece, an empty one at its end.
  virtual Result<control::ImportResponse> import(
      const control::ImportRequest::Start& start, const std::function<Result<std::string>()>& next,
      const std::function<void(const control::ImportResponse&)>& progress) = 0;
  virtual Result<control::PushResponse::Pushed> push(
      const control::PushRequest& request,
      const std::function<void(const control::PushResponse&)>& progress) = 0;
  virtual Result<> save(const control::SaveRequest& request,
                        const std::function<void(const control::OneOfSeveral&)>& one_of_several,
                        const std::function<Result<>(std::string_view)>& sink) = 0;
  virtual Result<control::Image> tag(const std::string& image, const std::string& name) = 0;
  virtual Result<control::ListImagesResponse> image_details() = 0;
  virtual Result<control::InspectImageResponse> inspect_image(const std::string& name) = 0;
  virtual Result<control::PruneImagesResponse> prune_images(bool all) = 0;
  virtual Result<control::CollectGarbageResponse> collect_garbage(bool collect) = 0;
  virtual Result<control::VerifyImagesResponse::Report> verify_images(
      const control::VerifyImagesRequest& request,
      const std::function<void(const control::VerifyImagesResponse&)>& progress) = 0;
  virtual Result<> untag(const std::string& name) = 0;
  virtual Result<control::WaitResponse> wait(const std::string& container_id) = 0;
  virtual Result<> signal(const std::string& container_id, int signal) = 0;
  virtual Result<> recreate(const std::string& container_id) = 0;
  enum class LastLink { kFollow, kKeep };
  virtual Result<control::StatFileResponse> stat_file(const std::string& container_id,
                                                      const std::string& path,
                                                      LastLink last_link) = 0;
  using ByteSink = std::function<Result<>(std::string_view)>;
  virtual Result<> read_files(const control::ReadFilesRequest& request, const ByteSink& sink) = 0;
  /// `produce` hands the tar's bytes to the sink that it is given.
  virtual Result<> write_files(const control::WriteFilesRequest::Start& start,
                               const std::function<Result<>(const ByteSink&)>& produce) = 0;
  virtual Result<control::TraceResponse> trace(const std::string& id) = 0;
  /// Until `handle` says no.
  virtual Result<> events(const std::function<bool(const control::Event&)>& handle) = 0;
  virtual std::unique_ptr<ExecCall> exec() = 0;
  virtual std::unique_ptr<AttachCall> attach() = 0;
  virtual Result<control::ExamineResponse> examine(bool repair) = 0;
};

}  // namespace fluyt::cli
