#include "cmd/fluyt/pull_view.h"

#include "base/strings.h"
#include "cmd/fluyt/terminal.h"

namespace fluyt::cli {

namespace {

LayerState state_of(const control::LayerProgress& layer) {
  LayerState state{
      .digest = layer.digest(), .done = layer.done_bytes(), .total = layer.total_bytes()};
  switch (layer.phase()) {
    case control::LayerProgress::FETCHING:
      state.phase = LayerState::Phase::kFetching;
      break;
    case control::LayerProgress::DONE:
      state.phase = LayerState::Phase::kDone;
      break;
    case control::LayerProgress::EXISTS:
      state.phase = LayerState::Phase::kExists;
      break;
    default:
      break;
  }
  return state;
}

class View {
 public:
  explicit View(Verbosity verbosity)
      : quiet_(verbosity == Verbosity::kQuiet), bars_(is_terminal(Stream::kErr)) {}

  void update(const control::PullResponse& response) {
    for (const control::LayerProgress& layer : response.layers()) {
      const LayerState state = state_of(layer);
      const bool changed = state_.update(state);
      if (changed && !quiet_ && !bars_) write_out(Stream::kErr, plain_line(state) + "\n");
    }
    if (quiet_ || !bars_ || response.layers_size() == 0) return;
    // The size is asked for each time, so that a window that changed is right at the next drawing.
    // The last column and row stay free: a terminal may wrap or scroll on reaching them.
    const TerminalSize size = terminal_size(Stream::kErr);
    const size_t height = size.height > 1 ? size.height - 1U : 1U;
    auto lines = render(state_, size.width - 1U, height);
    write_out(Stream::kErr, redraw(drawn_, lines, size.width));
    drawn_ = std::move(lines);
  }

 private:
  const bool quiet_;
  const bool bars_;
  PullState state_;
  std::vector<std::string> drawn_;
};

}  // namespace

Result<control::Image> pull_with_view(Client& client, const control::PullRequest& request,
                                      Verbosity verbosity) {
  View view(verbosity);
  return client.pull(request,
                     [&](const control::PullResponse& response) { view.update(response); });
}

}  // namespace fluyt::cli
