#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/digest.h"
#include "oci/reference.h"

namespace fluyt::image::policy {

/// Where simple signatures are kept beside registries: containers-registries.d(5), as far as
/// reading goes.
struct Lookaside {
  std::string fallback;                       // default-docker; empty: none
  std::map<std::string, std::string> docker;  // by scope: registry, namespace, repository
};

inline constexpr size_t kMaxLookasideBytes = 1UL << 20U;

/// Adds what one file says. Of YAML just what these files are made of is read, keys with texts
/// below keys; the rest of the language is refused by line. `sigstore` is the older name of
/// `lookaside`; what writing would use (`…-staging`) and `use-sigstore-attachments` (always looked
/// for) is passed over.
Result<> read_lookaside(std::string_view yaml, const std::string& file, Lookaside& out);

/// All *.yaml of a folder; a folder that is not there says nothing.
Result<Lookaside> read_lookaside_folder(const std::string& folder);

/// The folder of one manifest's signatures, "…/repository@sha256=<hex>", a URL (https, http, file);
/// the files in it are signature-1 and so on. Empty: there is none.
std::string signatures_url(const Lookaside& lookaside, const oci::Reference& reference,
                           const oci::Digest& manifest);

}  // namespace fluyt::image::policy
