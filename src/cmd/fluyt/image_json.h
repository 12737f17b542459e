#pragma once

#include <string>
#include <vector>

#include "cmd/fluyt/client.h"

/// Images as JSON, with one set of keys wherever they are shown.
namespace fluyt::cli {

/// With the config as its maker wrote it.
std::string image_json(const control::InspectImageResponse& found);
std::string image_list_json(const std::vector<const control::ImageDetail*>& images);

}  // namespace fluyt::cli
