#pragma once

#include <string>

#include "base/result.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/options.h"

namespace fluyt::cli {

/// How pull and push log in to a registry: --username with --password-stdin, or else what the files
/// and credential helpers of the person who asks know of it.
class LogIn {
 public:
  void declare(Options& options);
  /// Whether the options go together.
  bool is_complete() const { return username_.empty() != password_stdin_; }
  Result<> fill(const std::string& image, control::Credentials& out) const;

 private:
  std::string username_;
  bool password_stdin_ = false;
};

}  // namespace fluyt::cli
