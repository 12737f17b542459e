#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>

#include "base/guarded.h"
#include "base/log.h"
#include "engine/engine.h"
#include "oci/runtime_features.h"

namespace fluyt::engine {

/// The configured handler that a sandbox is run with; nullptr for the linked one. An unknown name
/// is kInvalidArgument and lists what there is. "" is the default.
Result<const RuntimeHandler*> choose_handler(const Options& options, const std::string& name);
/// The name that `asked` stands for.
std::string handler_name(const Options& options, const std::string& asked);

/// What programs say of themselves ("PROGRAM features"), asked once and again when the file of the
/// program has changed. One that does not know the command can nothing of it; one that could not
/// be run or did not answer in time neither, but is asked again at the next look.
class HandlerFeatures {
 public:
  /// Asks all programs, for at most some seconds each.
  void ask_all(const Options& options, Logger& logger);
  /// Asks again those whose file is another than it was.
  void ask_changed(const Options& options, Logger& logger);
  /// From memory, but for one stat(2) a program: whether ask_changed() has something to do.
  bool any_changed(const Options& options) const;
  oci::RuntimeFeatures of(const std::string& name) const;

 private:
  /// Which file a path showed.
  struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    int64_t size = 0;
    int64_t changed_ns = 0;
    bool operator==(const Stamp&) const = default;
  };
  struct Known {
    Stamp stamp;
    oci::RuntimeFeatures features;
  };
  static Stamp stamp_of(const std::string& path);
  void ask(const RuntimeHandler& handler, Logger& logger);

  Guarded<std::map<std::string, Known>> known_;
};

}  // namespace fluyt::engine
