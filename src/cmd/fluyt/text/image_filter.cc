#include "cmd/fluyt/text/image_filter.h"

#include <fnmatch.h>

#include <algorithm>

#include "base/strings.h"

namespace fluyt::cli {

namespace {

Error bad(std::string text) { return {Code::kInvalidArgument, std::move(text)}; }

// "a/b:1" and "a/b@sha256:…" without what stands behind the repository.
std::string repository_of(const std::string& name) {
  const size_t at = name.find('@');
  if (at != std::string::npos) return name.substr(0, at);
  const size_t slash = name.rfind('/');
  const size_t colon = name.rfind(':');
  if (colon == std::string::npos || (slash != std::string::npos && colon < slash)) return name;
  return name.substr(0, colon);
}

bool fits(const std::string& pattern, const std::string& name) {
  return ::fnmatch(pattern.c_str(), name.c_str(), FNM_PATHNAME | FNM_NOESCAPE) == 0;
}

}  // namespace

bool name_matches(const std::string& pattern, const std::string& name) {
  std::vector<std::string> forms{name};
  for (const std::string_view left_out : {"docker.io/", "docker.io/library/"}) {
    if (name.starts_with(left_out)) forms.push_back(name.substr(left_out.size()));
  }
  return std::any_of(forms.begin(), forms.end(), [&](const std::string& form) {
    return fits(pattern, form) || fits(pattern, repository_of(form));
  });
}

Result<> ImageFilter::add(std::string_view text) {
  const size_t equals = text.find('=');
  const std::string key(text.substr(0, equals));
  const std::string value(equals == std::string_view::npos ? "" : text.substr(equals + 1));
  if (equals == std::string_view::npos || value.empty()) {
    return bad(cat("--filter: ", quote(text, 64), " is not KEY=VALUE"));
  }
  if (key == "dangling") {
    if (value != "true" && value != "false") {
      return bad(cat("--filter: dangling: ", quote(value, 64), " is not true or false"));
    }
    dangling_ = value == "true";
  } else if (key == "label") {
    const size_t second = value.find('=');
    labels_.emplace_back(value.substr(0, second), second == std::string::npos
                                                      ? std::optional<std::string>()
                                                      : value.substr(second + 1));
  } else if (key == "reference") {
    references_.push_back(value);
  } else if (key == "before") {
    before_.push_back(value);
  } else if (key == "since") {
    since_.push_back(value);
  } else {
    return bad(
        cat("--filter: ", quote(key, 64), " is not dangling, label, reference, before or since"));
  }
  return {};
}

void ImageFilter::resolve_before(int64_t created) {
  created_below_ = std::min(created_below_.value_or(INT64_MAX), created);
}

void ImageFilter::resolve_since(int64_t created) {
  created_above_ = std::max(created_above_.value_or(INT64_MIN), created);
}

bool ImageFilter::matches(const FilteredImage& image) const {
  if (dangling_.has_value() && *dangling_ != image.tags.empty()) return false;
  for (const auto& [key, value] : labels_) {
    const auto found = image.labels.find(key);
    if (found == image.labels.end() || (value.has_value() && *value != found->second)) return false;
  }
  if (created_below_.has_value() && image.created >= *created_below_) return false;
  if (created_above_.has_value() && image.created <= *created_above_) return false;
  if (references_.empty()) return true;
  return std::any_of(references_.begin(), references_.end(), [&](const std::string& pattern) {
    const auto fitting = [&](const std::string& name) { return name_matches(pattern, name); };
    return std::any_of(image.tags.begin(), image.tags.end(), fitting) ||
           std::any_of(image.digests.begin(), image.digests.end(), fitting);
  });
}

}  // namespace fluyt::cli
