#include "image/blob/store.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/id.h"
#include "base/strings.h"
#include "image/blob/hasher.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr size_t kReadBytes = 256UL << 10U;
constexpr std::array<std::string_view, 2> kAlgorithms = {"sha256", "sha512"};

// A Digest holds only a known algorithm and lower-case hexadecimal, so the path needs no escaping.
std::string path_of(const oci::Digest& digest) {
  return cat(digest.algorithm(), "/", digest.hex());
}

Error mismatch(const oci::Digest& digest, uint64_t size, const oci::Digest& found) {
  return Error(Code::kDataLoss,
               cat("blob ", digest.text(), ": its ", size, " bytes have digest ", found.text()));
}

Result<> verify(const oci::Digest& digest, std::string_view data) {
  const oci::Digest found = FLUYT_TRY(digest_of(digest.algorithm(), data));
  if (found == digest) return {};
  return mismatch(digest, data.size(), found);
}

}  // namespace

BlobWriter::BlobWriter(sys::FdRef root, oci::Digest digest, uint64_t size, std::string temporary,
                       sys::Fd file, Hasher hasher)
    : root_(root),
      digest_(std::move(digest)),
      size_(size),
      temporary_(std::move(temporary)),
      file_(std::move(file)),
      hasher_(std::move(hasher)) {}

BlobWriter::BlobWriter(BlobWriter&& other) noexcept
    : root_(other.root_),
      digest_(std::move(other.digest_)),
      size_(other.size_),
      temporary_(std::exchange(other.temporary_, {})),
      file_(std::move(other.file_)),
      hasher_(std::move(other.hasher_)),
      written_(other.written_) {}

BlobWriter::~BlobWriter() {
  if (!temporary_.empty()) {
    sys::remove_file(root_, temporary_).ignore("swept when the store is opened");
  }
}

Result<> BlobWriter::write(std::string_view bytes) {
  if (bytes.size() > size_ - written_) {
    return Error(Code::kDataLoss, cat("blob ", digest_.text(), ": more bytes came than ", size_));
  }
  written_ += bytes.size();
  FLUYT_TRY(hasher_.update(bytes));
  FLUYT_TRY_CONTEXT(sys::write_all(file_, bytes), cat("blob ", digest_.text()));
  return {};
}

Result<> BlobWriter::finish() {
  if (written_ != size_) {
    return Error(Code::kDataLoss,
                 cat("blob ", digest_.text(), ": has ", written_, " bytes, expected ", size_));
  }
  const oci::Digest found = FLUYT_TRY(hasher_.finish());
  if (found != digest_) return mismatch(digest_, written_, found);
  if (::fdatasync(file_.raw()) != 0) {
    return Error::from_errno(errno, cat("fdatasync(", quote(temporary_), ")"));
  }
  file_.reset();
  const std::string path = path_of(digest_);
  if (::renameat(root_.raw(), temporary_.c_str(), root_.raw(), path.c_str()) != 0) {
    return Error::from_errno(errno, cat("renameat(", quote(temporary_), ", ", quote(path), ")"));
  }
  temporary_.clear();
  const sys::Fd folder =
      FLUYT_TRY(sys::open(root_, std::string(digest_.algorithm()), O_RDONLY | O_DIRECTORY));
  if (::fsync(folder.raw()) != 0) {
    return Error::from_errno(errno, cat("fsync(", quote(digest_.algorithm()), ")"));
  }
  return {};
}

Result<BlobStore> BlobStore::open(const std::string& root) {
  FLUYT_TRY(sys::make_dirs(root, 0700));
  sys::Fd fd = FLUYT_TRY(sys::open(root, O_PATH | O_DIRECTORY));
  for (const std::string_view algorithm : kAlgorithms) {
    const sys::Fd folder = FLUYT_TRY(sys::make_dirs_in(fd, algorithm, 0700));
    for (const std::string& name : FLUYT_TRY(sys::list_dir(folder))) {
      if (name.ends_with(".tmp")) FLUYT_TRY(sys::remove_file(folder, name));
    }
  }
  return BlobStore(std::move(fd));
}

Result<> BlobStore::put(const oci::Digest& digest, std::string_view data) const {
  FLUYT_TRY(verify(digest, data));
  auto stored = get(digest, data.size());
  if (stored.ok() && *stored == data) return {};
  return sys::write_file_atomic(root_, path_of(digest), data, 0600, sys::Durability::kFsync);
}

Result<std::string> BlobStore::get(const oci::Digest& digest, size_t limit) const {
  std::string data =
      FLUYT_TRY_CONTEXT(sys::read_file(root_, path_of(digest), limit), cat("blob ", digest.text()));
  FLUYT_TRY(verify(digest, data));
  return data;
}

Result<BlobWriter> BlobStore::create(const oci::Digest& digest, uint64_t size) const {
  Hasher hasher = FLUYT_TRY(Hasher::create(digest.algorithm()));
  std::string temporary = cat(path_of(digest), ".", make_id().substr(0, 16), ".tmp");
  sys::Fd file = FLUYT_TRY(sys::open(root_, temporary, O_WRONLY | O_CREAT | O_EXCL, 0600));
  return BlobWriter(root_, digest, size, std::move(temporary), std::move(file), std::move(hasher));
}

Result<sys::Fd> BlobStore::open_blob(const oci::Digest& digest) const {
  return FLUYT_TRY_CONTEXT(sys::open(root_, path_of(digest), O_RDONLY | O_NOFOLLOW),
                           cat("blob ", digest.text()));
}

Result<std::optional<uint64_t>> BlobStore::find_size(const oci::Digest& digest) const {
  const auto info = FLUYT_TRY(sys::find_stat(root_, path_of(digest)));
  if (!info.has_value()) return std::optional<uint64_t>();
  return std::optional(static_cast<uint64_t>(info->st_size));
}

Result<> BlobStore::check(const oci::Digest& digest,
                          const std::function<Result<>()>& between_steps) const {
  const sys::Fd file = FLUYT_TRY(open_blob(digest));
  Hasher hasher = FLUYT_TRY(Hasher::create(digest.algorithm()));
  std::string buffer(kReadBytes, '\0');
  uint64_t size = 0;
  while (true) {
    auto read = sys::read_some(file, buffer);
    if (!read.ok()) return std::move(read).error().with_code(Code::kDataLoss);  // its disk's affair
    if (*read == 0) break;
    if (between_steps) FLUYT_TRY(between_steps());
    FLUYT_TRY(hasher.update(std::string_view(buffer).substr(0, *read)));
    size += *read;
  }
  const oci::Digest found = FLUYT_TRY(hasher.finish());
  if (found == digest) return {};
  return mismatch(digest, size, found);
}

Result<> BlobStore::remove(const oci::Digest& digest) const {
  return sys::remove_file(root_, path_of(digest));
}

Result<std::vector<oci::Digest>> BlobStore::list() const {
  std::vector<oci::Digest> found;
  for (const std::string_view algorithm : kAlgorithms) {
    const sys::Fd folder =
        FLUYT_TRY(sys::open(root_, std::string(algorithm), O_PATH | O_DIRECTORY));
    for (const std::string& name : FLUYT_TRY(sys::list_dir(folder))) {
      auto digest = oci::Digest::parse(cat(algorithm, ":", name));
      if (digest.ok()) found.push_back(std::move(digest).value());  // else a file in the making
    }
  }
  return found;
}

}  // namespace fluyt::image
