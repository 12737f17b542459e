#include "runtime/checkpoint/mountinfo.h"

#include <algorithm>

#include "base/escapes.h"
#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::runtime::checkpoint {

namespace {

constexpr size_t kMaxText = 64U << 20U;

Result<MountInfo> parse_line(std::string_view line) {
  const auto words = split(line, ' ');
  const auto dash = std::find(words.begin(), words.end(), "-");
  const auto wrong = [&] {
    return Error(Code::kDataLoss, cat("mountinfo: ", quote(line), ": not a line of it"));
  };
  if (words.size() < 9 || dash == words.end() || words.end() - dash < 3) return wrong();
  const auto id = parse_number<uint64_t>(words[0]);
  const auto parent = parse_number<uint64_t>(words[1]);
  if (!id || !parent) return wrong();
  MountInfo out;
  out.id = *id;
  out.parent = *parent;
  out.device = words[2];
  out.root = undo_octal_escapes(words[3]);
  out.point = undo_octal_escapes(words[4]);
  for (const std::string_view option : split(words[5], ',')) out.options.emplace_back(option);
  out.type = undo_octal_escapes(*(dash + 1));
  return out;
}

}  // namespace

bool MountInfo::has(std::string_view option) const {
  return std::find(options.begin(), options.end(), option) != options.end();
}

Result<std::vector<MountInfo>> parse_mountinfo(std::string_view text) {
  std::vector<MountInfo> out;
  for (const std::string_view line : split(text, '\n')) {
    if (!line.empty()) out.push_back(FLUYT_TRY(parse_line(line)));
  }
  return out;
}

Result<std::vector<MountInfo>> read_mountinfo(int pid) {
  return parse_mountinfo(FLUYT_TRY(sys::read_file(cat("/proc/", pid, "/mountinfo"), kMaxText)));
}

}  // namespace fluyt::runtime::checkpoint
