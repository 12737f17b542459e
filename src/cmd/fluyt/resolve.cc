#include "cmd/fluyt/resolve.h"

#include <map>
#include <vector>

#include "base/strings.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

// A prefix shorter than this is a name that does not exist, not a guess.
constexpr size_t kMinPrefix = 2;

// The best of `items`: a whole id, else a name, else an id's prefix. `names_of` gives the names an
// item goes by, the first for people.
template <class Item, class NamesOf>
Result<Item> choose(const std::vector<Item>& items, const std::string& reference, const char* what,
                    NamesOf names_of) {
  std::vector<const Item*> by_name;
  std::vector<const Item*> by_prefix;
  for (const Item& item : items) {
    if (item.id() == reference) return item;
    for (const std::string& name : names_of(item)) {
      if (name == reference) {
        by_name.push_back(&item);
        break;
      }
    }
    if (reference.size() >= kMinPrefix && item.id().starts_with(reference))
      by_prefix.push_back(&item);
  }
  const auto& found = by_name.empty() ? by_prefix : by_name;
  if (found.empty()) return Error(Code::kNotFound, cat("no ", what, " ", quote(reference, 128)));
  if (found.size() == 1) return *found[0];
  std::string list;
  for (const Item* item : found) {
    list += cat(list.empty() ? "" : ", ", short_id(item->id()), " (", names_of(*item)[0], ")");
  }
  return Error(Code::kInvalidArgument,
               cat(found.size(), " ", what, "s are called ", quote(reference, 128), ": ", list));
}

}  // namespace

Result<cri::Container> find_container(Client& client, const std::string& reference) {
  const auto listed = FLUYT_TRY(client.list_containers());
  const std::vector<cri::Container> containers(listed.containers().begin(),
                                               listed.containers().end());
  std::map<std::string, std::string> pods;
  if (reference.find('/') != std::string::npos) {
    const auto sandboxes = FLUYT_TRY(client.list_sandboxes());
    for (const cri::PodSandbox& pod : sandboxes.items()) pods[pod.id()] = pod.metadata().name();
  }
  return choose(containers, reference, "container", [&](const cri::Container& c) {
    return std::vector<std::string>{c.metadata().name(),
                                    cat(pods[c.pod_sandbox_id()], "/", c.metadata().name())};
  });
}

Result<cri::PodSandbox> find_sandbox(Client& client, const std::string& reference) {
  const auto listed = FLUYT_TRY(client.list_sandboxes());
  const std::vector<cri::PodSandbox> sandboxes(listed.items().begin(), listed.items().end());
  return choose(sandboxes, reference, "pod", [](const cri::PodSandbox& s) {
    return std::vector<std::string>{s.metadata().name(),
                                    cat(s.metadata().namespace_(), "/", s.metadata().name())};
  });
}

bool is_run_sandbox(const cri::PodSandbox& sandbox) { return sandbox.labels().contains(kRunLabel); }

}  // namespace fluyt::cli
