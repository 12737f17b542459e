#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "runtime/container_test_box.h"

// Mounts and devices beyond the ordinary ones of container_test.cc.
namespace fluyt::runtime {
namespace {

using testing::HasSubstr;
using testing::Not;

void add_user_namespace(oci::Spec& spec, uint32_t first, uint32_t size = 65536) {
  spec.linux_->namespaces.push_back({.type = oci::NamespaceType::kUser, .path = {}});
  spec.linux_->uid_mappings = {{.container_id = 0, .host_id = first, .size = size}};
  spec.linux_->gid_mappings = spec.linux_->uid_mappings;
}

void give_root_to(const Box& box, uid_t id) {
  for (const char* folder : {"", "/rootfs", "/rootfs/bin", "/rootfs/etc", "/rootfs/tmp"}) {
    ASSERT_EQ(chown(box.path(folder).c_str(), id, id), 0);
  }
}

TEST(Mounts, BindAtSlashIsTheRoot) {
  FLUYT_NEEDS_ROOT();
  Box box;
  Box other;
  other.write("/rootfs/etc/which", "the other\n");
  box.spec.mounts.insert(
      box.spec.mounts.begin(),
      {.destination = "/", .source = other.path("/rootfs"), .options = {"rbind", "ro"}});
  const Outcome outcome = box.shell("cat /etc/which; touch /etc/x 2>/dev/null && echo BAD");
  EXPECT_EQ(outcome.out, "the other\n") << outcome.error << outcome.err;
}

TEST(Mounts, TmpfsHasTheModeOfWhatItCovers) {
  FLUYT_NEEDS_ROOT();
  Box box;
  mkdir(box.path("/rootfs/hold").c_str(), 0700);
  ASSERT_EQ(chmod(box.path("/rootfs/hold").c_str(), 0712), 0);
  box.spec.mounts.push_back({.destination = "/hold", .type = "tmpfs", .source = "tmpfs"});
  box.spec.mounts.push_back({.destination = "/new", .type = "tmpfs", .source = "tmpfs"});
  box.spec.mounts.push_back({.destination = "/own",
                             .type = "tmpfs",
                             .source = "tmpfs",
                             .options = {"mode=0700", "rro", "size=64k"}});
  const Outcome outcome = box.shell(
      "stat -c %a /hold /new /own; touch /own/x 2>/dev/null && echo BAD; grep ' /own ' "
      "/proc/self/mountinfo");
  EXPECT_THAT(outcome.out, HasSubstr("712\n1777\n700\n")) << outcome.error << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("size=64k"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("BAD")));
}

TEST(Mounts, RemountTakesRecursiveOptionsToo) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.mounts.push_back({.destination = "/a", .type = "tmpfs", .source = "tmpfs"});
  box.spec.mounts.push_back({.destination = "/a/b", .type = "tmpfs", .source = "tmpfs"});
  box.spec.mounts.push_back({.destination = "/a", .options = {"remount", "rro"}});
  EXPECT_EQ(box.shell("touch /a/x /a/b/x 2>/dev/null; ls /a/x /a/b/x 2>/dev/null").out, "");
}

TEST(Mounts, RemountHasOptionsOfTheFileSystem) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.mounts.push_back(
      {.destination = "/a", .type = "tmpfs", .source = "tmpfs", .options = {"size=64m"}});
  box.spec.mounts.push_back({.destination = "/a", .options = {"remount", "nosuid", "size=1m"}});
  EXPECT_THAT(box.shell("grep ' /a ' /proc/self/mountinfo").out,
              ::testing::AllOf(HasSubstr("size=1024k"), HasSubstr("nosuid")));
  box.spec.mounts.back().options = {"remount", "no-such=1"};
  EXPECT_THAT(box.shell("true").error, HasSubstr("no-such"));
}

// Those that the caller makes, cgroups, and what a remount changes, as all others.
TEST(Mounts, PropagationOfEveryKindIsAsAsked) {
  FLUYT_NEEDS_ROOT();
  Box box;
  mkdir(box.path("/lower").c_str(), 0755);
  const std::string layers = cat("lowerdir=", box.path("/lower"), ":", box.path("/outside"));
  for (const char* word : {"", "shared"}) {
    box.spec.mounts.push_back({.destination = cat("/disk", word),
                               .type = "overlay",
                               .source = "overlay",
                               .options = {layers, word}});
    const std::string changed = cat("/changed", word);
    box.spec.mounts.push_back({.destination = changed, .type = "tmpfs", .source = "tmpfs"});
    box.spec.mounts.push_back({.destination = changed, .options = {"remount", word}});
  }
  for (oci::Mount& mount : box.spec.mounts) {
    if (mount.type == "cgroup") mount.options.emplace_back("shared");
  }
  const Outcome outcome = box.shell("cat /proc/self/mountinfo");
  EXPECT_EQ(outcome.error, "");
  std::map<std::string, bool> shared;
  for (const std::string_view line : split(outcome.out, '\n')) {
    const auto fields = split(line, ' ');
    if (fields.size() > 6)
      shared[std::string(fields[4])] = line.find(" shared:") != std::string_view::npos;
  }
  const std::map<std::string, bool> expected{{"/disk", false},
                                             {"/diskshared", true},
                                             {"/changed", false},
                                             {"/changedshared", true},
                                             {"/sys/fs/cgroup", true}};
  for (const auto& [place, is_shared] : expected) {
    ASSERT_TRUE(shared.contains(place)) << place << "\n" << outcome.out;
    EXPECT_EQ(shared[place], is_shared) << place;
  }
}

TEST(Mounts, LinksAreBoundCoveredAndCopiedWhereAskedTo) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.write("/outside/file", "cargo\n");
  ASSERT_EQ(symlink("file", box.path("/outside/link").c_str()), 0);
  ASSERT_EQ(symlink("nowhere", box.path("/rootfs/covered").c_str()), 0);
  box.spec.mounts.push_back({.destination = "/covered",
                             .source = box.path("/outside/link"),
                             .options = {"bind", "dest-nofollow"}});
  box.spec.mounts.push_back({.destination = "/itself",
                             .source = box.path("/outside/link"),
                             .options = {"bind", "dest-nofollow", "src-nofollow"}});
  box.spec.mounts.push_back({.destination = "/a/copied",
                             .source = box.path("/outside/link"),
                             .options = {"rbind", "copy-symlink"}});
  const Outcome outcome = box.shell("cat /covered; readlink /itself; readlink /a/copied");
  EXPECT_EQ(outcome.out, "cargo\nfile\nfile\n") << outcome.error << outcome.err;
  EXPECT_FALSE(sys::exists(box.path("/rootfs/nowhere")));
}

TEST(Mounts, CopiedLinkDoesNotLeaveTheRoot) {
  FLUYT_NEEDS_ROOT();
  Box box;
  ASSERT_EQ(symlink("text", box.path("/outside/link").c_str()), 0);
  ASSERT_EQ(symlink("../../outside", box.path("/rootfs/a").c_str()), 0);
  box.spec.mounts.push_back({.destination = "/a/copied",
                             .source = box.path("/outside/link"),
                             .options = {"bind", "copy-symlink"}});
  EXPECT_EQ(box.shell("readlink /outside/copied").out, "text\n");
  EXPECT_FALSE(sys::exists(box.path("/outside/copied")));
}

TEST(Mounts, IdMapsOfEveryForm) {
  FLUYT_NEEDS_ROOT();
  auto shown = [](std::vector<std::string> options, std::vector<oci::IdMapping> mappings,
                  bool user_namespace) {
    Box box;
    mkdir(box.path("/outside/below").c_str(), 0755);
    EXPECT_EQ(chown(box.path("/outside").c_str(), 0, 0), 0);
    if (user_namespace) {
      add_user_namespace(box.spec, 100000);
      give_root_to(box, 100000);
    }
    options.insert(options.begin(), "bind");
    box.spec.mounts.push_back({.destination = "/m",
                               .source = box.path("/outside"),
                               .options = std::move(options),
                               .uid_mappings = mappings,
                               .gid_mappings = mappings});
    const Outcome outcome = box.shell("stat -c %u:%g /m");
    return outcome.error.empty() ? outcome.out : outcome.error;
  };
  // The container's mapping: what is 0 outside is 0 inside.
  EXPECT_EQ(shown({"idmap"}, {}, true), "0:0\n");
  EXPECT_EQ(shown({"ridmap"}, {}, true), "0:0\n");
  // A mapping of its own, with and without a user namespace.
  EXPECT_EQ(shown({"idmap"}, {{.container_id = 0, .host_id = 100007, .size = 1}}, true), "7:7\n");
  EXPECT_EQ(shown({}, {{.container_id = 0, .host_id = 42, .size = 1}}, false), "42:42\n");
  EXPECT_THAT(shown({"idmap"}, {}, false), HasSubstr("\"idmap\": needs mappings"));
}

TEST(Mounts, MapsIdsOfWhatAnEarlierMountShows) {
  FLUYT_NEEDS_ROOT();
  auto shown = [](std::vector<oci::IdMapping> mappings, bool user_namespace) {
    Box box;
    EXPECT_EQ(chown(box.path("/outside").c_str(), 0, 0), 0);
    box.write("/outside/file", "x", 0644);
    if (user_namespace) {
      add_user_namespace(box.spec, 100000);
      give_root_to(box, 100000);
    }
    box.spec.mounts.push_back(
        {.destination = "/first", .source = box.path("/outside"), .options = {"bind"}});
    box.spec.mounts.push_back({.destination = "/again",
                               .source = box.path("/rootfs/first"),
                               .options = {"rbind", "idmap"},
                               .uid_mappings = mappings,
                               .gid_mappings = mappings});
    const Outcome outcome = box.shell("stat -c %u:%g /again /again/file /first");
    return outcome.error.empty() ? outcome.out : outcome.error;
  };
  EXPECT_EQ(shown({}, true), "0:0\n0:0\n65534:65534\n");
  EXPECT_EQ(shown({{.container_id = 0, .host_id = 100007, .size = 1}}, true),
            "7:7\n7:7\n65534:65534\n");
  EXPECT_EQ(shown({{.container_id = 0, .host_id = 42, .size = 1}}, false), "42:42\n42:42\n0:0\n");
}

// A file system in user space with an empty root directory that it shows to its owner alone.
class OwnersFileSystem {
 public:
  explicit OwnersFileSystem(std::string place) : place_(std::move(place)) {
    device_ = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    const std::string options = cat("fd=", device_, ",rootmode=40000,user_id=0,group_id=0");
    mounted_ = device_ >= 0 && mount("test", place_.c_str(), "fuse", 0, options.c_str()) == 0;
    if (!mounted_) return;
    server_ = fork();
    if (server_ == 0) serve();
  }
  OwnersFileSystem(const OwnersFileSystem&) = delete;
  OwnersFileSystem& operator=(const OwnersFileSystem&) = delete;
  ~OwnersFileSystem() {
    if (mounted_) umount2(place_.c_str(), MNT_DETACH);
    if (server_ > 0) {
      ::kill(server_, SIGKILL);
      waitpid(server_, nullptr, 0);
    }
    if (device_ >= 0) close(device_);
  }
  bool mounted() const { return mounted_; }

 private:
  template <class Body>
  void answer(uint64_t unique, int error, const Body& body, size_t size) const {
    std::array<char, 512> packet{};
    const fuse_out_header header{
        .len = static_cast<uint32_t>(sizeof header + size), .error = error, .unique = unique};
    memcpy(packet.data(), &header, sizeof header);
    memcpy(packet.data() + sizeof header, &body, size);
    if (write(device_, packet.data(), header.len) < 0) _exit(1);
  }
  [[noreturn]] void serve() const {
    std::vector<char> request(1U << 20U);
    while (read(device_, request.data(), request.size()) > 0) {
      fuse_in_header in{};
      memcpy(&in, request.data(), sizeof in);
      if (in.opcode == FUSE_FORGET || in.opcode == FUSE_BATCH_FORGET) continue;
      if (in.opcode == FUSE_INIT) {
        fuse_init_out out{};
        out.major = FUSE_KERNEL_VERSION;
        out.minor = 31;
        out.max_write = 4096;
        answer(in.unique, 0, out, sizeof out);
      } else if (in.opcode == FUSE_GETATTR) {
        fuse_attr_out out{};
        out.attr.ino = 1;
        out.attr.mode = S_IFDIR | 0755;
        out.attr.nlink = 2;
        answer(in.unique, 0, out, sizeof out);
      } else {
        answer(in.unique, -ENOSYS, 0, 0);
      }
    }
    _exit(0);
  }
  std::string place_;
  int device_ = -1;
  bool mounted_ = false;
  pid_t server_ = -1;
};

// Its owner is the host's root; the container's, another user, may not even look at it.
TEST(Mounts, BindsAFileSystemThatShutsTheContainerOut) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const OwnersFileSystem files(box.path("/outside"));
  if (!files.mounted()) GTEST_SKIP() << "no file systems in user space here";
  add_user_namespace(box.spec, 100000);
  give_root_to(box, 100000);
  box.spec.mounts.push_back(
      {.destination = "/mnt", .source = box.path("/outside"), .options = {"bind"}});
  const Outcome outcome = box.shell("grep -c ' /mnt .*fuse' /proc/self/mountinfo; ls /mnt");
  EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(outcome.out, "1\n");
  EXPECT_THAT(outcome.err, HasSubstr("denied"));
}

// procfs cannot be mapped: the maker's reason is told, and for which mount.
TEST(Mounts, SaysWhyAnEarlierMountCannotBeMapped) {
  FLUYT_NEEDS_ROOT();
  Box box;
  add_user_namespace(box.spec, 100000);
  give_root_to(box, 100000);
  box.spec.mounts.push_back(
      {.destination = "/again", .source = box.path("/rootfs/proc"), .options = {"bind", "idmap"}});
  const Outcome outcome = box.shell("true");
  EXPECT_THAT(outcome.error, HasSubstr("\"/again\""));
  EXPECT_THAT(outcome.error, HasSubstr("mount_setattr"));
}

TEST(Mounts, StandInTheSpecificationsOrderInAUserNamespaceToo) {
  FLUYT_NEEDS_ROOT();
  Box box;
  add_user_namespace(box.spec, 100000);
  give_root_to(box, 100000);
  const Outcome outcome = box.shell("cat /proc/self/mountinfo");
  size_t at = 0;
  for (const oci::Mount& mount : box.spec.mounts) {
    const size_t found = outcome.out.find(cat(" ", mount.destination, " "));
    ASSERT_NE(found, std::string::npos) << mount.destination << outcome.error << outcome.out;
    EXPECT_GT(found, at) << mount.destination << "\n" << outcome.out;
    at = found;
  }
}

TEST(Mounts, SysfsWithoutARightToItsNetworkIsTheHostsAndReadOnly) {
  FLUYT_NEEDS_ROOT();
  Box box;
  add_user_namespace(box.spec, 0, 1);
  std::erase_if(box.spec.linux_->namespaces,
                [](auto& n) { return n.type == oci::NamespaceType::kNetwork; });
  box.spec.mounts = {{.destination = "/proc", .type = "proc", .source = "proc"},
                     {.destination = "/sys", .type = "sysfs", .source = "sysfs"}};
  box.spec.linux_->readonly_paths.clear();
  const Outcome outcome =
      box.shell("ls -d /sys/kernel; ls /sys/fs/cgroup | wc -l; grep ' /sys ' /proc/self/mountinfo");
  EXPECT_THAT(outcome.out, HasSubstr("/sys/kernel\n0\n")) << outcome.error << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr(" ro,nosuid,nodev,noexec"));
}

TEST(Devices, OfAUserNamespaceAreMadeAsAsked) {
  FLUYT_NEEDS_ROOT();
  Box box;
  add_user_namespace(box.spec, 100000);
  give_root_to(box, 100000);
  box.spec.linux_->devices = {{.path = "/dev/deep/nothing",
                               .type = 'c',
                               .major = 1,
                               .minor = 3,
                               .file_mode = 0640,
                               .uid = 10,
                               .gid = 11},
                              {.path = "/dev/queue", .type = 'p', .file_mode = 0622}};
  const Outcome outcome = box.shell(
      "stat -c '%a %u %g' /dev/deep/nothing; test -p /dev/queue && stat -c %a /dev/queue;"
      "echo x > /dev/null && stat -c '%a %u' /dev/null; grep -c ' /dev/[a-z/]* .*nosuid,noexec' "
      "/proc/self/mountinfo");
  EXPECT_THAT(outcome.out, HasSubstr("640 10 11\n622\n666 0\n")) << outcome.error << outcome.err;
  // What the container does to its nodes it does to its own.
  struct stat host{};
  ASSERT_EQ(stat("/dev/null", &host), 0);
  EXPECT_EQ(host.st_uid, 0U);
}

TEST(Devices, AnotherFileInTheirPlaceIsAnError) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.write("/rootfs/etc/taken", "a file\n");
  box.spec.linux_->devices = {{.path = "/etc/taken", .type = 'c', .major = 1, .minor = 3}};
  EXPECT_THAT(box.run({"true"}).error,
              HasSubstr("linux.devices: \"/etc/taken\": another file is there already"));
  ASSERT_EQ(unlink(box.path("/rootfs/etc/taken").c_str()), 0);
  ASSERT_EQ(mknod(box.path("/rootfs/etc/taken").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  EXPECT_EQ(box.run({"true"}).error, "");
}

TEST(Devices, DevOfTheImageThatIsALinkIsRefused) {
  FLUYT_NEEDS_ROOT();
  Box box;
  std::erase_if(box.spec.mounts,
                [](const oci::Mount& mount) { return mount.destination.starts_with("/dev"); });
  ASSERT_EQ(symlink("../../outside", box.path("/rootfs/dev").c_str()), 0);
  EXPECT_THAT(box.run({"true"}).error, HasSubstr("\"/dev\" of the root is no directory"));
  EXPECT_TRUE(sys::list_dir(box.path("/outside"))->empty());
}

}  // namespace
}  // namespace fluyt::runtime
