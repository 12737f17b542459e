#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/text/progress.h"

namespace fluyt::cli {

enum class Verbosity { kNormal, kQuiet };

using LayerMessages = google::protobuf::RepeatedPtrField<control::LayerProgress>;

/// How far layers are, on standard error: bars where that is a terminal, a line a change elsewhere,
/// nothing when quiet.
class LayerView {
 public:
  LayerView(Verb verb, Verbosity verbosity);
  void update(const LayerMessages& changed);

 private:
  const bool quiet_;
  const bool bars_;
  PullState state_;
  std::vector<std::string> drawn_;
};

/// Pulls an image and shows how far it is.
Result<control::Image> pull_with_view(Client& client, const control::PullRequest& request,
                                      Verbosity verbosity);

}  // namespace fluyt::cli
