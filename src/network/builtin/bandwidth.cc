#include <linux/pkt_sched.h>

#include <algorithm>

#include "base/strings.h"
#include "network/builtin/device_check.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"
#include "network/builtin/sandbox_device.h"

/// Rates of a sandbox's packets by token buckets: what goes in, at the host's end of its veth; what
/// comes out, redirected there to an ifb device of the sandbox's own.
namespace fluyt::network::builtin {

namespace {

constexpr uint64_t kLatencyMicroseconds = 25'000;  // how long a packet may wait

struct Rate {
  uint64_t rate = 0, burst = 0;  // bits a second, bits; 0: no limit
};
struct Config {
  Rate ingress, egress;
  std::string ifb;
};

// FNV-1a: the name has to be found again from the network's and the sandbox's.
std::string ifb_name(const std::string& network, const std::string& container_id) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : cat(network, "/", container_id)) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3U;
  }
  std::string bytes(6, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(hash >> (8 * i));
  return cat("bwp", to_hex(bytes));
}

Result<Rate> rate_of(const Json& object, const char* rate_field, const char* burst_field) {
  constexpr int64_t kMaxBurst = int64_t{8} * UINT32_MAX - 1;
  const int64_t rate = FLUYT_TRY(number_of(object, rate_field, 0, INT64_MAX / 16, 0));
  const int64_t burst = FLUYT_TRY(number_of(object, burst_field, 0, kMaxBurst, 0));
  if (rate == 0 && burst != 0) return wrong_field(rate_field, Json(rate), "a rate with a burst");
  if (rate != 0 && burst == 0) return wrong_field(burst_field, Json(burst), "a burst with a rate");
  if (rate != 0 && rate < 8) return wrong_field(rate_field, Json(rate), "a byte a second at least");
  return Rate{static_cast<uint64_t>(rate), static_cast<uint64_t>(burst)};
}

Result<Config> parse(const Call& call) {
  const Json runtime = call.request.value("runtimeConfig", Json::object());
  const Json given = runtime.value("bandwidth", Json());
  if (!given.is_null() && !given.is_object()) {
    return wrong_field("runtimeConfig.bandwidth", given, "an object");
  }
  const Json& from = given.is_object() ? given : call.request;
  Config config;
  config.ingress = FLUYT_TRY(rate_of(from, "ingressRate", "ingressBurst"));
  config.egress = FLUYT_TRY(rate_of(from, "egressRate", "egressBurst"));
  config.ifb = ifb_name(call.request.at("name").get<std::string>(), call.container_id);
  return config;
}

Result<sys::TokenBucket> bucket_of(const Rate& rate) {
  const uint64_t bytes = rate.rate / 8;
  const uint64_t burst = rate.burst / 8;
  const double wait = static_cast<double>(burst) * 1e6 / static_cast<double>(bytes);
  const double ticks = wait * FLUYT_TRY(sys::psched_ticks());
  const uint64_t limit = bytes * kLatencyMicroseconds / 1'000'000 + burst;
  return sys::TokenBucket{.rate = bytes,
                          .buffer = static_cast<uint32_t>(std::min<double>(ticks, UINT32_MAX)),
                          .limit = static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX))};
}

// The other end of the sandbox's veth.
Result<sys::LinkDetails> host_end(sys::Netlink& host, const Call& call) {
  int peer = 0;
  FLUYT_TRY(in_sandbox(call, [&](sys::Netlink& pod) -> Result<> {
    const sys::LinkDetails device = FLUYT_TRY(get_device(pod, call.device));
    if (device.kind == "veth") peer = device.peer;
    return {};
  }));
  auto found = peer == 0 ? std::nullopt : FLUYT_TRY(host.find_details(peer));
  if (found && found->kind == "veth") return std::move(*found);
  return Error(Code::kFailedPrecondition, cat("device ", call.device,
                                              " is no veth with an end on this host: its packets "
                                              "cannot be limited"));
}

bool same(const sys::Qdisc& found, const sys::TokenBucket& wanted) {
  return found.kind == "tbf" && found.parent == TC_H_ROOT && found.bucket.rate == wanted.rate &&
         found.bucket.limit == wanted.limit;
}

Result<> check_rate(sys::Netlink& host, const sys::LinkDetails& device, const Rate& rate) {
  const sys::TokenBucket wanted = FLUYT_TRY(bucket_of(rate));
  for (const sys::Qdisc& found : FLUYT_TRY(host.qdiscs(device.index))) {
    if (same(found, wanted)) return {};
  }
  return differs(cat("device ", device.name, " has no token bucket of ", rate.rate, " bit/s"));
}

}  // namespace

std::string bandwidth_why_not(const Json& config) {
  return join(unknown_keys(config, {"ingressRate", "ingressBurst", "egressRate", "egressBurst"}),
              ", ");
}

Result<Json> bandwidth_add(const Call& call) {
  const Config config = FLUYT_TRY(parse(call));
  Json result = FLUYT_TRY(previous_result(call));
  if (config.ingress.rate == 0 && config.egress.rate == 0) return result;
  sys::Netlink host = FLUYT_TRY(sys::Netlink::open());
  const sys::LinkDetails end = FLUYT_TRY(host_end(host, call));
  if (config.ingress.rate != 0) {
    FLUYT_TRY_CONTEXT(host.add_token_bucket(end.index, FLUYT_TRY(bucket_of(config.ingress))),
                      "ingressRate");
  }
  if (config.egress.rate == 0) return result;
  FLUYT_TRY(host.add_ifb(config.ifb, end.mtu));
  const sys::LinkDetails ifb = FLUYT_TRY(get_device(host, config.ifb));
  FLUYT_TRY(host.set_up(ifb.index));
  FLUYT_TRY_CONTEXT(host.redirect_ingress(end.index, ifb.index), "egressRate");
  FLUYT_TRY_CONTEXT(host.add_token_bucket(ifb.index, FLUYT_TRY(bucket_of(config.egress))),
                    "egressRate");
  result["interfaces"].push_back({{"name", config.ifb}, {"mac", mac_text(ifb.mac)}});
  return result;
}

Result<> bandwidth_check(const Call& call) {
  const Config config = FLUYT_TRY(parse(call));
  if (config.ingress.rate == 0 && config.egress.rate == 0) return {};
  sys::Netlink host = FLUYT_TRY(sys::Netlink::open());
  const sys::LinkDetails end = FLUYT_TRY(host_end(host, call));
  if (config.ingress.rate != 0) FLUYT_TRY(check_rate(host, end, config.ingress));
  if (config.egress.rate == 0) return {};
  const auto ifb = FLUYT_TRY(host.find_details(config.ifb));
  if (!ifb) return differs(cat("device ", config.ifb, " is gone"));
  return check_rate(host, *ifb, config.egress);
}

// What is at the host's end goes with it.
Result<> bandwidth_remove(const Call& call) {
  const Config config = FLUYT_TRY(parse(call));
  sys::Netlink host = FLUYT_TRY(sys::Netlink::open());
  const auto ifb = FLUYT_TRY(host.find_details(config.ifb));
  if (!ifb || ifb->kind != "ifb") return {};
  auto deleted = host.delete_link(ifb->index);
  if (!deleted.ok() && deleted.error().code() != Code::kNotFound) return deleted;
  return {};
}

Result<> bandwidth_status(const Call& call) {
  FLUYT_TRY(parse(call));
  return {};
}

}  // namespace fluyt::network::builtin
