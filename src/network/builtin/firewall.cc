#include "network/builtin/firewall.h"

#include <algorithm>

#include "base/strings.h"
#include "network/builtin/foreign_rules.h"

namespace fluyt::network {

namespace {

constexpr size_t kMaxComment = 127;  // NFTNL_UDATA_COMMENT_MAXLEN, with its NUL

bool is_of(const Element& element, const std::vector<std::string_view>& maps) {
  return std::any_of(maps.begin(), maps.end(),
                     [&](std::string_view map) { return element.map.starts_with(map); });
}

// The sandbox's address that the element is about: what the packet goes to or comes from.
std::optional<Address> pod_address_of(const Element& element) {
  const std::string& text = element.map.starts_with("hostports") ? element.value : element.key;
  return find_address(text.substr(0, text.find(' ')));
}

bool concerns(const Element& element, const std::vector<Address>& addresses) {
  const auto address = pod_address_of(element);
  return address && std::find(addresses.begin(), addresses.end(), *address) != addresses.end();
}

// "10.0.0.1 . 6 . 8080", or without an address, as a person says it: "10.0.0.1:8080/tcp".
std::string port_of(std::string_view key) {
  const auto words = split_words(key);
  if (words.size() < 3) return std::string(key);
  const std::string_view number = words[words.size() - 3];
  const std::string_view protocol = number == "6"     ? "tcp"
                                    : number == "17"  ? "udp"
                                    : number == "132" ? "sctp"
                                                      : number;
  const std::string address = words.size() > 3 ? cat(words[0], ":") : std::string();
  return cat(address, words.back(), "/", protocol);
}

const Element* find_taken(const std::vector<Element>& present, const Element& wanted) {
  for (const Element& element : present) {
    if (element.map == wanted.map && element.key == wanted.key) return &element;
  }
  return nullptr;
}

}  // namespace

Result<std::string> owner_name(const std::string& container_id, const std::string& device) {
  std::string name = cat(container_id, "/", device);
  if (name.size() > kMaxComment || name.find_first_of("\"\\\n") != std::string::npos) {
    return Error(Code::kInvalidArgument,
                 cat("sandbox_id: ", quote(container_id, 64), ": with its device's name at most ",
                     kMaxComment, " bytes are expected"));
  }
  return name;
}

// No table is no elements: the first sandbox makes it, the last one takes it away.
Result<std::vector<Element>> Firewall::list() {
  auto text = nft_.run(cat("list table ", kTable));
  if (text.ok()) return parse_elements(*text);
  if (text.error().message().find("No such file or directory") != std::string::npos) {
    return std::vector<Element>();
  }
  return std::move(text).error();
}

Result<> Firewall::add(const Rules& rules, const std::vector<Address>& addresses) {
  if (rules.elements.empty()) return {};
  const std::lock_guard lock(mutex_);
  // As a rule the table is there, and whole: then a few elements are all that is new. Where a
  // subnet is new its chains are too.
  const std::string elements = elements_text(rules.elements);
  if (has_sent_table_ && nft_.run(elements).ok()) return {};
  // A table that an older release left has its rules.
  if (!has_sent_table_ && nft_.run(cat(table_text(), chains_text(rules), elements)).ok()) {
    has_sent_table_ = true;
    return {};
  }
  const auto present = FLUYT_TRY(list());
  std::vector<Element> stale;
  std::copy_if(
      present.begin(), present.end(), std::back_inserter(stale), [&](const Element& element) {
        return element.comment != rules.elements[0].comment && concerns(element, addresses);
      });
  for (const Element& wanted : rules.elements) {
    const Element* taken = find_taken(present, wanted);
    if (taken != nullptr && !concerns(*taken, addresses)) {
      return Error(Code::kAlreadyExists,
                   cat("host port ", port_of(wanted.key), " belongs to sandbox ",
                       quote(taken->comment), " already (", taken->value, ")"));
    }
  }
  FLUYT_TRY(nft_.run(cat(table_text(), chains_text(rules), delete_text(stale), elements)));
  return {};
}

Result<std::vector<Element>> Firewall::find(const std::string& owner,
                                            const std::vector<std::string_view>& maps) {
  const std::lock_guard lock(mutex_);
  std::vector<Element> out;
  for (Element& element : FLUYT_TRY(list())) {
    if (element.comment == owner && is_of(element, maps)) out.push_back(std::move(element));
  }
  return out;
}

Result<> Firewall::remove_some(const std::function<bool(const Element&)>& which) {
  const std::lock_guard lock(mutex_);
  const auto present = FLUYT_TRY(list());
  std::vector<Element> gone;
  std::copy_if(present.begin(), present.end(), std::back_inserter(gone), which);
  if (gone.empty()) return {};
  if (gone.size() == present.size()) {
    FLUYT_TRY(nft_.run(cat("delete table ", kTable)));
    return {};
  }
  FLUYT_TRY(nft_.run(delete_text(gone)));
  return {};
}

Result<> Firewall::remove(const std::string& owner, const std::vector<std::string_view>& maps) {
  return remove_some(
      [&](const Element& element) { return element.comment == owner && is_of(element, maps); });
}

Result<std::string> Firewall::find_foreign_drop() {
  const std::lock_guard lock(mutex_);
  return network::find_foreign_drop(nft_);
}

Result<> Firewall::collect(const std::set<std::string>& valid,
                           const std::function<bool(const Address&)>& is_in,
                           std::vector<std::string>* leftovers) {
  const auto is_left_over = [&](const Element& element) {
    const auto address = pod_address_of(element);
    return address && is_in(*address) && !valid.contains(element.comment);
  };
  if (leftovers == nullptr) return remove_some(is_left_over);
  const std::lock_guard lock(mutex_);
  for (const Element& element : FLUYT_TRY(list())) {
    if (is_left_over(element))
      leftovers->push_back(
          cat("packet rule ", element.map, " { ", element.key, " } of ", quote(element.comment)));
  }
  return {};
}

}  // namespace fluyt::network
