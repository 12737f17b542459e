#include <sys/utsname.h>

#include <algorithm>
#include <optional>

#include "base/strings.h"
#include "oci/image.h"

namespace fluyt::oci {
namespace {

struct Alias {
  std::string_view found;
  std::string_view architecture;
  std::string_view variant;
};
// What machines and people call the architectures that Go names otherwise.
constexpr Alias kAliases[] = {
    {"x86_64", "amd64", ""},  {"x86-64", "amd64", ""}, {"aarch64", "arm64", ""},
    {"i386", "386", ""},      {"i486", "386", ""},     {"i586", "386", ""},
    {"i686", "386", ""},      {"armhf", "arm", "v7"},  {"armel", "arm", "v6"},
    {"armv7l", "arm", "v7"},  {"armv6l", "arm", "v6"}, {"armv8l", "arm", "v8"},
    {"armv5tel", "arm", "v5"}};

bool is_platform_word(std::string_view word) {
  return !word.empty() && word.size() <= 64 && std::all_of(word.begin(), word.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  });
}

void apply_alias(Platform& platform) {
  for (const Alias& alias : kAliases) {
    if (platform.architecture == alias.found) {
      platform.architecture = alias.architecture;
      if (platform.variant.empty()) {
        platform.variant = alias.variant;
      }
      return;
    }
  }
}

/// The level of a variant such as "v7"; what none means depends on the architecture.
std::optional<int> variant_level(const Platform& platform) {
  std::string_view variant = platform.variant;
  if (variant.empty()) {
    return platform.architecture == "arm" ? 7 : platform.architecture == "arm64" ? 8 : 1;
  }
  if (variant.front() == 'v') {
    variant.remove_prefix(1);
  }
  variant = variant.substr(0, variant.find('.'));  // arm64 has v8.1 and so on
  return parse_number<int>(variant);
}

bool is_attestation(const Descriptor& descriptor) {
  const auto it = descriptor.annotations.find("vnd.docker.reference.type");
  return it != descriptor.annotations.end() && it->second == "attestation-manifest";
}

bool is_runnable(const Descriptor& descriptor) {
  return !is_attestation(descriptor) &&
         !(descriptor.platform && descriptor.platform->os == "unknown");
}

/// Of 32 bits where the kernel takes programs of both, the level of that; any native one is better.
std::optional<int> compatible_level(const Platform& have, const Platform& wanted) {
  if (wanted.architecture == "amd64" && have.architecture == "386") return 0;
  if (wanted.architecture != "arm64" || have.architecture != "arm") return std::nullopt;
  const auto level = variant_level(have);
  return level && *level >= 5 && *level <= 8 ? level : std::nullopt;
}

/// How well `offered` suits: a level to compare, or nothing when it cannot run there.
std::optional<int> suitability(const Platform& offered, const Platform& asked) {
  constexpr int kNative = 100;
  const Platform have = normalised(offered);
  const Platform wanted = normalised(asked);
  if (have.os != wanted.os) return std::nullopt;
  if (have.architecture != wanted.architecture) return compatible_level(have, wanted);
  const auto have_level = variant_level(have);
  const auto wanted_level = variant_level(wanted);
  if (!have_level || !wanted_level) {  // a variant of no order that we know: only the same one
    return have.variant == wanted.variant ? std::optional(kNative) : std::nullopt;
  }
  return *have_level <= *wanted_level ? std::optional(kNative + *have_level) : std::nullopt;
}

std::string offered(const Index& index) {
  std::string text;
  for (const Descriptor& entry : index.manifests) {
    if (is_runnable(entry) && entry.platform && text.size() < 512) {
      text += cat(text.empty() ? "" : ", ", entry.platform->text());
    }
  }
  return text.empty() ? "no entry with a platform" : text;
}

}  // namespace

Platform normalised(Platform platform) {
  platform.os = to_lower(platform.os);
  platform.architecture = to_lower(platform.architecture);
  platform.variant = to_lower(platform.variant);
  apply_alias(platform);
  return platform;
}

std::string Platform::text() const {
  return cat(os, "/", architecture, variant.empty() ? "" : "/", variant);
}

Result<Platform> Platform::parse(std::string_view text) {
  const auto parts = split(text, '/');
  if (parts.size() < 2 || parts.size() > 3 ||
      !std::all_of(parts.begin(), parts.end(), is_platform_word)) {
    return Error(Code::kInvalidArgument,
                 cat("platform ", quote(text), ": expected os/architecture[/variant]"));
  }
  Platform platform;
  platform.os = to_lower(parts[0]);
  platform.architecture = to_lower(parts[1]);
  platform.variant = parts.size() == 3 ? to_lower(parts[2]) : "";
  apply_alias(platform);
  return platform;
}

Platform Platform::host() {
  Platform platform;
  platform.os = "linux";
#if defined(__x86_64__)
  platform.architecture = "amd64";
  // The psABI's levels; v1 is what no variant means.
  if (__builtin_cpu_supports("x86-64-v4")) {
    platform.variant = "v4";
  } else if (__builtin_cpu_supports("x86-64-v3")) {
    platform.variant = "v3";
  } else if (__builtin_cpu_supports("x86-64-v2")) {
    platform.variant = "v2";
  }
#elif defined(__aarch64__)
  platform.architecture = "arm64";
#else
  utsname names{};
  platform.architecture = uname(&names) == 0 ? names.machine : "unknown";
  apply_alias(platform);
#endif
  return platform;
}

bool is_for(const Platform& image, const Platform& platform) {
  Platform any = normalised(image);
  const Platform wanted = normalised(platform);
  if (any.architecture == wanted.architecture) any.variant = wanted.variant;
  return suitability(any, wanted).has_value();
}

Result<Descriptor> choose_platform(const Index& index, const Platform& platform) {
  const Descriptor* best = nullptr;
  int best_level = 0;
  for (const Descriptor& entry : index.manifests) {
    if (!is_runnable(entry) || !entry.platform) {
      continue;
    }
    const auto level = suitability(*entry.platform, platform);
    if (level && (best == nullptr || *level > best_level)) {  // the first of equals, as listed
      best = &entry;
      best_level = *level;
    }
  }
  if (best == nullptr && index.manifests.size() == 1 && !index.manifests[0].platform &&
      is_runnable(index.manifests[0])) {
    best = index.manifests.data();
  }
  if (best == nullptr) {
    return Error(Code::kNotFound, cat("no image for ", platform.text(),
                                      " in the index, which offers: ", quote(offered(index), 600)));
  }
  return *best;
}

}  // namespace fluyt::oci
