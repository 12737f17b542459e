#include "cmd/fluyt/check/abilities.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

namespace {

using host::Ability;
using host::Has;

constexpr size_t kHasColumns = 9;      // "partly" and a gap
constexpr size_t kFoundColumns = 110;  // an error of the kernel's may be long

bool is_shown(const Ability& ability, Shown which) {
  return which == Shown::kAll || ability.has != Has::kYes;
}

std::string padded(std::string_view text, size_t columns) {
  std::string out = printable(text);
  out.append(columns - std::min(columns_of(out), columns), ' ');
  return out;
}

std::string lines_of(const Ability& ability, size_t name_columns) {
  const std::string indent(2 + name_columns + kHasColumns, ' ');
  std::string out =
      cat("  ", padded(ability.name, name_columns), padded(host::word_of(ability.has), kHasColumns),
          fit(printable(ability.found), kFoundColumns), "\n");
  if (!ability.loses.empty()) out += cat(indent, printable(ability.loses), "\n");
  if (!ability.remedy.empty()) out += cat(indent, "to do: ", printable(ability.remedy), "\n");
  return out;
}

}  // namespace

std::string abilities_text(const std::vector<Ability>& abilities, Shown which) {
  constexpr size_t kGap = 3;
  size_t name_columns = 0;
  for (const Ability& ability : abilities) {
    name_columns = std::max(name_columns, columns_of(ability.name) + kGap);
  }
  std::string out;
  std::string_view group;
  for (const Ability& ability : abilities) {
    if (!is_shown(ability, which)) continue;
    if (ability.group != group) out += cat(out.empty() ? "" : "\n", printable(ability.group), "\n");
    group = ability.group;
    out += lines_of(ability, name_columns);
  }
  const auto missing = host::missing(abilities);
  out += out.empty() ? "" : "\n";
  return out + (missing.empty() ? "everything that pods need is there\n"
                                : cat("missing, and needed by pods: ", join(missing, ", "), "\n"));
}

std::string abilities_json(const std::vector<Ability>& abilities, Shown which) {
  using Json = nlohmann::ordered_json;
  Json list = Json::array();
  for (const Ability& ability : abilities) {
    if (!is_shown(ability, which)) continue;
    list.push_back({{"group", ability.group},
                    {"name", ability.name},
                    {"needed", ability.need == host::Need::kPods},
                    {"has", host::word_of(ability.has)},
                    {"found", ability.found},
                    {"loses", ability.loses},
                    {"remedy", ability.remedy}});
  }
  const Json out = {{"abilities", std::move(list)}, {"missing", host::missing(abilities)}};
  return out.dump(2, ' ', true, Json::error_handler_t::replace);
}

}  // namespace fluyt::cli
