#include "cmd/fluytd/config/suggest.h"

#include <algorithm>
#include <numeric>

namespace fluyt::daemon {
namespace {

constexpr size_t kLettersForOneError = 4;
constexpr size_t kMaxName = 128;  // what is longer is no slip of the finger

/// Levenshtein's: letters put in, left out or replaced.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

std::string_view last_word(std::string_view name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

std::string nearest(std::string_view unknown, const std::vector<std::string>& known) {
  if (unknown.size() > kMaxName) return {};
  std::string best;
  size_t best_distance = unknown.size() / kLettersForOneError + 2;
  for (const std::string& name : known) {
    size_t away = distance(unknown, name);
    // In the wrong table: as good as one letter.
    away = std::min(away, distance(last_word(unknown), last_word(name)) + 1);
    if (away < best_distance) {
      best = name;
      best_distance = away;
    }
  }
  return best;
}

}  // namespace fluyt::daemon
