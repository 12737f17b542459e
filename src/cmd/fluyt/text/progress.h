#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fluyt::cli {

struct LayerState {
  enum class Phase { kWaiting, kFetching, kDone, kExists };
  std::string digest;
  Phase phase = Phase::kWaiting;
  uint64_t done = 0;
  uint64_t total = 0;  // 0: not known
};

/// What a pull has told so far: layers in the order in which they were first heard of.
class PullState {
 public:
  /// True when the layer's phase changed (or it is new).
  bool update(const LayerState& layer);
  const std::vector<LayerState>& layers() const { return layers_; }

 private:
  std::vector<LayerState> layers_;
};

/// One line a layer, none wider than `width`; at most `height` lines (finished layers are counted
/// in one line when there is no room).
std::vector<std::string> render(const PullState& state, size_t width, size_t height);

/// The rows that lines drawn before take now, in a terminal that is `width` columns wide.
size_t rows_of(const std::vector<std::string>& lines, size_t width);

/// What to send to a terminal to put `next` where `previous` was.
std::string redraw(const std::vector<std::string>& previous, const std::vector<std::string>& next,
                   size_t width);

/// For where no line can be redrawn: "a1b2c3d4e5f6: done, 4.26MB".
std::string plain_line(const LayerState& layer);

}  // namespace fluyt::cli
