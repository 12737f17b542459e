#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <sys/socket.h>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/netlink.h"
#include "sys/netlink_message.h"

/// Packet schedulers and filters: tc(8) by rtnetlink.
namespace fluyt::sys {

namespace {

using netlink_bytes::aligned;
using netlink_bytes::find_attribute;
using netlink_bytes::text_of;
using netlink_bytes::value_at;

constexpr uint32_t kFirstHandle = 1U << 16U;  // "1:"
constexpr uint32_t kIngressHandle = 0xFFFF0000U;

template <class Value>
std::string_view bytes_of(const Value& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

tcmsg of_device(int index) {
  tcmsg head{};
  head.tcm_family = AF_UNSPEC;
  head.tcm_ifindex = index;
  return head;
}

}  // namespace

// Three numbers in hexadecimal: how many nanoseconds a microsecond has, how many a tick, and the
// clock's resolution, which newer kernels always give as a microsecond.
Result<double> psched_ticks() {
  const std::string text = FLUYT_TRY(read_file("/proc/net/psched", 256));
  const auto words = split_words(text);
  double numbers[3] = {0, 0, 0};
  for (size_t i = 0; i < 3 && i < words.size(); ++i) {
    numbers[i] = static_cast<double>(std::strtoul(std::string(words[i]).c_str(), nullptr, 16));
  }
  if (numbers[1] == 0 || numbers[2] == 0) {
    return Error(Code::kInternal, cat("/proc/net/psched: ", quote(text, 64)));
  }
  return numbers[0] / numbers[1] * (numbers[2] / 1e6);
}

Result<> Netlink::add_token_bucket(int index, const TokenBucket& bucket) {
  tcmsg head = of_device(index);
  head.tcm_handle = kFirstHandle;
  head.tcm_parent = TC_H_ROOT;
  tc_tbf_qopt options{};
  options.rate.rate = bucket.rate > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(bucket.rate);
  options.limit = bucket.limit;
  options.buffer = bucket.buffer;
  Request request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, head);
  request.add_name(TCA_KIND, "tbf");
  const size_t nest = request.open(TCA_OPTIONS);
  request.add(TCA_TBF_PARMS, bytes_of(options));
  if (bucket.rate > UINT32_MAX) request.add(TCA_TBF_RATE64, bytes_of(bucket.rate));
  request.close(nest);
  FLUYT_TRY(ask(request, cat("RTM_NEWQDISC(device ", index, ", tbf)")));
  return {};
}

Result<> Netlink::redirect_ingress(int index, int target) {
  tcmsg head = of_device(index);
  head.tcm_handle = kIngressHandle;
  head.tcm_parent = TC_H_INGRESS;
  Request qdisc(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, head);
  qdisc.add_name(TCA_KIND, "ingress");
  FLUYT_TRY(ask(qdisc, cat("RTM_NEWQDISC(device ", index, ", ingress)")));

  head.tcm_handle = 0;
  head.tcm_parent = kIngressHandle;
  head.tcm_info = htons(ETH_P_ALL);  // at the priority that the kernel chooses
  tc_u32_sel selector{};
  selector.flags = TC_U32_TERMINAL;
  selector.nkeys = 1;
  const tc_u32_key everything{};  // zeros match
  tc_mirred mirred{};
  mirred.action = TC_ACT_STOLEN;
  mirred.eaction = TCA_EGRESS_REDIR;
  mirred.ifindex = static_cast<uint32_t>(target);
  Request filter(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, head);
  filter.add_name(TCA_KIND, "u32");
  const size_t options = filter.open(TCA_OPTIONS);
  filter.add(TCA_U32_SEL, cat(bytes_of(selector), bytes_of(everything)));
  filter.add(TCA_U32_CLASSID, kFirstHandle | 1U);
  const size_t actions = filter.open(TCA_U32_ACT);
  const size_t first = filter.open(1);
  filter.add_name(TCA_ACT_KIND, "mirred");
  const size_t action_options = filter.open(TCA_ACT_OPTIONS);
  filter.add(TCA_MIRRED_PARMS, bytes_of(mirred));
  filter.close(action_options);
  filter.close(first);
  filter.close(actions);
  filter.close(options);
  FLUYT_TRY(ask(filter, cat("RTM_NEWTFILTER(device ", index, ", to device ", target, ")")));
  return {};
}

Result<std::vector<Qdisc>> Netlink::qdiscs(int index) {
  Request request(RTM_GETQDISC, NLM_F_DUMP, of_device(index));
  std::vector<Qdisc> out;
  for (const Answer& answer : FLUYT_TRY(ask(request, "RTM_GETQDISC"))) {
    if (answer.type != RTM_NEWQDISC || answer.body.size() < sizeof(tcmsg)) continue;
    const auto info = value_at<tcmsg>(answer.body, 0);
    if (info.tcm_ifindex != index) continue;
    const std::string_view attributes =
        std::string_view(answer.body).substr(aligned(sizeof(tcmsg)));
    Qdisc qdisc{.kind = text_of(find_attribute(attributes, TCA_KIND)),
                .parent = info.tcm_parent,
                .bucket = {}};
    if (qdisc.kind == "tbf") {
      const std::string_view options = find_attribute(attributes, TCA_OPTIONS);
      const auto found = value_at<tc_tbf_qopt>(find_attribute(options, TCA_TBF_PARMS), 0);
      const std::string_view wide = find_attribute(options, TCA_TBF_RATE64);
      qdisc.bucket = {.rate = wide.empty() ? found.rate.rate : value_at<uint64_t>(wide, 0),
                      .buffer = found.buffer,
                      .limit = found.limit};
    }
    out.push_back(std::move(qdisc));
  }
  return out;
}

}  // namespace fluyt::sys
