#include "image/policy/payload.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/strings.h"

namespace fluyt::image::policy {

namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 16;

Error wrong(std::string_view what) {
  return Error(Code::kInvalidArgument, cat("signature payload: ", what));
}

Result<Json> parse(std::string_view text) {
  std::vector<std::set<std::string>> keys;
  bool bad = false;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.empty() && value.is_string()) {
      bad = bad || !keys.back().insert(value.get<std::string>()).second;
    }
    bad = bad || depth > kMaxDepth;
    return depth <= kMaxDepth;
  };
  if (text.size() > kMaxPayloadBytes) return wrong(cat("more than ", kMaxPayloadBytes, " bytes"));
  Json out = Json::parse(text, watch, false);
  if (out.is_discarded() || !out.is_object() || bad) {
    return wrong("expected a JSON object with each key once");
  }
  return out;
}

// The member `name` of `object`, which must have exactly `count` members.
Result<Json> member(const Json& object, const char* name, size_t count) {
  if (!object.is_object() || object.size() != count || !object.contains(name)) {
    return wrong(cat(name, ": expected beside ", count - 1, " other fields"));
  }
  return object.at(name);
}

Result<std::string> text_member(const Json& object, const char* name, size_t count) {
  const Json value = FLUYT_TRY(member(object, name, count));
  if (!value.is_string()) return wrong(cat(name, ": expected a string"));
  return value.get<std::string>();
}

}  // namespace

Result<Payload> parse_payload(std::string_view json, PayloadType type) {
  const Json document = FLUYT_TRY(parse(json));
  for (const auto& [key, value] : document.items()) {
    if (key != "critical" && key != "optional") return wrong(cat(quote(key), ": unknown field"));
  }
  if (!document.contains("critical")) return wrong("critical: expected an object");
  const Json& critical = document["critical"];
  const std::string expected = type == PayloadType::kAtomic ? "atomic container signature"
                                                            : "cosign container image signature";
  const std::string found = FLUYT_TRY(text_member(critical, "type", 3));
  if (found != expected) return wrong(cat("type: ", quote(found), ": expected ", quote(expected)));
  const Json image = FLUYT_TRY(member(critical, "image", 3));
  const Json identity = FLUYT_TRY(member(critical, "identity", 3));
  const std::string digest = FLUYT_TRY(text_member(image, "docker-manifest-digest", 1));
  std::string name = FLUYT_TRY(text_member(identity, "docker-reference", 1));
  auto parsed = oci::Digest::parse(digest);
  if (!parsed.ok()) return wrong(cat("docker-manifest-digest: ", parsed.error().message()));
  return Payload{std::move(*parsed), std::move(name)};
}

}  // namespace fluyt::image::policy
