#include "oci/runtime_features.h"

#include <nlohmann/json.hpp>
#include <string>

#include "base/strings.h"

namespace fluyt::oci {

namespace {

using nlohmann::json;

Error expected(std::string_view field, std::string_view what) {
  return {Code::kInvalidArgument, cat("features: ", field, ": expected ", what)};
}

// An object's member that is an object; nullptr when it is absent or null.
Result<const json*> object_in(const json& in, const char* name, std::string_view field) {
  const auto at = in.find(name);
  if (at == in.end() || at->is_null()) return static_cast<const json*>(nullptr);
  if (!at->is_object()) return expected(field, "an object");
  return &*at;
}

Result<bool> lists(const json& in, const char* name, std::string_view field,
                   std::string_view word) {
  const auto at = in.find(name);
  if (at == in.end() || at->is_null()) return false;
  if (!at->is_array()) return expected(field, "a list of words");
  for (const json& item : *at) {
    if (!item.is_string()) return expected(field, "a list of words");
    if (*item.get_ptr<const std::string*>() == word) return true;
  }
  return false;
}

Result<bool> has_idmap(const json& on_linux) {
  const json* extensions =
      FLUYT_TRY(object_in(on_linux, "mountExtensions", "linux.mountExtensions"));
  if (extensions == nullptr) return false;
  const json* idmap = FLUYT_TRY(object_in(*extensions, "idmap", "linux.mountExtensions.idmap"));
  if (idmap == nullptr) return false;
  const auto enabled = idmap->find("enabled");
  if (enabled == idmap->end() || enabled->is_null()) return false;
  if (!enabled->is_boolean())
    return expected("linux.mountExtensions.idmap.enabled", "true or false");
  return enabled->get<bool>();
}

Result<bool> says_true(const json& in, const char* name) {
  const json* annotations = FLUYT_TRY(object_in(in, "annotations", "annotations"));
  if (annotations == nullptr) return false;
  const auto at = annotations->find(name);
  if (at == annotations->end()) return false;
  if (!at->is_string()) return expected(cat("annotations.", name), "a string");
  return *at->get_ptr<const std::string*>() == "true";
}

}  // namespace

Result<RuntimeFeatures> parse_runtime_features(std::string_view text) {
  const json document = json::parse(text, nullptr, false);
  if (!document.is_object())
    return Error(Code::kInvalidArgument, "features: expected a JSON object");
  RuntimeFeatures features;
  features.recursive_readonly_mounts =
      FLUYT_TRY(lists(document, "mountOptions", "mountOptions", "rro"));
  features.sandbox_container = FLUYT_TRY(says_true(document, kSandboxContainerFeature));
  const json* on_linux = FLUYT_TRY(object_in(document, "linux", "linux"));
  if (on_linux == nullptr) return features;
  features.idmapped_mounts = FLUYT_TRY(has_idmap(*on_linux));
  const bool has_user = FLUYT_TRY(lists(*on_linux, "namespaces", "linux.namespaces", "user"));
  features.user_namespaces = has_user && features.idmapped_mounts;
  return features;
}

}  // namespace fluyt::oci
