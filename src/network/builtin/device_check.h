#pragma once

#include <functional>

#include "network/builtin/builtin.h"
#include "sys/netlink.h"

/// CHECK of a sandbox's device: kFailedPrecondition says what is not as ADD left it.
namespace fluyt::network::builtin {

Error differs(std::string text);
/// The device that an entry of a result's interfaces names, with the MAC address that it had.
Result<sys::LinkDetails> get_same(sys::Netlink& netlink, const Json& interface);
/// Nothing when the result has fewer.
const Json* find_interface(const Json& result, size_t at);
/// Interface `at` of the result in the sandbox, with the result's addresses and routes. `more`
/// looks at what else the plugin made of it.
Result<> check_device(const Call& call, const Json& result, size_t at,
                      const std::function<Result<>(const sys::LinkDetails&)>& more = {});

}  // namespace fluyt::network::builtin
