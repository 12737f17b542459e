#pragma once

#include <string>

namespace fluyt::engine {

/// One thing that is not as the records say, or a record that is not as it should be.
struct Finding {
  enum class Kind {
    kCgroup,     // of no container or monitor of ours
    kMount,      // in our state folder, of no sandbox
    kFolder,     // the same
    kNetwork,    // what a plugin may still hold for a sandbox that is not ready or not there
    kProcess,    // a monitor of no sandbox
    kSandbox,    // ready, without a monitor that answers
    kContainer,  // on record as running, without a process
    kRecord,     // set aside, for it could not be read
  };
  Kind kind = Kind::kRecord;
  std::string name;      // a path, an id, a pid
  std::string what;      // what is wrong with it
  std::string mend;      // what would put it in order
  bool mendable = true;  // by examine(); else by a person
  bool mended = false;
  std::string failure;  // why it could not be mended
};

}  // namespace fluyt::engine
