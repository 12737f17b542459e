#include "spec/process.h"

#include <algorithm>

#include "base/strings.h"

namespace fluyt::spec::internal {
namespace {

constexpr std::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
// execve(2) takes no more than a quarter of the stack's limit, 2 MiB of 8, for all of them
// together.
constexpr size_t kMaxWordsBytes = 2UL << 20U;

using Words = std::vector<std::string>;

Result<> check_words(std::string_view field, const Words& words) {
  size_t bytes = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].find('\0') != std::string::npos || !is_utf8(words[i])) {
      return Error(Code::kInvalidArgument,
                   cat(field, "[", i, "]: ", quote(words[i]), ": expected UTF-8 text without NUL",
                       ": a runtime's specification is JSON, which has no other"));
    }
    bytes += words[i].size() + 1;
  }
  if (bytes > kMaxWordsBytes) {
    return Error(Code::kInvalidArgument,
                 cat(field, ": ", bytes, " bytes: expected at most ", kMaxWordsBytes));
  }
  return {};
}

/// Variables in the order in which they first came; a later value takes the earlier one's place.
class Environment {
 public:
  void set(std::string_view name, std::string_view value) {
    const std::string start = cat(name, "=");
    const auto it = std::find_if(entries_.begin(), entries_.end(), [&](const std::string& entry) {
      return entry.starts_with(start);
    });
    if (it == entries_.end()) {
      entries_.push_back(cat(start, value));
    } else {
      *it = cat(start, value);
    }
  }
  Words take() { return std::move(entries_); }

 private:
  Words entries_;
};

}  // namespace

Result<Words> program_of(const Container& container, const oci::ImageConfig& image) {
  Words program = container.command;
  const Words* args = &container.args;
  if (program.empty()) {
    program = image.config.entrypoint;
    if (args->empty()) {
      args = &image.config.cmd;
    }
  }
  program.insert(program.end(), args->begin(), args->end());
  if (program.empty() || program.front().empty()) {
    return Error(Code::kInvalidArgument,
                 "command: empty: expected one, since the image has no entrypoint and no cmd");
  }
  FLUYT_TRY(check_words("command", program));
  return program;
}

Result<Words> environment_of(const Container& container, const Sandbox& sandbox,
                             const oci::ImageConfig& image, const std::string& home) {
  Environment environment;
  environment.set("PATH", kDefaultPath);
  if (container.tty) {
    environment.set("TERM", "xterm");
  }
  if (!sandbox.hostname.empty()) {
    environment.set("HOSTNAME", sandbox.hostname);
  }
  environment.set("HOME", home);
  for (const std::string& entry : image.config.env) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Error(Code::kInvalidArgument,
                   cat("image config: Env: ", quote(entry), ": expected NAME=value"));
    }
    environment.set(entry.substr(0, equals), std::string_view(entry).substr(equals + 1));
  }
  for (size_t i = 0; i < container.envs.size(); ++i) {
    const auto& [name, value] = container.envs[i];
    if (name.empty() || name.find('=') != std::string::npos) {
      return Error(Code::kInvalidArgument,
                   cat("envs[", i, "].key: ", quote(name), ": expected a name without '='"));
    }
    environment.set(name, value);
  }
  Words words = environment.take();
  FLUYT_TRY(check_words("envs", words));
  return words;
}

Result<std::string> working_dir_of(const Container& container, const oci::ImageConfig& image) {
  const bool asked = !container.working_dir.empty();
  const std::string& path = asked ? container.working_dir : image.config.working_dir;
  if (path.empty()) {
    return std::string("/");
  }
  if (!path.starts_with('/') || path.find('\0') != std::string::npos || !is_utf8(path)) {
    return Error(Code::kInvalidArgument, cat(asked ? "working_dir" : "image config: WorkingDir",
                                             ": ", quote(path), ": expected an absolute path"));
  }
  return path;
}

}  // namespace fluyt::spec::internal
