#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::monitor {

enum class Stream { kStdout, kStderr };

/// A line's text is at most this long in the log; a longer one is told in pieces tagged P.
inline constexpr size_t kMaxLogLineBytes = 16UL << 10U;

/// Opens a container's log for appending, made 0640 when it is not there. `path` is relative to
/// `directory`, without `.` and `..`; its folders are made 0755. No link is followed below
/// `directory`. Anything but a regular file is kInvalidArgument.
Result<sys::Fd> open_log(const std::string& directory, const std::string& path);

/// Writes output in the CRI's log format, `TIME STREAM P|F TEXT\n` (kubernetes
/// design-proposals/node/kubelet-cri-logging.md). A piece without its line's end is kept until the
/// end comes, kMaxLogLineBytes are reached, or the stream ends; the last is written as P, as
/// containerd does. What cannot be written is dropped and counted: the container never waits for a
/// full disk.
class LogFile {
 public:
  explicit LogFile(sys::Fd file) : file_(std::move(file)) {}
  /// `unix_ns` is when `text` was read.
  void write(Stream stream, std::string_view text, int64_t unix_ns);
  /// The stream has ended: what is left of its last line is written.
  void finish(Stream stream, int64_t unix_ns);
  /// After a rotation: the next line goes to `file`.
  void replace(sys::Fd file);
  uint64_t dropped_bytes() const { return dropped_bytes_; }

  /// All but the file, for another program to go on with.
  struct State {
    std::array<std::string, 2> unfinished_lines;
    uint64_t dropped_bytes = 0;
    bool torn = false;
  };
  LogFile(sys::Fd file, State state);
  State state() const { return {{kept_[0], kept_[1]}, dropped_bytes_, torn_}; }
  sys::FdRef file() const { return file_; }

 private:
  void add(std::string_view bytes);
  void write_batch();

  sys::Fd file_;
  std::string kept_[2];  // of each stream, the beginning of a line whose end has not come
  std::vector<iovec> batch_;
  uint64_t dropped_bytes_ = 0;
  bool torn_ = false;  // the file ends within a line
};

}  // namespace fluyt::monitor
