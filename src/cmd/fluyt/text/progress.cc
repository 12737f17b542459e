#include "cmd/fluyt/text/progress.h"

#include <algorithm>

#include "base/strings.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

constexpr size_t kMaxBar = 40;
constexpr size_t kMinBar = 8;
constexpr size_t kIdColumns = 12;

bool is_finished(const LayerState& layer) {
  return layer.phase == LayerState::Phase::kDone || layer.phase == LayerState::Phase::kExists;
}

std::string bar(uint64_t done, uint64_t total, size_t columns) {
  const size_t inner = columns - 2;
  const size_t filled = total == 0
                            ? 0
                            : static_cast<size_t>(static_cast<double>(inner) *
                                                  static_cast<double>(std::min(done, total)) /
                                                  static_cast<double>(total));
  std::string out = "[";
  out.append(filled, '=');
  if (filled < inner) {
    out += '>';
    out.append(inner - filled - 1, ' ');
  }
  return out + "]";
}

std::string pad(std::string text, size_t columns) {
  if (columns_of(text) < columns) text.append(columns - columns_of(text), ' ');
  return text;
}

struct Words {
  const char* exists;
  const char* done;
  const char* doing;
};
Words words_of(Verb verb) {
  switch (verb) {
    case Verb::kPull:
      return {"already here", "done", "fetching"};
    case Verb::kPush:
      return {"already there", "pushed", "pushing"};
    case Verb::kLoad:
      return {"already here", "loaded", "loading"};
    case Verb::kVerify:
      return {"already checked", "checked", "checking"};
  }
  return {"", "", ""};
}

// "  45.1MB/s  3s left", or less where less is known.
std::string speed_of(const LayerState& layer, uint64_t rate) {
  if (rate == 0) return {};
  std::string out = cat("  ", human_size(rate), "/s");
  if (layer.total > layer.done) {
    out += cat("  ", short_duration((layer.total - layer.done + rate - 1) / rate), " left");
  }
  return out;
}

std::string line_of(const LayerState& layer, uint64_t rate, Verb verb, size_t width) {
  const std::string id = pad(printable(short_id(layer.digest)), kIdColumns);
  const Words words = words_of(verb);
  switch (layer.phase) {
    case LayerState::Phase::kWaiting:
      return fit(cat(id, "  waiting"), width);
    case LayerState::Phase::kExists:
      return fit(cat(id, "  ", words.exists), width);
    case LayerState::Phase::kDone:
      return fit(cat(id, "  ", words.done, "  ", human_size(std::max(layer.total, layer.done))),
                 width);
    case LayerState::Phase::kFetching:
      break;
  }
  const std::string amount = layer.total == 0
                                 ? human_size(layer.done)
                                 : cat(human_size(layer.done), "/", human_size(layer.total));
  // First the speed goes where there is no room, then the bar.
  const size_t needed = kIdColumns + 2 + columns_of(amount);
  std::string speed = speed_of(layer, rate);
  if (needed + columns_of(speed) > width) speed.clear();
  const size_t others = needed + 2 + columns_of(speed);
  const size_t room = width > others ? width - others : 0;
  if (layer.total == 0 || room < kMinBar) return fit(cat(id, "  ", amount, speed), width);
  return cat(id, "  ", bar(layer.done, layer.total, std::min(room, kMaxBar)), "  ", amount, speed);
}

}  // namespace

void Rate::sample(uint64_t bytes, int64_t now_ns) {
  constexpr int64_t kApartNs = 250'000'000;
  constexpr double kNewest = 0.3;
  if (at_ns_ == 0 || bytes < bytes_) {  // the first, or the layer has begun anew
    bytes_ = bytes;
    at_ns_ = now_ns;
    per_second_ = 0;
    return;
  }
  if (now_ns - at_ns_ < kApartNs) return;
  const double now =
      static_cast<double>(bytes - bytes_) * 1e9 / static_cast<double>(now_ns - at_ns_);
  per_second_ = per_second_ == 0 ? now : kNewest * now + (1 - kNewest) * per_second_;
  bytes_ = bytes;
  at_ns_ = now_ns;
}

bool PullState::update(const LayerState& layer, int64_t now_ns) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    LayerState& known = layers_[i];
    if (known.digest != layer.digest) continue;
    const bool changed = known.phase != layer.phase;
    known = layer;
    rates_[i].sample(layer.done, now_ns);
    return changed;
  }
  layers_.push_back(layer);
  rates_.emplace_back().sample(layer.done, now_ns);
  return true;
}

uint64_t PullState::rate_of(const LayerState& layer) const {
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i].digest == layer.digest) return rates_[i].per_second();
  }
  return 0;
}

std::string short_duration(uint64_t seconds) {
  const auto two = [](uint64_t n) { return cat(n < 10 ? "0" : "", n); };
  if (seconds < 60) return cat(seconds, "s");
  if (seconds < 3600) return cat(seconds / 60, "m", two(seconds % 60), "s");
  if (seconds < 100 * 3600) return cat(seconds / 3600, "h", two(seconds / 60 % 60), "m");
  return cat(seconds / 86400, "d");
}

std::vector<std::string> render(const PullState& state, size_t width, size_t height) {
  const auto& layers = state.layers();
  const bool all_fit = layers.size() <= height;
  std::vector<std::string> lines;
  size_t finished = 0;
  if (!all_fit) {
    finished = static_cast<size_t>(std::count_if(layers.begin(), layers.end(), is_finished));
    lines.push_back(fit(cat(finished, " of ", layers.size(), " layers done"), width));
  }
  for (const LayerState& layer : layers) {
    if (!all_fit && (is_finished(layer) || lines.size() >= std::max<size_t>(height, 1))) continue;
    lines.push_back(line_of(layer, state.rate_of(layer), state.verb(), width));
  }
  return lines;
}

size_t rows_of(const std::vector<std::string>& lines, size_t width) {
  size_t rows = 0;
  for (const std::string& line : lines) {
    const size_t columns = columns_of(line);
    rows += columns == 0 || width == 0 ? 1 : (columns + width - 1) / width;
  }
  return rows;
}

std::string redraw(const std::vector<std::string>& previous, const std::vector<std::string>& next,
                   size_t width) {
  std::string out;
  if (const size_t rows = rows_of(previous, width); rows != 0) {
    out += cat("\x1b[", rows, "A\r");  // up, then erase from there to the end of the screen
  }
  out += "\x1b[J";
  for (const std::string& line : next) out += cat(line, "\n");
  return out;
}

std::string plain_line(const LayerState& layer, Verb verb) {
  const Words words = words_of(verb);
  const std::string id = printable(short_id(layer.digest));
  switch (layer.phase) {
    case LayerState::Phase::kWaiting:
      return cat(id, ": waiting");
    case LayerState::Phase::kFetching:
      return layer.total == 0 ? cat(id, ": ", words.doing)
                              : cat(id, ": ", words.doing, " ", human_size(layer.total));
    case LayerState::Phase::kDone:
      return cat(id, ": ", words.done, ", ", human_size(std::max(layer.total, layer.done)));
    case LayerState::Phase::kExists:
      return cat(id, ": ", words.exists);
  }
  return id;
}

}  // namespace fluyt::cli
