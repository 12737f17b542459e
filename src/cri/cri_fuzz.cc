#include "cri/cri_test.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"
// after api.h
#include <fcntl.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/message_differencer.h>
#include <grpcpp/grpcpp.h>
#include <sched.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "cri/testing/message_mutator.h"
#include "engine/testing/fakes.h"
#include "streaming/server.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/mount.h"

/// Arbitrary bytes as the request of every RPC of CRI v1, through our handlers and the engine, over
/// fakes of images, network and monitors. A pod with a running container is there.
///
///     byte 0   the RPC
///     byte 1   its low half: which call of the fakes fails; kGood: the bytes are put on top of a
///              request that is taken as it is, so that what lies behind the first look is reached
///     the rest the message
///
/// The message is changed field by field (LLVMFuzzerCustomMutator), or it would never get deep.
namespace {

using namespace fluyt;
using namespace fluyt::cri;

constexpr uint8_t kGood = 0x80;
constexpr std::array<const char*, 8> kFailures = {"",      "",     "create_root", "create",
                                                  "start", "exec", "update",      "launch"};

void must(bool holds, std::string_view rpc, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "%.*s: %s\n", static_cast<int>(rpc.size()), rpc.data(), what.c_str());
  abort();
}

/// What a request makes us do must not reach this machine: in a mount namespace of our own all of
/// it is read-only but `kept` and a tmpfs, whose path is returned.
Result<std::string> confine(const std::vector<std::string>& kept) {
  const std::string room = "/mnt";
  FLUYT_TRY(sys::unshare_namespaces(CLONE_NEWNS));
  FLUYT_TRY(sys::set_root_propagation(MS_PRIVATE, sys::Depth::kTree));
  std::vector<std::pair<sys::Fd, std::string>> mounts;
  for (const std::string& path : kept)
    mounts.emplace_back(FLUYT_TRY(sys::clone_mount(path, sys::Depth::kOne)), path);
  mounts.emplace_back(FLUYT_TRY(FLUYT_TRY(sys::FsContext::open("tmpfs")).mount(0)), room);
  const sys::Fd root = FLUYT_TRY(sys::open("/", O_PATH | O_DIRECTORY));
  FLUYT_TRY(sys::set_mount_attributes(root, {.set = MOUNT_ATTR_RDONLY, .user_namespace = {}},
                                      sys::Depth::kTree));
  for (const auto& [mount, path] : mounts) {
    const sys::Fd target = FLUYT_TRY(sys::open(path, O_PATH | O_DIRECTORY));
    FLUYT_TRY(sys::attach_mount(mount, target));
  }
  return room;
}

std::string room;  // set before anything runs

class World {
 public:
  World() {
    engine_ = taken(
        engine::Engine::open({.root = folder_.path() + "/root", .state = folder_.path() + "/state"},
                             engine::testing::parts_over(fakes_), logger_));
    urls_ = taken(streaming::Server::start({}, *engine_, logger_));
    runtime_.emplace(*engine_, *urls_, [] { return ServerInfo{}; });
    image_.emplace(*engine_);
    grpc::ServerBuilder builder;
    builder.RegisterService(&*runtime_);
    builder.RegisterService(&*image_);
    server_ = builder.BuildAndStart();
    const auto channel = server_->InProcessChannel({});
    runtime_stub_ = api::RuntimeService::NewStub(channel);
    image_stub_ = api::ImageService::NewStub(channel);
  }

  void run(const uint8_t* data, size_t size) {
    if (size < 2) return;
    good_ = (data[1] & kGood) != 0;
    bytes_ = {reinterpret_cast<const char*>(data) + 2, size - 2};
    prepare();
    failure_ = kFailures.at(data[1] & 0x07U);
    fakes_.fail = failure_;
    call(data[0]);
    fakes_.fail.clear();
    tidy();
  }

  /// An empty request of an RPC, to make others like it.
  const google::protobuf::Message& request_of(uint8_t rpc) {
    asking_for_kind_ = true;
    call(rpc);
    asking_for_kind_ = false;
    return *kind_;
  }

 private:
  template <class T>
  static T taken(Result<T> result) {
    must(result.ok(), "world", result.ok() ? std::string() : result.error().message());
    return std::move(result).value();
  }

  /// Every input begins with the same pod.
  void prepare() {
    const auto container = engine_->get_container(container_id_.empty() ? "none" : container_id_);
    if (container.ok() && (*container)->state == engine::ContainerState::kRunning &&
        fakes_.roots.size() == 1) {
      return;
    }
    for (const auto& sandbox : engine_->list_sandboxes({}))
      must(engine_->remove_sandbox(sandbox->id).ok(), "world", "a pod is not removed");
    engine::SandboxConfig pod;
    pod.name = {"pod", "default", "uid", 0};
    pod.namespaces.network = engine::NamespaceMode::kNode;
    pod.namespaces.ipc = engine::NamespaceMode::kNode;
    pod.namespaces.pid = engine::NamespaceMode::kContainer;
    pod.log_directory = folder_.path() + "/logs";
    sandbox_id_ = taken(engine_->run_sandbox(pod, ""));
    engine::ContainerConfig main;
    main.name = {"main", 0};
    main.image = "busybox";
    container_id_ = taken(engine_->create_container(sandbox_id_, main));
    must(engine_->start_container(container_id_).ok(), "world", "a container is not started");
  }

  /// What the input made can be removed again, whatever failed meanwhile.
  void tidy() {
    for (const auto& container : engine_->list_containers({})) {
      if (container->id == container_id_) continue;
      const auto removed = engine_->remove_container(container->id);
      must(removed.ok(), "RemoveContainer", removed.ok() ? "" : removed.error().message());
    }
    for (const auto& sandbox : engine_->list_sandboxes({})) {
      if (sandbox->id == sandbox_id_) continue;
      const auto removed = engine_->remove_sandbox(sandbox->id);
      must(removed.ok(), "RemovePodSandbox", removed.ok() ? "" : removed.error().message());
    }
    fakes_.signals.clear();
  }

  // Requests -----------------------------------------------------------------------------------

  /// One that is taken as it is.
  template <class Request>
  void fill_good(Request& request) const {
    if constexpr (requires { request.set_container_id(""); }) {
      request.set_container_id(container_id_);
    } else if constexpr (requires { request.set_pod_sandbox_id(""); }) {
      request.set_pod_sandbox_id(sandbox_id_);
    }
    if constexpr (std::is_same_v<Request, api::RunPodSandboxRequest>) {
      *request.mutable_config() = pod();
      auto* security = request.mutable_config()->mutable_linux()->mutable_security_context();
      security->mutable_namespace_options()->set_network(api::NODE);
      security->mutable_namespace_options()->set_ipc(api::NODE);
      security->mutable_namespace_options()->set_pid(api::CONTAINER);
    } else if constexpr (std::is_same_v<Request, api::CreateContainerRequest>) {
      *request.mutable_config() = container();
      auto* security = request.mutable_config()->mutable_linux()->mutable_security_context();
      security->mutable_namespace_options()->set_pid(api::CONTAINER);
    } else if constexpr (requires { request.mutable_image()->set_image(""); }) {
      request.mutable_image()->set_image("busybox");
    } else if constexpr (std::is_same_v<Request, api::CheckpointContainerRequest>) {
      request.set_location(folder_.path() + "/checkpoint.tar");
    } else if constexpr (requires { request.add_cmd(""); }) {
      request.add_cmd("true");
      if constexpr (requires { request.set_stdout(true); }) request.set_stdout(true);
    } else if constexpr (requires { request.mutable_linux(); }) {
      request.mutable_linux();
    }
  }

  /// False for bytes that gRPC itself refuses.
  template <class Request>
  bool read(Request& request) {
    kind_ = &Request::default_instance();
    if (asking_for_kind_) return false;
    if (good_) fill_good(request);
    Request on_top;
    if (!on_top.ParseFromArray(bytes_.data(), static_cast<int>(bytes_.size()))) return false;
    request.MergeFrom(on_top);
    return true;
  }

  template <class Service, class Request, class Response>
  void unary(std::string_view rpc, Service& service,
             grpc::Status (Service::*method)(grpc::ServerContext*, const Request*, Response*)) {
    Request request;
    if (!read(request)) return;
    grpc::ServerContext context;
    Response response;
    const grpc::Status status = (service.*method)(&context, &request, &response);
    check_status(rpc, status);
    check_message(rpc, response);
    if (status.ok()) check_kept(request, response);
  }

  template <class Stub, class Request, class Response>
  void stream(std::string_view rpc, Stub& stub,
              std::unique_ptr<grpc::ClientReader<Response>> (Stub::*method)(grpc::ClientContext*,
                                                                            const Request&)) {
    Request request;
    if (!read(request)) return;
    grpc::ClientContext context;
    const auto reader = (stub.*method)(&context, request);
    if constexpr (std::is_same_v<Request, api::GetEventsRequest>) {
      // It lasts until the engine ends: that comes first.
      reader->WaitForInitialMetadata();
      engine_->end_events();
    }
    Response response;
    while (reader->Read(&response)) check_message(rpc, response);
    check_status(rpc, reader->Finish());
  }

  void call(uint8_t which) {
#define FLUYT_RUNTIME(Name) [this] { unary(#Name, *runtime_, &RuntimeService::Name); }
#define FLUYT_IMAGE(Name) [this] { unary(#Name, *image_, &ImageService::Name); }
#define FLUYT_STREAM(Name) \
  [this] { stream(#Name, *runtime_stub_, &api::RuntimeService::Stub::Name); }
    const std::array<std::function<void()>, 41> kCalls = {
        FLUYT_RUNTIME(RunPodSandbox),
        FLUYT_RUNTIME(CreateContainer),
        FLUYT_RUNTIME(UpdateContainerResources),
        FLUYT_RUNTIME(UpdatePodSandboxResources),
        FLUYT_RUNTIME(Version),
        FLUYT_RUNTIME(Status),
        FLUYT_RUNTIME(RuntimeConfig),
        FLUYT_RUNTIME(UpdateRuntimeConfig),
        FLUYT_RUNTIME(StopPodSandbox),
        FLUYT_RUNTIME(RemovePodSandbox),
        FLUYT_RUNTIME(PodSandboxStatus),
        FLUYT_RUNTIME(ListPodSandbox),
        FLUYT_RUNTIME(StartContainer),
        FLUYT_RUNTIME(StopContainer),
        FLUYT_RUNTIME(RemoveContainer),
        FLUYT_RUNTIME(ListContainers),
        FLUYT_RUNTIME(ContainerStatus),
        FLUYT_RUNTIME(ReopenContainerLog),
        FLUYT_RUNTIME(ExecSync),
        FLUYT_RUNTIME(Exec),
        FLUYT_RUNTIME(Attach),
        FLUYT_RUNTIME(PortForward),
        FLUYT_RUNTIME(ContainerStats),
        FLUYT_RUNTIME(ListContainerStats),
        FLUYT_RUNTIME(PodSandboxStats),
        FLUYT_RUNTIME(ListPodSandboxStats),
        FLUYT_RUNTIME(CheckpointContainer),
        FLUYT_RUNTIME(ListMetricDescriptors),
        FLUYT_RUNTIME(ListPodSandboxMetrics),
        FLUYT_IMAGE(ListImages),
        FLUYT_IMAGE(ImageStatus),
        FLUYT_IMAGE(PullImage),
        FLUYT_IMAGE(RemoveImage),
        FLUYT_IMAGE(ImageFsInfo),
        FLUYT_STREAM(StreamPodSandboxes),
        FLUYT_STREAM(StreamContainers),
        FLUYT_STREAM(StreamContainerStats),
        FLUYT_STREAM(StreamPodSandboxStats),
        FLUYT_STREAM(StreamPodSandboxMetrics),
        FLUYT_STREAM(GetContainerEvents),
        [this] { stream("StreamImages", *image_stub_, &api::ImageService::Stub::StreamImages); }};
#undef FLUYT_RUNTIME
#undef FLUYT_IMAGE
#undef FLUYT_STREAM
    kCalls.at(which % kCalls.size())();
  }

  // Answers ------------------------------------------------------------------------------------

  /// A refusal is a sentence that a log can have as it is and that fits into gRPC's trailers.
  void check_status(std::string_view rpc, const grpc::Status& status) const {
    if (status.ok()) return;
    const std::string& text = status.error_message();
    // It is percent-encoded, three bytes for one, and clients take 8 KiB of trailers.
    constexpr size_t kMaxSentence = 2560;
    must(!text.empty(), rpc, "an error without a sentence");
    must(is_utf8(text) && !has_control_characters(text), rpc, cat("no text: ", quote(text, 4096)));
    must(text.size() <= kMaxSentence, rpc, cat(text.size(), " bytes: ", text));
    switch (status.error_code()) {
      case grpc::StatusCode::INVALID_ARGUMENT:
        must(text.find(": ") != std::string::npos, rpc, cat("names no field: ", text));
        break;
      case grpc::StatusCode::INTERNAL:
        must(!failure_.empty() || text.find(" = E") != std::string::npos, rpc, text);
        break;
      case grpc::StatusCode::UNKNOWN:
      case grpc::StatusCode::DATA_LOSS:
        must(false, rpc, cat("code ", static_cast<int>(status.error_code()), ": ", text));
        break;
      default:
        break;
    }
  }

  /// What we answer can be read: protobuf writes text that is no UTF-8 and refuses to read it.
  template <class Response>
  static void check_message(std::string_view rpc, const Response& response) {
    Response again;
    must(again.ParseFromString(response.SerializeAsString()), rpc, "an answer that cannot be read");
  }

  template <class Request, class Response>
  void check_kept(const Request& /*request*/, const Response& /*response*/) {}

  template <class Wanted, class Shown>
  static void same(std::string_view rpc, const Wanted& wanted, const Shown& shown) {
    using google::protobuf::util::MessageDifferencer;
    const auto as_map = [](const auto& map) {
      return std::map<std::string, std::string>(map.begin(), map.end());
    };
    must(MessageDifferencer::Equals(wanted.metadata(), shown.metadata()), rpc, "other metadata");
    must(as_map(wanted.labels()) == as_map(shown.labels()), rpc, "other labels");
    must(as_map(wanted.annotations()) == as_map(shown.annotations()), rpc, "other annotations");
  }

  /// What was taken is shown as it was given.
  void check_kept(const api::RunPodSandboxRequest& request,
                  const api::RunPodSandboxResponse& response) {
    api::PodSandboxStatusRequest ask;
    ask.set_pod_sandbox_id(response.pod_sandbox_id());
    api::PodSandboxStatusResponse shown;
    grpc::ServerContext context;
    must(runtime_->PodSandboxStatus(&context, &ask, &shown).ok(), "RunPodSandbox", "no status");
    check_message("PodSandboxStatus", shown);
    same("RunPodSandbox", request.config(), shown.status());
  }
  void check_kept(const api::CreateContainerRequest& request,
                  const api::CreateContainerResponse& response) {
    api::ContainerStatusRequest ask;
    ask.set_container_id(response.container_id());
    ask.set_verbose(true);
    api::ContainerStatusResponse shown;
    grpc::ServerContext context;
    must(runtime_->ContainerStatus(&context, &ask, &shown).ok(), "CreateContainer", "no status");
    check_message("ContainerStatus", shown);
    same("CreateContainer", request.config(), shown.status());
    must(shown.status().mounts_size() == request.config().mounts_size(), "CreateContainer",
         "other mounts");
  }

  engine::testing::FakeWorld fakes_;
  NullLogger logger_;
  sys::TempDir folder_ = taken(sys::TempDir::create(room));
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<streaming::Server> urls_;
  std::optional<RuntimeService> runtime_;
  std::optional<ImageService> image_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<api::RuntimeService::Stub> runtime_stub_;
  std::unique_ptr<api::ImageService::Stub> image_stub_;
  std::string sandbox_id_;
  std::string container_id_;
  bool good_ = false;
  std::string failure_;
  std::string_view bytes_;
  bool asking_for_kind_ = false;
  const google::protobuf::Message* kind_ = nullptr;
};

World& world() {
  static World world;
  return world;
}

/// What fields of text may hold that somebody looks at.
const std::vector<std::string> kWords = {"busybox",
                                         "pod",
                                         "main",
                                         "default",
                                         "uid",
                                         "/",
                                         "..",
                                         "/proc/self",
                                         "/dev/null",
                                         "/etc/passwd",
                                         "a/../../b",
                                         "true",
                                         "unconfined",
                                         "runtime/default",
                                         "localhost/",
                                         "RuntimeDefault",
                                         "SIGKILL",
                                         "10.0.0.1",
                                         "::1",
                                         "127.0.0.1",
                                         "8080",
                                         "sha256:",
                                         "memory.high",
                                         "cpu.weight",
                                         "2MB",
                                         "rwm",
                                         "ALL",
                                         "CAP_SYS_ADMIN",
                                         "NET_RAW",
                                         "kernel.shm_rmid_forced",
                                         "net.ipv4.ip_forward",
                                         "0-3",
                                         "0",
                                         "-1",
                                         "vendor.com/class=device",
                                         "container_name",
                                         "io.kubernetes.pod.namespace",
                                         "PATH=/bin",
                                         "host",
                                         "private",
                                         "\x01",
                                         "\xc3\xa9",
                                         "\n"};

}  // namespace

/// Needs root, for the mount namespace. Written to are the folders that the arguments name.
extern "C" int LLVMFuzzerInitialize(const int* argc, char*** argv) {
  constexpr std::string_view kArtifacts = "-artifact_prefix=";
  std::set<std::string> kept;
  for (int i = 1; i < *argc; ++i) {
    const std::string_view word = (*argv)[i];
    const std::filesystem::path path =
        word.starts_with(kArtifacts)
            ? std::filesystem::absolute(word.substr(kArtifacts.size())).parent_path()
            : std::filesystem::absolute(word);
    if (word.front() != '-' || word.starts_with(kArtifacts)) {
      if (std::filesystem::is_directory(path)) kept.insert(path.string());
    }
  }
  // A folder above another comes first.
  auto made = confine({kept.begin(), kept.end()});
  must(made.ok(), "confine", made.ok() ? "" : made.error().message());
  room = *made;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  world().run(data, size);
  return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t capacity);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t capacity,
                                          unsigned int seed) {
  constexpr size_t kHead = 2;
  testing::MessageMutator mutator(seed, LLVMFuzzerMutate, kWords);
  if (size < kHead || capacity <= kHead || mutator.once_in(32))
    return LLVMFuzzerMutate(data, size, capacity);
  if (mutator.once_in(12)) data[0] = static_cast<uint8_t>(mutator.below(41));
  if (mutator.once_in(12))
    data[1] =
        static_cast<uint8_t>(mutator.below(kFailures.size()) | (mutator.once_in(3) ? 0U : kGood));
  const std::unique_ptr<google::protobuf::Message> message(world().request_of(data[0]).New());
  // What is no message becomes an empty one.
  if (!message->ParseFromArray(data + kHead, static_cast<int>(size - kHead))) message->Clear();
  for (uint64_t changes = 1 + mutator.below(4); changes > 0; --changes) mutator.change(*message);
  const std::string bytes = message->SerializeAsString();
  if (bytes.size() > capacity - kHead) return LLVMFuzzerMutate(data, size, capacity);
  bytes.copy(reinterpret_cast<char*>(data) + kHead, bytes.size());
  return kHead + bytes.size();
}
