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

std::string line_of(const LayerState& layer, size_t width) {
  const std::string id = pad(printable(short_id(layer.digest)), kIdColumns);
  switch (layer.phase) {
    case LayerState::Phase::kWaiting:
      return fit(cat(id, "  waiting"), width);
    case LayerState::Phase::kExists:
      return fit(cat(id, "  already here"), width);
    case LayerState::Phase::kDone:
      return fit(cat(id, "  done  ", human_size(std::max(layer.total, layer.done))), width);
    case LayerState::Phase::kFetching:
      break;
  }
  const std::string amount = layer.total == 0
                                 ? human_size(layer.done)
                                 : cat(human_size(layer.done), "/", human_size(layer.total));
  const size_t others = kIdColumns + 2 + 2 + columns_of(amount);
  const size_t room = width > others ? width - others : 0;
  if (layer.total == 0 || room < kMinBar) return fit(cat(id, "  ", amount), width);
  return cat(id, "  ", bar(layer.done, layer.total, std::min(room, kMaxBar)), "  ", amount);
}

}  // namespace

bool PullState::update(const LayerState& layer) {
  for (LayerState& known : layers_) {
    if (known.digest != layer.digest) continue;
    const bool changed = known.phase != layer.phase;
    known = layer;
    return changed;
  }
  layers_.push_back(layer);
  return true;
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
    lines.push_back(line_of(layer, width));
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

std::string plain_line(const LayerState& layer) {
  const std::string id = printable(short_id(layer.digest));
  switch (layer.phase) {
    case LayerState::Phase::kWaiting:
      return cat(id, ": waiting");
    case LayerState::Phase::kFetching:
      return layer.total == 0 ? cat(id, ": fetching")
                              : cat(id, ": fetching ", human_size(layer.total));
    case LayerState::Phase::kDone:
      return cat(id, ": done, ", human_size(std::max(layer.total, layer.done)));
    case LayerState::Phase::kExists:
      return cat(id, ": already here");
  }
  return id;
}

}  // namespace fluyt::cli
