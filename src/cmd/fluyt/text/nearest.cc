#include "cmd/fluyt/text/nearest.h"

#include <algorithm>

namespace fluyt::cli {

namespace {

// Optimal string alignment: three rows of the usual table.
size_t distance(std::string_view from, std::string_view to) {
  std::vector<size_t> before(to.size() + 1);
  std::vector<size_t> above(to.size() + 1);
  std::vector<size_t> row(to.size() + 1);
  for (size_t j = 0; j <= to.size(); ++j) above[j] = j;
  for (size_t i = 1; i <= from.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= to.size(); ++j) {
      const size_t change = from[i - 1] == to[j - 1] ? 0 : 1;
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + change});
      const bool swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[to.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& names) {
  constexpr size_t kMostChanges = 2;
  constexpr size_t kLongest = 64;  // of a word that is worth the table
  if (word.size() > kLongest) return {};
  size_t least = std::min(kMostChanges, word.size() / 2) + 1;
  std::string found;
  for (const std::string& name : names) {
    const size_t changes = distance(word, name);
    if (changes >= least) continue;
    least = changes;
    found = name;
  }
  return found;
}

}  // namespace fluyt::cli
