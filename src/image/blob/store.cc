#include "image/blob/store.h"

#include <array>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr std::array<std::string_view, 2> kAlgorithms = {"sha256", "sha512"};

// A Digest holds only a known algorithm and lower-case hexadecimal, so the path needs no escaping.
std::string path_of(const oci::Digest& digest) {
  return cat(digest.algorithm(), "/", digest.hex());
}

Result<> verify(const oci::Digest& digest, std::string_view data) {
  const oci::Digest found = FLUYT_TRY(digest_of(digest.algorithm(), data));
  if (found == digest) return {};
  return Error(Code::kDataLoss, cat("blob ", digest.text(), ": its ", data.size(),
                                    " bytes have digest ", found.text()));
}

}  // namespace

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

Result<bool> BlobStore::has(const oci::Digest& digest) const {
  return FLUYT_TRY(sys::find_stat(root_, path_of(digest))).has_value();
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
