#include "cmd/fluyt/text/copy_plan.h"

#include <filesystem>

#include "base/strings.h"

namespace fluyt::cli {

namespace {

std::string absolute(const CopySide& side) {
  std::string path = (std::filesystem::path(side.base) / side.path).lexically_normal().string();
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

CopyPlan split_name(const std::string& path) {
  const size_t slash = path.rfind('/');
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

}  // namespace

CopyPlace parse_copy_place(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == 0 || colon == std::string_view::npos || text[0] == '/' || text[0] == '.')
    return {"", std::string(text)};
  return {std::string(text.substr(0, colon)), std::string(text.substr(colon + 1))};
}

Result<CopyPlan> plan_copy(const CopySide& source, const CopySide& target) {
  const std::string from = absolute(source);
  const std::string to = absolute(target);
  const bool content = source.path == "." || source.path.ends_with("/.") || from == "/";
  const bool is_directory = source.kind == CopyKind::kDirectory;
  if (!is_directory && (content || source.path.ends_with('/')))
    return Error(Code::kInvalidArgument, cat("not a directory: ", quote(source.path, 1024)));
  switch (target.kind) {
    case CopyKind::kDirectory:
      return CopyPlan{to, content ? "" : split_name(from).name};
    case CopyKind::kFile:
      if (is_directory || target.path.ends_with('/'))
        return Error(Code::kInvalidArgument, cat("not a directory: ", quote(target.path, 1024)));
      return split_name(to);
    case CopyKind::kMissing:
      break;
  }
  if (!is_directory && target.path.ends_with('/'))
    return Error(Code::kNotFound, cat("no such directory: ", quote(target.path, 1024)));
  return split_name(to);
}

}  // namespace fluyt::cli
