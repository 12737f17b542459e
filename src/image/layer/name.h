#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::image {

/// Longest path of an entry and of a symlink's target (PATH_MAX less its NUL), and of one
/// component.
inline constexpr size_t kMaxPathBytes = 4095;
inline constexpr size_t kMaxNameBytes = 255;

/// A tar's name as a path relative to the layer's root: no "", "." or ".." components, no slash at
/// either end; "" is the root itself. Absolute names are taken relative to the root; ".." goes up
/// lexically, and a name that climbs out is kInvalidArgument, as are empty ones, NULs and lengths
/// beyond the limits.
Result<std::string> clean_name(std::string_view name);

inline std::string_view parent_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}
inline std::string_view base_of(std::string_view path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}
inline std::string join_path(std::string_view parent, std::string_view name) {
  std::string out;
  out.reserve(parent.size() + 1 + name.size());
  out += parent;
  if (!parent.empty() && !name.empty()) out += '/';
  out += name;
  return out;
}

/// What a name means in a layer (image-spec layer.md, "Whiteouts").
enum class NameKind {
  kPlain,
  kWhiteout,  // ".wh.NAME": hides NAME of the layers below
  kOpaque,    // ".wh..wh..opq": hides all that the layers below have in this directory
  kMetadata,  // other ".wh..wh." names: AUFS's own files, no part of the image
};
struct ClassifiedName {
  NameKind kind;
  std::string_view hidden;  // of kWhiteout: NAME
};
/// Of a cleaned path. ".wh." without a name, whiteouts of "." and "..", and entries below a
/// whiteout are kInvalidArgument.
Result<ClassifiedName> classify(std::string_view path);

/// Attributes that an image may set: user.*, security.capability, trusted.* and POSIX ACLs, but
/// never overlayfs's own, with which it could forge whiteouts and redirects (trusted.overlay.*,
/// user.overlay.*), and no other security label (those are the host's to give).
bool is_allowed_xattr(std::string_view name);
/// overlayfs's own attributes.
bool is_overlay_xattr(std::string_view name);
/// The one that says, on a directory of a layer, that overlayfs has to look for whiteouts in it
/// also where it merges it with no other. Its value is empty.
inline constexpr char kOverlayOrigin[] = "trusted.overlay.origin";
/// The one that says that a directory hides all that is below it. Its value is "y".
inline constexpr char kOverlayOpaque[] = "trusted.overlay.opaque";

}  // namespace fluyt::image
