#include "image/layer/name.h"

#include "base/strings.h"

namespace fluyt::image {

namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kMetadataPrefix = ".wh..wh.";
constexpr std::string_view kOpaqueName = ".wh..wh..opq";

Error bad(std::string_view name, std::string_view what) {
  return Error(Code::kInvalidArgument, cat("name ", quote(name), " ", what));
}

}  // namespace

Result<std::string> clean_name(std::string_view name) {
  if (name.empty()) return bad(name, "is empty");
  if (name.find('\0') != std::string_view::npos) return bad(name, "holds a NUL");
  std::string path;
  path.reserve(name.size());
  for (size_t at = 0; at < name.size();) {
    size_t slash = name.find('/', at);
    if (slash == std::string_view::npos) slash = name.size();
    const std::string_view part = name.substr(at, slash - at);
    at = slash + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (path.empty()) return bad(name, "climbs out of the layer");
      path.resize(parent_of(path).size());
      continue;
    }
    if (part.size() > kMaxNameBytes)
      return bad(name, cat("has a part longer than ", kMaxNameBytes));
    if (!path.empty()) path += '/';
    path += part;
  }
  if (path.size() > kMaxPathBytes) return bad(name, cat("is longer than ", kMaxPathBytes));
  return path;
}

Result<ClassifiedName> classify(std::string_view path) {
  if (path.find(kWhiteoutPrefix) == std::string_view::npos)
    return ClassifiedName{NameKind::kPlain, {}};
  for (std::string_view parent = parent_of(path); !parent.empty(); parent = parent_of(parent)) {
    const std::string_view name = base_of(parent);
    if (name.starts_with(kMetadataPrefix)) return ClassifiedName{NameKind::kMetadata, {}};
    if (name.starts_with(kWhiteoutPrefix)) return bad(path, "lies below a whiteout");
  }
  const std::string_view name = base_of(path);
  if (name == kOpaqueName) return ClassifiedName{NameKind::kOpaque, {}};
  if (name.starts_with(kMetadataPrefix)) return ClassifiedName{NameKind::kMetadata, {}};
  if (!name.starts_with(kWhiteoutPrefix)) return ClassifiedName{NameKind::kPlain, {}};
  const std::string_view hidden = name.substr(kWhiteoutPrefix.size());
  if (hidden.empty() || hidden == "." || hidden == "..")
    return bad(path, "is a whiteout of nothing");
  return ClassifiedName{NameKind::kWhiteout, hidden};
}

bool is_overlay_xattr(std::string_view name) {
  return name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
}

bool is_allowed_xattr(std::string_view name) {
  if (is_overlay_xattr(name)) return false;
  return name.starts_with("user.") || name.starts_with("trusted.") ||
         name == "security.capability" || name == "system.posix_acl_access" ||
         name == "system.posix_acl_default";
}

}  // namespace fluyt::image
