#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstring>
#include <string>
#include <string_view>

#include "sys/netlink.h"

/// What the bodies of sys::Netlink share: messages to and from the kernel as bytes.
namespace fluyt::sys {

namespace netlink_bytes {

inline size_t aligned(size_t size) { return NLMSG_ALIGN(size); }

template <class T>
T value_at(std::string_view bytes, size_t offset) {
  T value{};
  if (offset + sizeof value <= bytes.size()) {
    memcpy(&value, bytes.data() + offset, sizeof value);
  }
  return value;
}

/// An attribute of one message, or nothing: the last of a kind counts.
inline std::string_view find_attribute(std::string_view attributes, uint16_t wanted) {
  std::string_view found;
  size_t at = 0;
  while (at + sizeof(rtattr) <= attributes.size()) {
    const auto head = value_at<rtattr>(attributes, at);
    if (head.rta_len < sizeof head || at + head.rta_len > attributes.size()) break;
    if ((head.rta_type & NLA_TYPE_MASK) == wanted) {
      found = attributes.substr(at + sizeof head, head.rta_len - sizeof head);
    }
    at += aligned(head.rta_len);
  }
  return found;
}

/// A name without the NUL that it is sent with.
inline std::string text_of(std::string_view attribute) {
  return std::string(attribute.substr(0, attribute.find('\0')));
}

}  // namespace netlink_bytes

struct Netlink::Request {
  uint16_t type = 0;
  uint16_t flags = 0;
  std::string body;

  template <class Header>
  Request(uint16_t kind, uint16_t more_flags, const Header& header)
      : type(kind), flags(static_cast<uint16_t>(NLM_F_REQUEST | more_flags)) {
    body.assign(reinterpret_cast<const char*>(&header), sizeof header);
  }
  void add(uint16_t kind, std::string_view bytes) {
    rtattr head{};
    head.rta_len = static_cast<uint16_t>(sizeof head + bytes.size());
    head.rta_type = kind;
    body.resize(netlink_bytes::aligned(body.size()));
    body.append(reinterpret_cast<const char*>(&head), sizeof head);
    body.append(bytes);
  }
  void add(uint16_t kind, uint32_t number) {
    add(kind, std::string_view(reinterpret_cast<const char*>(&number), sizeof number));
  }
  void add_byte(uint16_t kind, uint8_t number) {
    add(kind, std::string_view(reinterpret_cast<const char*>(&number), sizeof number));
  }
  // With its NUL, as names are sent.
  void add_name(uint16_t kind, const std::string& name) {
    add(kind, std::string_view(name.c_str(), name.size() + 1));
  }
  // What is added between open() and close() lies inside of an attribute of `kind`.
  size_t open(uint16_t kind) {
    body.resize(netlink_bytes::aligned(body.size()));
    const size_t at = body.size();
    add(kind, std::string_view());
    return at;
  }
  void close(size_t at) {
    const auto length = static_cast<uint16_t>(body.size() - at);
    memcpy(body.data() + at, &length, sizeof length);  // rtattr::rta_len
  }
  template <class Header>
  void add_header(const Header& header) {
    body.resize(netlink_bytes::aligned(body.size()));
    body.append(reinterpret_cast<const char*>(&header), sizeof header);
  }
};

struct Netlink::Answer {
  uint16_t type = 0;
  std::string body;
};

}  // namespace fluyt::sys
