#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::cli {

/// A log file that another process appends to and, at rotation, renames away and makes anew.
class LogFile {
 public:
  static Result<LogFile> open(const std::string& path);

  /// Gives what is there from where the last call ended, through a rotation: the old file to its
  /// end, then the new one from its start.
  Result<> read_available(const std::function<void(std::string_view)>& sink);
  /// Waits until something may have happened to the file, at most `timeout_ms`.
  Result<> wait(int timeout_ms);

 private:
  LogFile(std::string path, sys::Fd file, sys::Fd watch)
      : path_(std::move(path)), file_(std::move(file)), watch_(std::move(watch)) {}
  Result<> read_to_end(const std::function<void(std::string_view)>& sink);

  std::string path_;
  sys::Fd file_;
  sys::Fd watch_;  // an inotify of the folder
};

}  // namespace fluyt::cli
