#include "engine/mcs_levels.h"

#include <random>

#include "base/strings.h"

namespace fluyt::engine {

std::string mcs_level(uint32_t number) {
  uint32_t first = 0;
  // As many pairs begin with a category as there are greater ones.
  for (uint32_t of_first = McsLevels::kCategories - 1; number >= of_first; --of_first) {
    number -= of_first;
    ++first;
  }
  return cat("s0:c", first, ",c", first + 1 + number);
}

McsLevels::Hold& McsLevels::Hold::operator=(Hold&& other) noexcept {
  std::swap(table_, other.table_);
  std::swap(level_, other.level_);
  return *this;
}

McsLevels::Hold::~Hold() {
  if (!table_ || level_.empty()) return;
  auto table = table_->lock();
  const auto at = table->had.find(level_);
  if (at != table->had.end() && --at->second == 0) table->had.erase(at);
}

McsLevels::Hold McsLevels::hold(const std::string& level) {
  ++table_->lock()->had[level];
  return {table_, level};
}

Result<McsLevels::Hold> McsLevels::take(uint32_t from) {
  auto table = table_->lock();
  for (uint32_t i = 0; i < kPairs; ++i) {
    const std::string level = mcs_level((from + i) % kPairs);
    if (table->had.try_emplace(level, 1).second) return Hold(table_, level);
  }
  return Error(Code::kResourceExhausted,
               cat("SELinux levels: all ", kPairs, " pairs of categories are pods'"));
}

Result<McsLevels::Hold> McsLevels::take() {
  std::random_device random;
  return take(std::uniform_int_distribution<uint32_t>(0, kPairs - 1)(random));
}

}  // namespace fluyt::engine
