#include "engine/handlers.h"

#include <sys/stat.h>

#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "sys/process.h"

namespace fluyt::engine {

namespace {

constexpr int64_t kAskMs = 3'000;

// An error is none of the program's: it could not be run, or had no time to answer.
Result<sys::Captured> run_features(const RuntimeHandler& handler) {
  sys::SpawnOptions options;
  options.args = {handler.path};
  options.args.insert(options.args.end(), handler.options.begin(), handler.options.end());
  options.args.emplace_back("features");
  auto done = FLUYT_TRY(
      sys::run(std::move(options), "", oci::kMaxFeaturesBytes, Deadline::after_ms(kAskMs)));
  if (done.timed_out) return Error(Code::kDeadlineExceeded, "no answer in time");
  return done;
}

Result<oci::RuntimeFeatures> features_in(const sys::Captured& done) {
  if (done.status.shell_code() != 0) {
    return Error(Code::kUnimplemented,
                 cat("exit status ", done.status.shell_code(), ": ", quote(trim(done.err))));
  }
  return oci::parse_runtime_features(done.out);
}

}  // namespace

Result<const RuntimeHandler*> choose_handler(const Options& options, const std::string& name) {
  const std::string wanted = handler_name(options, name);
  if (wanted == kLinkedHandler) return static_cast<const RuntimeHandler*>(nullptr);
  std::string known = cat("\"", kLinkedHandler, "\"");
  for (const RuntimeHandler& handler : options.handlers) {
    if (handler.name == wanted) return &handler;
    known += cat(", \"", handler.name, "\"");
  }
  return Error(Code::kInvalidArgument,
               cat("runtime_handler: ", quote(wanted), ": expected \"\" or one of ", known));
}

std::string handler_name(const Options& options, const std::string& asked) {
  return asked.empty() ? options.default_handler : asked;
}

HandlerFeatures::Stamp HandlerFeatures::stamp_of(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return {};
  return {.device = info.st_dev,
          .inode = info.st_ino,
          .size = info.st_size,
          .changed_ns = info.st_ctim.tv_sec * 1'000'000'000 + info.st_ctim.tv_nsec};
}

void HandlerFeatures::ask(const RuntimeHandler& handler, Logger& logger) {
  Known now{.stamp = stamp_of(handler.path), .features = {}};
  const auto done = run_features(handler);
  // Without its stamp it is asked again at the next look.
  if (!done.ok()) now.stamp = {};
  auto features = done.ok() ? features_in(*done) : Result<oci::RuntimeFeatures>(done.error());
  if (features.ok()) {
    now.features = *features;
  } else {
    logger.warn(cat("runtime handler ", handler.name, ": ", handler.path,
                    " features: ", features.error().message(), ": taken as having none"));
  }
  known_.lock()->insert_or_assign(handler.name, now);
}

void HandlerFeatures::ask_all(const Options& options, Logger& logger) {
  for (const RuntimeHandler& handler : options.handlers) ask(handler, logger);
}

void HandlerFeatures::ask_changed(const Options& options, Logger& logger) {
  for (const RuntimeHandler& handler : options.handlers) {
    const Stamp now = stamp_of(handler.path);
    const bool same = known_.lock()->operator[](handler.name).stamp == now;
    if (!same) ask(handler, logger);
  }
}

bool HandlerFeatures::any_changed(const Options& options) const {
  for (const RuntimeHandler& handler : options.handlers) {
    const Stamp now = stamp_of(handler.path);
    auto known = known_.lock();
    const auto at = known->find(handler.name);
    if (at == known->end() || at->second.stamp != now) return true;
  }
  return false;
}

oci::RuntimeFeatures HandlerFeatures::of(const std::string& name) const {
  auto known = known_.lock();
  const auto at = known->find(name);
  return at == known->end() ? oci::RuntimeFeatures{} : at->second.features;
}

}  // namespace fluyt::engine
