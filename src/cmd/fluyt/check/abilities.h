#pragma once

#include <string>
#include <vector>

#include "cmd/fluyt/check/host_report.h"
#include "host/check.h"

namespace fluyt::cli {

/// A line an ability, group by group; below one that is missing what does not work and what to do.
/// The last line says whether pods have what they need. `which` leaves out what is there.
std::string abilities_text(const std::vector<host::Ability>& abilities, Shown which);
/// The same as data: {"abilities": [...], "missing": [names]}.
std::string abilities_json(const std::vector<host::Ability>& abilities, Shown which);

}  // namespace fluyt::cli
