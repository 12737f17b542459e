#include "image/archive/archive.h"

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::image::archive {

namespace {

constexpr size_t kChunk = 256UL << 10U;

}  // namespace

Result<std::unique_ptr<Archive>> Archive::open(const std::string& path, const TarOptions& options) {
  const sys::Fd fd = FLUYT_TRY(sys::open(path, O_RDONLY | O_NONBLOCK));
  const struct stat info = FLUYT_TRY(sys::stat_of(fd));
  std::unique_ptr<Members> members;
  if (S_ISDIR(info.st_mode)) {
    members = FLUYT_TRY(open_folder(path));
  } else if (S_ISREG(info.st_mode)) {
    members = FLUYT_TRY(open_tar(path, options));
  } else {
    return Error(Code::kInvalidArgument, cat(quote(path), ": expected a folder or a regular file"));
  }
  return FLUYT_TRY_CONTEXT(read(std::move(members)), quote(path));
}

Result<std::unique_ptr<Archive>> Archive::read(std::unique_ptr<Members> members) {
  std::unique_ptr<Archive> out(new Archive(std::move(members)));
  FLUYT_TRY(out->load());
  return out;
}

Result<> Archive::load() {
  const bool has_layout = FLUYT_TRY(members_->has("oci-layout"));
  const bool has_list = FLUYT_TRY(members_->has("manifest.json"));
  if (!has_layout && !has_list) {
    return Error(Code::kInvalidArgument,
                 "neither an OCI layout (no oci-layout) nor a docker-archive (no manifest.json)");
  }
  // `docker save` writes both forms since 25.0, and so do we: the layout has the real manifests,
  // the list says which images there are.
  std::vector<Listed> listed;
  bool is_dockers = false;
  if (has_list) {
    auto list = read_list();
    is_dockers = list.ok();
    // A layout may have a file of that name that is somebody's own.
    const bool is_foreign = !list.ok() && list.error().code() == Code::kInvalidArgument;
    if (!list.ok() && !(has_layout && is_foreign)) return std::move(list).error();
    if (is_dockers) listed = std::move(*list);
  }
  if (has_layout) {
    auto loaded = load_layout(listed.size());
    const Code code = loaded.ok() ? Code::kInternal : loaded.error().code();
    // Docker 25.0.0 wrote a layout without manifests: what the list has is whole nevertheless.
    const bool is_useless = code == Code::kInvalidArgument || code == Code::kNotFound;
    if (!loaded.ok() && (!is_dockers || !is_useless)) return loaded;
    if (!loaded.ok()) images_.clear();
  }
  FLUYT_TRY(add_listed(listed));
  if (images_.empty()) {
    return Error(Code::kInvalidArgument, "index.json: manifests: expected an image among them");
  }
  return {};
}

std::string Archive::member_of(const oci::Digest& digest) const {
  const auto found = by_digest_.find(digest);
  if (found != by_digest_.end()) return found->second;
  return cat("blobs/", digest.algorithm(), "/", digest.hex());
}

Result<std::string> Archive::read(const oci::Descriptor& descriptor) const {
  const sys::Fd fd = FLUYT_TRY(members_->open(member_of(descriptor.digest)));
  return sys::read_all(fd, oci::kMaxManifestBytes);
}

Result<> Archive::stream(const oci::Descriptor& descriptor,
                         const std::function<Result<>(std::string_view)>& sink) const {
  auto opened = members_->open(member_of(descriptor.digest));
  const bool is_lacking = !opened.ok() && opened.error().code() == Code::kNotFound;
  if (is_lacking) return std::move(opened).error().with_code(Code::kDataLoss);
  const sys::Fd fd = FLUYT_TRY(std::move(opened));
  const struct stat info = FLUYT_TRY(sys::stat_of(fd));
  if (info.st_size != descriptor.size) {
    return Error(Code::kDataLoss, cat("blob ", descriptor.digest.text(), ": has ", info.st_size,
                                      " bytes, expected ", descriptor.size));
  }
  std::string buffer(kChunk, '\0');
  while (const size_t got = FLUYT_TRY(sys::read_some(fd, buffer))) {
    FLUYT_TRY(sink(std::string_view(buffer).substr(0, got)));
  }
  return {};
}

}  // namespace fluyt::image::archive
