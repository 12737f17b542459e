#include "image/layer/file_filler.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <exception>
#include <utility>

#include "base/strings.h"

namespace fluyt::image {

namespace {

constexpr mode_t kSpecialBits = 07000;

Error failed(std::string_view call, std::string_view path) {
  const int error = errno;
  return Error::from_errno(error, cat(call, "(", quote(path), ")"));
}

}  // namespace

Result<> write_at(sys::FdRef file, off_t offset, std::string_view bytes, std::string_view path) {
  while (!bytes.empty()) {
    const ssize_t put = pwrite(file.raw(), bytes.data(), bytes.size(), offset);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return failed("pwrite", path);
    offset += put;
    bytes.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

// In this order: a new owner clears setuid bits and capabilities.
Result<> set_owner_and_special_bits(sys::FdRef file, const FileLooks& looks,
                                    std::string_view path) {
  if ((looks.uid != 0 || looks.gid != 0) && fchown(file.raw(), looks.uid, looks.gid) != 0)
    return failed("fchown", path);
  if ((looks.mode & kSpecialBits) != 0 && fchmod(file.raw(), looks.mode) != 0)
    return failed("fchmod", path);
  return {};
}

Result<> set_times(sys::FdRef file, const FileLooks& looks, std::string_view path) {
  const std::array<timespec, 2> times{looks.mtime, looks.mtime};
  return futimens(file.raw(), times.data()) == 0 ? Result<>() : Result<>(failed("futimens", path));
}

FileFiller::FileFiller(StandbyThread& thread) : thread_(thread) {
  next_.files.reserve(Batch::kFiles);
  thread_.run([this] { work(); });
}

FileFiller::~FileFiller() {
  {
    const std::scoped_lock lock(mutex_);
    ended_ = true;
    changed_.notify_one();
  }
  thread_.join();
}

void FileFiller::work() {
  Batch batch;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return is_full_ || ended_; });
    if (ended_) return;
    std::swap(batch, batch_);
    lock.unlock();
    auto outcome = error_ ? Result<>() : fill_caught(batch);
    // The files are closed here, which is a part of the work.
    batch.files.clear();
    batch.bytes.clear();
    lock.lock();
    if (!outcome.ok()) error_ = std::move(outcome).error();
    is_full_ = false;
    changed_.notify_one();
  }
}

Result<> FileFiller::fill(const Batch& batch) {
  std::string_view left = batch.bytes;
  for (const File& file : batch.files) {
    FLUYT_TRY(write_at(file.fd, 0, left.substr(0, file.size), file.path));
    left.remove_prefix(file.size);
    FLUYT_TRY(set_owner_and_special_bits(file.fd, file.looks, file.path));
    FLUYT_TRY(set_times(file.fd, file.looks, file.path));
  }
  return {};
}

// Out of memory is the one thing that the standard library throws at us here.
Result<> FileFiller::fill_caught(const Batch& batch) {
  try {
    return fill(batch);
  } catch (const std::exception& error) {
    return Error(Code::kResourceExhausted, cat("unpack: ", error.what()));
  }
}

Result<> FileFiller::add(sys::Fd file, const FileLooks& looks, std::string path) {
  const size_t size = next_.bytes.size() - std::exchange(counted_, next_.bytes.size());
  next_.files.push_back({std::move(file), size, looks, std::move(path)});
  const bool is_full = next_.files.size() == Batch::kFiles || counted_ >= Batch::kBytes;
  return is_full ? hand_over() : Result<>();
}

Result<> FileFiller::hand_over() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !is_full_; });
  if (error_) return Error(*error_).add_context("a file before it");
  std::swap(next_, batch_);
  counted_ = 0;
  is_full_ = true;
  changed_.notify_one();
  return {};
}

Result<> FileFiller::finish() {
  if (!next_.files.empty()) FLUYT_TRY(hand_over());
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !is_full_; });
  return error_ ? Result<>(*error_) : Result<>();
}

}  // namespace fluyt::image
