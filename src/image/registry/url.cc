#include "image/registry/url.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include <memory>
#include <utility>

#include "base/strings.h"

namespace fluyt::image::registry {

namespace {

constexpr size_t kMaxUrl = 16384;  // presigned URLs are long

struct CurlUrlCloser {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using CurlUrl = std::unique_ptr<CURLU, CurlUrlCloser>;

std::string part_of(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, 0) != CURLUE_OK) return {};
  std::string out(text);
  curl_free(text);
  return out;
}

Result<Url> split_up(CURLU* url, std::string_view shown) {
  Url out;
  out.scheme = part_of(url, CURLUPART_SCHEME);
  out.host = to_lower(part_of(url, CURLUPART_HOST));
  out.port = part_of(url, CURLUPART_PORT);
  out.path = part_of(url, CURLUPART_PATH);
  out.query = part_of(url, CURLUPART_QUERY);
  if (out.scheme != "http" && out.scheme != "https") {
    return Error(Code::kInvalidArgument,
                 cat("URL ", quote(shown), ": expected http:// or https://"));
  }
  if (!part_of(url, CURLUPART_USER).empty() || !part_of(url, CURLUPART_PASSWORD).empty()) {
    return Error(Code::kInvalidArgument, "URL: a user or password within a URL is refused");
  }
  if (out.host.empty()) {
    return Error(Code::kInvalidArgument, cat("URL ", quote(shown), ": has no host"));
  }
  return out;
}

Result<> check_text(std::string_view text) {
  if (text.size() > kMaxUrl) {
    return Error(Code::kInvalidArgument,
                 cat("URL of ", text.size(), " bytes: at most ", kMaxUrl, " are taken"));
  }
  if (has_control_characters(text) || text.find(' ') != std::string_view::npos) {
    return Error(Code::kInvalidArgument,
                 cat("URL ", quote(text), ": holds spaces or control characters"));
  }
  return {};
}

std::string_view default_port(std::string_view scheme) { return scheme == "https" ? "443" : "80"; }

}  // namespace

Result<Url> Url::parse(std::string_view text) {
  FLUYT_TRY(check_text(text));
  const CurlUrl url(curl_url());
  if (const CURLUcode code = curl_url_set(url.get(), CURLUPART_URL, std::string(text).c_str(), 0);
      code != CURLUE_OK) {
    return Error(Code::kInvalidArgument, cat("URL ", quote(text), ": ", curl_url_strerror(code)));
  }
  return split_up(url.get(), text);
}

Result<Url> Url::resolve(std::string_view location) const {
  FLUYT_TRY(check_text(location));
  const CurlUrl url(curl_url());
  CURLUcode code = curl_url_set(url.get(), CURLUPART_URL, text().c_str(), 0);
  if (code == CURLUE_OK) {
    code = curl_url_set(url.get(), CURLUPART_URL, std::string(location).c_str(), 0);
  }
  if (code != CURLUE_OK) {
    return Error(Code::kInvalidArgument,
                 cat("URL ", quote(location), ": ", curl_url_strerror(code)));
  }
  return split_up(url.get(), location);
}

std::string Url::host_port() const { return port.empty() ? host : cat(host, ":", port); }

std::string Url::text() const {
  return cat(scheme, "://", host_port(), path.empty() ? "/" : path, query.empty() ? "" : "?",
             query);
}

bool Url::same_origin(const Url& other) const {
  const auto effective = [](const Url& url) {
    return url.port.empty() ? default_port(url.scheme) : std::string_view(url.port);
  };
  return scheme == other.scheme && host == other.host && effective(*this) == effective(other);
}

bool Url::is_loopback() const { return is_loopback_host(host); }

std::string percent_encode(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4U];
      out += kHex[byte & 15U];
    }
  }
  return out;
}

bool is_loopback_host(std::string_view host) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  if (host == "localhost") return true;
  const std::string text(host);
  in_addr v4{};
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24U) == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, text.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6) != 0;
}

}  // namespace fluyt::image::registry
