#include "runtime/cgroup/systemd_name.h"

#include <algorithm>

#include "base/strings.h"

namespace fluyt::runtime::cgroup::systemd {

namespace {

constexpr size_t kMaxUnitName = 255;  // UNIT_NAME_MAX less its zero
constexpr std::string_view kSliceSuffix = ".slice";
constexpr std::string_view kScopeSuffix = ".scope";
constexpr std::string_view kDefaultPrefix = "runf";

Error bad_path(std::string_view path, std::string_view why) {
  return Error(Code::kInvalidArgument, cat("linux.cgroupsPath: ", quote(path), ": ", why));
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// systemd.unit(5): "ASCII letters, digits, :, -, _, ., and \"; "@" is for templates.
bool is_unit_character(char c) {
  return is_letter(c) || is_digit(c) ||
         std::string_view(":-_.\\").find(c) != std::string_view::npos;
}

void append_hex(std::string& out, std::string_view mark, char c) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const auto value = static_cast<unsigned char>(c);
  out += mark;
  out += kDigits[value >> 4U];
  out += kDigits[value & 15U];
}

// A container's id may have a "+", which no unit's name has: as systemd-escape writes it.
std::string escape_id(std::string_view id) {
  std::string out;
  for (const char c : id) {
    if (is_unit_character(c) && c != '\\') {
      out += c;
    } else {
      append_hex(out, "\\x", c);
    }
  }
  return out;
}

}  // namespace

Result<std::string> expand_slice(std::string_view slice) {
  const auto refuse = [&](std::string_view why) {
    return Error(Code::kInvalidArgument, cat("slice ", quote(slice), ": ", why));
  };
  if (!slice.ends_with(kSliceSuffix) || slice.size() == kSliceSuffix.size())
    return refuse("expected a name such as system.slice");
  if (slice.size() > kMaxUnitName) return refuse("longer than 255 bytes");
  if (!std::ranges::all_of(slice, is_unit_character))
    return refuse("expected letters, digits and :-_.\\ alone");
  const std::string_view name = slice.substr(0, slice.size() - kSliceSuffix.size());
  if (name == "-") return std::string();
  std::string path;
  std::string prefix;
  for (const std::string_view piece : split(name, '-')) {
    if (piece.empty()) return refuse("expected a name between any two dashes");
    prefix += cat(prefix.empty() ? "" : "-", piece);
    path += cat("/", prefix, kSliceSuffix);
  }
  return path;
}

Result<ScopePath> scope_path(std::string_view cgroups_path, std::string_view id,
                             std::string_view default_slice) {
  std::string_view slice = default_slice;
  std::string name = cat(kDefaultPrefix, "-", escape_id(id));
  if (!cgroups_path.empty()) {
    const auto parts = split(cgroups_path, ':');
    if (parts.size() != 3) {
      return bad_path(cgroups_path,
                      "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd "
                      "cgroups");
    }
    if (!parts[0].empty()) slice = parts[0];
    if (parts[2].empty()) return bad_path(cgroups_path, "expected a name behind the second colon");
    if (parts[2].ends_with(kSliceSuffix))
      return bad_path(cgroups_path, "a container is a scope: expected a name that is no slice's");
    name = cat(parts[1], parts[1].empty() ? "" : "-", parts[2]);
  }
  ScopePath out{.slice = std::string(slice), .unit = cat(name, kScopeSuffix), .path = {}};
  if (out.unit.size() > kMaxUnitName)
    return bad_path(cgroups_path, cat("the unit's name ", quote(out.unit), " is longer than ",
                                      kMaxUnitName, " bytes"));
  if (!std::ranges::all_of(out.unit, is_unit_character)) {
    return bad_path(cgroups_path, cat("the unit's name ", quote(out.unit),
                                      ": expected letters, digits and :-_.\\ alone"));
  }
  // A directory of ours alone is named after it.
  if (out.unit.starts_with('.')) return bad_path(cgroups_path, "starts with a dot");
  out.path = cat(FLUYT_TRY_CONTEXT(expand_slice(slice), "linux.cgroupsPath"), "/", out.unit);
  return out;
}

std::string unit_object(std::string_view unit) {
  std::string out = "/org/freedesktop/systemd1/unit/";
  for (size_t at = 0; at < unit.size(); ++at) {
    const char c = unit[at];
    if (is_letter(c) || (is_digit(c) && at > 0)) {
      out += c;
    } else {
      append_hex(out, "_", c);
    }
  }
  return out;
}

int parse_version(std::string_view text) {
  if (text.starts_with('v')) text.remove_prefix(1);
  size_t digits = 0;
  while (digits < text.size() && is_digit(text[digits])) ++digits;
  return parse_number<int>(text.substr(0, digits)).value_or(0);
}

}  // namespace fluyt::runtime::cgroup::systemd
