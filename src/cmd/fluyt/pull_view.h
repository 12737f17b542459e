#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/text/progress.h"

namespace fluyt::cli {

enum class Verbosity { kNormal, kQuiet };

/// Pulls an image and shows how far it is on standard error: bars where that is a terminal, a line
/// a change elsewhere, nothing when quiet.
Result<control::Image> pull_with_view(Client& client, const control::PullRequest& request,
                                      Verbosity verbosity);

}  // namespace fluyt::cli
