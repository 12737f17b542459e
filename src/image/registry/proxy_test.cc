#include "image/registry/proxy.h"

#include <gtest/gtest.h>

#include <map>

namespace fluyt::image::registry {
namespace {

ProxySettings settings_of(std::map<std::string, std::string> variables) {
  auto out = proxy_settings_from([&](const char* name) { return variables[name]; });
  EXPECT_TRUE(out.ok()) << out.error().message();
  return out.value();
}

TEST(Proxy, IsChosenByScheme) {
  const auto settings =
      settings_of({{"HTTP_PROXY", "plain.test:3128"}, {"https_proxy", "http://u:p@tls.test:3128"}});
  EXPECT_EQ(proxy_for(settings, Url::parse("http://a.example/").value()), "http://plain.test:3128");
  EXPECT_EQ(proxy_for(settings, Url::parse("https://a.example/").value()),
            "http://u:p@tls.test:3128");
  EXPECT_EQ(proxy_for(settings, Url::parse("https://127.0.0.1:5000/").value()), "");
  EXPECT_EQ(proxy_for(ProxySettings{}, Url::parse("https://a.example/").value()), "");
}

TEST(Proxy, UpperCaseWins) {
  const auto settings = settings_of({{"HTTP_PROXY", "http://a"}, {"http_proxy", "http://b"}});
  EXPECT_EQ(settings.http, "http://a");
}

TEST(Proxy, NoProxyNamesHostsDomainsAddressesAndNetworks) {
  const auto settings =
      settings_of({{"HTTPS_PROXY", "http://p"},
                   {"NO_PROXY",
                    "Example.org, .below.test,*.star.test,10.1.0.0/16,192.0.2.7,fd00::/8,"
                    "port.test:5000,[2001:db8::1]:443"}});
  const std::pair<const char*, bool> cases[] = {
      {"https://example.org/", true},        {"https://a.b.example.org/", true},
      {"https://notexample.org/", false},    {"https://below.test/", false},
      {"https://a.below.test/", true},       {"https://star.test/", false},
      {"https://a.star.test/", true},        {"https://10.1.255.3/", true},
      {"https://10.2.0.1/", false},          {"https://192.0.2.7:8443/", true},
      {"https://192.0.2.70/", false},        {"https://[fd12::1]/", true},
      {"https://[fe80::1]/", false},         {"https://port.test:5000/", true},
      {"https://port.test/", false},         {"https://[2001:db8::1]/", true},
      {"https://[2001:db8::1]:444/", false}, {"https://other.test/", false}};
  for (const auto& [text, direct] : cases) {
    EXPECT_EQ(proxy_for(settings, Url::parse(text).value()).empty(), direct) << text;
  }
  EXPECT_EQ(proxy_for(settings_of({{"HTTPS_PROXY", "http://p"}, {"no_proxy", "*"}}),
                      Url::parse("https://a.example").value()),
            "");
}

TEST(Proxy, ABadOneIsRefusedWithoutItsValue) {
  for (const char* value : {"ftp://secret.test", "http://", "http://a b"}) {
    auto out = proxy_settings_from([&](const char* name) {
      return std::string(name) == "HTTP_PROXY" ? std::string(value) : std::string();
    });
    ASSERT_FALSE(out.ok()) << value;
    EXPECT_NE(out.error().message().find("HTTP_PROXY"), std::string::npos);
    EXPECT_EQ(out.error().message().find("secret"), std::string::npos);
  }
}

}  // namespace
}  // namespace fluyt::image::registry
