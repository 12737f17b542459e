#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/store.h"
#include "sys/file.h"

namespace fluyt::commands {

namespace {

struct Row {
  Record record;
  Status status;
  int pid() const { return status == Status::kStopped ? 0 : record.pid; }
};

std::vector<Row> rows(Invocation& call, const std::vector<std::string>& ids) {
  std::vector<Row> out;
  for (const std::string& id : ids) {
    auto folder = Folder::open(call.globals.root, id);
    if (!folder.ok()) continue;  // deleted meanwhile
    auto record = folder->load();
    if (!record.ok()) {
      // One that is just being made, or was cut short: it must not hide the others.
      call.log.warn(record.error().message());
      continue;
    }
    auto status = status_of(*folder, *record);
    out.push_back({std::move(*record), status.ok() ? *status : Status::kStopped});
  }
  return out;
}

// The host's /etc/passwd by hand: a static program cannot ask the C library's plug-ins.
std::string owner_name(uid_t uid) {
  const std::string passwd = sys::read_file("/etc/passwd", 1U << 20U).value_or("");
  for (const std::string_view line : split(passwd, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() > 2 && parse_number<uid_t>(fields[2]) == uid) return std::string(fields[0]);
  }
  return cat("#", uid);
}

std::string as_table(const std::vector<Row>& all) {
  std::vector<std::array<std::string, 6>> lines = {
      {"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  for (const Row& row : all) {
    lines.push_back({row.record.id, std::to_string(row.pid()), std::string(status_name(row.status)),
                     row.record.bundle, row.record.created, owner_name(row.record.owner)});
  }
  constexpr size_t kLeast = 12;
  constexpr size_t kGap = 3;
  std::array<size_t, 6> widths{};
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i)
      widths[i] = std::max({widths[i], kLeast, line[i].size() + kGap});
  }
  std::string out;
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      out += line[i];
      if (i + 1 < line.size()) out.append(widths[i] - line[i].size(), ' ');
    }
    out += '\n';
  }
  return out;
}

std::string as_json(const std::vector<Row>& all) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const Row& row : all) {
    nlohmann::ordered_json one;
    one["ociVersion"] = oci::Spec().oci_version;
    one["id"] = row.record.id;
    one["pid"] = row.pid();
    one["status"] = status_name(row.status);
    one["bundle"] = row.record.bundle;
    one["rootfs"] = row.record.rootfs;
    one["created"] = row.record.created;
    if (!row.record.annotations.empty()) one["annotations"] = row.record.annotations;
    one["owner"] = owner_name(row.record.owner);
    out.push_back(std::move(one));
  }
  // What a Go program prints for no containers, and hence what its readers know.
  return (all.empty() ? "null" : out.dump()) + "\n";
}

}  // namespace

Result<int> list(Invocation& call) {
  std::string format = "table";
  bool quiet = false;
  const auto words = FLUYT_TRY(read_words(
      call, {{"format", 'f', &format, "table or json"}, {"quiet", 'q', &quiet, "ids alone"}},
      "list [options]", 0, 0));
  if (!words) return 0;
  auto ids = list_ids(call.globals.root);
  if (!ids.ok()) {
    // The default one comes with the first container.
    const bool none_yet = ids.error().code() == Code::kNotFound && !call.globals.root_given;
    if (!none_yet) return std::move(ids).error().add_context("option --root");
    ids = std::vector<std::string>();
  }
  const std::vector<Row> all = rows(call, *ids);
  std::string out;
  if (quiet) {
    for (const Row& row : all) out += row.record.id + "\n";
  } else if (format == "table") {
    out = as_table(all);
  } else if (format == "json") {
    out = as_json(all);
  } else {
    return Error(Code::kInvalidArgument, cat("invalid format option: ", quote(format)));
  }
  FLUYT_TRY(sys::write_all(sys::FdRef(STDOUT_FILENO), out));
  return 0;
}

}  // namespace fluyt::commands
