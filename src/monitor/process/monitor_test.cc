// The monitor on a real kernel, driven as fluytd drives it. Needs root and a static busybox.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/id.h"
#include "base/log.h"
#include "base/strings.h"
#include "base/time.h"
#include "base/trace.h"
#include "monitor/client/clean.h"
#include "monitor/client/client.h"
#include "monitor/client/launch.h"
#include "monitor/process/propagation.h"
#include "monitor/protocol/frame.h"
#include "monitor/protocol/messages.h"
#include "monitor/protocol/planned.h"
#include "monitor/protocol/state_folder.h"
#include "oci/runtime_spec.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/file.h"
#include "sys/process.h"
#include "sys/socket.h"

namespace fluyt::monitor {
namespace {

using testing::HasSubstr;

constexpr int64_t kWaitMs = 20'000;

std::string program_folder() {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin")
      .string();
}

// What the hub tells, to be waited for.
class Told {
 public:
  Events events() {
    return {.container_changed =
                [this](const ContainerInfo& info) {
                  const std::lock_guard lock(mutex_);
                  history_.push_back(info);
                  latest_[info.id] = info;
                  changed_.notify_all();
                },
            .exec_exited =
                [this](uint64_t id, int32_t code) {
                  const std::lock_guard lock(mutex_);
                  execs_[id] = code;
                  changed_.notify_all();
                },
            .pod_init_ended =
                [this] {
                  const std::lock_guard lock(mutex_);
                  ++pod_inits_ended_;
                  changed_.notify_all();
                },
            .lost =
                [this] {
                  const std::lock_guard lock(mutex_);
                  ++lost_;
                  changed_.notify_all();
                }};
  }
  std::optional<ContainerInfo> wait_exit(const std::string& id) {
    return wait([&]() -> std::optional<ContainerInfo> {
      const auto at = latest_.find(id);
      if (at == latest_.end() || at->second.state != ContainerState::kExited) return std::nullopt;
      return at->second;
    });
  }
  std::optional<int32_t> wait_exec(uint64_t id) {
    return wait([&]() -> std::optional<int32_t> {
      const auto at = execs_.find(id);
      return at == execs_.end() ? std::nullopt : std::optional(at->second);
    });
  }
  /// The first that was told, of whichever exec.
  std::optional<int32_t> wait_any_exec() {
    return wait([&]() -> std::optional<int32_t> {
      return execs_.empty() ? std::nullopt : std::optional(execs_.begin()->second);
    });
  }
  bool wait_lost() {
    return wait([&]() -> std::optional<bool> {
             return lost_ > 0 ? std::optional(true) : std::nullopt;
           })
        .has_value();
  }
  bool wait_pod_init_ended() {
    return wait([&]() -> std::optional<bool> {
             return pod_inits_ended_ > 0 ? std::optional(true) : std::nullopt;
           })
        .has_value();
  }
  int pod_inits_ended() {
    const std::lock_guard lock(mutex_);
    return pod_inits_ended_;
  }
  int lost() {
    const std::lock_guard lock(mutex_);
    return lost_;
  }

 private:
  template <class Ready>
  auto wait(Ready ready) -> decltype(ready()) {
    std::unique_lock lock(mutex_);
    decltype(ready()) value;
    changed_.wait_for(lock, std::chrono::milliseconds(kWaitMs),
                      [&] { return (value = ready()).has_value(); });
    return value;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ContainerInfo> history_;
  std::map<std::string, ContainerInfo> latest_;
  std::map<uint64_t, int32_t> execs_;
  int lost_ = 0;
  int pod_inits_ended_ = 0;
};

// Keeps what is worth a person's attention.
class Warnings final : public Logger {
 public:
  bool enabled(LogLevel level) const override { return level >= LogLevel::kWarn; }
  void write(LogLevel /*level*/, std::string_view text) override {
    const std::lock_guard lock(mutex_);
    all_ += cat(text, "\n");
  }
  std::string all() {
    const std::lock_guard lock(mutex_);
    return all_;
  }

 private:
  std::mutex mutex_;
  std::string all_;
};

class MonitorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!sys::exists("/bin/busybox") && !sys::exists("/usr/bin/busybox"))
      GTEST_SKIP() << "needs busybox-static";
    monitor_program_ = program_folder() + "/fluyt-monitor";
    pod_init_program_ = program_folder() + "/fluyt-pod-init";
    if (!sys::exists(monitor_program_)) GTEST_SKIP() << "needs " << monitor_program_;
    auto folder = sys::TempDir::create();
    ASSERT_TRUE(folder.ok());
    folder_ = std::make_unique<sys::TempDir>(std::move(folder).value());
    sandbox_id_ = make_id();
    state_dir_ = folder_->path() + "/state";
    log_dir_ = folder_->path() + "/logs";
    cgroup_ = cat("/fluyt-test-", getpid(), "-", sandbox_id_.substr(0, 8));
    make_rootfs();
    auto hub = Hub::create(logger_);
    ASSERT_TRUE(hub.ok());
    hub_ = std::move(hub).value();
    auto client = hub_->launch(launch_options(), told_.events());
    ASSERT_TRUE(client.ok()) << client.error().message();
    client_ = std::move(client).value();
  }

  void TearDown() override {
    if (client_) {
      auto ended = client_->shutdown(Deadline::after_ms(kWaitMs));
      EXPECT_TRUE(ended.ok()) << ended.error().message();
      EXPECT_FALSE(sys::exists(state_dir_));
      EXPECT_EQ(told_.lost(), 0);
    }
    client_.reset();
    hub_.reset();
    for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) remove_cgroup(root);
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/fs/cgroup", none)) {
      remove_cgroup(entry.path().string());
    }
  }

  // What the test's containers' cgroups lie in.
  void remove_cgroup(const std::string& root) const { ::rmdir(cat(root, cgroup_).c_str()); }

  LaunchOptions launch_options() const {
    return {.monitor_program = monitor_program_,
            .pod_init_program = pod_init_program_,
            .sandbox_id = sandbox_id_,
            .state_dir = state_dir_,
            .cgroup = cgroup_ + "/monitor"};
  }

  void make_rootfs() {
    rootfs_ = folder_->path() + "/rootfs";
    for (const char* name : {"bin", "proc", "dev", "sys", "tmp", "etc"}) {
      ASSERT_TRUE(sys::make_dirs(cat(rootfs_, "/", name), 0755).ok());
    }
    std::filesystem::copy_file(sys::exists("/bin/busybox") ? "/bin/busybox" : "/usr/bin/busybox",
                               rootfs_ + "/bin/busybox");
    for (const char* name :
         {"sh",   "echo", "cat",  "sleep",    "true",   "false",    "kill", "ls",
          "head", "seq",  "id",   "readlink", "stty",   "hostname", "ps",   "yes",
          "dd",   "wc",   "grep", "tr",       "setsid", "ip"}) {
      std::filesystem::create_symlink("busybox", cat(rootfs_, "/bin/", name));
    }
  }

  oci::Spec spec_of(const std::string& id, const std::string& script) const {
    oci::Spec spec = oci::default_spec();
    spec.root = oci::Root{.path = rootfs_, .readonly = false};
    spec.process->terminal = false;
    spec.process->args = {"/bin/sh", "-c", script};
    spec.process->oom_score_adj.reset();
    spec.process->rlimits.clear();
    spec.linux_->cgroups_path = cat(cgroup_, "/", id);
    return spec;
  }

  CreateRequest request_of(const std::string& id, const oci::Spec& spec) const {
    CreateRequest request;
    request.id = id;
    request.bundle = cat(folder_->path(), "/bundles/", id);
    EXPECT_TRUE(sys::make_dirs(request.bundle, 0711).ok());
    request.spec_json = oci::to_json(spec);
    request.log_directory = log_dir_;
    request.log_path = cat(id, "/0.log");
    request.deadline_ms = kWaitMs;
    return request;
  }

  void run(const std::string& id, const std::string& script) {
    run(request_of(id, spec_of(id, script)));
  }
  void run(const CreateRequest& request) {
    auto created = client_->create(request);
    ASSERT_TRUE(created.ok()) << created.error().message();
    EXPECT_EQ(created->state, ContainerState::kCreated);
    auto started = client_->start(request.id, Deadline::after_ms(kWaitMs));
    ASSERT_TRUE(started.ok()) << started.error().message();
    EXPECT_EQ(started->state, ContainerState::kRunning);
  }

  /// A container that sleeps beside a pod init, in whose PID namespace it is.
  void run_in_pid_namespace_of_pod(const std::string& id) {
    auto made =
        client_->make_sandbox({.id = sandbox_id_, .shared_pid = true, .pod_init_cgroup = cgroup_},
                              Deadline::after_ms(kWaitMs));
    ASSERT_TRUE(made.ok()) << made.error().message();
    auto spec = spec_of(id, "exec sleep 1000");
    for (oci::Namespace& ns : spec.linux_->namespaces) {
      if (ns.type == oci::NamespaceType::kPid) ns.path = made->pid;
    }
    run(request_of(id, spec));
  }

  pid_t pod_init_pid() const {
    const auto record =
        decode_process_record(sys::read_file(state_dir_ + "/pod_init.json", 4096).value_or(""));
    return record.ok() ? record->pid : 0;
  }
  static std::string oom_score_of(pid_t pid) {
    return sys::read_file(cat("/proc/", pid, "/oom_score_adj"), 64).value_or("?");
  }
  // As fluytd's monitor, which may lower it; else as low as that is.
  std::string expected_pod_init_score() const {
    const std::string monitors = oom_score_of(client_->monitor_pid());
    return monitors == "-999\n" ? "-998\n" : monitors;
  }

  std::string log_of(const std::string& id) const {
    auto text = sys::read_file(cat(log_dir_, "/", id, "/0.log"), 64UL << 20U);
    return text.ok() ? *text : std::string();
  }
  // The lines' text without time; "stdout F hello".
  std::vector<std::string> lines_of(const std::string& id) const { return lines_in(log_of(id)); }
  static std::vector<std::string> lines_in(const std::string& text) {
    std::vector<std::string> lines;
    for (const std::string_view line : split(text, '\n')) {
      if (line.size() > 31) lines.emplace_back(line.substr(31));
    }
    return lines;
  }

  std::string children() const {
    const int32_t pid = client_->monitor_pid();
    return sys::read_file(cat("/proc/", pid, "/task/", pid, "/children"), 4096).value_or("?");
  }
  // A worker that has answered may still be about to end.
  std::string children_left() const {
    const Deadline deadline = Deadline::after_ms(kWaitMs);
    while (!children().empty() && !deadline.passed()) usleep(1000);
    return children();
  }

  struct ExecResult {
    int32_t code = -1;
    std::string out;
    std::string err;
  };
  Result<ExecResult> exec(const std::string& id, const std::string& script,
                          const std::string& input = "") {
    oci::Process process = *spec_of(id, script).process;
    sys::Pipe in = FLUYT_TRY(sys::make_pipe());
    sys::Pipe out = FLUYT_TRY(sys::make_pipe());
    sys::Pipe err = FLUYT_TRY(sys::make_pipe());
    ExecRequest request;
    request.container_id = id;
    request.process_json = oci::to_json(process);
    request.in = in.read;
    request.out = out.write;
    request.err = err.write;
    auto started = FLUYT_TRY(client_->exec(request));
    in.read.reset();
    out.write.reset();
    err.write.reset();
    FLUYT_TRY(sys::write_all(in.write, input));
    in.write.reset();
    ExecResult result;
    result.out = FLUYT_TRY(sys::read_all(out.read, 1UL << 20U));
    result.err = FLUYT_TRY(sys::read_all(err.read, 1UL << 20U));
    const auto code = told_.wait_exec(started.exec_id);
    if (!code) return Error(Code::kDeadlineExceeded, "no exit of the exec was told");
    result.code = *code;
    return result;
  }

  // As fluytd does it: asked again while something is under way.
  Result<> replace_by(const std::string& program) {
    const sys::Fd monitor = FLUYT_TRY(mount_program(program));
    const sys::Fd pod_init = FLUYT_TRY(mount_program(pod_init_program_));
    Result<> replaced;
    for (int i = 0; i < 100; ++i) {
      replaced = client_->replace(monitor, pod_init, Deadline::after_ms(kWaitMs));
      if (replaced.ok() || replaced.error().code() != Code::kUnavailable) return replaced;
      usleep(20'000);
    }
    return replaced;
  }
  Result<> replace() { return replace_by(monitor_program_); }
  bool goes_on_for_another() const {
    const auto line =
        sys::read_file(cat("/proc/", client_->monitor_pid(), "/cmdline"), 4096).value_or("");
    return line.find("resume:") != std::string::npos;
  }
  size_t descriptors() {
    // A new program tells of itself before it has closed what it came with; it hears us after that.
    EXPECT_TRUE(client_->list().ok());
    return sys::list_dir(cat("/proc/", client_->monitor_pid(), "/fd")).value().size();
  }

  // Whatever of a container's cgroup is there still.
  static std::vector<std::string> cgroups_left(const ContainerInfo& info) {
    std::vector<std::string> left;
    if (sys::exists(info.cgroup_unified)) left.push_back(info.cgroup_unified);
    for (const auto& [controller, path] : info.cgroup_legacy) {
      if (sys::exists(path)) left.push_back(path);
    }
    return left;
  }

  Warnings logger_;
  Told told_;
  std::unique_ptr<sys::TempDir> folder_;
  std::string sandbox_id_, state_dir_, log_dir_, cgroup_, rootfs_, monitor_program_,
      pod_init_program_;
  std::unique_ptr<Hub> hub_;
  std::shared_ptr<Client> client_;
};

// What every runtime does alike: the linked one, our own by its command line, and others' programs
// that are there.
class EachRuntime : public MonitorTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    const std::string name = GetParam();
    if (name == "runc" && !sys::exists("/usr/sbin/runc")) GTEST_SKIP() << "needs /usr/sbin/runc";
    MonitorTest::SetUp();
    if (IsSkipped() || HasFatalFailure() || name == "linked") return;
    ASSERT_TRUE(make(program(name)).ok());
  }
  RuntimeProgram program(const std::string& name) const {
    return {.path = name == "runf" ? program_folder() + "/runf" : "/usr/sbin/" + name,
            .options = {},
            .root = state_dir_ + "/runtime"};
  }
  Result<> make(const RuntimeProgram& runtime) {
    FLUYT_TRY(client_->make_sandbox({.id = sandbox_id_,
                                     .new_network = false,
                                     .new_ipc = false,
                                     .new_uts = false,
                                     .runtime = runtime},
                                    Deadline::after_ms(kWaitMs)));
    return {};
  }
};
INSTANTIATE_TEST_SUITE_P(Runtimes, EachRuntime, testing::Values("linked", "runf", "runc"),
                         [](const auto& runtime) { return std::string(runtime.param); });

class RuntimePrograms : public EachRuntime {};
INSTANTIATE_TEST_SUITE_P(Runtimes, RuntimePrograms, testing::Values("runf", "runc"),
                         [](const auto& runtime) { return std::string(runtime.param); });

TEST_P(EachRuntime, TellsExitCodeAndWritesLog) {
  run("one", "echo hello; echo oops >&2; exit 7");
  const auto exit = told_.wait_exit("one");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 7);
  EXPECT_GE(exit->finished_at, exit->started_at);
  EXPECT_THAT(lines_of("one"), testing::UnorderedElementsAre("stdout F hello", "stderr F oops"));
  const auto records = read_records(state_dir_);
  ASSERT_TRUE(records.ok());
  ASSERT_EQ(records->size(), 1U);
  EXPECT_EQ((*records)[0], *exit);
  EXPECT_TRUE(client_->remove("one", Deadline::after_ms(kWaitMs)).ok());
  EXPECT_TRUE(client_->remove("one", Deadline::after_ms(kWaitMs)).ok());
  EXPECT_TRUE(client_->list()->empty());
  EXPECT_TRUE(read_records(state_dir_)->empty());
}

TEST_F(MonitorTest, MonitorIsNotOurChildAndHasNothingOpen) {
  const pid_t pid = client_->monitor_pid();
  const auto status = sys::read_file(cat("/proc/", pid, "/status"), 65536);
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->find(cat("PPid:\t", getpid(), "\n")), std::string::npos);
  EXPECT_EQ(sys::read_link(sys::kCwd, cat("/proc/", pid, "/fd/0")).value_or(""), "/dev/null");
  EXPECT_THAT(*sys::read_file(cat("/proc/", pid, "/cgroup"), 65536),
              HasSubstr(cgroup_ + "/monitor"));
  // The program cannot be opened for writing through the running process.
  const auto opened = sys::open(cat("/proc/", pid, "/exe"), O_WRONLY);
  ASSERT_FALSE(opened.ok());
}

TEST_P(EachRuntime, LabelsAreThereBeforeTheContainer) {
  if (sys::exists("/sys/fs/selinux/enforce"))
    GTEST_SKIP() << "this host's policy has labels of its own";
  const std::string volume = folder_->path() + "/volume";
  ASSERT_TRUE(sys::make_dirs(volume, 0755).ok());
  auto request = request_of("labels", spec_of("labels", "echo made"));
  request.relabels = {{volume, "u:object_r:t:s0", "mounts[0]"},
                      {volume + "/none", "u:object_r:t:s0", "mounts[1].selinux_relabel"}};
  const auto missing = client_->create(request);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("mounts[1].selinux_relabel: "));
  request.relabels.back() = {"/etc", "u:object_r:t:s0", "mounts[1].selinux_relabel", true};
  const auto kept = client_->create(request);
  ASSERT_FALSE(kept.ok());
  EXPECT_THAT(kept.error().message(), HasSubstr("mounts[1].selinux_relabel: "));
  EXPECT_THAT(kept.error().message(), HasSubstr("whose label nothing may change"));
  request.relabels.pop_back();
  run(request);
  std::array<char, 64> label{};
  ASSERT_GT(getxattr(volume.c_str(), "security.selinux", label.data(), label.size()), 0);
  EXPECT_STREQ(label.data(), "u:object_r:t:s0");
  EXPECT_TRUE(told_.wait_exit("labels").has_value());
}

TEST_P(EachRuntime, KillsAndReportsSignal) {
  run("kill", "exec sleep 1000");
  EXPECT_TRUE(client_->signal("kill", SIGKILL, false).ok());
  const auto exit = told_.wait_exit("kill");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 137);
  EXPECT_TRUE(client_->signal("kill", SIGTERM, false).ok());
  EXPECT_EQ(client_->signal("none", SIGTERM, false).error().code(), Code::kNotFound);
}

TEST_P(EachRuntime, RemovesRunningContainerAndItsCgroup) {
  run("rm", "sleep 1000 & sleep 1000 & wait");
  const auto list = client_->list();
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(list->size(), 1U);
  EXPECT_FALSE(cgroups_left((*list)[0]).empty());
  EXPECT_TRUE(client_->remove("rm", Deadline::after_ms(kWaitMs)).ok());
  EXPECT_THAT(cgroups_left((*list)[0]), testing::IsEmpty());
  EXPECT_TRUE(client_->list()->empty());
}

TEST_P(EachRuntime, MissingProgramIsReported) {
  auto spec = spec_of("none", "");
  spec.process->args = {"/bin/does-not-exist"};
  auto created = client_->create(request_of("none", spec));
  if (created.ok()) created = client_->start("none", Deadline::after_ms(kWaitMs));
  ASSERT_FALSE(created.ok());
  EXPECT_THAT(created.error().message(), HasSubstr("does-not-exist"));
}

TEST_P(EachRuntime, BadSpecIsRefusedAndNothingIsLeft) {
  auto request = request_of("bad", spec_of("bad", "true"));
  request.spec_json = "{\"linux\": 3}";
  const auto created = client_->create(request);
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.error().code(), Code::kInvalidArgument);
  EXPECT_TRUE(client_->list()->empty());
}

TEST_P(EachRuntime, ExecRunsWithStreams) {
  run("main", "exec sleep 1000");
  auto result = exec("main", "cat; echo err >&2; exit 3", "input\n");
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_EQ(result->code, 3);
  EXPECT_EQ(result->out, "input\n");
  EXPECT_EQ(result->err, "err\n");
}

TEST_P(EachRuntime, ManyExecsAtOnce) {
  run("main", "exec sleep 1000");
  std::vector<std::jthread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 5; ++round) {
        auto result = exec("main", cat("echo ", i, "; exit ", i));
        if (result.ok() && result->code == i && result->out == cat(i, "\n")) ++good;
      }
    });
  }
  for (std::jthread& thread : threads) thread.join();
  EXPECT_EQ(good, 40);
}

TEST_P(EachRuntime, KillExecEndsItsSession) {
  run("main", "exec sleep 1000");
  ExecRequest request;
  request.container_id = "main";
  request.process_json = oci::to_json(*spec_of("main", "sleep 987 & sleep 987 & wait").process);
  auto started = client_->exec(request);
  ASSERT_TRUE(started.ok()) << started.error().message();
  usleep(200'000);
  EXPECT_TRUE(client_->kill_exec(started->exec_id, SIGKILL).ok());
  EXPECT_EQ(told_.wait_exec(started->exec_id).value_or(-1), 137);
  // The signal is sent to all of them; it ends each when that gets to run.
  std::string left;
  for (int looks = 0; looks < 500 && left != "0\n"; ++looks) {
    const auto counted = exec("main", "ps | grep -c '[s]leep 987'");
    ASSERT_TRUE(counted.ok());
    left = counted->out;
  }
  EXPECT_EQ(left, "0\n");
}

TEST_P(EachRuntime, ExecWithTerminalGivesConsole) {
  run("main", "exec sleep 1000");
  oci::Process process = *spec_of("main", "stty size; exit 4").process;
  process.terminal = true;
  process.console_size = oci::ConsoleSize{.height = 33, .width = 77};
  ExecRequest request{
      .container_id = "main", .process_json = oci::to_json(process), .terminal = true};
  auto started = client_->exec(request);
  ASSERT_TRUE(started.ok()) << started.error().message();
  ASSERT_TRUE(started->console.valid());
  std::string out;
  std::array<char, 4096> buffer;
  while (true) {
    auto got = sys::read_some(started->console, buffer);
    if (!got.ok() || *got == 0) break;
    out.append(buffer.data(), *got);
  }
  EXPECT_EQ(out, "33 77\r\n");
  EXPECT_EQ(told_.wait_exec(started->exec_id).value_or(-1), 4);
}

TEST_P(EachRuntime, AttachCarriesInputAndOutput) {
  auto request = request_of("cat", spec_of("cat", "cat; echo done"));
  request.open_stdin = true;
  request.stdin_once = true;
  ASSERT_TRUE(client_->create(request).ok());
  auto in = sys::make_pipe();
  auto out = sys::make_pipe();
  ASSERT_TRUE(client_->attach({.container_id = "cat", .in = in->read, .out = out->write}).ok());
  in->read.reset();
  out->write.reset();
  ASSERT_TRUE(client_->start("cat", Deadline::after_ms(kWaitMs)).ok());
  ASSERT_TRUE(sys::write_all(in->write, "over and out\n").ok());
  in->write.reset();
  auto text = sys::read_all(out->read, 65536);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "over and out\ndone\n");
  EXPECT_TRUE(told_.wait_exit("cat").has_value());
  EXPECT_THAT(lines_of("cat"), testing::ElementsAre("stdout F over and out", "stdout F done"));
}

TEST_F(MonitorTest, SlowAttachClientIsDroppedNotTheLog) {
  auto request = request_of("loud", spec_of("loud", "seq 1 400000"));
  ASSERT_TRUE(client_->create(request).ok());
  auto out = sys::make_pipe();  // never read while it runs
  ASSERT_TRUE(client_->attach({.container_id = "loud", .out = out->write}).ok());
  out->write.reset();
  ASSERT_TRUE(client_->start("loud", Deadline::after_ms(kWaitMs)).ok());
  const auto exit = told_.wait_exit("loud");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->log_bytes_dropped, 0U);
  const auto lines = lines_of("loud");
  ASSERT_EQ(lines.size(), 400000U);
  EXPECT_EQ(lines.back(), "stdout F 400000");
}

TEST_P(EachRuntime, TerminalOutputIsLoggedAndResized) {
  auto spec = spec_of("tty", "sleep 0.3; stty size");
  spec.process->terminal = true;
  ASSERT_TRUE(client_->create(request_of("tty", spec)).ok());
  EXPECT_TRUE(client_->resize("tty", 41, 99).ok());
  ASSERT_TRUE(client_->start("tty", Deadline::after_ms(kWaitMs)).ok());
  ASSERT_TRUE(told_.wait_exit("tty").has_value());
  EXPECT_THAT(lines_of("tty"), testing::ElementsAre("stdout F 41 99\r"));
}

// systemd and busybox's init close their terminal and open it again.
TEST_P(EachRuntime, ATerminalThatIsClosedForAMomentGoesOn) {
  auto spec = spec_of("tty",
                      "exec </dev/null >/dev/null 2>&1; sleep 0.5; exec </dev/console "
                      ">/dev/console 2>&1; echo back; read line; echo got $line");
  spec.process->terminal = true;
  auto request = request_of("tty", spec);
  request.open_stdin = true;
  ASSERT_TRUE(client_->create(request).ok());
  auto in = sys::make_pipe();
  auto out = sys::make_pipe();
  ASSERT_TRUE(client_->attach({.container_id = "tty", .in = in->read, .out = out->write}).ok());
  in->read.reset();
  out->write.reset();
  ASSERT_TRUE(client_->start("tty", Deadline::after_ms(kWaitMs)).ok());
  std::string text;
  std::array<char, 4096> buffer;
  while (text.find("back") == std::string::npos) {
    auto got = sys::read_some(out->read, buffer);
    if (!got.ok() || *got == 0) break;
    text.append(buffer.data(), *got);
  }
  ASSERT_THAT(text, HasSubstr("back\r\n"));
  ASSERT_TRUE(sys::write_all(in->write, "this\n").ok());
  const auto exit = told_.wait_exit("tty");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 0);
  EXPECT_THAT(lines_of("tty"),
              testing::ElementsAre("stdout F back\r", "stdout F this\r", "stdout F got this\r"));
}

// The end of the output is not waited for where nobody has the terminal open.
TEST_F(MonitorTest, ATerminalThatStaysClosedHoldsUpNoEnd) {
  auto spec = spec_of("tty", "exec </dev/null >/dev/null 2>&1; sleep 0.3; exit 6");
  spec.process->terminal = true;
  run(request_of("tty", spec));
  const auto exit = told_.wait_exit("tty");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 6);
}

TEST_F(MonitorTest, AReopenedLogIsThereAlthoughItsContainerHasEnded) {
  run("short", "echo last");
  ASSERT_TRUE(told_.wait_exit("short").has_value());
  const std::string path = log_dir_ + "/short/0.log";
  ASSERT_EQ(rename(path.c_str(), (path + ".1").c_str()), 0);
  ASSERT_TRUE(client_->reopen_log("short").ok());
  EXPECT_TRUE(sys::exists(path));
}

TEST_F(MonitorTest, ReopenedLogLosesNoLine) {
  run("rotate", "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; done; sleep 0.5; echo last");
  const std::string path = log_dir_ + "/rotate/0.log";
  std::vector<std::string> pieces;
  for (int i = 0; i < 10; ++i) {
    const std::string old = cat(path, ".", i);
    ASSERT_EQ(rename(path.c_str(), old.c_str()), 0);
    ASSERT_TRUE(client_->reopen_log("rotate").ok());
    pieces.push_back(old);
  }
  ASSERT_TRUE(told_.wait_exit("rotate").has_value());
  pieces.push_back(path);
  std::vector<std::string> lines;
  for (const std::string& piece : pieces) {
    for (std::string& line : lines_in(*sys::read_file(piece, 1UL << 20U)))
      lines.push_back(std::move(line));
  }
  ASSERT_EQ(lines.size(), 2001U);
  for (int i = 0; i < 2000; ++i) EXPECT_EQ(lines[static_cast<size_t>(i)], cat("stdout F ", i + 1));
}

TEST_F(MonitorTest, SandboxNamespacesArePinnedAndEnterable) {
  auto made = client_->make_sandbox(
      {.id = sandbox_id_,
       .hostname = "podhost",
       .shared_pid = true,
       .pod_init_cgroup = cgroup_,
       .sysctls = {{"net.ipv4.ip_unprivileged_port_start", "0"}, {"kernel.shm_rmid_forced", "1"}}},
      Deadline::after_ms(kWaitMs));
  ASSERT_TRUE(made.ok()) << made.error().message();
  auto spec = spec_of("in",
                      "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat "
                      "/proc/1/comm; ip link show lo");
  for (oci::Namespace& ns : spec.linux_->namespaces) {
    if (ns.type == oci::NamespaceType::kNetwork) ns.path = made->network;
    if (ns.type == oci::NamespaceType::kIpc) ns.path = made->ipc;
    if (ns.type == oci::NamespaceType::kUts) ns.path = made->uts;
    if (ns.type == oci::NamespaceType::kPid) ns.path = made->pid;
  }
  spec.hostname.clear();
  run(request_of("in", spec));
  ASSERT_TRUE(told_.wait_exit("in").has_value());
  const std::string log = log_of("in");
  EXPECT_THAT(log, HasSubstr("stdout F podhost\n"));
  EXPECT_THAT(log, HasSubstr("stdout F 0\n"));
  EXPECT_THAT(log, HasSubstr("fluyt-pod-init"));
  EXPECT_THAT(log, HasSubstr("LOOPBACK,UP"));
  EXPECT_EQ(client_->make_sandbox({}, Deadline::after_ms(kWaitMs)).error().code(),
            Code::kAlreadyExists);
}

TEST(PeerGroup, IsOfTheMountWithTheId) {
  constexpr std::string_view kMounts =
      "36 1 98:0 / / rw,noatime - ext4 /dev/root rw\n"
      "37 36 98:1 / /a\\040b rw shared:1 - tmpfs none rw\n"
      "38 36 98:2 / /c rw master:7 propagate_from:2 - tmpfs none rw\n"
      "39 36 98:3 / /d rw shared:4 master:1 - tmpfs none rw\n";
  const auto at = [&](uint64_t id) {
    const auto group = find_peer_group(kMounts, id).value_or(PeerGroup{true, true, "?"});
    return cat(group.point, group.shared ? " shared" : "", group.slave ? " slave" : "");
  };
  EXPECT_EQ(at(36), "/");
  EXPECT_EQ(at(37), "/a\\040b shared");
  EXPECT_EQ(at(38), "/c slave");
  EXPECT_EQ(at(39), "/d shared slave");
  EXPECT_FALSE(find_peer_group(kMounts, 3).has_value());
}

TEST_P(EachRuntime, PropagationNeedsASourceThatPropagates) {
  const std::string source = folder_->path() + "/source";
  ASSERT_TRUE(sys::make_dirs(source, 0755).ok());
  ASSERT_EQ(::mount(source.c_str(), source.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, source.c_str(), nullptr, MS_PRIVATE, nullptr), 0);
  auto spec = spec_of("in", "true");
  const auto create = [&](const char* propagation) {
    spec.mounts.push_back({.destination = "/tmp",
                           .type = "bind",
                           .source = source,
                           .options = {"rbind", propagation, "rw"}});
    auto created = client_->create(request_of("in", spec));
    spec.mounts.pop_back();
    if (created.ok()) {
      EXPECT_TRUE(client_->remove("in", Deadline::after_ms(kWaitMs)).ok());
    }
    return created.ok() ? std::string("made") : created.error().message();
  };
  for (const char* propagation : {"rshared", "rslave"}) {
    EXPECT_THAT(create(propagation), HasSubstr("which is not shared"));
    EXPECT_THAT(create(propagation), HasSubstr("\"/tmp\""));
  }
  EXPECT_EQ(create("rprivate"), "made");
  ASSERT_EQ(::mount(nullptr, source.c_str(), nullptr, MS_SHARED, nullptr), 0);
  EXPECT_EQ(create("rslave"), "made");
  EXPECT_EQ(create("rshared"), "made");
  EXPECT_EQ(::umount2(source.c_str(), MNT_DETACH), 0);
}

TEST_F(MonitorTest, ThePodInitsEndIsTold) {
  run_in_pid_namespace_of_pod("in");
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_FALSE(lacks_pod_init(state_dir_).value_or(true));
  EXPECT_EQ(told_.pod_inits_ended(), 0);
  ASSERT_EQ(::kill(pod_init_pid(), SIGKILL), 0);
  EXPECT_TRUE(told_.wait_pod_init_ended());
  EXPECT_TRUE(lacks_pod_init(state_dir_).value_or(false));
  const auto exit = told_.wait_exit("in");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 137);
}

// In the pod's memory cgroup it must not be what goes first.
TEST_F(MonitorTest, ThePodInitIsProtectedFromTheOomKiller) {
  auto made =
      client_->make_sandbox({.id = sandbox_id_, .shared_pid = true, .pod_init_cgroup = cgroup_},
                            Deadline::after_ms(kWaitMs));
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ(oom_score_of(pod_init_pid()), expected_pod_init_score());
  // Nothing of that goes to a container.
  run("main", "cat /proc/self/oom_score_adj");
  ASSERT_TRUE(told_.wait_exit("main").has_value());
  EXPECT_THAT(lines_of("main"), testing::ElementsAre("stdout F 0"));
}

// What CVE-class this closes: a pod's tracer looks into pid 1 and finds the host.
TEST_F(MonitorTest, PodInitHasNothingToFind) {
  auto made =
      client_->make_sandbox({.id = sandbox_id_, .shared_pid = true, .pod_init_cgroup = cgroup_},
                            Deadline::after_ms(kWaitMs));
  ASSERT_TRUE(made.ok()) << made.error().message();
  auto spec = spec_of("spy",
                      "echo root: $(ls -A /proc/1/root/) end; echo fds: $(ls /proc/1/fd) end; echo "
                      "env: $(cat /proc/1/environ) end;"
                      "echo cwd: $(readlink /proc/1/cwd) end; grep -c . /proc/1/mountinfo; echo x "
                      "> /proc/1/root/x; echo made: $?;"
                      "cat /proc/1/status; cat /proc/1/maps");
  for (oci::Namespace& ns : spec.linux_->namespaces) {
    if (ns.type == oci::NamespaceType::kPid) ns.path = made->pid;
  }
  for (auto* set : {&spec.process->capabilities->bounding, &spec.process->capabilities->effective,
                    &spec.process->capabilities->permitted}) {
    set->push_back("CAP_SYS_PTRACE");
  }
  run(request_of("spy", spec));
  ASSERT_TRUE(told_.wait_exit("spy").has_value());
  const std::string log = log_of("spy");
  EXPECT_THAT(log, HasSubstr("stdout F root: end\n"));
  EXPECT_THAT(log, HasSubstr("stdout F fds: end\n"));
  EXPECT_THAT(log, HasSubstr("stdout F env: end\n"));
  EXPECT_THAT(log, HasSubstr("stdout F cwd: / end\n"));
  EXPECT_THAT(log, HasSubstr("stdout F made: 1\n"));
  EXPECT_THAT(log, HasSubstr("CapBnd:\t0000000000000000"));
  EXPECT_THAT(log, HasSubstr("CapEff:\t0000000000000000"));
  EXPECT_THAT(log, HasSubstr("NoNewPrivs:\t1"));
  EXPECT_THAT(log, HasSubstr("Seccomp:\t2"));
  EXPECT_THAT(log, HasSubstr("Groups:\t \n"));
  // Empty because there is nothing, not because it may not look.
  EXPECT_THAT(log, testing::Not(HasSubstr("denied")));
  EXPECT_THAT(log, HasSubstr("Read-only file system"));
}

// The user namespace is made first: it owns the others, and who is root in it has rights in them.
TEST_F(MonitorTest, NamespacesBelongToTheUserNamespace) {
  const std::vector<sys::IdRange> ids = {{0, 100000, 65536}};
  auto made = client_->make_sandbox({.id = sandbox_id_,
                                     .hostname = "podhost",
                                     .shared_pid = true,
                                     .pod_init_cgroup = cgroup_,
                                     .sysctls = {{"net.ipv4.ip_unprivileged_port_start", "0"},
                                                 {"kernel.shm_rmid_forced", "1"},
                                                 {"user.max_mnt_namespaces", "77"}},
                                     .users = {ids, ids}},
                                    Deadline::after_ms(kWaitMs));
  ASSERT_TRUE(made.ok()) << made.error().message();
  const struct stat users = sys::stat_of(*sys::open(made->user, O_RDONLY)).value();
  for (const std::string& path : {made->network, made->ipc, made->uts, made->pid}) {
    const sys::Fd space = sys::open(path, O_RDONLY).value();
    const sys::Fd owner(ioctl(space.raw(), NS_GET_USERNS));
    ASSERT_TRUE(owner.valid()) << path;
    EXPECT_EQ(sys::stat_of(owner)->st_ino, users.st_ino) << path;
  }
  // The host's root owns the user namespace itself: nobody in it can change its ids.
  uid_t owner = 1;
  ASSERT_EQ(ioctl(sys::open(made->user, O_RDONLY)->raw(), NS_GET_OWNER_UID, &owner), 0);
  EXPECT_EQ(owner, 0U);

  auto spec = spec_of("in",
                      "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start "
                      "/proc/sys/kernel/shm_rmid_forced /proc/sys/user/max_mnt_namespaces; "
                      "cat /proc/1/comm; echo map: $(cat /proc/self/uid_map); ip link show lo; "
                      "hostname other && echo renamed; ls -A /proc/1/root/; echo init: "
                      "$(grep Uid: /proc/1/status)");
  spec.linux_->namespaces.push_back({.type = oci::NamespaceType::kUser, .path = made->user});
  spec.linux_->uid_mappings = spec.linux_->gid_mappings = {{0, 100000, 65536}};
  for (oci::Namespace& ns : spec.linux_->namespaces) {
    if (ns.type == oci::NamespaceType::kNetwork) ns.path = made->network;
    if (ns.type == oci::NamespaceType::kIpc) ns.path = made->ipc;
    if (ns.type == oci::NamespaceType::kUts) ns.path = made->uts;
    if (ns.type == oci::NamespaceType::kPid) ns.path = made->pid;
  }
  spec.hostname.clear();
  for (auto* set : {&spec.process->capabilities->bounding, &spec.process->capabilities->effective,
                    &spec.process->capabilities->permitted}) {
    set->push_back("CAP_SYS_ADMIN");
    set->push_back("CAP_SYS_PTRACE");
  }
  auto request = request_of("in", spec);
  // A root that mapped ids can read: this one is the test's alone.
  request.root = sys::OverlayMount{{}, rootfs_, {}, {ids, ids}};
  run(request);
  ASSERT_TRUE(told_.wait_exit("in").has_value());
  const std::string log = log_of("in");
  EXPECT_THAT(log, HasSubstr("stdout F podhost\n"));
  EXPECT_THAT(log, HasSubstr("stdout F map: 0 100000 65536\n"));
  EXPECT_THAT(log, HasSubstr("stdout F 77\n"));
  EXPECT_THAT(log, HasSubstr("fluyt-pod-init"));
  EXPECT_THAT(log, HasSubstr("LOOPBACK,UP"));
  EXPECT_THAT(log, HasSubstr("stdout F renamed\n"));
  // The pod init's user is none that the namespace has: shown as the overflow one.
  EXPECT_THAT(log, HasSubstr("init: Uid: 65534 65534 65534 65534"));
  EXPECT_THAT(log, testing::Not(HasSubstr("denied")));
}

TEST_F(MonitorTest, ASandboxThatFailsInItsUserNamespaceLeavesNothing) {
  const std::vector<sys::IdRange> ids = {{0, 100000, 65536}};
  auto made = client_->make_sandbox({.id = sandbox_id_,
                                     .shared_pid = true,
                                     .sysctls = {{"net.ipv4.no_such_thing", "0"}},
                                     .users = {ids, ids}},
                                    Deadline::after_ms(kWaitMs));
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message(), HasSubstr("net.ipv4.no_such_thing"));
  EXPECT_THAT(sys::read_file("/proc/self/mountinfo", 16UL << 20U).value(),
              testing::Not(HasSubstr(state_dir_)));
  EXPECT_EQ(children_left(), "");
}

TEST_F(MonitorTest, RefusesHostSysctls) {
  for (const char* name : {"kernel.core_pattern", "vm.swappiness",
                           "net.ipv4/../../kernel.core_pattern", "kernel/core_pattern"}) {
    auto made = client_->make_sandbox({.id = sandbox_id_, .sysctls = {{name, "x"}}},
                                      Deadline::after_ms(kWaitMs));
    ASSERT_FALSE(made.ok()) << name;
    EXPECT_EQ(made.error().code(), Code::kInvalidArgument);
  }
  auto host = client_->make_sandbox(
      {.id = sandbox_id_, .new_network = false, .sysctls = {{"net.ipv4.ip_forward", "1"}}},
      Deadline::after_ms(kWaitMs));
  ASSERT_FALSE(host.ok());
}

TEST_F(MonitorTest, OrphansOfSharedPidNamespaceAreReaped) {
  auto made =
      client_->make_sandbox({.id = sandbox_id_, .shared_pid = true}, Deadline::after_ms(kWaitMs));
  ASSERT_TRUE(made.ok()) << made.error().message();
  auto spec = spec_of("orphans",
                      "for i in 1 2 3 4 5; do (setsid sleep 0.05 &); done; sleep 0.5; ps -o "
                      "stat,comm | grep -c '^Z'");
  for (oci::Namespace& ns : spec.linux_->namespaces) {
    if (ns.type == oci::NamespaceType::kPid) ns.path = made->pid;
  }
  run(request_of("orphans", spec));
  ASSERT_TRUE(told_.wait_exit("orphans").has_value());
  EXPECT_THAT(lines_of("orphans"), testing::ElementsAre("stdout F 0"));
}

// The rest of a container in a shared PID namespace goes when its first process does.
TEST_F(MonitorTest, EndOfFirstProcessEndsTheRest) {
  auto made =
      client_->make_sandbox({.id = sandbox_id_, .shared_pid = true}, Deadline::after_ms(kWaitMs));
  ASSERT_TRUE(made.ok());
  auto spec = spec_of("first", "setsid sleep 999 & exit 5");
  for (oci::Namespace& ns : spec.linux_->namespaces) {
    if (ns.type == oci::NamespaceType::kPid) ns.path = made->pid;
  }
  run(request_of("first", spec));
  const auto exit = told_.wait_exit("first");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 5);
  for (int i = 0;
       i < 100 &&
       !sys::read_file(exit->cgroup_unified + "/cgroup.procs", 4096).value_or("").empty();
       ++i)
    usleep(20'000);
  EXPECT_EQ(sys::read_file(exit->cgroup_unified + "/cgroup.procs", 4096).value_or("?"), "");
}

TEST_P(EachRuntime, ASecondHubAdoptsAndNoLineIsLost) {
  run("counter", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done; sleep 1; exit 9");
  client_.reset();
  hub_.reset();  // as if fluytd had been killed: nobody says goodbye
  auto hub = Hub::create(logger_);
  ASSERT_TRUE(hub.ok());
  hub_ = std::move(hub).value();
  auto adopted = hub_->adopt(sandbox_id_, state_dir_, told_.events());
  ASSERT_TRUE(adopted.ok()) << adopted.error().message();
  client_ = std::move(adopted).value();
  const auto list = client_->list();
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(list->size(), 1U);
  EXPECT_EQ((*list)[0].state, ContainerState::kRunning);
  const auto exit = told_.wait_exit("counter");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 9);
  const auto lines = lines_of("counter");
  ASSERT_EQ(lines.size(), 3000U);
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i], cat("stdout F ", i + 1));
}

TEST_F(MonitorTest, LostMonitorIsToldAndCleanedAfter) {
  auto made =
      client_->make_sandbox({.id = sandbox_id_, .shared_pid = true, .pod_init_cgroup = cgroup_},
                            Deadline::after_ms(kWaitMs));
  ASSERT_TRUE(made.ok());
  run("left", "exec sleep 1000");
  const auto list = client_->list();
  const auto container = sys::Process::open((*list)[0].pid);
  ASSERT_TRUE(container.ok());
  EXPECT_FALSE(lacks_monitor(state_dir_).value_or(true));
  ASSERT_EQ(::kill(client_->monitor_pid(), SIGKILL), 0);
  EXPECT_TRUE(told_.wait_lost());
  EXPECT_TRUE(lacks_monitor(state_dir_).value_or(false));
  EXPECT_EQ(client_->list().error().code(), Code::kUnavailable);
  client_.reset();
  EXPECT_EQ(hub_->adopt(sandbox_id_, state_dir_, {}).error().code(), Code::kNotFound);
  const auto records = read_records(state_dir_);
  ASSERT_TRUE(records.ok());
  ASSERT_EQ(records->size(), 1U);
  EXPECT_EQ((*records)[0].state, ContainerState::kRunning);
  const auto cleaned = clean_after(state_dir_, Deadline::after_ms(kWaitMs));
  EXPECT_TRUE(cleaned.ok()) << cleaned.error().message();
  EXPECT_FALSE(sys::exists(state_dir_));
  EXPECT_FALSE(sys::exists((*records)[0].cgroup_unified));
  pollfd gone{.fd = container->pidfd().raw(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&gone, 1, 5000), 1);
  EXPECT_TRUE(clean_after(state_dir_, Deadline::after_ms(kWaitMs)).ok());
}

// Whoever launched it was killed before it could tell its pid.
TEST_F(MonitorTest, AMonitorThatHasNotToldItsPidIsEndedByItsCgroup) {
  const std::string early = folder_->path() + "/early";
  ASSERT_TRUE(sys::make_dirs(early, 0700).ok());
  const auto own = runtime::cgroup::make_own(cgroup_ + "-early", "early",
                                             record_planned(cat(early, "/", kMonitorFile)));
  ASSERT_TRUE(own.ok()) << own.error().message();
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  ASSERT_TRUE(runtime::cgroup::join(own->record, child).ok());
  const auto cleaned = clean_after(early, Deadline::after_ms(kWaitMs));
  EXPECT_TRUE(cleaned.ok()) << cleaned.error().message();
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_FALSE(sys::exists(early));
  EXPECT_FALSE(sys::exists(own->record.unified));
  for (const auto& [controllers, path] : own->record.legacy) EXPECT_FALSE(sys::exists(path));
}

// The wire itself, as a fluytd that lost its connection uses it.
class RawPeer {
 public:
  static std::unique_ptr<RawPeer> connect(const std::string& state_dir, const std::string& client) {
    auto peer = std::make_unique<RawPeer>();
    auto socket = sys::connect_unix(cat(state_dir, "/", kSocketFile), SOCK_STREAM);
    if (!socket.ok()) return nullptr;
    peer->socket_ = std::move(socket).value();
    EXPECT_TRUE(sys::set_nonblocking(peer->socket_, true).ok());
    peer->send(0, wire::Hello{.client = client});
    if (!peer->answer(0)) return nullptr;
    return peer;
  }
  void send(uint64_t id, wire::Verb verb, std::vector<sys::Fd> fds = {}) {
    const size_t count = fds.size();
    ASSERT_TRUE(
        writer_.push(wire::encode(wire::Request{id, count, std::move(verb)}), std::move(fds)));
    ASSERT_TRUE(writer_.flush(socket_).ok());
  }
  void send_bytes(std::string_view bytes) { ASSERT_TRUE(sys::write_all(socket_, bytes).ok()); }
  std::optional<wire::Answer> answer(uint64_t id) {
    const Deadline deadline = Deadline::after_ms(kWaitMs);
    while (!deadline.passed()) {
      pollfd entry{.fd = socket_.raw(), .events = POLLIN, .revents = 0};
      poll(&entry, 1, 100);
      auto read = reader_.read_from(socket_);
      if (!read.ok() || *read == FrameReader::Read::kEnd) return std::nullopt;
      while (true) {
        auto frame = reader_.next();
        if (!frame.ok() || !*frame) break;
        auto reply = wire::decode_reply(**frame);
        if (!reply.ok()) continue;
        auto* got = std::get_if<wire::Answer>(&*reply);
        if (got != nullptr && got->id == id) return std::move(*got);
      }
    }
    return std::nullopt;
  }

 private:
  sys::Fd socket_;
  FrameReader reader_;
  FrameWriter writer_{1UL << 20U};
};

TEST_F(MonitorTest, ARequestAskedAgainGetsTheFirstAnswer) {
  const CreateRequest request = request_of("once", spec_of("once", "exec sleep 1000"));
  auto ask = [&](RawPeer& peer) {
    wire::Create verb{request};
    verb.container.spec_json.clear();
    std::vector<sys::Fd> fds;
    fds.push_back(*sys::sealed_memfd("spec", request.spec_json));
    peer.send(7, verb, std::move(fds));
  };
  auto first = RawPeer::connect(state_dir_, "same-client");
  ASSERT_TRUE(first);
  ask(*first);
  first.reset();  // before the answer came
  auto second = RawPeer::connect(state_dir_, "same-client");
  ASSERT_TRUE(second);
  ask(*second);
  const auto answer = second->answer(7);
  ASSERT_TRUE(answer && answer->outcome.ok())
      << (answer ? answer->outcome.error().message() : "none");
  ask(*second);
  const auto again = second->answer(7);
  ASSERT_TRUE(again && again->outcome.ok());
  EXPECT_EQ(std::get<ContainerInfo>(*answer->outcome), std::get<ContainerInfo>(*again->outcome));
  // Another client's 7 is another request.
  auto other = RawPeer::connect(state_dir_, "other-client");
  ASSERT_TRUE(other);
  ask(*other);
  const auto refused = other->answer(7);
  ASSERT_TRUE(refused && !refused->outcome.ok());
  EXPECT_EQ(refused->outcome.error().code(), Code::kAlreadyExists);
  EXPECT_EQ(client_->list()->size(), 1U);
}

// Our sockets to the process `pid`.
std::vector<int> sockets_to(pid_t pid) {
  std::vector<int> found;
  const auto names = sys::list_dir("/proc/self/fd");
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
    const auto fd = parse_number<int>(name);
    if (!fd) continue;
    const auto peer = sys::peer_of(sys::FdRef(*fd));
    if (peer.ok() && peer->pid == pid) found.push_back(*fd);
  }
  return found;
}

bool ends_within_ms(const sys::Process& process, int ms) {
  pollfd gone{.fd = process.pidfd().raw(), .events = POLLIN, .revents = 0};
  return poll(&gone, 1, ms) == 1;
}

TEST_F(MonitorTest, WhatEndedWhileTheSocketWasLostIsHeard) {
  run_in_pid_namespace_of_pod("in");
  ASSERT_FALSE(HasFatalFailure());
  const auto exec =
      client_->exec({.container_id = "in",
                     .process_json = oci::to_json(*spec_of("in", "exec sleep 1000").process)});
  ASSERT_TRUE(exec.ok()) << exec.error().message();
  const auto init = sys::Process::open(client_->list().value()[0].pid);
  const auto program = sys::Process::open(exec->pid);
  ASSERT_TRUE(init.ok() && program.ok());

  const pid_t monitor = client_->monitor_pid();
  ASSERT_EQ(kill(monitor, SIGSTOP), 0);
  const auto sockets = sockets_to(monitor);
  ASSERT_EQ(sockets.size(), 1U);
  ASSERT_EQ(::shutdown(sockets[0], SHUT_RDWR), 0);
  ASSERT_EQ(kill(pod_init_pid(), SIGKILL), 0);
  EXPECT_TRUE(ends_within_ms(*init, kWaitMs));
  EXPECT_TRUE(ends_within_ms(*program, kWaitMs));
  ASSERT_EQ(kill(monitor, SIGCONT), 0);
  EXPECT_EQ(told_.wait_exit("in").value_or(ContainerInfo{}).exit_code, 137);
  EXPECT_EQ(told_.wait_exec(exec->exec_id), std::optional<int32_t>(137));
  EXPECT_TRUE(told_.wait_pod_init_ended());
  EXPECT_FALSE(client_->lost());
}

TEST_F(MonitorTest, AHubWithoutDescriptorsConnectsAgainWhenItHasSome) {
  run("main", "exec sleep 1000");
  const auto sockets = sockets_to(client_->monitor_pid());
  ASSERT_EQ(sockets.size(), 1U);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  ASSERT_EQ(::shutdown(sockets[0], SHUT_RDWR), 0);
  const auto unheard = client_->list();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(unheard.ok());
  EXPECT_EQ(unheard.error().code(), Code::kDeadlineExceeded);
  const auto heard = client_->list();
  ASSERT_TRUE(heard.ok()) << heard.error().message();
  EXPECT_EQ((*heard)[0].state, ContainerState::kRunning);
}

TEST_F(MonitorTest, AnExecWhoseCallerHasGivenUpIsEnded) {
  run("main", "exec sleep 1000");
  ASSERT_EQ(kill(client_->monitor_pid(), SIGSTOP), 0);
  const auto exec =
      client_->exec({.container_id = "main",
                     .process_json = oci::to_json(*spec_of("main", "exec sleep 1000").process),
                     .start_deadline_ms = 1'000});
  ASSERT_FALSE(exec.ok());
  EXPECT_EQ(exec.error().code(), Code::kDeadlineExceeded);
  ASSERT_EQ(kill(client_->monitor_pid(), SIGCONT), 0);
  const auto eventually = [](const std::function<bool()>& holds) {
    for (int i = 0; i < 500 && !holds(); ++i) usleep(20'000);
    return holds();
  };
  // It is killed as soon as it is known, which may be before it has done anything.
  EXPECT_EQ(told_.wait_any_exec(), std::optional<int32_t>(137));
  const ContainerInfo info = client_->list().value()[0];
  const runtime::CgroupRecord cgroup{.unified = info.cgroup_unified, .legacy = info.cgroup_legacy};
  EXPECT_TRUE(eventually([&] {
    return runtime::cgroup::pids(cgroup).value_or(std::vector<pid_t>()) ==
           std::vector<pid_t>{info.pid};
  }));
}

TEST_F(MonitorTest, NonsenseOnTheSocketHurtsNobodyElse) {
  auto peer = RawPeer::connect(state_dir_, "noise");
  ASSERT_TRUE(peer);
  peer->send_bytes(std::string("\0\0\0\x09{\"id\": 1}", 13));
  ASSERT_TRUE(peer->answer(0));  // a refusal
  peer->send_bytes(std::string("\xff\xff\xff\xff", 4));
  EXPECT_FALSE(peer->answer(1));  // dropped
  EXPECT_TRUE(client_->list().ok());
}

// A file system that never answers: /dev/fuse mounted with nobody behind it.
TEST_P(EachRuntime, HungCreateDelaysNobodyAndIsGivenUp) {
  const sys::Fd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse.valid()) GTEST_SKIP() << "needs /dev/fuse";
  const std::string dead = folder_->path() + "/dead";
  ASSERT_TRUE(sys::make_dirs(dead, 0755).ok());
  ASSERT_EQ(::mount("dead", dead.c_str(), "fuse", 0,
                    cat("fd=", fuse.raw(), ",rootmode=40000,user_id=0,group_id=0").c_str()),
            0);
  auto spec = spec_of("hung", "true");
  spec.mounts.push_back(
      {.destination = "/tmp/dead", .type = "bind", .source = dead + "/sub", .options = {"rbind"}});
  auto request = request_of("hung", spec);
  request.deadline_ms = 3'000;
  std::optional<Result<ContainerInfo>> hung;
  const auto began = std::chrono::steady_clock::now();
  std::jthread creator([&] { hung.emplace(client_->create(request)); });
  usleep(300'000);
  run("neighbour", "echo here; exit 0");
  ASSERT_TRUE(told_.wait_exit("neighbour").has_value());
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(2'500));
  EXPECT_TRUE(client_->remove("neighbour", Deadline::after_ms(kWaitMs)).ok());
  creator.join();
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(7'000));
  ASSERT_FALSE((*hung).ok());
  EXPECT_EQ(hung->error().code(), Code::kDeadlineExceeded) << hung->error().message();
  EXPECT_TRUE(client_->list()->empty());
  // Undone: no cgroup, and of the monitor's children none is left.
  const std::string cgroup = cat("/sys/fs/cgroup/pids", cgroup_, "/hung");
  for (int i = 0; i < 250 && (sys::exists(cgroup) || !children().empty()); ++i) usleep(20'000);
  EXPECT_FALSE(sys::exists(cgroup));
  EXPECT_EQ(children_left(), "");
  umount2(dead.c_str(), MNT_DETACH | MNT_FORCE);
}

TEST_P(EachRuntime, RemovingWhileCreatingCancelsIt) {
  const sys::Fd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse.valid()) GTEST_SKIP() << "needs /dev/fuse";
  const std::string dead = folder_->path() + "/dead";
  ASSERT_TRUE(sys::make_dirs(dead, 0755).ok());
  ASSERT_EQ(::mount("dead", dead.c_str(), "fuse", 0,
                    cat("fd=", fuse.raw(), ",rootmode=40000,user_id=0,group_id=0").c_str()),
            0);
  auto spec = spec_of("hung", "true");
  spec.mounts.push_back(
      {.destination = "/tmp/dead", .type = "bind", .source = dead + "/sub", .options = {"rbind"}});
  std::optional<Result<ContainerInfo>> hung;
  std::jthread creator([&] { hung.emplace(client_->create(request_of("hung", spec))); });
  usleep(300'000);
  EXPECT_TRUE(client_->remove("hung", Deadline::after_ms(5'000)).ok());
  creator.join();
  ASSERT_FALSE((*hung).ok());
  EXPECT_EQ(hung->error().code(), Code::kCancelled) << hung->error().message();
  umount2(dead.c_str(), MNT_DETACH | MNT_FORCE);
}

// The path that the spec names would be of whatever process has the pid by then.
TEST_P(EachRuntime, AContainerToBeJoinedThatEndsMeanwhileTakesTheCreateWithIt) {
  auto without = request_of("early", spec_of("early", "true"));
  without.joins = "nobody";
  auto refused = client_->create(without);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kFailedPrecondition) << refused.error().message();

  run("joined", "sleep 1000");
  const std::string at_hook = folder_->path() + "/at_hook";
  const std::string go_on = folder_->path() + "/go_on";
  auto spec = spec_of("late", "true");
  spec.hooks.emplace().create_runtime.push_back(
      {.path = "/bin/sh",
       .args = {"sh", "-c",
                cat("touch ", at_hook, "; while [ ! -e ", go_on, " ]; do sleep 0.01; done")},
       .env = {"PATH=/usr/bin:/bin"},
       .timeout = {}});
  auto request = request_of("late", spec);
  request.joins = "joined";
  std::optional<Result<ContainerInfo>> late;
  {
    const std::jthread creator([&] { late.emplace(client_->create(request)); });
    for (int i = 0; i < 500 && !sys::exists(at_hook); ++i) usleep(10'000);
    EXPECT_TRUE(sys::exists(at_hook));
    EXPECT_TRUE(client_->signal("joined", SIGKILL, false).ok());
    EXPECT_TRUE(told_.wait_exit("joined").has_value());
    EXPECT_TRUE(sys::write_file_atomic(sys::kCwd, go_on, "", 0600).ok());
  }
  ASSERT_FALSE((*late).ok());
  EXPECT_EQ(late->error().code(), Code::kFailedPrecondition) << late->error().message();
  EXPECT_NE(late->error().message().find("joined"), std::string::npos) << late->error().message();
  EXPECT_EQ(client_->list()->size(), 1U);
  EXPECT_EQ(children_left(), "");
}

TEST_P(EachRuntime, ManyContainersAtOnce) {
  constexpr int kThreads = 6;
  constexpr int kRounds = 6;
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int round = 0; round < kRounds; ++round) {
          const std::string id = cat("many-", t, "-", round);
          const int code = t * 10 + round;
          if (!client_->create(request_of(id, spec_of(id, cat("seq 1 3000; exit ", code)))).ok())
            continue;
          if (!client_->start(id, Deadline::after_ms(kWaitMs)).ok()) continue;
          const auto exit = told_.wait_exit(id);
          const auto lines = lines_of(id);
          if (!exit || exit->exit_code != code || lines.size() != 3000 ||
              lines.back() != "stdout F 3000")
            continue;
          if (client_->remove(id, Deadline::after_ms(kWaitMs)).ok()) ++good;
        }
      });
    }
  }
  EXPECT_EQ(good, kThreads * kRounds);
  EXPECT_TRUE(client_->list()->empty());
  // The last worker may still be on its way out.
  for (int i = 0; i < 250 && !children().empty(); ++i) usleep(20'000);
  EXPECT_EQ(children_left(), "");
}

// CVE-2022-23471 and its kin: what an attach that was broken off leaves behind.
TEST_F(MonitorTest, BrokenOffAttachesLeaveNothing) {
  auto request = request_of("idle", spec_of("idle", "while true; do echo tick; sleep 0.01; done"));
  request.open_stdin = true;
  run(request);
  const std::string fds = cat("/proc/", client_->monitor_pid(), "/fd");
  const size_t before = sys::list_dir(fds)->size();
  for (int i = 0; i < 300; ++i) {
    auto in = sys::make_pipe();
    auto out = sys::make_pipe();
    auto err = sys::make_pipe();
    ASSERT_TRUE(
        client_
            ->attach({.container_id = "idle", .in = in->read, .out = out->write, .err = err->write})
            .ok());
  }
  size_t after = 0;
  for (int i = 0; i < 100 && (after = sys::list_dir(fds)->size()) > before; ++i) usleep(20'000);
  EXPECT_LE(after, before);  // the worker that made the container may have been there still
}

// Private memory of an idle monitor with one container that has talked, and of the pod init.
TEST_F(MonitorTest, StaysSmall) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "most of its memory is the sanitizer's";
#endif
  auto made =
      client_->make_sandbox({.id = sandbox_id_, .shared_pid = true}, Deadline::after_ms(kWaitMs));
  ASSERT_TRUE(made.ok());
  run("talker", "seq 1 20000; exec sleep 1000");
  for (int i = 0; i < 50; ++i) {
    const auto result = exec("talker", "true");
    ASSERT_TRUE(result.ok()) << result.error().message();
  }
  const auto text = sys::read_file(cat("/proc/", client_->monitor_pid(), "/smaps_rollup"), 65536);
  ASSERT_TRUE(text.ok());
  std::map<std::string, int64_t> kilobytes;
  for (const std::string_view line : split(*text, '\n')) {
    const auto words = split_words(line);
    if (words.size() == 3)
      kilobytes[std::string(words[0])] = parse_number<int64_t>(words[1]).value_or(-1);
  }
  std::cout << "anonymous " << kilobytes["Anonymous:"] << " KiB, rss " << kilobytes["Rss:"]
            << " KiB\n";
  EXPECT_GT(kilobytes["Anonymous:"], 0);
  EXPECT_LT(kilobytes["Anonymous:"], 400);
}

TEST_P(EachRuntime, OutOfMemoryIsTold) {
  auto spec = spec_of("greedy", "dd if=/dev/zero of=/dev/null bs=200M count=1");
  spec.linux_->resources->memory = oci::MemoryResources{.limit = 20LL << 20U, .swap = 20LL << 20U};
  run(request_of("greedy", spec));
  const auto exit = told_.wait_exit("greedy");
  ASSERT_TRUE(exit.has_value());
  EXPECT_TRUE(exit->oom_killed);
}

TEST_P(EachRuntime, UpdatesResources) {
  run("up", "exec sleep 1000");
  const auto updated = client_->update("up", R"({"pids":{"limit":77}})");
  ASSERT_TRUE(updated.ok()) << updated.error().message();
  const auto infos = client_->list();
  std::string limit;
  for (const auto& [controller, path] : (*infos)[0].cgroup_legacy) {
    if (controller == "pids") limit = sys::read_file(path + "/pids.max", 64).value_or("");
  }
  if (limit.empty())
    limit = sys::read_file((*infos)[0].cgroup_unified + "/pids.max", 64).value_or("");
  EXPECT_EQ(limit, "77\n");
}

TEST_P(EachRuntime, TheRootIsAnOverlayThatTheHostHasNoMountOf) {
  const std::string before = sys::read_file("/proc/self/mountinfo", 1UL << 20U).value_or("");
  auto request = request_of("over", spec_of("over", "echo new > /new; cat /new; sleep 1000"));
  request.root =
      sys::OverlayMount{{rootfs_}, folder_->path() + "/upper", folder_->path() + "/work"};
  for (const std::string& path : {request.root->upper_dir, request.root->work_dir})
    ASSERT_TRUE(sys::make_dirs(path, 0755).ok());
  run(request);
  for (int i = 0; i < 250 && lines_of("over").empty(); ++i) usleep(20'000);
  EXPECT_THAT(lines_of("over"), testing::ElementsAre("stdout F new"));
  EXPECT_TRUE(sys::exists(folder_->path() + "/upper/new"));
  EXPECT_FALSE(sys::exists(rootfs_ + "/new"));
  EXPECT_EQ(sys::read_file("/proc/self/mountinfo", 1UL << 20U).value_or("?"), before);
}

TEST_P(EachRuntime, SignalsReachTheFirstProcess) {
  run("term", "trap 'echo got; exit 5' TERM; echo up; while true; do sleep 0.05; done");
  for (int i = 0; i < 250 && lines_of("term").empty(); ++i) usleep(20'000);
  const auto sent = client_->signal("term", SIGTERM, false);
  EXPECT_TRUE(sent.ok()) << sent.error().message();
  const auto exit = told_.wait_exit("term");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 5);
}

TEST_P(EachRuntime, AContainerThatIsNeverStartedCanBeEnded) {
  ASSERT_TRUE(client_->create(request_of("idle", spec_of("idle", "true"))).ok());
  EXPECT_TRUE(client_->signal("idle", SIGKILL, true).ok());
  const auto exit = told_.wait_exit("idle");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 137);
  EXPECT_TRUE(client_->remove("idle", Deadline::after_ms(kWaitMs)).ok());
}

// The monitor dies: fluytd has the program delete what it knows of.
TEST_P(RuntimePrograms, ALostMonitorsContainerIsDeletedByItsProgram) {
  run("left", "exec sleep 1000");
  const auto list = client_->list();
  ASSERT_TRUE(list.ok());
  const auto container = sys::Process::open((*list)[0].pid);
  ASSERT_TRUE(container.ok());
  EXPECT_TRUE(sys::exists(state_dir_ + "/runtime/left"));
  ASSERT_EQ(::kill(client_->monitor_pid(), SIGKILL), 0);
  EXPECT_TRUE(told_.wait_lost());
  client_.reset();
  const auto cleaned = clean_after(state_dir_, Deadline::after_ms(kWaitMs));
  EXPECT_TRUE(cleaned.ok()) << cleaned.error().message();
  EXPECT_FALSE(sys::exists(state_dir_));
  EXPECT_THAT(cgroups_left((*list)[0]), testing::IsEmpty());
  pollfd gone{.fd = container->pidfd().raw(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&gone, 1, 5000), 1);
}

// A program of a few lines, in place of one that misbehaves.
class OddProgram : public MonitorTest {
 protected:
  // `create` is what it does for that command; everything else is runf's.
  Result<> make(const std::string& create) {
    const std::string path = folder_->path() + "/odd";
    const sys::Fd file = FLUYT_TRY(sys::open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
    FLUYT_TRY(sys::write_all(file, cat("#!/bin/sh\ncase \" $* \" in *' create '*) ", create,
                                       ";; esac\nexec ", program_folder(), "/runf \"$@\"\n")));
    FLUYT_TRY(client_->make_sandbox(
        {.id = sandbox_id_,
         .new_network = false,
         .new_ipc = false,
         .new_uts = false,
         .runtime = RuntimeProgram{.path = path, .options = {}, .root = folder_->path() + "/root"}},
        Deadline::after_ms(kWaitMs)));
    return {};
  }
};

TEST_F(OddProgram, OneThatHangsIsEndedWithAllThatItStarted) {
  ASSERT_TRUE(make("setsid sleep 4321 & sleep 4321").ok());
  auto request = request_of("hung", spec_of("hung", "true"));
  request.deadline_ms = 1'000;
  const auto began = std::chrono::steady_clock::now();
  const auto created = client_->create(request);
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.error().code(), Code::kDeadlineExceeded) << created.error().message();
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
  for (int i = 0; i < 250 && !children().empty(); ++i) usleep(20'000);
  EXPECT_EQ(children_left(), "");
  EXPECT_TRUE(client_->list()->empty());
  EXPECT_TRUE(read_records(state_dir_)->empty());
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const auto line = sys::read_file(entry.path().string() + "/cmdline", 4096).value_or("");
    EXPECT_EQ(line.find("4321"), std::string::npos) << entry.path();
  }
}

TEST_F(OddProgram, OneThatFailsIsQuoted) {
  ASSERT_TRUE(make("echo words of its own >&2; exit 3").ok());
  const auto created = client_->create(request_of("bad", spec_of("bad", "true")));
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.error().message(), "odd: words of its own");
  EXPECT_TRUE(client_->list()->empty());
  EXPECT_TRUE(read_records(state_dir_)->empty());
}

TEST_F(OddProgram, APidThatIsNotItsChildsIsRefused) {
  ASSERT_TRUE(make("while [ $# -gt 0 ]; do [ $1 = --pid-file ] && echo 1 >$2; shift; done; "
                   "exit 0")
                  .ok());
  const auto created = client_->create(request_of("liar", spec_of("liar", "true")));
  ASSERT_FALSE(created.ok());
  EXPECT_THAT(created.error().message(), HasSubstr("pid file"));
}

// It was taken away while a container of it runs: that is stopped and removed without it.
TEST_F(OddProgram, OneThatHasGoneLeavesNothingBehind) {
  ASSERT_TRUE(make("true").ok());
  run("alone", "trap 'exit 5' TERM; echo up; while true; do sleep 0.05; done");
  for (int i = 0; i < 250 && lines_of("alone").empty(); ++i) usleep(20'000);
  const auto list = client_->list();
  ASSERT_TRUE(list.ok());
  EXPECT_TRUE(sys::exists(folder_->path() + "/root/alone"));
  ASSERT_TRUE(sys::remove_file(sys::kCwd, folder_->path() + "/odd").ok());
  EXPECT_TRUE(client_->signal("alone", SIGTERM, false).ok());
  const auto exit = told_.wait_exit("alone");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 5);
  const auto removed = client_->remove("alone", Deadline::after_ms(kWaitMs));
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  EXPECT_THAT(cgroups_left((*list)[0]), testing::IsEmpty());
  EXPECT_FALSE(sys::exists(folder_->path() + "/root/alone"));
}

TEST_P(EachRuntime, PayloadMayReopenItsOutputAsAnotherUser) {
  auto spec = spec_of("user", "echo reopened > /dev/stdout; echo too > /dev/stderr");
  spec.process->user = {.uid = 12345, .gid = 12345};
  run(request_of("user", spec));
  const auto exit = told_.wait_exit("user");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 0);
  EXPECT_THAT(lines_of("user"), testing::UnorderedElementsAre("stdout F reopened", "stderr F too"));
}

class Replaced : public EachRuntime {};
INSTANTIATE_TEST_SUITE_P(Runtimes, Replaced, testing::Values("linked", "runc"),
                         [](const auto& runtime) { return std::string(runtime.param); });

TEST_P(Replaced, LosesNoLineNoExecAndNoExitCode) {
  auto request = request_of("loop", spec_of("loop",
                                            "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; "
                                            "done; printf half; read x; echo \" $x\"; exit 5"));
  request.open_stdin = true;
  run(request);
  auto out = sys::make_pipe();
  auto in = sys::make_pipe();
  ASSERT_TRUE(client_->attach({.container_id = "loop", .in = in->read, .out = out->write}).ok());
  out->write.reset();
  in->read.reset();

  oci::Process process = *spec_of("loop", "read x; echo got $x; exit 9").process;
  auto exec_in = sys::make_pipe();
  auto exec_out = sys::make_pipe();
  ExecRequest exec;
  exec.container_id = "loop";
  exec.process_json = oci::to_json(process);
  exec.in = exec_in->read;
  exec.out = exec_out->write;
  const auto started = client_->exec(exec);
  ASSERT_TRUE(started.ok()) << started.error().message();
  exec_in->read.reset();
  exec_out->write.reset();

  const int32_t pid = client_->monitor_pid();
  for (int i = 0; i < 5; ++i) {
    const auto replaced = replace();
    ASSERT_TRUE(replaced.ok()) << replaced.error().message();
  }
  EXPECT_EQ(client_->monitor_pid(), pid);
  EXPECT_TRUE(goes_on_for_another());

  ASSERT_TRUE(sys::write_all(exec_in->write, "word\n").ok());
  exec_in->write.reset();
  EXPECT_EQ(sys::read_all(exec_out->read, 4096).value_or("?"), "got word\n");
  EXPECT_EQ(told_.wait_exec(started->exec_id), std::optional<int32_t>(9));
  EXPECT_EQ(this->exec("loop", "echo new").value_or(ExecResult{}).out, "new\n");

  for (int i = 0; i < 250 && lines_of("loop").size() < 3000; ++i) usleep(20'000);
  ASSERT_TRUE(replace().ok());  // with half a line
  ASSERT_TRUE(sys::write_all(in->write, "line\n").ok());
  const auto exit = told_.wait_exit("loop");
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 5);
  const auto lines = lines_of("loop");
  ASSERT_EQ(lines.size(), 3001U);
  std::string all;
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(lines[static_cast<size_t>(i)], cat("stdout F ", i + 1));
    all += cat(i + 1, "\n");
  }
  EXPECT_EQ(lines.back(), "stdout F half line");
  const std::string attached = sys::read_all(out->read, 1UL << 20U).value_or("");
  // From wherever it came in, without a gap; all but the last may have been written before.
  EXPECT_TRUE(attached.ends_with(" line\n")) << attached;
  EXPECT_TRUE(cat(all, "half line\n").ends_with(attached)) << attached;
}

TEST_P(Replaced, TheNewProgramStartsWhatWaitsAtItsGate) {
  ASSERT_TRUE(client_->create(request_of("gate", spec_of("gate", "echo run; exit 3"))).ok());
  ASSERT_TRUE(replace().ok());
  const auto started = client_->start("gate", Deadline::after_ms(kWaitMs));
  ASSERT_TRUE(started.ok()) << started.error().message();
  EXPECT_EQ(told_.wait_exit("gate").value_or(ContainerInfo{}).exit_code, 3);
  EXPECT_THAT(lines_of("gate"), testing::ElementsAre("stdout F run"));
  ASSERT_TRUE(replace().ok());  // and what has ended is known, and can be removed
  EXPECT_EQ(client_->list().value().size(), 1U);
  EXPECT_TRUE(client_->remove("gate", Deadline::after_ms(kWaitMs)).ok());
}

TEST_P(Replaced, KeepsNoDescriptorThatTheOldProgramHad) {
  run("idle", "while true; do sleep 0.05; done");
  ASSERT_TRUE(replace().ok());
  const size_t before = descriptors();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(replace().ok());
  EXPECT_EQ(descriptors(), before);
}

// What ends in the moment of the exec is reaped by the new program, for SIGCHLD went by unheard.
TEST_P(Replaced, ExitsInItsMidstAreTold) {
  for (int i = 0; i < 8; ++i) {
    const std::string id = cat("short", i);
    run(id, cat("sleep 0.0", i + 1, "; exit ", i + 1));
    const auto replaced = replace();
    ASSERT_TRUE(replaced.ok()) << replaced.error().message();
    EXPECT_EQ(told_.wait_exit(id).value_or(ContainerInfo{}).exit_code, i + 1);
  }
}

TEST_F(MonitorTest, AProgramThatCannotBeStartedLeavesTheMonitorAsItIs) {
  run("idle", "while true; do sleep 0.05; done");
  const sys::Fd nothing = mount_program("/etc/passwd").value();
  const auto replaced = client_->replace(nothing, nothing, Deadline::after_ms(kWaitMs));
  ASSERT_FALSE(replaced.ok());
  EXPECT_THAT(replaced.error().message(), HasSubstr("execveat"));
  EXPECT_EQ(exec("idle", "echo there").value_or(ExecResult{}).out, "there\n");
}

// A program for which the handover is no handover, as one of a future format would be: it goes
// back.
TEST_F(MonitorTest, AProgramThatCannotReadTheHandoverGivesItBack) {
  std::string bytes = sys::read_file(monitor_program_, 256UL << 20U).value();
  const std::string other = folder_->path() + "/other-monitor";
  size_t changed = 0;
  const std::string key("namespaces", sizeof "namespaces");  // with its NUL: a name in the handover
  for (size_t at = 0; (at = bytes.find(key, at)) != std::string::npos; ++at) {
    bytes[at] = 'q';
    ++changed;
  }
  ASSERT_GT(changed, 0U);
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, other, bytes, 0755).ok());
  run("idle", "while true; do sleep 0.05; done; exit 2");
  const auto replaced = replace_by(other);
  ASSERT_FALSE(replaced.ok());
  EXPECT_THAT(replaced.error().message(), HasSubstr("could not go on from here"));
  EXPECT_EQ(exec("idle", "echo there").value_or(ExecResult{}).out, "there\n");
  ASSERT_TRUE(replace().ok());
  EXPECT_EQ(exec("idle", "echo there").value_or(ExecResult{}).out, "there\n");
}

TEST_F(MonitorTest, AnEndThatWasAskedForWarnsOfNothing) {
  for (int i = 0; i < 10; ++i) {
    const auto ended = client_->shutdown(Deadline::after_ms(kWaitMs));
    ASSERT_TRUE(ended.ok()) << ended.error().message();
    auto next = hub_->launch(launch_options(), told_.events());
    ASSERT_TRUE(next.ok()) << next.error().message();
    client_ = std::move(next).value();
  }
  EXPECT_EQ(logger_.all(), "");
}

// Where a removal's time goes is told with it, whether it is of one container or of all.
TEST_F(MonitorTest, ARemovalAndAShutdownTellTheirParts) {
  for (const char* id : {"first", "second", "third"}) run(id, "while true; do sleep 0.05; done");
  trace::Recorder recorder;
  {
    trace::Request walk(recorder, "RemoveContainer");
    walk.of("s");
    EXPECT_TRUE(client_->remove("first", Deadline::after_ms(kWaitMs)).ok());
  }
  {
    trace::Request walk(recorder, "StopPodSandbox");
    walk.of("s");
    EXPECT_TRUE(client_->shutdown(Deadline::after_ms(kWaitMs)).ok());
  }
  const auto cgroup = testing::Field(&trace::Part::name, "cgroup");
  const std::vector<trace::Walk> walks = recorder.walks_of("s", "");
  ASSERT_EQ(walks.size(), 2U);
  EXPECT_THAT(walks[0].parts, testing::ElementsAre(cgroup));
  EXPECT_THAT(walks[1].parts, testing::ElementsAre(cgroup, cgroup));
  for (const trace::Part& part : walks[1].parts) {
    EXPECT_GE(part.begin_ns, 0);
    EXPECT_LE(part.begin_ns + part.took_ns, walks[1].took_ns);
  }
}

// What fluytd does without a monitor that is stopped.
class Stopped : public MonitorTest {
 protected:
  void TearDown() override {
    if (client_) {
      const auto cleaned = clean_after(state_dir_, Deadline::after_ms(kWaitMs));
      EXPECT_TRUE(cleaned.ok()) << cleaned.error().message();
      EXPECT_FALSE(sys::exists(state_dir_));
      client_.reset();
    }
    MonitorTest::TearDown();
  }
  void stop_monitor() { ASSERT_EQ(kill(client_->monitor_pid(), SIGSTOP), 0); }
};

TEST_F(Stopped, AKillIsDoneWithoutItAndItIsLost) {
  run("deaf", "trap '' TERM; sleep 1000 & while true; do sleep 0.05; done");
  const auto info = client_->list().value()[0];
  stop_monitor();
  const Deadline soon = Deadline::after_ms(2'000);
  const auto killed = client_->signal("deaf", SIGKILL, true);
  EXPECT_TRUE(killed.ok()) << killed.error().message();
  EXPECT_FALSE(soon.passed());
  EXPECT_TRUE(client_->lost());
  EXPECT_TRUE(told_.wait_lost());
  for (const auto& directory : cgroups_left(info)) {
    EXPECT_EQ(sys::read_file(directory + "/cgroup.procs", 4096).value_or("?"), "") << directory;
  }
  EXPECT_TRUE(client_->remove("deaf", Deadline::after_ms(kWaitMs)).ok());
  EXPECT_THAT(cgroups_left(info), testing::IsEmpty());
}

TEST_F(Stopped, AnotherSignalReachesTheProcessAndNothingIsLost) {
  const std::string file = rootfs_ + "/heard";
  run("hears", "trap 'echo yes > /heard; exit 0' TERM; while true; do sleep 0.05; done");
  stop_monitor();
  const auto sent = client_->signal("hears", SIGTERM, false);
  EXPECT_TRUE(sent.ok()) << sent.error().message();
  for (int i = 0; i < 250 && !sys::exists(file); ++i) usleep(20'000);
  EXPECT_TRUE(sys::exists(file));
  EXPECT_FALSE(client_->lost());
  ASSERT_EQ(kill(client_->monitor_pid(), SIGCONT), 0);
  EXPECT_EQ(told_.wait_exit("hears").value_or(ContainerInfo{.exit_code = -1}).exit_code, 0);
}

// What has ended is not worth the monitor, which holds the others.
TEST_F(Stopped, WhatHasEndedIsRemovedWithoutItAndNothingIsLost) {
  run("lives", "while true; do sleep 0.05; done");
  run("ended", "exit 3");
  ASSERT_TRUE(told_.wait_exit("ended").has_value());
  const std::string record = state_dir_ + "/containers/ended.json";
  ASSERT_TRUE(sys::exists(record));
  stop_monitor();
  const Deadline soon = Deadline::after_ms(2'000);
  const auto killed = client_->signal("ended", SIGKILL, true);
  EXPECT_TRUE(killed.ok()) << killed.error().message();
  const auto removed = client_->remove("ended", Deadline::after_ms(kWaitMs));
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  EXPECT_FALSE(client_->remove("unknown", Deadline::after_ms(kWaitMs)).ok());
  EXPECT_FALSE(soon.passed());
  EXPECT_FALSE(sys::exists(record));
  EXPECT_FALSE(client_->lost());
  ASSERT_EQ(kill(client_->monitor_pid(), SIGCONT), 0);
  EXPECT_TRUE(client_->remove("ended", Deadline::after_ms(kWaitMs)).ok());
  const auto list = client_->list();
  ASSERT_TRUE(list.ok()) << list.error().message();
  ASSERT_EQ(list->size(), 1U);
  EXPECT_EQ((*list)[0].id, "lives");
  EXPECT_EQ((*list)[0].state, ContainerState::kRunning);
}

TEST_F(Stopped, AShutdownEndsSoon) {
  run("deaf", "trap '' TERM; while true; do sleep 0.05; done");
  stop_monitor();
  const Deadline soon = Deadline::after_ms(2'000);
  const auto ended = client_->shutdown(Deadline::after_ms(kWaitMs));
  EXPECT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_FALSE(soon.passed());
  EXPECT_FALSE(sys::exists(state_dir_));
}

TEST_F(Stopped, OneThatAStartFindsIsGivenUpSoon) {
  stop_monitor();
  const Deadline soon = Deadline::after_ms(2'000);
  const auto adopted = hub_->adopt(sandbox_id_, state_dir_, {});
  ASSERT_FALSE(adopted.ok());
  EXPECT_THAT(adopted.error().message(), HasSubstr("is stopped"));
  EXPECT_FALSE(soon.passed());
}

}  // namespace
}  // namespace fluyt::monitor
