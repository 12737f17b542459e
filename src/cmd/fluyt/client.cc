#include "cmd/fluyt/client.h"

#include <grpcpp/grpcpp.h>
#include <sys/socket.h>

#include <atomic>

#include "base/strings.h"
#include "cri/v1/api.grpc.pb.h"
#include "fluyt/v1/control.grpc.pb.h"
#include "sys/socket.h"

namespace fluyt::cli {

namespace {

constexpr int kMaxMessageBytes = 64 << 20;

Code code_of(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::INVALID_ARGUMENT:
      return Code::kInvalidArgument;
    case grpc::StatusCode::NOT_FOUND:
      return Code::kNotFound;
    case grpc::StatusCode::ALREADY_EXISTS:
      return Code::kAlreadyExists;
    case grpc::StatusCode::FAILED_PRECONDITION:
      return Code::kFailedPrecondition;
    case grpc::StatusCode::PERMISSION_DENIED:
      return Code::kPermissionDenied;
    case grpc::StatusCode::UNAUTHENTICATED:
      return Code::kUnauthenticated;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return Code::kResourceExhausted;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Code::kDeadlineExceeded;
    case grpc::StatusCode::UNAVAILABLE:
      return Code::kUnavailable;
    case grpc::StatusCode::UNIMPLEMENTED:
      return Code::kUnimplemented;
    case grpc::StatusCode::ABORTED:
      return Code::kAborted;
    case grpc::StatusCode::CANCELLED:
      return Code::kCancelled;
    case grpc::StatusCode::DATA_LOSS:
      return Code::kDataLoss;
    default:
      return Code::kInternal;
  }
}

// gRPC's own words for a server that went away. fluytd itself says "unavailable" of registries.
bool is_transport(const std::string& message) {
  for (const char* words : {"Socket closed", "failed to connect", "Connection reset", "Broken pipe",
                            "recvmsg", "sendmsg", "GOAWAY", "Endpoint"}) {
    if (message.find(words) != std::string::npos) return true;
  }
  return false;
}

// As gRPC says it where a server that shuts down ends our call, which we did not ask for.
bool is_shutdown(const grpc::Status& status) {
  const std::string& message = status.error_message();
  return message == "Cancelling all calls" ||
         (status.error_code() == grpc::StatusCode::CANCELLED && message == "CANCELLED");
}

Error error_of(const grpc::Status& status) {
  const std::string& message = status.error_message();
  if (is_shutdown(status)) return {Code::kUnavailable, "fluytd is stopping; containers go on"};
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && is_transport(message)) {
    return {Code::kUnavailable, cat("fluytd went away: ", message)};
  }
  return {code_of(status.error_code()),
          message.empty() ? cat("gRPC status ", static_cast<int>(status.error_code())) : message};
}

Result<> result_of(const grpc::Status& status) {
  if (!status.ok()) return error_of(status);
  return {};
}

template <class Request, class Response>
class GrpcDuplex final : public Duplex<Request, Response> {
 public:
  using Stream = grpc::ClientReaderWriter<Request, Response>;
  template <class Open>
  explicit GrpcDuplex(Open open) : stream_(open(&context_)) {}
  bool write(const Request& request) override { return stream_->Write(request); }
  bool read(Response& response) override { return stream_->Read(&response); }
  void close_writing() override { stream_->WritesDone(); }
  void cancel() override {
    cancelled_ = true;
    context_.TryCancel();
  }
  Result<> finish() override {
    const grpc::Status status = stream_->Finish();
    if (cancelled_) return Error(Code::kCancelled, "cancelled");
    return result_of(status);
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;
  std::atomic<bool> cancelled_ = false;
};

class GrpcClient final : public Client {
 public:
  explicit GrpcClient(const std::shared_ptr<grpc::Channel>& channel)
      : runtime_(cri::RuntimeService::NewStub(channel)),
        image_(cri::ImageService::NewStub(channel)),
        control_(control::Control::NewStub(channel)) {}

  Result<cri::VersionResponse> version() override {
    return call(*runtime_, &Runtime::Version, cri::VersionRequest());
  }
  Result<cri::StatusResponse> status() override {
    return call(*runtime_, &Runtime::Status, cri::StatusRequest());
  }
  Result<cri::RunPodSandboxResponse> run_sandbox(const cri::RunPodSandboxRequest& r) override {
    return call(*runtime_, &Runtime::RunPodSandbox, r);
  }
  Result<> stop_sandbox(const std::string& id) override {
    cri::StopPodSandboxRequest request;
    request.set_pod_sandbox_id(id);
    return drop(call(*runtime_, &Runtime::StopPodSandbox, request));
  }
  Result<> remove_sandbox(const std::string& id) override {
    cri::RemovePodSandboxRequest request;
    request.set_pod_sandbox_id(id);
    return drop(call(*runtime_, &Runtime::RemovePodSandbox, request));
  }
  Result<cri::PodSandboxStatusResponse> sandbox_status(const std::string& id) override {
    cri::PodSandboxStatusRequest request;
    request.set_pod_sandbox_id(id);
    request.set_verbose(true);
    return call(*runtime_, &Runtime::PodSandboxStatus, request);
  }
  Result<cri::ListPodSandboxStatsResponse> list_pod_stats() override {
    return call(*runtime_, &Runtime::ListPodSandboxStats, cri::ListPodSandboxStatsRequest());
  }
  Result<cri::ListPodSandboxResponse> list_sandboxes() override {
    return call(*runtime_, &Runtime::ListPodSandbox, cri::ListPodSandboxRequest());
  }
  Result<cri::CreateContainerResponse> create(const cri::CreateContainerRequest& r) override {
    return call(*runtime_, &Runtime::CreateContainer, r);
  }
  Result<> start(const std::string& id) override {
    cri::StartContainerRequest request;
    request.set_container_id(id);
    return drop(call(*runtime_, &Runtime::StartContainer, request));
  }
  Result<> stop(const std::string& id, int64_t grace_seconds) override {
    cri::StopContainerRequest request;
    request.set_container_id(id);
    request.set_timeout(grace_seconds);
    return drop(call(*runtime_, &Runtime::StopContainer, request));
  }
  Result<> remove(const std::string& id) override {
    cri::RemoveContainerRequest request;
    request.set_container_id(id);
    return drop(call(*runtime_, &Runtime::RemoveContainer, request));
  }
  Result<cri::ListContainersResponse> list_containers() override {
    return call(*runtime_, &Runtime::ListContainers, cri::ListContainersRequest());
  }
  Result<cri::ContainerStatusResponse> container_status(const std::string& id) override {
    cri::ContainerStatusRequest request;
    request.set_container_id(id);
    request.set_verbose(true);
    return call(*runtime_, &Runtime::ContainerStatus, request);
  }
  Result<cri::ListContainerStatsResponse> list_stats() override {
    return call(*runtime_, &Runtime::ListContainerStats, cri::ListContainerStatsRequest());
  }
  Result<cri::ListImagesResponse> list_images() override {
    return call(*image_, &Images::ListImages, cri::ListImagesRequest());
  }
  Result<cri::ImageStatusResponse> image_status(const std::string& name) override {
    cri::ImageStatusRequest request;
    request.mutable_image()->set_image(name);
    request.set_verbose(true);
    return call(*image_, &Images::ImageStatus, request);
  }
  Result<uint64_t> image_fs_info() override {
    const auto info = FLUYT_TRY(call(*image_, &Images::ImageFsInfo, cri::ImageFsInfoRequest()));
    uint64_t bytes = 0;
    for (const auto& usage : info.image_filesystems()) bytes += usage.used_bytes().value();
    return bytes;
  }
  Result<> remove_image(const std::string& name) override {
    cri::RemoveImageRequest request;
    request.mutable_image()->set_image(name);
    return drop(call(*image_, &Images::RemoveImage, request));
  }

  Result<control::InfoResponse> info() override {
    return call(*control_, &Control::Info, control::InfoRequest());
  }
  Result<control::SetLogLevelResponse> set_log_level(const std::string& level) override {
    control::SetLogLevelRequest request;
    request.set_level(level);
    return call(*control_, &Control::SetLogLevel, request);
  }
  Result<> untag(const std::string& name) override {
    control::UntagRequest request;
    request.set_name(name);
    return drop(call(*control_, &Control::Untag, request));
  }
  Result<control::WaitResponse> wait(const std::string& container_id) override {
    control::WaitRequest request;
    request.set_container_id(container_id);
    return call(*control_, &Control::Wait, request);
  }
  Result<control::TraceResponse> trace(const std::string& id) override {
    control::TraceRequest request;
    request.set_id(id);
    return call(*control_, &Control::Trace, request);
  }
  Result<> signal(const std::string& container_id, int signal) override {
    control::SignalRequest request;
    request.set_container_id(container_id);
    request.set_signal(signal);
    return drop(call(*control_, &Control::Signal, request));
  }
  Result<> recreate(const std::string& container_id) override {
    control::RecreateRequest request;
    request.set_container_id(container_id);
    return drop(call(*control_, &Control::Recreate, request));
  }
  Result<control::StatFileResponse> stat_file(const std::string& container_id,
                                              const std::string& path,
                                              LastLink last_link) override {
    control::StatFileRequest request;
    request.set_container_id(container_id);
    request.set_path(path);
    request.set_follow_link(last_link == LastLink::kFollow);
    return call(*control_, &Control::StatFile, request);
  }
  Result<> read_files(const control::ReadFilesRequest& request, const ByteSink& sink) override;
  Result<> write_files(const control::WriteFilesRequest::Start& start,
                       const std::function<Result<>(const ByteSink&)>& produce) override;
  Result<control::Image> pull(
      const control::PullRequest& request,
      const std::function<void(const control::PullResponse&)>& progress) override;
  Result<control::ImportResponse> import(
      const control::ImportRequest::Start& start, const std::function<Result<std::string>()>& next,
      const std::function<void(const control::ImportResponse&)>& progress) override;
  Result<control::PushResponse::Pushed> push(
      const control::PushRequest& request,
      const std::function<void(const control::PushResponse&)>& progress) override;
  Result<> save(const control::SaveRequest& request,
                const std::function<void(const control::OneOfSeveral&)>& one_of_several,
                const std::function<Result<>(std::string_view)>& sink) override;
  Result<control::Image> tag(const std::string& image, const std::string& name) override {
    control::TagRequest request;
    request.set_image(image);
    request.set_name(name);
    return FLUYT_TRY(call(*control_, &Control::Tag, request)).image();
  }
  Result<control::ListImagesResponse> image_details() override {
    return call(*control_, &Control::ListImages, control::ListImagesRequest());
  }
  Result<control::InspectImageResponse> inspect_image(const std::string& name) override {
    control::InspectImageRequest request;
    request.set_name(name);
    return call(*control_, &Control::InspectImage, request);
  }
  Result<control::PruneImagesResponse> prune_images(bool all) override {
    control::PruneImagesRequest request;
    request.set_all(all);
    return call(*control_, &Control::PruneImages, request);
  }
  Result<control::CollectGarbageResponse> collect_garbage(bool collect) override {
    control::CollectGarbageRequest request;
    request.set_collect(collect);
    return call(*control_, &Control::CollectGarbage, request);
  }
  Result<control::ExamineResponse> examine(bool repair) override {
    control::ExamineRequest request;
    request.set_repair(repair);
    return call(*control_, &Control::Examine, request);
  }
  Result<control::VerifyImagesResponse::Report> verify_images(
      const control::VerifyImagesRequest& request,
      const std::function<void(const control::VerifyImagesResponse&)>& progress) override;
  Result<> events(const std::function<bool(const control::Event&)>& handle) override;
  std::unique_ptr<ExecCall> exec() override {
    return std::make_unique<GrpcDuplex<control::ExecRequest, control::ExecResponse>>(
        [this](grpc::ClientContext* context) { return control_->Exec(context); });
  }
  std::unique_ptr<AttachCall> attach() override {
    return std::make_unique<GrpcDuplex<control::AttachRequest, control::AttachResponse>>(
        [this](grpc::ClientContext* context) { return control_->Attach(context); });
  }

 private:
  using Runtime = cri::RuntimeService::Stub;
  using Images = cri::ImageService::Stub;
  using Control = control::Control::Stub;

  template <class Stub, class Request, class Response>
  static Result<Response> call(Stub& stub,
                               grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                            Response*),
                               const Request& request) {
    grpc::ClientContext context;
    Response response;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    if (!status.ok()) return error_of(status);
    return response;
  }
  template <class Response>
  static Result<> drop(Result<Response> result) {
    if (!result.ok()) return std::move(result).error();
    return {};
  }

  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Images> image_;
  std::unique_ptr<Control> control_;
};

Result<control::Image> GrpcClient::pull(
    const control::PullRequest& request,
    const std::function<void(const control::PullResponse&)>& progress) {
  grpc::ClientContext context;
  auto reader = control_->Pull(&context, request);
  control::PullResponse response;
  control::Image image;
  while (reader->Read(&response)) {
    if (response.has_image()) image = response.image();
    progress(response);
  }
  FLUYT_TRY(result_of(reader->Finish()));
  return image;
}

Result<control::PushResponse::Pushed> GrpcClient::push(
    const control::PushRequest& request,
    const std::function<void(const control::PushResponse&)>& progress) {
  grpc::ClientContext context;
  auto reader = control_->Push(&context, request);
  control::PushResponse response;
  control::PushResponse::Pushed pushed;
  while (reader->Read(&response)) {
    if (response.has_pushed()) pushed = response.pushed();
    progress(response);
  }
  FLUYT_TRY(result_of(reader->Finish()));
  return pushed;
}

Result<control::VerifyImagesResponse::Report> GrpcClient::verify_images(
    const control::VerifyImagesRequest& request,
    const std::function<void(const control::VerifyImagesResponse&)>& progress) {
  grpc::ClientContext context;
  auto reader = control_->VerifyImages(&context, request);
  control::VerifyImagesResponse response;
  control::VerifyImagesResponse::Report report;
  while (reader->Read(&response)) {
    if (response.has_report()) report = response.report();
    progress(response);
  }
  FLUYT_TRY(result_of(reader->Finish()));
  return report;
}

Result<> GrpcClient::save(const control::SaveRequest& request,
                          const std::function<void(const control::OneOfSeveral&)>& one_of_several,
                          const std::function<Result<>(std::string_view)>& sink) {
  grpc::ClientContext context;
  auto reader = control_->Save(&context, request);
  control::SaveResponse response;
  while (reader->Read(&response)) {
    if (response.has_one_of_several()) one_of_several(response.one_of_several());
    if (auto taken = sink(response.data()); !taken.ok()) {
      context.TryCancel();
      (void)reader->Finish();
      return taken;
    }
  }
  return result_of(reader->Finish());
}

Result<> GrpcClient::read_files(const control::ReadFilesRequest& request, const ByteSink& sink) {
  grpc::ClientContext context;
  auto reader = control_->ReadFiles(&context, request);
  control::ReadFilesResponse response;
  while (reader->Read(&response)) {
    if (auto taken = sink(response.data()); !taken.ok()) {
      context.TryCancel();
      (void)reader->Finish();
      return taken;
    }
  }
  return result_of(reader->Finish());
}

Result<> GrpcClient::write_files(const control::WriteFilesRequest::Start& start,
                                 const std::function<Result<>(const ByteSink&)>& produce) {
  grpc::ClientContext context;
  control::WriteFilesResponse response;
  auto writer = control_->WriteFiles(&context, &response);
  control::WriteFilesRequest request;
  *request.mutable_start() = start;
  bool open = writer->Write(request);
  Result<> produced = produce([&](std::string_view bytes) -> Result<> {
    request.mutable_data()->assign(bytes);
    open = open && writer->Write(request);
    return open ? Result<>() : Error(Code::kCancelled, "fluytd takes no more");
  });
  // The server must not take what came so far for the whole.
  if (!produced.ok() && open) {
    context.TryCancel();
    (void)writer->Finish();
    return produced;
  }
  writer->WritesDone();
  return result_of(writer->Finish());
}

Result<control::ImportResponse> GrpcClient::import(
    const control::ImportRequest::Start& start, const std::function<Result<std::string>()>& next,
    const std::function<void(const control::ImportResponse&)>& progress) {
  grpc::ClientContext context;
  auto writer = control_->Import(&context);
  control::ImportRequest request;
  *request.mutable_start() = start;
  bool open = writer->Write(request);
  while (open) {
    auto piece = next();
    if (!piece.ok()) {
      // The server must not take what came so far for the whole.
      context.TryCancel();
      (void)writer->Finish();
      return std::move(piece).error();
    }
    if (piece->empty()) break;
    request.set_data(std::move(*piece));
    open = writer->Write(request);
  }
  writer->WritesDone();
  control::ImportResponse last;
  control::ImportResponse response;
  while (writer->Read(&response)) {
    if (response.images_size() > 0) last = response;
    progress(response);
  }
  FLUYT_TRY(result_of(writer->Finish()));
  return last;
}

Result<> GrpcClient::events(const std::function<bool(const control::Event&)>& handle) {
  grpc::ClientContext context;
  auto reader = control_->Events(&context, control::EventsRequest());
  control::Event event;
  while (reader->Read(&event)) {
    if (handle(event)) continue;
    context.TryCancel();
    (void)reader->Finish();
    return {};
  }
  return result_of(reader->Finish());
}

}  // namespace

Result<std::unique_ptr<Client>> Client::connect(const std::string& address) {
  // Also as gRPC, crictl and fluytd's own option have it.
  std::string_view rest = address;
  if (rest.starts_with("unix:")) rest.remove_prefix(5);
  if (rest.starts_with("///")) rest.remove_prefix(2);
  const std::string socket(rest);
  // gRPC would try again and again, and then speak of addresses and subchannels.
  auto probe = sys::connect_unix(socket, SOCK_STREAM);
  if (!probe.ok()) {
    const bool denied = probe.error().code() == Code::kPermissionDenied;
    const char* advice =
        denied ? "this takes root" : "is fluytd running? --socket or FLUYT_SOCKET names another";
    return std::move(probe).error().add_context(
        cat("cannot reach fluytd at ", quote(socket, 512), " (", advice, ")"));
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  auto channel =
      grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments);
  return std::unique_ptr<Client>(std::make_unique<GrpcClient>(channel));
}

}  // namespace fluyt::cli
