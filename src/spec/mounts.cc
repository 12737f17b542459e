#include "spec/mounts.h"

#include <algorithm>
#include <map>

#include "base/strings.h"

namespace fluyt::spec::internal {
namespace {

constexpr size_t kMaxMounts = 4096;
constexpr size_t kMaxPathBytes = 4095;  // PATH_MAX without its NUL

using Options = std::vector<std::string>;

std::string_view propagation_option(Propagation propagation) {
  switch (propagation) {
    case Propagation::kHostToContainer:
      return "rslave";
    case Propagation::kBidirectional:
      return "rshared";
    case Propagation::kPrivate:
      break;
  }
  return "rprivate";
}

/// Lexically: no empty words, no "."; ".." is refused, since what it means depends on the image.
Result<std::string> clean_path(std::string_view field, std::string_view path) {
  const auto wrong = [&](std::string_view expected) {
    return Error(Code::kInvalidArgument, cat(field, ": ", quote(path), ": expected ", expected));
  };
  if (!path.starts_with('/') || path.size() > kMaxPathBytes || !is_utf8(path) ||
      path.find('\0') != std::string_view::npos) {
    return wrong("an absolute path");
  }
  std::string out;
  for (const std::string_view word : split(path, '/')) {
    if (word == "..") {
      return wrong("a path without \"..\"");
    }
    if (!word.empty() && word != ".") {
      out += cat("/", word);
    }
  }
  return out.empty() ? "/" : out;
}

oci::Mount bind(std::string destination, std::string source, std::string_view access,
                std::string_view propagation) {
  return {.destination = std::move(destination),
          .type = "bind",
          .source = std::move(source),
          .options = {"rbind", std::string(propagation), std::string(access)}};
}

std::vector<oci::Mount> kernel_mounts(const Container& container) {
  const std::string access = container.security.privileged ? "rw" : "ro";
  return {
      {.destination = "/proc",
       .type = "proc",
       .source = "proc",
       .options = {"nosuid", "noexec", "nodev"}},
      {.destination = "/dev",
       .type = "tmpfs",
       .source = "tmpfs",
       .options = {"nosuid", "strictatime", "mode=755", "size=65536k"}},
      {.destination = "/sys",
       .type = "sysfs",
       .source = "sysfs",
       .options = {"nosuid", "noexec", "nodev", access}},
      {.destination = "/dev/pts",
       .type = "devpts",
       .source = "devpts",
       .options = {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
      {.destination = "/dev/mqueue",
       .type = "mqueue",
       .source = "mqueue",
       .options = {"nosuid", "noexec", "nodev"}},
      {.destination = "/sys/fs/cgroup",
       .type = "cgroup",
       .source = "cgroup",
       .options = {"nosuid", "noexec", "nodev", "relatime", access}},
  };
}

std::vector<oci::Mount> sandbox_mounts(const Container& container, const Sandbox& sandbox) {
  std::vector<oci::Mount> out;
  const std::string_view access = container.security.readonly_rootfs ? "ro" : "rw";
  const std::pair<const char*, const std::string*> files[] = {
      {"/etc/hostname", &sandbox.hostname_file},
      {"/etc/hosts", &sandbox.hosts},
      {"/etc/resolv.conf", &sandbox.resolv_conf}};
  for (const auto& [destination, source] : files) {
    if (!source->empty()) {
      out.push_back(bind(destination, *source, access, "rprivate"));
    }
  }
  if (sandbox.shm.empty()) {
    out.push_back({.destination = "/dev/shm",
                   .type = "tmpfs",
                   .source = "shm",
                   .options = {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}});
  } else {
    out.push_back(bind("/dev/shm", sandbox.shm, "rw", "rprivate"));
  }
  return out;
}

Result<> check_asked(const Mount& mount, const std::string& field) {
  if (mount.recursive_readonly && !mount.readonly) {
    return Error(Code::kInvalidArgument,
                 cat(field, ".recursive_read_only: expected readonly beside it"));
  }
  if (mount.recursive_readonly && mount.propagation != Propagation::kPrivate) {
    return Error(Code::kInvalidArgument,
                 cat(field, ".recursive_read_only: expected propagation PRIVATE beside it"));
  }
  if (mount.uid_mappings.empty() != mount.gid_mappings.empty()) {
    return Error(Code::kInvalidArgument,
                 cat(field, ": expected uidMappings and gidMappings, or neither"));
  }
  return {};
}

Result<oci::Mount> asked_mount(const Mount& mount, const std::string& field) {
  FLUYT_TRY(check_asked(mount, field));
  std::string destination = FLUYT_TRY(clean_path(field + ".container_path", mount.container_path));
  std::string source = FLUYT_TRY(clean_path(field + ".host_path", mount.host_path));
  if (destination == "/") {
    return Error(Code::kInvalidArgument,
                 cat(field, ".container_path: \"/\": expected a path below the root"));
  }
  const std::string_view access = mount.recursive_readonly ? "rro" : (mount.readonly ? "ro" : "rw");
  oci::Mount out = bind(std::move(destination), std::move(source), access,
                        propagation_option(mount.propagation));
  if (mount.image) {  // data: what it says of devices and of whose rights it runs with is not ours
    for (const char* option : {"nosuid", "nodev"}) out.options.emplace_back(option);
  }
  out.uid_mappings = mount.uid_mappings;
  out.gid_mappings = mount.gid_mappings;
  if (!out.uid_mappings.empty()) {
    out.options.emplace_back("idmap");
  }
  return out;
}

size_t depth(const oci::Mount& mount) {
  return static_cast<size_t>(std::count(mount.destination.begin(), mount.destination.end(), '/'));
}

/// In the given order otherwise: of two at one path the later covers the earlier.
std::vector<oci::Mount> parents_first(std::vector<oci::Mount> mounts) {
  std::multimap<size_t, oci::Mount> by_depth;
  for (oci::Mount& mount : mounts) {
    const size_t words = depth(mount);
    by_depth.emplace(words, std::move(mount));
  }
  mounts.clear();
  for (auto& [words, mount] : by_depth) {
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

/// The root must let through what a mount in it is to get from the host, or give back.
std::string rootfs_propagation(const std::vector<Mount>& asked) {
  std::string out;
  for (const Mount& mount : asked) {
    if (mount.propagation == Propagation::kBidirectional) {
      return "rshared";
    }
    if (mount.propagation == Propagation::kHostToContainer) {
      out = "rslave";
    }
  }
  return out;
}

bool is_below(std::string_view path, std::string_view folder) {
  return path == folder ||
         (path.starts_with(folder) && path.size() > folder.size() && path[folder.size()] == '/');
}

}  // namespace

Result<MountPlan> plan_mounts(const Container& container, const Sandbox& sandbox) {
  if (container.mounts.size() > kMaxMounts) {
    return Error(Code::kInvalidArgument,
                 cat("mounts: ", container.mounts.size(), ": expected at most ", kMaxMounts));
  }
  std::vector<oci::Mount> asked;
  asked.reserve(container.mounts.size());
  for (size_t i = 0; i < container.mounts.size(); ++i) {
    asked.push_back(FLUYT_TRY(asked_mount(container.mounts[i], cat("mounts[", i, "]"))));
  }
  MountPlan plan;
  plan.mounts = kernel_mounts(container);
  const auto files = sandbox_mounts(container, sandbox);
  plan.mounts.insert(plan.mounts.end(), files.begin(), files.end());
  // A whole /dev that is asked for comes with what is in it.
  std::erase_if(plan.mounts, [&](const oci::Mount& usual) {
    return std::any_of(asked.begin(), asked.end(), [&](const oci::Mount& one) {
      return one.destination == usual.destination ||
             (one.destination == "/dev" && is_below(usual.destination, "/dev"));
    });
  });
  plan.mounts.insert(plan.mounts.end(), asked.begin(), asked.end());
  plan.mounts = parents_first(std::move(plan.mounts));
  plan.rootfs_propagation = rootfs_propagation(container.mounts);
  return plan;
}

}  // namespace fluyt::spec::internal
