#include "base/strings.h"
#include "image/archive/members.h"
#include "image/blob/hasher.h"
#include "sys/file.h"

namespace fluyt::image::archive {

namespace {

constexpr size_t kChunk = 256UL << 10U;

class Folder final : public Members {
 public:
  explicit Folder(sys::Fd root) : root_(std::move(root)) {}

  Result<bool> has(const std::string& name) const override {
    auto fd = open(name);
    if (fd.ok()) return true;
    if (fd.error().code() == Code::kNotFound) return false;
    return std::move(fd).error();
  }

  Result<sys::Fd> open(const std::string& name) const override {
    // O_NONBLOCK: a fifo must not hang us before it is refused.
    sys::Fd fd = FLUYT_TRY(
        sys::open_in(root_, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, sys::Resolve::kBeneath));
    const struct stat info = FLUYT_TRY(sys::stat_of(fd));
    if (!S_ISREG(info.st_mode)) {
      return Error(Code::kInvalidArgument, cat(quote(name), ": expected a regular file"));
    }
    return fd;
  }

  Result<MemberInfo> info(const std::string& name) const override {
    const sys::Fd fd = FLUYT_TRY(open(name));
    Hasher hasher = FLUYT_TRY(Hasher::create("sha256"));
    std::string buffer(kChunk, '\0');
    uint64_t size = 0;
    while (const size_t got = FLUYT_TRY(sys::read_some(fd, buffer))) {
      FLUYT_TRY(hasher.update(std::string_view(buffer).substr(0, got)));
      size += got;
    }
    return MemberInfo{size, FLUYT_TRY(hasher.finish())};
  }

 private:
  sys::Fd root_;
};

}  // namespace

Result<std::unique_ptr<Members>> open_folder(const std::string& path) {
  sys::Fd root = FLUYT_TRY(sys::open(path, O_PATH | O_DIRECTORY));
  return std::unique_ptr<Members>(std::make_unique<Folder>(std::move(root)));
}

}  // namespace fluyt::image::archive
