#include "base/program.h"

#include <cerrno>
#include <optional>

#include "base/strings.h"

namespace fluyt {

namespace {

constexpr std::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

Error not_runnable(const std::string& name, const Error& why) {
  const std::string field = cat("process.args[0]: ", quote(name, 1024));
  const int number = why.errno_value();
  if (number == ENOENT || number == ENOTDIR)
    return Error(Code::kNotFound, cat(field, ": no such file or directory"));
  if (number == EACCES)
    return Error(Code::kPermissionDenied, cat(field, ": permission denied: ", why.message()));
  return Error(why.code(), cat(field, ": ", why.message()));
}

}  // namespace

const std::string* find_variable(const std::vector<std::string>& environment,
                                 std::string_view name) {
  for (auto entry = environment.rbegin(); entry != environment.rend(); ++entry) {
    if (entry->size() > name.size() && entry->starts_with(name) && (*entry)[name.size()] == '=')
      return &*entry;
  }
  return nullptr;
}

std::string find_home(std::string_view passwd, uint32_t uid) {
  for (const std::string_view line : split(passwd, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 6 || parse_number<uint32_t>(fields[2]) != uid) continue;
    if (fields[5].empty() || has_control_characters(fields[5])) return "/";
    return std::string(fields[5]);
  }
  return "/";
}

Result<std::string> find_program(const std::string& name,
                                 const std::vector<std::string>& environment,
                                 const IsExecutable& is_executable) {
  if (name.find('/') != std::string::npos) {
    auto there = is_executable(name);
    if (!there.ok()) return not_runnable(name, there.error());
    return name;
  }
  const std::string* variable = find_variable(environment, "PATH");
  const std::string_view path =
      variable == nullptr ? kDefaultPath : std::string_view(*variable).substr(sizeof "PATH");
  std::optional<Error> refused;
  for (const std::string_view folder : split(path, ':')) {
    // An empty entry would be the working directory, which the image chooses.
    if (folder.empty()) continue;
    std::string candidate = cat(folder, "/", name);
    auto there = is_executable(candidate);
    if (there.ok()) return candidate;
    if (there.error().errno_value() == EACCES) refused = there.error();
  }
  if (refused) return not_runnable(name, *refused);
  return Error(Code::kNotFound, cat("process.args[0]: ", quote(name, 1024),
                                    ": executable file not found in $PATH ", quote(path, 1024)));
}

}  // namespace fluyt
