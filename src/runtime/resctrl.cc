#include "runtime/resctrl.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>

#include "base/escapes.h"
#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::runtime::resctrl {

namespace {

constexpr uint64_t kMagic = 0x7655821;  // RDTGROUP_SUPER_MAGIC
constexpr size_t kMaxFile = 1U << 16U;
constexpr mode_t kMode = 0755;

bool has_schemata(const oci::IntelRdt& asked) {
  return !asked.l3_cache_schema.empty() || !asked.mem_bw_schema.empty() || !asked.schemata.empty();
}

const std::string& class_name(const oci::IntelRdt& asked, const std::string& id) {
  return asked.clos_id.empty() ? id : asked.clos_id;
}

Result<sys::Fd> open_dir(sys::FdRef parent, const std::string& name) {
  return sys::open_in(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0, sys::Resolve::kBeneath);
}

Result<sys::Fd> open_class(sys::FdRef root, const oci::IntelRdt& asked, const std::string& id) {
  // "/" is the class that everything is in by default: the root itself.
  return asked.clos_id == "/" ? sys::duplicate(root) : open_dir(root, class_name(asked, id));
}

// The kernel's own words for the last refusal.
std::string last_status(sys::FdRef root) {
  auto text = sys::read_file(root, "info/last_cmd_status", kMaxFile);
  return text.ok() ? std::string(trim(*text)) : std::string();
}

Error explain(Error error, sys::FdRef root) {
  const std::string status = last_status(root);
  if (status.empty() || status == "ok") return error;
  return Error(error.code(), cat(error.message(), ": ", status));
}

template <class T>
Result<T> explained(Result<T> result, sys::FdRef root) {
  if (result.ok()) return result;
  return explain(std::move(result).error(), root);
}

// One write is one request. The kernel makes no files here: on anything but resctrl they appear.
Result<> put(sys::FdRef group, const std::string& name, std::string_view text) {
  const sys::Fd file = FLUYT_TRY(sys::open(group, name, O_WRONLY | O_CREAT | O_NOFOLLOW, 0644));
  return sys::write_all(file, text);
}

Result<> write_lines(sys::FdRef root, sys::FdRef group, const oci::IntelRdt& asked) {
  return explained(put(group, "schemata", schemata_text(asked)), root);
}

Result<> remove_dir(sys::FdRef parent, const std::string& name) {
  if (unlinkat(parent.raw(), name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, cat("rmdir(resctrl ", quote(name), ")"));
  }
  return {};
}

struct Class {
  sys::Fd group;
  bool made = false;
};

Result<Class> make_class(sys::FdRef root, const oci::IntelRdt& asked, const std::string& id) {
  const std::string& name = class_name(asked, id);
  if (asked.clos_id == "/") return Class{FLUYT_TRY(sys::duplicate(root)), false};
  if (!asked.clos_id.empty() && !has_schemata(asked)) {
    auto found = open_dir(root, name);
    if (found.ok()) return Class{std::move(*found), false};
    return Error(Code::kNotFound,
                 cat("closID: ", quote(name),
                     ": expected a class that is there, where no schema comes with it"));
  }
  const bool made = mkdirat(root.raw(), name.c_str(), kMode) == 0;
  if (!made && errno != EEXIST) {
    return explain(Error::from_errno(errno, cat("mkdir(resctrl ", quote(name), ")")), root);
  }
  if (!made && asked.clos_id.empty()) {
    return Error(Code::kAlreadyExists,
                 cat("a class ", quote(name), " is there already, and no closID says to use it"));
  }
  return Class{FLUYT_TRY(open_dir(root, name)), made};
}

Result<> settle_schemata(sys::FdRef root, const Class& one, const oci::IntelRdt& asked) {
  if (!has_schemata(asked)) return {};
  // A class of others is theirs to change; so is the default one.
  if (!one.made) {
    const std::string present = FLUYT_TRY(sys::read_file(one.group, "schemata", kMaxFile));
    if (schemata_match(present, schemata_text(asked))) return {};
    return Error(Code::kFailedPrecondition,
                 cat("closID: ", quote(asked.clos_id),
                     ": the class has other schemata: ", quote(trim(present), 1024)));
  }
  return write_lines(root, one.group, asked);
}

Result<sys::Fd> make_monitoring(sys::FdRef root, sys::FdRef group, const std::string& id) {
  const sys::Fd groups = FLUYT_TRY_CONTEXT(open_dir(group, "mon_groups"), "enableMonitoring");
  if (mkdirat(groups.raw(), id.c_str(), kMode) != 0) {
    return explain(
        Error::from_errno(errno, cat("enableMonitoring: mkdir(mon_groups/", quote(id), ")")), root);
  }
  return open_dir(groups, id);
}

Result<> add_to(sys::FdRef group, pid_t pid) { return put(group, "tasks", std::to_string(pid)); }

// "L3:0=ff;1=c0" to {"L3:0": "ff", "L3:1": "c0"}, values without leading zeros.
std::map<std::string, std::string> parse_schemata(const std::string& text) {
  std::map<std::string, std::string> out;
  for (const std::string_view line : split(text, '\n')) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view resource = trim(line.substr(0, colon));
    for (const std::string_view field : split(line.substr(colon + 1), ';')) {
      const size_t equals = field.find('=');
      if (equals == std::string_view::npos) continue;
      const std::string_view cache = trim(field.substr(0, equals));
      std::string value = to_lower(trim(field.substr(equals + 1)));
      const size_t digit = value.find_first_not_of('0');
      value = digit == std::string::npos ? "0" : value.substr(digit);
      out[cat(resource, ":", cache)] = value;
    }
  }
  return out;
}

}  // namespace

std::string schemata_text(const oci::IntelRdt& asked) {
  std::string text;
  auto add = [&](const std::string& line) {
    if (!line.empty()) text += cat(line, "\n");
  };
  add(asked.l3_cache_schema);
  add(asked.mem_bw_schema);
  for (const std::string& line : asked.schemata) add(line);
  return text;
}

bool schemata_match(const std::string& present, const std::string& asked) {
  const auto there = parse_schemata(present);
  for (const auto& [key, value] : parse_schemata(asked)) {
    const auto found = there.find(key);
    if (found == there.end() || found->second != value) return false;
  }
  return true;
}

Result<sys::Fd> open_mounted() {
  auto is_resctrl = [](const sys::Fd& fd) {
    auto magic = sys::fs_magic(fd);
    return magic.ok() && *magic == kMagic;
  };
  auto usual = sys::open("/sys/fs/resctrl", O_PATH | O_DIRECTORY);
  if (usual.ok() && is_resctrl(*usual)) return usual;
  const std::string mounts = FLUYT_TRY(sys::read_file("/proc/self/mountinfo", 16U << 20U));
  for (const std::string_view line : split(mounts, '\n')) {
    const size_t dash = line.find(" - ");
    if (dash == std::string_view::npos || !line.substr(dash + 3).starts_with("resctrl ")) continue;
    const auto fields = split(line, ' ');
    if (fields.size() < 5) continue;
    auto found = sys::open(undo_octal_escapes(fields[4]), O_PATH | O_DIRECTORY);
    if (found.ok() && is_resctrl(*found)) return found;
  }
  return Error(Code::kUnimplemented, "no resctrl file system is mounted on this host");
}

Result<Groups> make(sys::FdRef root, const oci::IntelRdt& asked, const std::string& id) {
  Class one = FLUYT_TRY(make_class(root, asked, id));
  auto rest = [&]() -> Result<Groups> {
    Groups groups;
    FLUYT_TRY(settle_schemata(root, one, asked));
    if (asked.enable_monitoring) {
      groups.monitoring = FLUYT_TRY(make_monitoring(root, one.group, id));
    }
    groups.control = std::move(one.group);
    return groups;
  };
  auto groups = rest();
  if (!groups.ok() && one.made) {
    remove_dir(root, class_name(asked, id)).ignore("the error above is the one to tell");
  }
  return groups;
}

Result<Groups> find(sys::FdRef root, const oci::IntelRdt& asked, const std::string& id) {
  Groups groups;
  groups.control = FLUYT_TRY(open_class(root, asked, id));
  if (asked.enable_monitoring) {
    const sys::Fd all = FLUYT_TRY(open_dir(groups.control, "mon_groups"));
    groups.monitoring = FLUYT_TRY(open_dir(all, id));
  }
  return groups;
}

Result<> add(const Groups& groups, pid_t pid) {
  FLUYT_TRY(add_to(groups.control, pid));
  return groups.monitoring.valid() ? add_to(groups.monitoring, pid) : Result<>();
}

Result<> write_schemata(sys::FdRef root, const oci::IntelRdt& asked, const std::string& id) {
  const sys::Fd group = FLUYT_TRY(open_class(root, asked, id));
  return write_lines(root, group, asked);
}

Result<> remove(sys::FdRef root, const oci::IntelRdt& asked, const std::string& id) {
  // With the class go the monitoring groups in it.
  if (asked.clos_id.empty()) return remove_dir(root, id);
  if (!asked.enable_monitoring) return {};
  auto group = open_class(root, asked, id);
  if (!group.ok()) return group.error().errno_value() == ENOENT ? Result<>() : group.error();
  auto all = open_dir(*group, "mon_groups");
  if (!all.ok()) return all.error().errno_value() == ENOENT ? Result<>() : all.error();
  return remove_dir(*all, id);
}

}  // namespace fluyt::runtime::resctrl
