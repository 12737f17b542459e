#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace fluyt::cli {

/// What a filter may look at of an image.
struct FilteredImage {
  std::vector<std::string> tags;     // whole, such as docker.io/library/busybox:latest
  std::vector<std::string> digests;  // docker.io/library/busybox@sha256:…
  std::map<std::string, std::string> labels;
  int64_t created = 0;
};

/// `fluyt images --filter KEY=VALUE`, each given one narrowing the list:
///
///     dangling=true|false       without or with a tag
///     label=KEY[=VALUE]
///     reference=PATTERN         a name, * and ? stand for what is not a slash; busybox is
///                               docker.io/library/busybox of any tag
///     before=IMAGE since=IMAGE  by the time of making
class ImageFilter {
 public:
  /// kInvalidArgument names key and value. `before` and `since` are left to be resolved.
  Result<> add(std::string_view text);
  const std::vector<std::string>& images_before() const { return before_; }
  const std::vector<std::string>& images_since() const { return since_; }
  void resolve_before(int64_t created);
  void resolve_since(int64_t created);
  bool matches(const FilteredImage& image) const;

 private:
  std::optional<bool> dangling_;
  std::vector<std::pair<std::string, std::optional<std::string>>> labels_;
  std::vector<std::string> references_;
  std::vector<std::string> before_, since_;
  std::optional<int64_t> created_below_, created_above_;
};

/// Whether `pattern` stands for the name: as it is, or with what Docker leaves out.
bool name_matches(const std::string& pattern, const std::string& name);

}  // namespace fluyt::cli
