#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <functional>
#include <memory>

#include "streaming/loop.h"
#include "streaming/upgrade.h"
#include "streaming/wire.h"

namespace fluyt::streaming {

using PlainStream = boost::asio::ip::tcp::socket;
using TlsStream = boost::asio::ssl::stream<PlainStream>;
using HttpRequest = boost::beast::http::request<boost::beast::http::empty_body>;

/// Called with null when the client's request does not make a WebSocket (it has been told).
using SocketAccepted = std::function<void(std::shared_ptr<Wire>)>;
/// `keep` lives as long as the connection.
void accept_websocket(Loop& loop, WireLimits limits, PlainStream stream, const HttpRequest& request,
                      const Upgrade& upgrade, std::shared_ptr<void> keep, SocketAccepted accepted);
void accept_websocket(Loop& loop, WireLimits limits, TlsStream stream, const HttpRequest& request,
                      const Upgrade& upgrade, std::shared_ptr<void> keep, SocketAccepted accepted);

}  // namespace fluyt::streaming
