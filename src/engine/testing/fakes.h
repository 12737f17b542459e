#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "engine/engine.h"
#include "image/image_store.h"
#include "monitor/client/client.h"
#include "network/network.h"
#include "sys/file.h"

/// Fakes of the parts that the engine drives: images, network and monitors. What they made and what
/// is to fail is in one FakeWorld, which outlives them.
namespace fluyt::engine::testing {

struct FakeWorld {
  std::mutex mutex;
  std::set<std::string> roots;
  std::map<std::string, monitor::ContainerInfo> containers;
  std::map<std::string, int> monitors;  // launched and alive, by sandbox
  std::string fail;                     // the call that is to fail
  std::atomic<int> launch_delay_ms{0};
  monitor::Events events;  // of the monitor that was launched or adopted last
  std::vector<std::pair<std::string, int>> signals;
  bool ignores_sigterm = false;
  bool lists_nothing = false;
  int exec_kills = 0;
  std::string needs_path;  // create fails while it is not there
  std::string upper = "/upper";
  bool copied_roots = false;
  std::vector<image::Admission> admissions;
  std::string refused_image;                       // a name
  std::map<std::string, sys::OverlayMount> trees;  // of the last create
  sys::OverlayMount root;                          // the same
  std::vector<monitor::Relabel> relabels;          // the same
  std::map<std::string, std::string> specs;        // of every create, as JSON
  std::string netns;                               // of the sandboxes made
  std::set<std::string> attached;
  std::atomic<int> failing_detaches{0};
  std::atomic<bool> adopts_fail{false};  // the monitor is there and does not answer
  std::atomic<bool> lists_fail{false};
  std::atomic<bool> clients_lost{false};  // their monitors are gone
  std::function<void()> at_root_usage;
  std::function<void()> at_shutdown;
  std::function<void(const std::string& id)> at_checkpoint;
  std::function<void()> at_detach;
  std::function<void()> at_make_sandbox;
  std::function<void(const std::string& id)> at_create;  // made, and not answered yet
  std::function<void()> at_list;                         // looked up, and not answered yet
  std::vector<std::string> left_over;  // attached at a collect, and not known to the engine
  int collects = 0;

  Result<> check(const std::string& call) {
    if (fail == call) return Error(Code::kInternal, call + " fails");
    return {};
  }
};

class FakeImages final : public image::ImageStore {
 public:
  explicit FakeImages(FakeWorld& world) : world_(world) {
    image_.id = "sha256:0123";
    image_.repo_tags = {"docker.io/library/busybox:latest"};
    image_.config.config.cmd = {"/bin/sh"};
    image_.config.config.stop_signal = "SIGQUIT";
  }
  Result<image::Image> pull(const oci::Reference&, const image::PullOptions&) override {
    return image_;
  }
  Result<std::vector<image::Image>> import(const std::string&,
                                           const image::ImportOptions&) override {
    return std::vector{image_};
  }
  Result<std::vector<image::Image>> list() override { return std::vector{image_}; }
  Result<std::optional<image::Image>> find(const std::string& name) override {
    if (name == "busybox" || name == image_.id) return std::optional(image_);
    return std::optional<image::Image>();
  }
  Result<> remove(const std::string&) override { return {}; }
  Result<> untag(const std::string&) override { return {}; }
  Result<> admit(const image::Admission& what) override {
    FLUYT_TRY(world_.check("admit"));
    const std::scoped_lock lock(world_.mutex);
    world_.admissions.push_back(what);
    if (what.name != world_.refused_image) return {};
    return Error(Code::kPermissionDenied, "image policy says no");
  }
  Result<sys::OverlayMount> create_root(const std::string& id, const std::string&,
                                        const image::RootOptions& options) override {
    FLUYT_TRY(world_.check("create_root"));
    const std::scoped_lock lock(world_.mutex);
    world_.roots.insert(id);
    if (options.access == image::RootOptions::Access::kReadOnly)
      return sys::OverlayMount{{"/lower", "/empty"}, {}, {}, options.ids};
    if (world_.copied_roots) return sys::OverlayMount{{}, world_.upper, {}, options.ids};
    return sys::OverlayMount{{"/lower"}, world_.upper, "/work", options.ids};
  }
  Result<> probe_ids() override { return world_.check("probe_ids"); }
  Result<> remove_root(const std::string& id) override {
    FLUYT_TRY(world_.check("remove_root"));
    const std::scoped_lock lock(world_.mutex);
    world_.roots.erase(id);
    return {};
  }
  Result<std::vector<std::string>> list_roots() override {
    return std::vector<std::string>(world_.roots.begin(), world_.roots.end());
  }
  Result<image::FsUsage> root_usage(const std::string&) override {
    if (world_.at_root_usage) world_.at_root_usage();
    return image::FsUsage{};
  }
  Result<image::FsUsage> fs_usage() override { return image::FsUsage{}; }
  Result<std::optional<std::string>> read_image_file(const std::string&, const std::string&,
                                                     size_t) override {
    return std::optional<std::string>();
  }

 private:
  FakeWorld& world_;
  image::Image image_;
};

class FakeNetwork final : public network::Network {
 public:
  explicit FakeNetwork(FakeWorld& world) : world_(world) {}
  network::Status status() override { return {.ready = true, .reason = {}, .message = {}}; }
  Result<network::Attachment> attach(const network::SandboxNetwork& sandbox, Deadline) override {
    const std::scoped_lock lock(world_.mutex);
    world_.attached.insert(sandbox.sandbox_id);
    return network::Attachment{};
  }
  Result<> check(const network::SandboxNetwork&, Deadline) override { return {}; }
  Result<> detach(const network::SandboxNetwork& sandbox, Deadline) override {
    if (world_.at_detach) world_.at_detach();
    if (world_.failing_detaches > 0) {
      --world_.failing_detaches;
      return Error(Code::kDeadlineExceeded, "plugin hangs");
    }
    const std::scoped_lock lock(world_.mutex);
    world_.attached.erase(sandbox.sandbox_id);
    return {};
  }
  Result<> collect(const std::function<bool(const std::string&)>& exists, Deadline) override {
    const std::scoped_lock lock(world_.mutex);
    for (const auto& id : world_.attached) {
      if (!exists(id)) world_.left_over.push_back(id);
    }
    ++world_.collects;
    return {};
  }
  Result<std::vector<std::string>> find_leftovers(
      const std::function<bool(const std::string&)>& exists, Deadline) override {
    const std::scoped_lock lock(world_.mutex);
    std::vector<std::string> out;
    std::copy_if(world_.attached.begin(), world_.attached.end(), std::back_inserter(out),
                 [&](const std::string& id) { return !exists(id); });
    return out;
  }

 private:
  FakeWorld& world_;
};

class FakeClient final : public monitor::Client {
 public:
  FakeClient(FakeWorld& world, std::string sandbox, monitor::Events events)
      : world_(world), sandbox_(std::move(sandbox)), events_(std::move(events)) {}
  int32_t monitor_pid() const override { return 42; }
  Result<monitor::SandboxNamespaces> make_sandbox(const monitor::SandboxRequest&,
                                                  Deadline) override {
    FLUYT_TRY(world_.check("make_sandbox"));
    if (world_.at_make_sandbox) world_.at_make_sandbox();
    monitor::SandboxNamespaces made;
    made.network = world_.netns;
    return made;
  }
  Result<monitor::ContainerInfo> create(const monitor::CreateRequest& request) override {
    FLUYT_TRY(world_.check("create"));
    if (!world_.needs_path.empty() && !sys::exists(world_.needs_path)) {
      return Error(Code::kNotFound, "mounts[0]: no such file");
    }
    monitor::ContainerInfo info;
    {
      const std::scoped_lock lock(world_.mutex);
      world_.trees = request.trees;
      if (request.root) world_.root = *request.root;
      world_.relabels = request.relabels;
      world_.specs[request.id] = request.spec_json;
      info.id = request.id;
      info.created_at = now_unix_ns();
      world_.containers[request.id] = info;
    }
    if (world_.at_create) world_.at_create(request.id);
    return info;
  }
  Result<monitor::ContainerInfo> start(const std::string& id, Deadline) override {
    const std::scoped_lock lock(world_.mutex);
    auto& info = world_.containers[id];
    if (world_.fail == "start") {
      info.state = monitor::ContainerState::kExited;
      info.exit_code = 127;
      info.message = "exec fails";
      return Error(Code::kNotFound, "exec fails");
    }
    info.state = monitor::ContainerState::kRunning;
    info.started_at = now_unix_ns();
    return info;
  }
  Result<> signal(const std::string& id, int signal, bool) override {
    monitor::ContainerInfo info;
    {
      const std::scoped_lock lock(world_.mutex);
      world_.signals.emplace_back(id, signal);
      if (world_.ignores_sigterm && signal != 9) return {};
      auto& now = world_.containers[id];
      if (now.state == monitor::ContainerState::kExited) return {};  // it was told of
      now.state = monitor::ContainerState::kExited;
      now.exit_code = 128 + signal;
      now.finished_at = now_unix_ns();
      info = now;
    }
    events_.container_changed(info);
    return {};
  }
  Result<monitor::ExecStarted> exec(const monitor::ExecRequest& request) override {
    FLUYT_TRY(world_.check("exec"));
    FLUYT_TRY(sys::write_all(request.out, "out"));
    FLUYT_TRY(sys::write_all(request.err, "err"));
    if (world_.fail != "exec hangs") events_.exec_exited(7, 5);  // before we have returned
    monitor::ExecStarted started;
    started.exec_id = 7;
    return started;
  }
  Result<> kill_exec(uint64_t id, int signal) override {
    ++world_.exec_kills;
    events_.exec_exited(id, 128 + signal);
    return {};
  }
  Result<> attach(const monitor::AttachRequest&) override { return {}; }
  Result<> resize(const std::string&, uint16_t, uint16_t) override { return {}; }
  Result<> reopen_log(const std::string&) override { return {}; }
  Result<> update(const std::string&, const std::string&) override {
    return world_.check("update");
  }
  Result<> remove(const std::string& id, Deadline) override {
    const std::scoped_lock lock(world_.mutex);
    world_.containers.erase(id);
    return {};
  }
  Result<> checkpoint(const monitor::CheckpointRequest& request, Deadline) override {
    FLUYT_TRY(world_.check("checkpoint"));
    if (world_.at_checkpoint) world_.at_checkpoint(request.id);
    FLUYT_TRY(sys::make_dirs(request.folder + "/checkpoint", 0700));
    FLUYT_TRY(sys::write_file_atomic(sys::kCwd, request.folder + "/checkpoint/pages-1.img",
                                     "memory", 0600));
    return sys::write_file_atomic(sys::kCwd, request.folder + "/spec.dump",
                                  R"({"ociVersion":"1.2.0"})", 0600);
  }
  Result<std::vector<monitor::ContainerInfo>> list() override {
    std::vector<monitor::ContainerInfo> all;
    {
      const std::scoped_lock lock(world_.mutex);
      if (world_.lists_fail) return Error(Code::kDeadlineExceeded, "no answer in time");
      for (const auto& [id, info] : world_.containers) all.push_back(info);
      if (world_.lists_nothing) all.clear();
    }
    if (const auto call = world_.at_list) call();
    return all;
  }
  Result<> shutdown(Deadline) override {
    if (world_.at_shutdown) world_.at_shutdown();
    const std::scoped_lock lock(world_.mutex);
    world_.monitors.erase(sandbox_);
    return {};
  }
  std::string program() const override { return program_; }
  Result<> replace(sys::FdRef, sys::FdRef, Deadline) override { return {}; }
  bool lost() const override { return world_.clients_lost; }

 private:
  FakeWorld& world_;
  std::string sandbox_;
  monitor::Events events_;
  std::string program_ = "fake";
};

class FakeHub final : public monitor::Hub {
 public:
  explicit FakeHub(FakeWorld& world) : world_(world) {}
  Result<std::shared_ptr<monitor::Client>> launch(const monitor::LaunchOptions& options,
                                                  monitor::Events events) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(world_.launch_delay_ms));
    FLUYT_TRY(world_.check("launch"));
    const std::scoped_lock lock(world_.mutex);
    world_.monitors[options.sandbox_id] = 1;
    world_.events = events;
    return std::shared_ptr<monitor::Client>(
        std::make_shared<FakeClient>(world_, options.sandbox_id, std::move(events)));
  }
  Result<std::shared_ptr<monitor::Client>> adopt(const std::string& id, const std::string&,
                                                 monitor::Events events) override {
    if (world_.adopts_fail) return Error(Code::kDeadlineExceeded, "no answer in time");
    const std::scoped_lock lock(world_.mutex);
    if (!world_.monitors.contains(id)) return Error(Code::kNotFound, "no monitor");
    world_.events = events;
    return std::shared_ptr<monitor::Client>(
        std::make_shared<FakeClient>(world_, id, std::move(events)));
  }
  Result<bool> renew(monitor::Client&, const monitor::LaunchOptions&, Deadline) override {
    return false;
  }

 private:
  FakeWorld& world_;
};

/// What an engine over `world` is made of.
inline Parts parts_over(FakeWorld& world) {
  Parts parts;
  parts.images = std::make_unique<FakeImages>(world);
  parts.network = std::make_unique<FakeNetwork>(world);
  parts.hub = std::make_unique<FakeHub>(world);
  return parts;
}

}  // namespace fluyt::engine::testing
