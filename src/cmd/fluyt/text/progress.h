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

/// What is done with layers, in the words of the lines.
enum class Verb { kPull, kPush, kLoad, kVerify };

/// How fast bytes come, smoothed, from samples of how many there are.
class Rate {
 public:
  void sample(uint64_t bytes, int64_t now_ns);
  /// Bytes a second; 0 until two samples stand far enough apart to tell.
  uint64_t per_second() const { return static_cast<uint64_t>(per_second_); }

 private:
  uint64_t bytes_ = 0;
  int64_t at_ns_ = 0;
  double per_second_ = 0;
};

/// What a pull (push, load) has told so far: layers in the order in which they were first heard of.
class PullState {
 public:
  explicit PullState(Verb verb = Verb::kPull) : verb_(verb) {}
  /// True when the layer's phase changed (or it is new). `now_ns` is of any clock that goes on.
  bool update(const LayerState& layer, int64_t now_ns = 0);
  const std::vector<LayerState>& layers() const { return layers_; }
  uint64_t rate_of(const LayerState& layer) const;
  Verb verb() const { return verb_; }

 private:
  Verb verb_;
  std::vector<LayerState> layers_;
  std::vector<Rate> rates_;  // as many
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
std::string plain_line(const LayerState& layer, Verb verb = Verb::kPull);
/// "12s", "3m05s", "2h10m": the time that is left.
std::string short_duration(uint64_t seconds);

}  // namespace fluyt::cli
