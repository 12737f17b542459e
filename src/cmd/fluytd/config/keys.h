#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cmd/fluytd/config/field.h"

namespace fluyt::daemon {

/// One key of the configuration. This table is what files, flags, `config default`, `config dump`
/// and a reload go by: a key that is in it is in all of them.
struct Key {
  std::string name;     // with its tables: "image.certs_dir"
  std::string doc;      // for administrators; lines end by '\n', the last one does not
  std::string example;  // TOML, shown in a comment where there is nothing by default
  enum class Change {
    kLive,       // by SIGHUP
    kByRestart,  // a reload says that it is not in force
  } change = Change::kLive;
  enum class Merge {
    kReplace,  // a later file's value; tables are merged member by member all the same
    kAppend,   // a list of tables: a later file's entries beside the earlier ones'
  } merge = Merge::kReplace;
  Field field;
};

/// In the order in which they are printed; those of one table follow each other.
std::vector<Key> all_keys();

}  // namespace fluyt::daemon
