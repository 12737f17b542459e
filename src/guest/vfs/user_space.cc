#include "guest/vfs/user_space.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace fluyt::guest {
namespace {

bool is_space(char one) { return one == ' ' || (one >= '\t' && one <= '\r'); }

void skip_spaces(std::string_view& text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
}

/// As Linux reads them: no digits are 0, and what is too long loses its upper bits.
uint32_t take_number(std::string_view& text) {
  uint64_t value = 0;
  while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
    value = value * 10 + static_cast<uint64_t>(text.front() - '0');
    text.remove_prefix(1);
  }
  return static_cast<uint32_t>(value);
}

bool overlap(uint32_t first, uint32_t count, uint32_t other, uint32_t other_count) {
  return first <= other + (other_count - 1) && other <= first + (count - 1);
}

ErrnoOr<IdMap::Extent> parse_line(std::string_view line) {
  IdMap::Extent one;
  skip_spaces(line);
  one.inside = take_number(line);
  for (uint32_t* next : {&one.outside, &one.count}) {
    if (line.empty() || !is_space(line.front())) return Errno(EINVAL);
    skip_spaces(line);
    *next = take_number(line);
  }
  if (!line.empty() && !is_space(line.front())) return Errno(EINVAL);
  skip_spaces(line);
  if (!line.empty() || one.inside == kNoId || one.outside == kNoId) return Errno(EINVAL);
  // The last id is never one of them.
  if (one.inside + one.count <= one.inside || one.outside + one.count <= one.outside)
    return Errno(EINVAL);
  return one;
}

}  // namespace

ErrnoOr<IdMap> IdMap::parse(std::string_view text) {
  std::vector<Extent> out;
  text = text.substr(0, text.find('\0'));
  for (bool more = true; more;) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    more = !text.empty();
    const Extent one = GUEST_TRY(parse_line(line));
    for (const Extent& had : out)
      if (overlap(one.inside, one.count, had.inside, had.count) ||
          overlap(one.outside, one.count, had.outside, had.count))
        return Errno(EINVAL);
    if (out.size() + 1 == kMostExtents && more) return Errno(EINVAL);
    out.push_back(one);
  }
  // As Linux keeps and shows them.
  constexpr size_t kUnsorted = 5;
  if (out.size() > kUnsorted) std::ranges::sort(out, {}, &Extent::inside);
  return IdMap(std::move(out));
}

uint32_t IdMap::down(uint32_t inside, uint32_t count) const {
  for (const Extent& one : extents_)
    if (inside >= one.inside && inside - one.inside < one.count &&
        count <= one.count - (inside - one.inside))
      return one.outside + (inside - one.inside);
  return kNoId;
}

uint32_t IdMap::up(uint32_t outside) const {
  for (const Extent& one : extents_)
    if (outside >= one.outside && outside - one.outside < one.count)
      return one.inside + (outside - one.outside);
  return kNoId;
}

std::optional<IdMap> IdMap::within(const IdMap& outer) const {
  std::vector<Extent> out = extents_;
  for (Extent& one : out) {
    one.outside = outer.down(one.outside, one.count);
    if (one.outside == kNoId) return std::nullopt;
  }
  return IdMap(std::move(out));
}

std::string IdMap::describe() const {
  std::string out;
  for (const Extent& one : extents_) {
    char line[48];
    const int length =
        std::snprintf(line, sizeof line, "%10u %10u %10u\n", one.inside, one.outside, one.count);
    if (length > 0) out.append(line, static_cast<size_t>(length));
  }
  return out;
}

UserSpace::UserSpace(std::shared_ptr<UserSpace> within, uint64_t number_shown, uint32_t owns,
                     uint32_t of_group, bool sets_file_capabilities)
    : above(std::move(within)),
      depth(above ? above->depth + 1 : 1),
      inode_number(number_shown),
      owner(owns),
      group(of_group),
      maker_set_file_capabilities(sets_file_capabilities),
      allows_groups_(!above || above->allows_groups()) {}

Errno UserSpace::set_map(Kind of, IdMap to) {
  std::lock_guard lock(mutex_);
  Map& map = maps_[of];
  if (map.own) return Errno(EPERM);
  map.own = std::make_unique<const IdMap>(std::move(to));
  map.seen.store(map.own.get(), std::memory_order_release);
  return kOk;
}

Errno UserSpace::set_allows_groups(bool allowed) {
  std::lock_guard lock(mutex_);
  if (allowed) return allows_groups_.load() ? kOk : Errno(EPERM);
  if (maps_[kGroups].own) return Errno(EPERM);
  allows_groups_.store(false);
  return kOk;
}

bool UserSpace::is_within(const UserSpace* space, const UserSpace* other) {
  for (; space != other; space = space->above.get())
    if (space == nullptr) return false;
  return true;
}

}  // namespace fluyt::guest
