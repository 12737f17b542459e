#include "monitor/process/log_file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

// Well below IOV_MAX (1024); a batch is written when it is full.
constexpr size_t kMaxBatch = 512;

// "2026-01-02T03:04:05.000000006Z stdout F "
struct Header {
  Header(Stream stream, int64_t unix_ns) {
    format_rfc3339_nano(unix_ns, full.data());
    const std::string_view rest = stream == Stream::kStdout ? " stdout F " : " stderr F ";
    std::copy(rest.begin(), rest.end(), full.begin() + kRfc3339NanoSize);
    partial = full;
    partial[full.size() - 2] = 'P';
  }
  std::array<char, kRfc3339NanoSize + 10> full{};
  std::array<char, kRfc3339NanoSize + 10> partial{};
};

template <size_t N>
std::string_view view(const std::array<char, N>& bytes) {
  return {bytes.data(), bytes.size()};
}

Error bad_path(std::string_view path, std::string_view why) {
  return {Code::kInvalidArgument, cat("log_path ", quote(path), ": ", why)};
}

}  // namespace

Result<sys::Fd> open_log(const std::string& directory, const std::string& path) {
  if (!directory.starts_with('/')) {
    return Error(Code::kInvalidArgument,
                 cat("log_directory ", quote(directory), ": expected an absolute path"));
  }
  if (path.find('\0') != std::string::npos || path.empty() || path.size() > 4095) {
    return bad_path(path, "expected 1 to 4095 bytes without NUL");
  }
  const auto pieces = split(path, '/');
  for (const std::string_view piece : pieces) {
    if (piece.empty() || piece == "." || piece == "..") {
      return bad_path(path, "expected a relative path without empty, . and .. parts");
    }
  }
  FLUYT_TRY(sys::make_dirs(directory, 0755));
  sys::Fd folder = FLUYT_TRY(sys::open(directory, O_PATH | O_DIRECTORY));
  for (size_t i = 0; i + 1 < pieces.size(); ++i) {
    const std::string name(pieces[i]);
    if (mkdirat(folder.raw(), name.c_str(), 0755) != 0 && errno != EEXIST) {
      return Error::from_errno(errno,
                               cat("log_path ", quote(path), ": mkdirat(", quote(name), ")"));
    }
    auto next = sys::open_in(folder, name, O_PATH | O_DIRECTORY, 0, sys::Resolve::kBeneath,
                             RESOLVE_NO_SYMLINKS);
    if (!next.ok()) return std::move(next).error().add_context(cat("log_path ", quote(path)));
    folder = std::move(next).value();
  }
  // O_NONBLOCK: a FIFO in the file's place must not hold us before it is recognized.
  auto file = sys::open_in(folder, pieces.back(),
                           O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0640,
                           sys::Resolve::kBeneath, RESOLVE_NO_SYMLINKS);
  if (!file.ok()) return std::move(file).error().add_context(cat("log_path ", quote(path)));
  const auto stat = FLUYT_TRY(sys::stat_of(*file));
  if (!S_ISREG(stat.st_mode)) return bad_path(path, "expected a regular file");
  return file;
}

LogFile::LogFile(sys::Fd file, State state)
    : file_(std::move(file)),
      kept_{std::move(state.unfinished_lines[0]), std::move(state.unfinished_lines[1])},
      dropped_bytes_(state.dropped_bytes),
      torn_(state.torn) {}

void LogFile::add(std::string_view bytes) {
  if (!bytes.empty()) batch_.push_back({const_cast<char*>(bytes.data()), bytes.size()});
}

void LogFile::write(Stream stream, std::string_view text, int64_t unix_ns) {
  const Header header(stream, unix_ns);
  std::string& kept = kept_[stream == Stream::kStdout ? 0 : 1];
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const size_t room = kMaxLogLineBytes - kept.size();
    const size_t length = end == std::string_view::npos ? text.size() : end;
    if (length > room) {
      add(view(header.partial));
      add(kept);
      add(text.substr(0, room));
      add("\n");
      text.remove_prefix(room);
    } else if (end != std::string_view::npos) {
      add(view(header.full));
      add(kept);
      add(text.substr(0, end + 1));
      text.remove_prefix(end + 1);
    } else {
      break;
    }
    // Only the first line of a batch can begin with what was kept.
    if (!kept.empty() || batch_.size() + 4 > kMaxBatch) {
      write_batch();
      kept = std::string();
    }
  }
  write_batch();
  kept += text;
}

void LogFile::finish(Stream stream, int64_t unix_ns) {
  std::string& kept = kept_[stream == Stream::kStdout ? 0 : 1];
  if (kept.empty()) return;
  const Header header(stream, unix_ns);
  add(view(header.partial));
  add(kept);
  add("\n");
  write_batch();
  kept = std::string();
}

void LogFile::replace(sys::Fd file) {
  file_ = std::move(file);
  torn_ = false;
}

void LogFile::write_batch() {
  if (batch_.empty()) return;
  if (torn_) batch_.insert(batch_.begin(), iovec{const_cast<char*>("\n"), 1});
  iovec* next = batch_.data();
  size_t count = batch_.size();
  bool within_line = torn_;
  while (count != 0) {
    const ssize_t put = ::writev(file_.raw(), next, static_cast<int>(count));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) break;
    auto left = static_cast<size_t>(put);
    for (; count != 0 && left >= next->iov_len; ++next, --count) {
      left -= next->iov_len;
      within_line = static_cast<const char*>(next->iov_base)[next->iov_len - 1] != '\n';
    }
    if (left != 0) {
      next->iov_base = static_cast<char*>(next->iov_base) + left;
      next->iov_len -= left;
      within_line = true;
    }
  }
  // The separator is not the container's: one that was not written is not lost.
  if (torn_ && next == batch_.data() && count != 0) ++next, --count;
  torn_ = within_line;
  for (; count != 0; ++next, --count) dropped_bytes_ += next->iov_len;
  batch_.clear();
}

}  // namespace fluyt::monitor
