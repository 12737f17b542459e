#include "base/strings.h"
#include "image/policy/policy.h"

namespace fluyt::image::policy {

namespace {

// A name as it stands in a signature: no tag is put in where there is none.
struct SignedName {
  std::string repository;  // host and path
  std::string tag;
  std::string digest;
  bool operator==(const SignedName&) const = default;
};

std::optional<SignedName> parse(std::string_view text) {
  const auto reference = oci::Reference::parse(text);
  if (!reference.ok()) return std::nullopt;
  const std::string_view before_digest = text.substr(0, text.find('@'));
  const size_t colon = before_digest.rfind(':');
  const size_t slash = before_digest.rfind('/');
  // "host:5000/x" has a port; "x:1" has a tag.
  const bool has_tag =
      colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash);
  return SignedName{reference->name(), has_tag ? reference->tag : "",
                    reference->digest ? reference->digest->text() : ""};
}

SignedName name_of(const oci::Reference& reference) {
  return {reference.name(), reference.tag, reference.digest ? reference.digest->text() : ""};
}

bool repo_digest_or_exact(const SignedName& asked, const SignedName& found) {
  // Who asks by digest gets these bytes whatever tag they were signed under; the digest itself is
  // compared elsewhere.
  if (!asked.digest.empty()) return found.repository == asked.repository;
  return found == asked;
}

// "host/team" is a prefix of "host/team" and "host/team/app", not of "host/team-two".
std::optional<std::string> with_prefix_replaced(const std::string& name,
                                                const SignedIdentity& rule) {
  if (!name.starts_with(rule.prefix)) return std::nullopt;
  const std::string rest = name.substr(rule.prefix.size());
  if (!rest.empty() && rest.front() != '/') return std::nullopt;
  return rule.signed_prefix + rest;
}

}  // namespace

bool identity_matches(const SignedIdentity& rule, const oci::Reference& asked,
                      std::string_view signed_name) {
  using Kind = SignedIdentity::Kind;
  const auto found = parse(signed_name);
  if (!found) return false;
  SignedName wanted = name_of(asked);
  switch (rule.kind) {
    case Kind::kMatchExact:
      return *found == wanted;
    case Kind::kMatchRepoDigestOrExact:
      return repo_digest_or_exact(wanted, *found);
    case Kind::kMatchRepository:
      return found->repository == wanted.repository;
    case Kind::kExactReference: {
      const auto named = parse(rule.name);
      return named && *found == *named && !(named->tag.empty() && named->digest.empty());
    }
    case Kind::kExactRepository: {
      const auto named = parse(rule.name);
      return named && found->repository == named->repository;
    }
    case Kind::kRemapIdentity:
      // A name outside the prefix is compared as it is.
      if (auto replaced = with_prefix_replaced(wanted.repository, rule)) {
        wanted.repository = std::move(*replaced);
      }
      return repo_digest_or_exact(wanted, *found);
  }
  return false;
}

}  // namespace fluyt::image::policy
