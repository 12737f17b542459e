#include "runtime/container.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <algorithm>

#include "runtime/container_test_box.h"

namespace fluyt::runtime {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string host_mounts() { return *sys::read_file("/proc/self/mountinfo", 1U << 20U); }

TEST(Create, ExitCodeAndOutputComeThroughPipes) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const std::string before = host_mounts();
  const Outcome outcome = box.shell("echo out; echo err >&2; exit 42");
  EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(outcome.code, 42);
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(outcome.err, "err\n");
  EXPECT_EQ(host_mounts(), before);
}

TEST(Create, NamespacesAreNew) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const Outcome outcome = box.shell(
      "for n in pid net mnt ipc uts cgroup; do readlink /proc/self/ns/$n; done; hostname; echo $$;"
      "cat /sys/class/net/lo/flags; ls /sys/class/net");
  ASSERT_EQ(outcome.code, 0) << outcome.error << outcome.err;
  for (const char* name : {"pid", "net", "mnt", "ipc", "uts", "cgroup"}) {
    const std::string ours = *sys::read_link(sys::kCwd, cat("/proc/self/ns/", name));
    EXPECT_THAT(outcome.out, Not(HasSubstr(ours))) << name;
  }
  EXPECT_THAT(outcome.out, HasSubstr("fluyt\n1\n0x9\n"));
}

TEST(Create, MasksAndReadOnlyPathsHold) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const Outcome outcome = box.shell(
      "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; touch /sys/firmware/x 2>/dev/null && "
      "echo BAD;"
      "echo 1 2>/dev/null > /proc/sys/kernel/shm_rmid_forced && echo BAD;"
      "echo h 2>/dev/null > /proc/sysrq-trigger && echo BAD; exit 0");
  ASSERT_EQ(outcome.code, 0) << outcome.error << outcome.err;
  EXPECT_EQ(outcome.out, "0\n0\n");
}

TEST(Create, IdentityIsAsAsked) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->user = {.uid = 1000, .gid = 1001, .umask = 027, .additional_gids = {7}};
  const Outcome outcome = box.shell(
      "id -u; id -g; id -G; umask; echo $HOME; grep -E '^(Cap|NoNew)' /proc/self/status; ulimit "
      "-n");
  ASSERT_EQ(outcome.code, 0) << outcome.error << outcome.err;
  // id prints the primary group with the others.
  EXPECT_THAT(outcome.out, HasSubstr("1000\n1001\n1001 7\n0027\n/home/sailor\n"));
  EXPECT_THAT(box.shell("grep ^Groups /proc/self/status").out, HasSubstr("Groups:\t7 \n"));
  EXPECT_THAT(outcome.out, HasSubstr("CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n"));
  EXPECT_THAT(outcome.out, HasSubstr("CapBnd:\t0000000020000420\nCapAmb:\t0000000000000000\n"));
  EXPECT_THAT(outcome.out, HasSubstr("NoNewPrivs:\t1\n1024\n"));
}

TEST(Create, CapabilitiesOfRootAreOnlyThoseNamed) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const Outcome outcome = box.shell("grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status");
  EXPECT_EQ(outcome.out,
            "CapPrm:\t0000000020000420\nCapEff:\t0000000020000420\nCapBnd:\t0000000020000420\n")
      << outcome.error;
}

TEST(Create, NoCapabilitiesObjectIsNoCapability) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->capabilities.reset();
  EXPECT_EQ(box.shell("grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status").out,
            "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n");
}

// What a program needs that reads and writes, and nothing for us: no sendmsg, no poll.
TEST(Create, TightSeccompFilterDoesNotStopUs) {
  FLUYT_NEEDS_ROOT();
  Box box;
  oci::Seccomp seccomp;
  seccomp.default_action = "SCMP_ACT_ERRNO";
  seccomp.architectures = {"SCMP_ARCH_X86_64"};
  seccomp.syscalls = {
      {.names =
           {"read",   "write",     "close",      "execve",     "exit_group",      "brk",
            "mmap",   "munmap",    "mprotect",   "arch_prctl", "set_tid_address", "set_robust_list",
            "rseq",   "prlimit64", "readlink",   "readlinkat", "getrandom",       "open",
            "openat", "fstat",     "newfstatat", "sendfile",   "getuid",          "fadvise64",
            "ioctl",  "prctl"},
       .action = "SCMP_ACT_ALLOW",
       .errno_ret = {},
       .args = {}}};
  box.spec.linux_->seccomp = seccomp;
  const Outcome outcome = box.run({"cat", "/etc/passwd"});
  EXPECT_EQ(outcome.code, 0) << outcome.error << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("sailor"));
}

// A profile older than faccessat2, clone3 and close_range, put on before the identity is taken.
TEST(Create, OldSeccompProfileDoesNotStopUs) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->no_new_privileges = false;
  oci::Seccomp seccomp;
  seccomp.default_action = "SCMP_ACT_ALLOW";
  seccomp.architectures = {"SCMP_ARCH_X86_64"};
  seccomp.syscalls = {{.names = {"faccessat2", "clone3", "close_range", "openat2", "statx"},
                       .action = "SCMP_ACT_ERRNO",
                       .errno_ret = 1,
                       .args = {}}};
  box.spec.linux_->seccomp = seccomp;
  const Outcome outcome = box.shell("cat /etc/passwd; ls /proc/self/fd");
  EXPECT_THAT(outcome.out, HasSubstr("sailor")) << outcome.error << outcome.err;
  EXPECT_THAT(outcome.out, testing::EndsWith("\n0\n1\n2\n3\n"));
  EXPECT_THAT(box.run({"/etc/passwd"}).error, HasSubstr("permission denied"));
}

TEST(Create, SeccompFilterWorks) {
  FLUYT_NEEDS_ROOT();
  for (const bool no_new_privileges : {true, false}) {
    Box box;
    box.spec.process->no_new_privileges = no_new_privileges;
    oci::Seccomp seccomp;
    seccomp.default_action = "SCMP_ACT_ALLOW";
    seccomp.architectures = {"SCMP_ARCH_X86_64"};
    seccomp.syscalls = {
        {.names = {"mkdir", "mkdirat"}, .action = "SCMP_ACT_ERRNO", .errno_ret = 95, .args = {}}};
    box.spec.linux_->seccomp = seccomp;
    const Outcome outcome = box.shell("mkdir /tmp/x; grep ^Seccomp: /proc/self/status");
    EXPECT_THAT(outcome.err, HasSubstr("Operation not supported")) << outcome.error;
    EXPECT_EQ(outcome.out, "Seccomp:\t2\n");
  }
}

TEST(Create, NoDescriptorOfOursIsInherited) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const sys::Fd secret = *sys::open("/", O_PATH | O_DIRECTORY);
  ASSERT_EQ(fcntl(secret.raw(), F_SETFD, 0), 0);  // even one without close-on-exec
  const Outcome outcome = box.shell("ls /proc/self/fd");
  EXPECT_EQ(outcome.out, "0\n1\n2\n3\n") << outcome.error;  // 3 is ls's own
}

TEST(Create, WorkingDirectoryThroughADescriptorIsRefused) {
  FLUYT_NEEDS_ROOT();
  for (int fd = 3; fd < 24; ++fd) {
    Box box;
    box.spec.process->cwd = cat("/proc/self/fd/", fd);
    const Outcome outcome = box.run({"pwd"});
    // Either it cannot be entered, or what it leads to is within the container's root.
    if (outcome.code == 0) {
      EXPECT_THAT(outcome.out, testing::StartsWith("/")) << fd;
      EXPECT_THAT(outcome.out, Not(HasSubstr("unreachable"))) << fd;
    } else {
      EXPECT_THAT(outcome.error, HasSubstr("process.cwd")) << fd;
    }
  }
}

TEST(Create, MissingWorkingDirectoryIsMade) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->cwd = "/var/lib/app";
  EXPECT_EQ(box.run({"pwd"}).out, "/var/lib/app\n");
}

TEST(Create, MissingProgramIsNotFound) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const Outcome outcome = box.run({"no-such-program"});
  EXPECT_EQ(outcome.error_code, Code::kNotFound);
  EXPECT_THAT(outcome.error, HasSubstr("process.args[0]: \"no-such-program\": executable file not "
                                       "found in $PATH \"/usr/local/sbin"));
  EXPECT_EQ(box.run({"/etc/nothing"}).error_code, Code::kNotFound);
}

TEST(Create, ProgramThatIsNotExecutableIsPermissionDenied) {
  FLUYT_NEEDS_ROOT();
  Box box;
  EXPECT_EQ(box.run({"/etc/passwd"}).error_code, Code::kPermissionDenied);
  EXPECT_EQ(box.run({"/etc"}).error_code, Code::kPermissionDenied);
}

TEST(Create, ProgramThatCannotBeExecutedIsReportedAfterTheGate) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.write("/rootfs/bin/broken", "\x7f\x45LF nonsense", 0755);
  const Outcome outcome = box.run({"/bin/broken"});
  EXPECT_THAT(outcome.error, HasSubstr("exec /bin/broken: exec format error"));
  EXPECT_EQ(outcome.code, 1);
}

TEST(Create, EndOfFileAtTheGateRunsNothing) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->args = {"touch", "/tmp/ran"};
  auto gate = *sys::make_pipe();
  auto report = *sys::make_pipe();
  CreateRequest request;
  request.id = box.id();
  request.bundle = box.path("");
  request.spec = box.spec;
  request.gate = gate.read;
  request.report = report.write;
  auto created = create(request);
  ASSERT_TRUE(created.ok()) << created.error().message();
  gate.write.reset();
  ASSERT_TRUE(created->init.wait(Deadline::after_ms(10'000)).ok());
  EXPECT_FALSE(sys::exists(box.path("/rootfs/tmp/ran")));
  EXPECT_TRUE(remove_cgroup(created->cgroup, Deadline::after_ms(5000)).ok());
}

TEST(Create, ReadOnlyRoot) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.root->readonly = true;
  EXPECT_EQ(box.shell("touch /x 2>/dev/null || echo no; touch /dev/shm/x && echo yes").out,
            "no\nyes\n");
}

TEST(Create, OverlayRoot) {
  FLUYT_NEEDS_ROOT();
  Box box;
  // Overlay does not stack on every file system: an own tmpfs under it, in a mount namespace of its
  // own.
  for (const char* folder : {"/upper", "/work", "/low"}) mkdir(box.path(folder).c_str(), 0755);
  box.write("/low/who", "lower\n");
  box.overlay = sys::OverlayMount{.lower_dirs = {box.path("/low"), box.path("/rootfs")},
                                  .upper_dir = box.path("/upper"),
                                  .work_dir = box.path("/work")};
  const std::string before = host_mounts();
  const Outcome outcome = box.shell("cat /who; echo new > /made; echo $?");
  EXPECT_EQ(outcome.out, "lower\n0\n") << outcome.error << outcome.err;
  EXPECT_EQ(*sys::read_file(box.path("/upper/made"), 100), "new\n");
  EXPECT_EQ(host_mounts(), before);
}

TEST(Create, OverlayRootUnderTheIdsOfAUserNamespace) {
  FLUYT_NEEDS_ROOT();
  Box box;
  for (const char* folder : {"/upper", "/work"}) mkdir(box.path(folder).c_str(), 0755);
  box.write("/rootfs/private", "secret\n", 0600);
  ASSERT_EQ(chown(box.path("/rootfs/private").c_str(), 5, 6), 0);
  ASSERT_EQ(chown(box.path("/upper").c_str(), 100000, 100000), 0);
  box.spec.linux_->namespaces.push_back({.type = oci::NamespaceType::kUser, .path = {}});
  box.spec.linux_->uid_mappings = box.spec.linux_->gid_mappings = {{0, 100000, 65536}};
  box.overlay = sys::OverlayMount{{box.path("/rootfs")},
                                  box.path("/upper"),
                                  box.path("/work"),
                                  {{{0, 100000, 65536}}, {{0, 100000, 65536}}}};
  const std::string before = host_mounts();
  const Outcome outcome =
      box.shell("stat -c %u:%g /bin/busybox /private /; touch /made && chmod 4755 /made");
  EXPECT_EQ(outcome.out, "0:0\n5:6\n0:0\n") << outcome.error << outcome.err;
  EXPECT_EQ(sys::find_stat(sys::kCwd, box.path("/upper/made"))->value().st_uid, 100000U);
  EXPECT_EQ(sys::find_stat(sys::kCwd, box.path("/rootfs/private"))->value().st_uid, 5U);
  EXPECT_EQ(host_mounts(), before);
}

TEST(Create, ADirectoryAsTheRootUnderTheIdsOfAUserNamespace) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.linux_->namespaces.push_back({.type = oci::NamespaceType::kUser, .path = {}});
  box.spec.linux_->uid_mappings = box.spec.linux_->gid_mappings = {{0, 100000, 65536}};
  box.overlay =
      sys::OverlayMount{{}, box.path("/rootfs"), {}, {{{0, 100000, 65536}}, {{0, 100000, 65536}}}};
  const Outcome outcome = box.shell("stat -c %u /bin/busybox; touch /made && echo made");
  EXPECT_EQ(outcome.out, "0\nmade\n") << outcome.error << outcome.err;
}

TEST(Create, ATreeTakesThePlaceOfABindsSource) {
  FLUYT_NEEDS_ROOT();
  Box box;
  for (const char* folder : {"/low", "/low/sub"}) mkdir(box.path(folder).c_str(), 0755);
  box.write("/low/sub/one", "of the tree\n");
  box.trees["/named/so"] = {{box.path("/low"), box.path("/outside")}, {}, {}, {}, "sub"};
  box.spec.mounts.push_back({.destination = "/tree",
                             .type = "bind",
                             .source = "/named/so",
                             .options = {"rbind", "ro", "nosuid", "nodev"}});
  const std::string before = host_mounts();
  const Outcome outcome = box.shell("cat /tree/one; touch /tree/new 2>/dev/null || echo no");
  EXPECT_EQ(outcome.out, "of the tree\nno\n") << outcome.error << outcome.err;
  box.trees["/named/so"].sub_path = "none";
  EXPECT_THAT(box.run({"true"}).error, HasSubstr("\"/tree\""));
  EXPECT_EQ(host_mounts(), before);
}

TEST(Create, WithoutPivot) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.no_pivot = true;
  const Outcome outcome = box.shell("ls /; cd /; cd ../../..; ls; wc -l < /proc/self/mountinfo");
  EXPECT_THAT(outcome.out,
              testing::StartsWith("bin\ndev\netc\nproc\nsys\ntmp\nbin\ndev\netc\nproc\nsys\ntmp\n"))
      << outcome.error << outcome.err;
}

TEST(Create, SysctlIsOfTheContainer) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.linux_->sysctl = {{"net.ipv4.ip_forward", "1"}, {"kernel.shm_rmid_forced", "1"}};
  const Outcome outcome =
      box.shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced");
  EXPECT_EQ(outcome.out, "1\n1\n") << outcome.error;
}

TEST(Create, SysctlOfTheHostsOwnNamespaceIsRefused) {
  FLUYT_NEEDS_ROOT();
  Box box;
  for (oci::Namespace& space : box.spec.linux_->namespaces) {
    if (space.type == oci::NamespaceType::kNetwork) space.path = "/proc/self/ns/net";
  }
  box.spec.linux_->sysctl = {{"net.ipv4.ip_forward", "1"}};
  EXPECT_THAT(box.run({"true"}).error,
              HasSubstr("linux.sysctl[\"net.ipv4.ip_forward\"]: the namespace that the container "
                        "joins is the host's"));
}

TEST(Create, NothingIsLeftAfterAnError) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const std::string before = host_mounts();
  box.spec.mounts.push_back({.destination = "/data", .type = "no-such-fs", .source = "none"});
  const Outcome outcome = box.run({"true"});
  EXPECT_THAT(outcome.error, HasSubstr("mounts[7]: \"/data\""));
  EXPECT_EQ(host_mounts(), before);
  EXPECT_FALSE(sys::exists(cat("/sys/fs/cgroup/pids/fluyt-test/", box.id())));
}

TEST(Mounts, BindsOfDirectoriesAndFilesWithOptions) {
  FLUYT_NEEDS_ROOT();
  Box box;
  mkdir(box.path("/data").c_str(), 0755);
  box.write("/data/file", "hello\n");
  box.spec.mounts.push_back({.destination = "/mnt/deep/data",
                             .type = "bind",
                             .source = "data",
                             .options = {"rbind", "ro"}});
  box.spec.mounts.push_back({.destination = "/etc/one",
                             .type = "bind",
                             .source = box.path("/data/file"),
                             .options = {"bind"}});
  const Outcome outcome = box.shell(
      "cat /mnt/deep/data/file /etc/one; echo x 2>/dev/null > /mnt/deep/data/new || echo ro; echo "
      "y > /etc/one; cat /etc/one");
  EXPECT_EQ(outcome.out, "hello\nhello\nro\ny\n") << outcome.error << outcome.err;
}

TEST(Mounts, DanglingLinkInTheImageLeadsToWhereItPoints) {
  FLUYT_NEEDS_ROOT();
  Box box;
  mkdir(box.path("/data").c_str(), 0755);
  box.write("/data/file", "hello\n");
  ASSERT_EQ(symlink("/real/place", box.path("/rootfs/data").c_str()), 0);
  ASSERT_EQ(symlink("../../../../run/resolv", box.path("/rootfs/etc/resolv").c_str()), 0);
  box.spec.mounts.push_back(
      {.destination = "/data", .type = "bind", .source = "data", .options = {"rbind"}});
  box.spec.mounts.push_back(
      {.destination = "/etc/resolv", .type = "bind", .source = "data/file", .options = {"bind"}});
  const Outcome outcome = box.shell("cat /real/place/file /run/resolv");
  EXPECT_EQ(outcome.out, "hello\nhello\n") << outcome.error << outcome.err;
  EXPECT_FALSE(sys::exists("/real/place"));
}

TEST(Mounts, CopyUpKeepsWhatTheImageHas) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.mounts.push_back(
      {.destination = "/etc", .type = "tmpfs", .source = "tmpfs", .options = {"tmpcopyup"}});
  const Outcome outcome = box.shell("head -n 1 /etc/passwd; echo gone > /etc/passwd");
  EXPECT_EQ(outcome.out, "root:x:0:0::/root:/bin/sh\n") << outcome.error;
  EXPECT_THAT(*sys::read_file(box.path("/rootfs/etc/passwd"), 1000), HasSubstr("sailor"));
}

// Mounts made on the host after the container started show up below an rslave bind, and not below a
// private one. In a mount namespace of the test's own, so that the host sees nothing of it.
TEST(Mounts, PropagationIsAsAsked) {
  FLUYT_NEEDS_ROOT();
  ASSERT_EQ(unshare(CLONE_NEWNS), 0);
  ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  Box box;
  for (const char* folder : {"/vol", "/vol/sub"}) mkdir(box.path(folder).c_str(), 0755);
  ASSERT_EQ(::mount("vol", box.path("/vol").c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, box.path("/vol").c_str(), nullptr, MS_SHARED, nullptr), 0);
  mkdir(box.path("/vol/sub").c_str(), 0755);
  box.spec.mounts.push_back(
      {.destination = "/slave", .type = "bind", .source = "vol", .options = {"rbind", "rslave"}});
  box.spec.mounts.push_back(
      {.destination = "/private", .type = "bind", .source = "vol", .options = {"rbind"}});
  box.spec.process->args = {"sleep", "30"};
  Outcome outcome;
  ASSERT_TRUE(box.create(outcome)) << outcome.error;
  box.open_gate(outcome);
  ASSERT_EQ(::mount("late", box.path("/vol/sub").c_str(), "tmpfs", 0, nullptr), 0);
  box.write("/vol/sub/seen", "x");
  oci::Process process = *box.spec.process;
  process.args = {"ls", "/slave/sub", "/private/sub"};
  EXPECT_EQ(box.exec(process).out, "/private/sub:\n\n/slave/sub:\nseen\n");
  box.clean_up();
  umount2(box.path("/vol/sub").c_str(), MNT_DETACH);
  umount2(box.path("/vol").c_str(), MNT_DETACH);
}

TEST(Create, VariablesStandOnceWithTheLastValue) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->env = {"ONE=1", "HOME=/x", "PATH=/bin", "ONE=2", "HOME="};
  EXPECT_EQ(box.run({"env"}).out, "PATH=/bin\nONE=2\nHOME=/root\n");
}

TEST(Create, AffinityOfTheCallerIsNotPassedOn) {
  FLUYT_NEEDS_ROOT();
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  if (CPU_COUNT(&before) < 2) GTEST_SKIP() << "needs two CPUs";
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  }
  Box box;
  box.spec.process->args = {"sleep", "30"};
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  Outcome outcome;
  const bool created = box.create(outcome);
  Outcome inside;
  cpu_set_t got;
  CPU_ZERO(&got);
  if (created) {
    EXPECT_EQ(sched_getaffinity(box.container->init.pid(), sizeof got, &got), 0);
    box.open_gate(outcome);
    oci::Process process = *box.spec.process;
    process.args = {"sh", "-c", "grep -c '^Cpus_allowed_list:.0$' /proc/self/status"};
    inside = box.exec(process);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  ASSERT_TRUE(created) << outcome.error;
  EXPECT_GT(CPU_COUNT(&got), 1);
  EXPECT_EQ(inside.out, "0\n") << inside.error;
}

TEST(Mounts, CgroupsAreThoseOfTheContainer) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const Outcome outcome = box.shell(
      "cat /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | head -n 1;"
      "mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x 2>/dev/null || echo ro");
  EXPECT_EQ(outcome.out, "1\nro\n") << outcome.error << outcome.err;
}

// ---- attacks: what an image or a volume may hold
// -------------------------------------------------

TEST(Attack, ProcThatIsALinkIsRefused) {
  FLUYT_NEEDS_ROOT();
  Box box;
  mkdir(box.path("/rootfs/tmp/p").c_str(), 0755);
  ASSERT_EQ(symlink("/tmp/p", box.path("/rootfs/proc").c_str()), 0);
  const Outcome outcome = box.run({"true"});
  EXPECT_THAT(outcome.error,
              HasSubstr("mounts[0]: \"/proc\": must be mounted on ordinary directory"));
}

TEST(Attack, DevThatLeadsOutsideStaysInside) {
  FLUYT_NEEDS_ROOT();
  Box box;
  ASSERT_EQ(symlink("../../outside", box.path("/rootfs/dev").c_str()), 0);
  const Outcome outcome = box.shell("ls /outside/null");
  EXPECT_TRUE(sys::list_dir(box.path("/outside"))->empty());
  EXPECT_EQ(outcome.out, "/outside/null\n") << outcome.error;
}

TEST(Attack, TmpfsIsTheRootsDevLinksDoNotLeaveIt) {
  FLUYT_NEEDS_ROOT();
  Box box;
  // No tmpfs at /dev: the image's own /dev is what devices are made in.
  box.spec.mounts.erase(
      std::remove_if(box.spec.mounts.begin(), box.spec.mounts.end(),
                     [](const oci::Mount& m) { return m.destination.starts_with("/dev"); }),
      box.spec.mounts.end());
  mkdir(box.path("/rootfs/dev").c_str(), 0755);
  ASSERT_EQ(symlink(box.path("/outside/null").c_str(), box.path("/rootfs/dev/null").c_str()), 0);
  const Outcome outcome = box.run({"true"});
  EXPECT_THAT(outcome.error, HasSubstr("another file is there already"));
  EXPECT_TRUE(sys::list_dir(box.path("/outside"))->empty());
}

TEST(Attack, ConsoleThatIsALinkIsRefused) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->terminal = true;
  mkdir(box.path("/dev").c_str(), 0755);
  mkdir(box.path("/dev/pts").c_str(), 0755);
  ASSERT_EQ(symlink(box.path("/outside/console").c_str(), box.path("/dev/console").c_str()), 0);
  for (oci::Mount& mount : box.spec.mounts) {
    if (mount.destination == "/dev")
      mount = {.destination = "/dev", .type = "bind", .source = "dev", .options = {"bind"}};
  }
  std::erase_if(box.spec.mounts, [](const oci::Mount& m) {
    return m.destination == "/dev/shm" || m.destination == "/dev/mqueue";
  });
  const Outcome outcome = box.run({"true"});
  EXPECT_THAT(outcome.error, HasSubstr("/dev/console"));
  EXPECT_TRUE(sys::list_dir(box.path("/outside"))->empty());
}

TEST(Attack, LinkOfTheImageDoesNotLeadAMountOverProc) {
  FLUYT_NEEDS_ROOT();
  for (const char* where : {"/proc", "/proc/sys", "/sys/kernel", "/"}) {
    Box box;
    ASSERT_EQ(symlink(where, box.path("/rootfs/x").c_str()), 0);
    box.spec.mounts.push_back({.destination = "/x", .type = "tmpfs", .source = "tmpfs"});
    const Outcome outcome = box.run({"true"});
    EXPECT_THAT(outcome.error, HasSubstr("mounts[7]: \"/x\": a link of the image leads")) << where;
    box.spec.mounts.back() = {
        .destination = "/x", .type = "bind", .source = "outside", .options = {"bind"}};
    EXPECT_THAT(box.run({"true"}).error, HasSubstr("a link of the image leads")) << where;
  }
}

TEST(Attack, MountOverProcIsRefused) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.mounts.push_back({.destination = "/proc", .type = "tmpfs", .source = "tmpfs"});
  EXPECT_EQ(box.run({"true"}).error_code, Code::kInvalidArgument);
  box.spec.mounts.back().destination = "/proc/self/attr";
  EXPECT_EQ(box.run({"true"}).error_code, Code::kInvalidArgument);
}

// ---- joining ------------------------------------------------------------------------------------

TEST(Exec, RunsInTheContainer) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->args = {"sleep", "30"};
  Outcome outcome;
  ASSERT_TRUE(box.create(outcome)) << outcome.error;
  box.open_gate(outcome);
  oci::Process process = *box.spec.process;
  process.args = {"sh", "-c",
                  "readlink /proc/1/ns/mnt; readlink /proc/self/ns/mnt; ls /proc/self/fd; grep "
                  "CapEff /proc/self/status; exit 7"};
  const Outcome inside = box.exec(process);
  EXPECT_EQ(inside.error, "");
  EXPECT_EQ(inside.code, 7) << inside.err;
  const auto lines = split(inside.out, '\n');
  ASSERT_GE(lines.size(), 2U);
  EXPECT_EQ(lines[0], lines[1]);
  EXPECT_THAT(inside.out, HasSubstr("\n0\n1\n2\n3\nCapEff:\t0000000020000420\n"));
  process.args = {"nothing-there"};
  EXPECT_EQ(box.exec(process).error_code, Code::kNotFound);
  process.args = {"/etc/passwd"};
  EXPECT_EQ(box.exec(process).error_code, Code::kPermissionDenied);
}

// The processes that make the program's are counted in none of its limits.
TEST(Exec, LimitsCountTheProgramAlone) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->args = {"sleep", "30"};
  box.spec.linux_->resources->pids_limit = 2;
  Outcome outcome;
  ASSERT_TRUE(box.create(outcome)) << outcome.error;
  box.open_gate(outcome);
  oci::Process process = *box.spec.process;
  process.args = {"cat", "/etc/passwd"};
  process.user = {.uid = 4242, .gid = 4242, .umask = {}, .additional_gids = {}};
  process.rlimits.push_back({.type = "RLIMIT_NPROC", .soft = 1, .hard = 1});
  const Outcome inside = box.exec(process);
  EXPECT_EQ(inside.code, 0) << inside.error;
  EXPECT_THAT(inside.out, HasSubstr("sailor"));
}

TEST(Create, PidsLimitOfOneInASharedPidNamespace) {
  FLUYT_NEEDS_ROOT();
  Box first;
  first.spec.process->args = {"sleep", "30"};
  Outcome outcome;
  ASSERT_TRUE(first.create(outcome)) << outcome.error;
  first.open_gate(outcome);
  Box second;
  for (oci::Namespace& space : second.spec.linux_->namespaces) {
    if (space.type == oci::NamespaceType::kPid)
      space.path = cat("/proc/", first.container->init.pid(), "/ns/pid");
  }
  second.spec.linux_->resources->pids_limit = 1;
  EXPECT_THAT(second.run({"cat", "/etc/passwd"}).out, HasSubstr("sailor"));
}

// The old root stays, and with it the host's procfs: by it the kernel would judge a new one.
TEST(Create, WithoutPivotingNoBareProcfsCanBeMounted) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.no_pivot = true;
  for (auto* set :
       {&box.spec.process->capabilities->bounding, &box.spec.process->capabilities->permitted,
        &box.spec.process->capabilities->effective}) {
    set->emplace_back("CAP_SETFCAP");
  }
  const Outcome outcome = box.run(
      {"/bin/busybox", "unshare", "-mrpf", "sh", "-c", "mount -t proc none /proc && echo mounted"});
  EXPECT_THAT(outcome.err, HasSubstr("mount: permission denied")) << outcome.error;
  EXPECT_EQ(outcome.out, "");
}

TEST(Exec, RunsUnderTheContainersPersonality) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.linux_->personality = oci::Personality{.domain = "LINUX32"};
  box.spec.process->args = {"sleep", "30"};
  Outcome outcome;
  ASSERT_TRUE(box.create(outcome)) << outcome.error;
  box.open_gate(outcome);
  oci::Process process = *box.spec.process;
  process.args = {"sh", "-c", "cat /proc/self/personality"};
  EXPECT_EQ(box.exec(process).out, "00000008\n");
}

// Deadlines do not outlive a fork, and one comes before the program.
TEST(Exec, SchedulerIsTheProgramsOwn) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->args = {"sleep", "30"};
  Outcome outcome;
  ASSERT_TRUE(box.create(outcome)) << outcome.error;
  box.open_gate(outcome);
  oci::Process process = *box.spec.process;
  process.scheduler = oci::Scheduler{.policy = "SCHED_DEADLINE",
                                     .flags = {"SCHED_FLAG_RESET_ON_FORK"},
                                     .runtime = 42'000,
                                     .deadline = 100'000,
                                     .period = 1'000'000};
  process.args = {"grep", "^policy", "/proc/self/sched"};
  const Outcome inside = box.exec(process);
  if (inside.error_code == Code::kPermissionDenied) GTEST_SKIP() << inside.error;
  EXPECT_THAT(inside.out, HasSubstr(" 6\n")) << inside.error;
}

// The kernel keeps such signals from a PID namespace's first process that has no handler.
TEST(Create, SignalsEndAContainerThatWaitsAtItsGate) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->args = {"sleep", "30"};
  Outcome outcome;
  ASSERT_TRUE(box.create(outcome)) << outcome.error;
  ASSERT_TRUE(box.container->init.kill(SIGTERM).ok());
  const auto status = box.container->init.wait(Deadline::after_ms(5000));
  ASSERT_TRUE(status.ok() && *status);
  EXPECT_EQ((*status)->shell_code(), 128 + SIGTERM);
}

TEST(Hooks, EndedByASignalAreSaidToBe) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.hooks = oci::Hooks{};
  box.spec.hooks->create_runtime = {
      {.path = "/bin/sh", .args = {"sh", "-c", "kill -SYS $$"}, .env = {}, .timeout = {}}};
  EXPECT_THAT(box.run({"true"}).error, HasSubstr("signal 31: bad system call"));
}

TEST(Create, FilterWithoutCloseRange) {
  FLUYT_NEEDS_ROOT();
  for (const bool no_new_privileges : {true, false}) {
    Box box;
    box.spec.process->no_new_privileges = no_new_privileges;
    oci::Seccomp seccomp;
    seccomp.default_action = "SCMP_ACT_ALLOW";
    seccomp.syscalls = {{.names = {"close_range", "openat2", "open_tree", "move_mount"},
                         .action = "SCMP_ACT_ERRNO",
                         .errno_ret = 38,
                         .args = {}}};
    box.spec.linux_->seccomp = seccomp;
    const Outcome outcome = box.run({"ls", "/proc/self/fd"});
    EXPECT_EQ(outcome.out, "0\n1\n2\n3\n") << outcome.error << outcome.err;
  }
}

TEST(Exec, PausedContainerIsSaidToBe) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->args = {"sleep", "30"};
  Outcome outcome;
  ASSERT_TRUE(box.create(outcome)) << outcome.error;
  box.open_gate(outcome);
  ASSERT_TRUE(cgroup::freeze(box.container->cgroup, Deadline::after_ms(5000)).ok());
  const Outcome inside = box.exec(*box.spec.process);
  EXPECT_THAT(inside.error, HasSubstr("is paused"));
  EXPECT_TRUE(cgroup::thaw(box.container->cgroup).ok());
}

TEST(Exec, AnotherProcessUnderThePidIsNotFound) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->args = {"sleep", "30"};
  Outcome outcome;
  ASSERT_TRUE(box.create(outcome)) << outcome.error;
  box.open_gate(outcome);
  box.container->start_time += 1;
  EXPECT_EQ(box.exec(*box.spec.process).error_code, Code::kNotFound);
}

TEST(Create, JoinsNamespacesByPath) {
  FLUYT_NEEDS_ROOT();
  Box first;
  first.spec.process->args = {"sleep", "30"};
  Outcome outcome;
  ASSERT_TRUE(first.create(outcome)) << outcome.error;
  first.open_gate(outcome);
  const pid_t pid = first.container->init.pid();
  Box second;
  for (oci::Namespace& space : second.spec.linux_->namespaces) {
    if (space.type == oci::NamespaceType::kNetwork) space.path = cat("/proc/", pid, "/ns/net");
    if (space.type == oci::NamespaceType::kIpc) space.path = cat("/proc/", pid, "/ns/ipc");
    if (space.type == oci::NamespaceType::kPid) space.path = cat("/proc/", pid, "/ns/pid");
  }
  const Outcome joined =
      second.shell("readlink /proc/self/ns/net; ps | grep -c sleep; cat /proc/1/comm");
  EXPECT_THAT(joined.out, HasSubstr(*sys::read_link(sys::kCwd, cat("/proc/", pid, "/ns/net"))))
      << joined.error;
  EXPECT_THAT(joined.out, HasSubstr("sleep\n"));
  // A path of another type is refused by name.
  Box third;
  third.spec.linux_->namespaces[0].path = cat("/proc/", pid, "/ns/net");
  EXPECT_THAT(third.run({"true"}).error, HasSubstr("linux.namespaces[0].path"));
}

TEST(Create, UserNamespace) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.linux_->namespaces.push_back({.type = oci::NamespaceType::kUser, .path = {}});
  box.spec.linux_->uid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536}};
  box.spec.linux_->gid_mappings = {{.container_id = 0, .host_id = 100000, .size = 65536}};
  // The root belongs to the container's root, as a runtime expects to find it.
  for (const char* folder : {"", "/rootfs", "/rootfs/bin", "/rootfs/etc", "/rootfs/tmp"}) {
    ASSERT_EQ(chown(box.path(folder).c_str(), 100000, 100000), 0);
  }
  const Outcome outcome =
      box.shell("id -u; cat /proc/self/uid_map; echo x > /dev/null && ls /dev/zero");
  EXPECT_THAT(outcome.out, HasSubstr("0\n         0     100000      65536\n/dev/zero\n"))
      << outcome.error << outcome.err;
}

TEST(Create, TimeNamespace) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.linux_->namespaces.push_back({.type = oci::NamespaceType::kTime, .path = {}});
  box.spec.linux_->time_offsets = {{"boottime", {.secs = 864000000, .nanosecs = 0}}};
  const Outcome outcome = box.shell("cat /proc/uptime; echo $$");
  EXPECT_THAT(outcome.out, testing::StartsWith("8640")) << outcome.error << outcome.err;
  EXPECT_THAT(outcome.out, testing::EndsWith("\n1\n"));
}

TEST(Create, Terminal) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->terminal = true;
  box.spec.process->console_size = oci::ConsoleSize{.height = 33, .width = 101};
  box.spec.process->args = {
      "sh", "-c", "tty; stty size; ls -l /dev/console > /dev/null && echo console; sleep 1"};
  Outcome outcome;
  ASSERT_TRUE(box.create(outcome)) << outcome.error;
  ASSERT_TRUE(box.container->console.valid());
  box.open_gate(outcome);
  std::string out;
  char buffer[4096];
  while (true) {
    auto got = sys::read_some(box.container->console, buffer);
    if (!got.ok() || *got == 0) break;
    out.append(buffer, *got);
  }
  EXPECT_THAT(out, HasSubstr("/dev/pts/0\r\n33 101\r\nconsole\r\n"));
}

}  // namespace
}  // namespace fluyt::runtime
