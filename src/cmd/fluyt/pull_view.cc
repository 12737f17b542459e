#include "cmd/fluyt/pull_view.h"

#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluyt/terminal.h"
#include "cmd/fluyt/text/escape.h"

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

}  // namespace

LayerView::LayerView(Verb verb, Verbosity verbosity)
    : quiet_(verbosity == Verbosity::kQuiet), bars_(is_terminal(Stream::kErr)), state_(verb) {}

void LayerView::update(const LayerMessages& changed) {
  const int64_t now = now_boot_ns();
  for (const control::LayerProgress& layer : changed) {
    const LayerState state = state_of(layer);
    const bool is_new = state_.update(state, now);
    if (is_new && !quiet_ && !bars_) {
      write_out(Stream::kErr, plain_line(state, state_.verb()) + "\n");
    }
  }
  if (quiet_ || !bars_ || changed.empty()) return;
  // The size is asked for each time, so that a window that changed is right at the next drawing.
  // The last column and row stay free: a terminal may wrap or scroll on reaching them.
  const TerminalSize size = terminal_size(Stream::kErr);
  const size_t height = size.height > 1 ? size.height - 1U : 1U;
  auto lines = render(state_, size.width - 1U, height);
  write_out(Stream::kErr, redraw(drawn_, lines, size.width));
  drawn_ = std::move(lines);
}

Result<control::Image> pull_with_view(Client& client, const control::PullRequest& request,
                                      Verbosity verbosity) {
  LayerView view(Verb::kPull, verbosity);
  return client.pull(request, [&](const control::PullResponse& response) {
    view.update(response.layers());
    for (const std::string& warning : response.warnings())
      write_out(Stream::kErr, cat("fluyt: the registry says: ", printable(warning), "\n"));
  });
}

}  // namespace fluyt::cli
