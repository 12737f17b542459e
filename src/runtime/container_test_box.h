#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/id.h"
#include "base/strings.h"
#include "runtime/container.h"
#include "sys/file.h"
#include "sys/process.h"

/// A container's root made of busybox, for tests on the real kernel.
namespace fluyt::runtime {

inline bool can_run() { return geteuid() == 0 && sys::exists("/bin/busybox"); }

#define FLUYT_NEEDS_ROOT() \
  if (!can_run()) GTEST_SKIP() << "needs root and /bin/busybox (busybox-static)"

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
  std::string error;  // of create or of the gate
  std::optional<Code> error_code;
};

class Box {
 public:
  Box() : dir_(std::move(*sys::TempDir::create())), id_(cat("box-", make_id().substr(0, 12))) {
    for (const char* folder :
         {"/rootfs", "/rootfs/bin", "/rootfs/etc", "/rootfs/tmp", "/outside"}) {
      mkdir(path(folder).c_str(), 0755);
    }
    const std::string busybox = *sys::read_file("/bin/busybox", 16U << 20U);
    write("/rootfs/bin/busybox", busybox, 0755);
    for (const char* name :
         {"sh",   "ls",    "cat",   "id",    "true", "sleep", "hostname", "mount", "readlink",
          "stat", "grep",  "mkdir", "touch", "env",  "ip",    "pwd",      "test",  "umount",
          "tty",  "mknod", "wc",    "head",  "stty", "chmod", "ps",       "kill"}) {
      if (symlink("busybox", path(cat("/rootfs/bin/", name)).c_str()) != 0) ADD_FAILURE() << name;
    }
    write("/rootfs/etc/passwd",
          "root:x:0:0::/root:/bin/sh\nsailor:x:1000:1000::/home/sailor:/bin/sh\n", 0644);
    spec = oci::default_spec();
    spec.process->terminal = false;
    spec.root->path = "rootfs";
    spec.root->readonly = false;
    spec.linux_->cgroups_path = cat("/fluyt-test/", id_);
  }

  std::string path(std::string_view below) const { return cat(dir_.path(), below); }
  void write(const std::string& below, std::string_view text, mode_t mode = 0644) const {
    const sys::Fd fd = *sys::open(path(below), O_WRONLY | O_CREAT | O_TRUNC, mode);
    ASSERT_TRUE(sys::write_all(fd, text).ok());
  }
  const std::string& id() const { return id_; }

  /// The shell runs `script` in a container of `spec`.
  Outcome shell(const std::string& script) { return run({"sh", "-c", script}); }

  Outcome run(std::vector<std::string> args) {
    spec.process->args = std::move(args);
    Outcome outcome;
    if (!create(outcome)) return outcome;
    open_gate(outcome);
    finish(outcome);
    return outcome;
  }

  bool create(Outcome& outcome) {
    auto gate = *sys::make_pipe();
    auto report = *sys::make_pipe();
    out_ = *sys::make_pipe();
    err_ = *sys::make_pipe();
    CreateRequest request;
    request.id = id_;
    request.bundle = dir_.path();
    request.spec = spec;
    request.overlay_root = overlay;
    request.trees = trees;
    request.stdio = {{}, out_.write, err_.write};
    request.gate = gate.read;
    request.report = report.write;
    request.no_new_keyring = true;
    request.no_pivot = no_pivot;
    request.deadline = Deadline::after_ms(20'000);
    auto created = runtime::create(request);
    out_.write.reset();
    err_.write.reset();
    if (!created.ok()) {
      outcome.error = created.error().message();
      outcome.error_code = created.error().code();
      return false;
    }
    container = std::make_unique<Created>(std::move(*created));
    gate_ = std::move(gate.write);
    report_ = std::move(report.read);
    return true;
  }
  void open_gate(Outcome& outcome) {
    EXPECT_TRUE(sys::write_all(gate_, "x").ok());
    outcome.error = *sys::read_all(report_, 65536);
  }
  void finish(Outcome& outcome) {
    outcome.out = *sys::read_all(out_.read, 1U << 20U);
    outcome.err = *sys::read_all(err_.read, 1U << 20U);
    auto status = container->init.wait(Deadline::after_ms(20'000));
    EXPECT_TRUE(status.ok() && *status);
    if (status.ok() && *status) outcome.code = (*status)->shell_code();
    clean_up();
  }
  void clean_up() {
    if (!container) return;
    container->init.kill(SIGKILL).ignore("over");
    EXPECT_TRUE(kill_all(container->cgroup, Deadline::after_ms(5000)).ok());
    container->init.wait(Deadline::after_ms(5000)).ignore("reaped already, mostly");
    const auto removed = remove_cgroup(container->cgroup, Deadline::after_ms(5000));
    EXPECT_TRUE(removed.ok()) << removed.error().message();
    const auto released = release(spec, id_, path("/rootfs"), container->root_mount);
    EXPECT_TRUE(released.ok()) << released.error().message();
    // The folder above stays while another test uses it.
    rmdir(parent_of(container->cgroup.unified).c_str());
    for (const auto& [controller, directory] : container->cgroup.legacy)
      rmdir(parent_of(directory).c_str());
    container.reset();
  }
  ~Box() { clean_up(); }
  static std::string parent_of(const std::string& directory) {
    return directory.substr(0, directory.rfind('/'));
  }

  /// One more process in the running container.
  Outcome exec(oci::Process process) {
    auto out = *sys::make_pipe();
    auto err = *sys::make_pipe();
    ExecRequest request;
    request.id = id_;
    request.spec = spec;
    request.process = std::move(process);
    request.init_pid = container->init.pid();
    request.init_start_time = container->start_time;
    request.cgroup = container->cgroup;
    request.stdio = {{}, out.write, err.write};
    request.deadline = Deadline::after_ms(20'000);
    auto executed = runtime::exec(request);
    out.write.reset();
    err.write.reset();
    Outcome outcome;
    if (!executed.ok()) {
      outcome.error = executed.error().message();
      outcome.error_code = executed.error().code();
      return outcome;
    }
    outcome.out = *sys::read_all(out.read, 1U << 20U);
    outcome.err = *sys::read_all(err.read, 1U << 20U);
    auto status = executed->process.wait(Deadline::after_ms(20'000));
    if (status.ok() && *status) outcome.code = (*status)->shell_code();
    return outcome;
  }

  oci::Spec spec;
  std::optional<sys::OverlayMount> overlay;
  std::map<std::string, sys::OverlayMount> trees;
  bool no_pivot = false;
  std::unique_ptr<Created> container;

 private:
  sys::TempDir dir_;
  std::string id_;
  sys::Fd gate_;
  sys::Fd report_;
  sys::Pipe out_;
  sys::Pipe err_;
};

}  // namespace fluyt::runtime
