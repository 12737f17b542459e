#pragma once

#include <string>
#include <string_view>

#include "host/check.h"

namespace fluyt::host {

/// Keys of what `fluytd config dump` printed; those that are not there keep their defaults.
Options options_from_dump(std::string_view dump);

struct Configuration {
  Options options;  // the defaults where the configuration cannot be had
  Ability ability;  // what there is to say of it
};
/// Has the program `fluytd` read the configuration, `file` in place of its own unless that is
/// empty. An empty `fluytd`: it is not installed, which is no fault of the host's.
Configuration read_configuration(const std::string& fluytd, const std::string& file);

/// fluytd in one of these folders; empty: in none.
std::string find_fluytd(const std::vector<std::string>& folders);

}  // namespace fluyt::host
