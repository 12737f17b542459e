#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <csignal>
#include <thread>

#include "base/strings.h"
#include "base/time.h"
#include "image/blob/hasher.h"
#include "image/registry/session.h"
#include "image/testing/fake_registry.h"
#include "sys/file.h"
#include "sys/process.h"

// Referrers, warnings, proxies, foreign layers, servers with TLS: what is not the plain way to a
// blob.
namespace fluyt::image::registry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Fake = image::testing::FakeRegistry;
using Reply = Fake::Reply;

constexpr const char* kIndexType = "application/vnd.oci.image.index.v1+json";
constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";

class ElsewhereTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fake_ = Fake::start().value();
    options_.timeouts = {.connect_ms = 2000, .first_byte_ms = 3000, .stall_ms = 300};
    options_.retry = {.max_tries = 2, .first_delay_ms = 5, .delay_cap_ms = 10};
    options_.certs_dir = folder_.path();
  }
  Result<std::unique_ptr<Session>> try_open(const std::string& registry) {
    registry_ = std::make_unique<Registry>(options_, logger_);
    return registry_->open(registry, "a/b", {.username = "u", .password = "p"}, nullptr);
  }
  std::unique_ptr<Session> open(const std::string& registry = "") {
    auto session = try_open(registry.empty() ? fake_->host() : registry);
    EXPECT_TRUE(session.ok()) << session.error().message();
    return std::move(*session);
  }
  void write(const std::string& name, const std::string& text) const {
    const std::string file = cat(folder_.path(), "/", name);
    ASSERT_TRUE(sys::make_dirs(file.substr(0, file.rfind('/')), 0700).ok());
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, file, text, 0600).ok());
  }
  static oci::Digest digest(std::string_view text) { return digest_of("sha256", text).value(); }
  static std::string page(const std::vector<std::string>& names) {
    oci::Index out{.media_type = kIndexType};
    for (const std::string& name : names) {
      out.manifests.push_back({.media_type = kManifestType,
                               .digest = digest(name),
                               .size = 1,
                               .artifact_type = name.substr(0, 1)});
    }
    return oci::to_json(out);
  }
  static std::vector<oci::Digest> digests(const Result<std::vector<oci::Descriptor>>& found) {
    EXPECT_TRUE(found.ok()) << found.error().message();
    std::vector<oci::Digest> out;
    if (!found.ok()) return out;
    for (const auto& entry : *found) out.push_back(entry.digest);
    return out;
  }

  NullLogger logger_;
  sys::TempDir folder_ = sys::TempDir::create().value();
  RegistryOptions options_;
  std::unique_ptr<Fake> fake_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(ElsewhereTest, ReferrersComePageByPageAndAreFiltered) {
  const oci::Digest subject = digest("image");
  const std::string path = cat("/v2/a/b/referrers/", subject.text());
  fake_->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    if (!request.target.starts_with(path)) return std::nullopt;
    if (request.target.find("page=2") != std::string::npos) {
      return Reply{.headers = {{"Content-Type", kIndexType}}, .body = page({"s3", "x4"})};
    }
    return Reply{.headers = {{"Content-Type", kIndexType},
                             {"Link", cat("<", path, "?artifactType=s&page=2>; rel=\"next\"")}},
                 .body = page({"s1", "x2"})};
  });
  EXPECT_THAT(digests(open()->referrers(subject, "s")), ElementsAre(digest("s1"), digest("s3")));
  EXPECT_EQ(fake_->requests()[0], cat("GET ", path, "?artifactType=s"));
}

TEST_F(ElsewhereTest, AServerBehindARedirectMayWantAToken) {
  const auto other = Fake::start().value();
  std::vector<std::string> shown;
  other->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    shown.emplace_back(request.header("authorization"));
    if (request.target.starts_with("/token")) return Reply{.body = R"({"token":"t"})"};
    if (request.header("authorization") == "Bearer t") return std::nullopt;
    return Reply{.status = 401,
                 .headers = {{"WWW-Authenticate", cat("Bearer realm=\"http://", other->host(),
                                                      "/token\",service=\"s\"")}}};
  });
  other->serve("/there", kManifestType, "{}");
  fake_->set_hook([&](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.status = 307, .headers = {{"Location", cat("http://", other->host(), "/there")}}};
  });
  const auto got = open()->get_manifest("v1");
  ASSERT_TRUE(got.ok()) << got.error().message();
  EXPECT_THAT(shown, ElementsAre("", "", "Bearer t")) << "nothing that we log in with";
}

TEST_F(ElsewhereTest, ATokenThatAServerBehindARedirectRefusesIsReplaced) {
  const auto other = Fake::start().value();
  int wanted = 1;
  int token_status = 200;
  other->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    if (request.target.starts_with("/token")) {
      return Reply{.status = token_status, .body = cat(R"({"token":"t)", wanted, R"("})")};
    }
    if (request.header("authorization") == cat("Bearer t", wanted)) return std::nullopt;
    return Reply{.status = 401,
                 .headers = {{"WWW-Authenticate", cat("Bearer realm=\"http://", other->host(),
                                                      "/token\",service=\"s\"")}}};
  });
  other->serve("/there", kManifestType, "{}");
  fake_->set_hook([&](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.status = 307, .headers = {{"Location", cat("http://", other->host(), "/there")}}};
  });
  const auto session = open();
  ASSERT_TRUE(session->get_manifest("v1").ok());
  wanted = 2;
  auto got = session->get_manifest("v1");
  ASSERT_TRUE(got.ok()) << got.error().message();
  wanted = 3;
  token_status = 503;
  got = session->get_manifest("v1");
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kUnavailable) << got.error().message();
}

TEST_F(ElsewhereTest, ATokenHadWithAClientCertificateIsForItsBearerAlone) {
  int given = 0;
  fake_->set_hook([&](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.body = cat(R"({"token":"t)", ++given, R"(","expires_in":300})")};
  });
  const Challenge challenge{.scheme = "bearer",
                            .params = {{"realm", cat("http://", fake_->host(), "/token")}}};
  HttpClient http;
  TokenCache tokens;
  TokenRefusal refusal;
  TokenCache::Ask mine{.challenge = &challenge, .scopes = {"repository:a/b:pull"}};
  mine.registry_is_plain_http = true;
  mine.timeouts = options_.timeouts;
  mine.tls.client_cert = "/c/client.pem";
  mine.tls.client_key = "/c/client.key";
  TokenCache::Ask anybodys = mine;
  anybodys.tls = mine.tls.elsewhere(TlsOptions::Identity::kHide);
  EXPECT_EQ(tokens.get(http, mine, refusal).value(), "t1");
  EXPECT_EQ(tokens.get(http, anybodys, refusal).value(), "t2");
  EXPECT_EQ(tokens.get(http, mine, refusal).value(), "t1");
}

TEST_F(ElsewhereTest, ARegistryMayAskForATokenBehindARedirectOfItsOwn) {
  fake_->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    if (request.target.starts_with("/token")) return Reply{.body = R"({"token":"t"})"};
    if (request.target == "/v2/a/b/manifests/v1")
      return Reply{.status = 307, .headers = {{"Location", "/there"}}};
    if (request.header("authorization") == "Bearer t") return std::nullopt;
    return Reply{.status = 401,
                 .headers = {{"WWW-Authenticate", cat("Bearer realm=\"http://", fake_->host(),
                                                      "/token\",service=\"s\"")}}};
  });
  fake_->serve("/there", kManifestType, "{}");
  const auto got = open()->get_manifest("v1");
  EXPECT_TRUE(got.ok()) << got.error().message();
}

TEST_F(ElsewhereTest, ReferrersComeFromTheTagWhereThereIsNoApi) {
  const oci::Digest subject = digest("image");
  EXPECT_TRUE(digests(open()->referrers(subject, "")).empty());
  fake_->serve(cat("/v2/a/b/manifests/sha256-", subject.hex()), kIndexType, page({"s1", "x2"}));
  EXPECT_THAT(digests(open()->referrers(subject, "x")), ElementsAre(digest("x2")));
  EXPECT_EQ(digests(open()->referrers(subject, "")).size(), 2U);
}

TEST_F(ElsewhereTest, APageOfAnotherServerAndPagesWithoutEndAreRefused) {
  const oci::Digest subject = digest("image");
  std::string link = "<http://127.0.0.1:1/x>; rel=next";
  fake_->set_hook([&](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.headers = {{"Content-Type", kIndexType}, {"Link", link}}, .body = page({"s1"})};
  });
  auto found = open()->referrers(subject, "");
  ASSERT_FALSE(found.ok());
  EXPECT_THAT(found.error().message(), HasSubstr("a page of the same server"));
  link = "</again>; rel=\"next\"";
  found = open()->referrers(subject, "");
  ASSERT_FALSE(found.ok());
  EXPECT_THAT(found.error().message(), HasSubstr("more than 64 pages"));
}

TEST_F(ElsewhereTest, WarningsAreKeptOnceEach) {
  fake_->set_hook([](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.headers = {{"Warning", "299 - \"this tag goes away\""},
                             {"Warning", "110 - \"stale\""},
                             {"Warning", "299 broken"}},
                 .body = "{}"};
  });
  auto session = open();
  ASSERT_TRUE(session->get_manifest("v1").ok());
  ASSERT_TRUE(session->get_manifest("v1").ok());
  EXPECT_THAT(session->warnings(), ElementsAre("this tag goes away"));
}

TEST_F(ElsewhereTest, AProxyIsAskedInTheRegistrysPlace) {
  write("registry.test/hosts.toml", "server = \"http://registry.test\"\n");
  fake_->set_hook([](const Fake::Request&) -> std::optional<Reply> { return Reply{.body = "{}"}; });
  options_.proxies.http = cat("http://", fake_->host());
  ASSERT_TRUE(open("registry.test")->get_manifest("v1").ok());
  EXPECT_THAT(fake_->requests(), ElementsAre("GET http://registry.test/v2/a/b/manifests/v1"));
  // A registry on this machine is not its affair.
  auto here = Fake::start().value();
  here->serve("/v2/a/b/manifests/v1", kManifestType, "{}");
  ASSERT_TRUE(open(here->host())->get_manifest("v1").ok());
  EXPECT_EQ(fake_->requests().size(), 1U);
}

class ForeignTest : public ElsewhereTest {
 protected:
  Result<> fetch(Session& session, const std::vector<std::string>& urls) {
    got_.clear();
    return session.fetch_foreign_blob(digest(bytes_), bytes_.size(), urls,
                                      [this](std::string_view bytes) -> Result<> {
                                        got_ += bytes;
                                        return {};
                                      });
  }
  std::string bytes_ = "a layer";
  std::string got_;
};

TEST_F(ForeignTest, UrlsAreTriedInTurnAndShownNothing) {
  auto other = Fake::start().value();
  std::vector<std::string> seen;
  other->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    seen.emplace_back(request.header("authorization"));
    if (request.target == "/gone") return Reply{.status = 404};
    return Reply{.body = bytes_};
  });
  fake_->set_hook([](const Fake::Request& request) -> std::optional<Reply> {
    if (!request.header("authorization").empty()) return Reply{.status = 404};
    return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"r\""}}};
  });
  auto session = open();
  auto fetched = fetch(*session, {cat("http://", other->host(), "/gone"), "ftp://x/",
                                  cat("http://", other->host(), "/there")});
  ASSERT_TRUE(fetched.ok()) << fetched.error().message();
  EXPECT_EQ(got_, bytes_);
  EXPECT_THAT(seen, ElementsAre("", ""));
}

TEST_F(ForeignTest, TheRegistrysOwnTroubleIsNotPassedOver) {
  fake_->set_hook(
      [](const Fake::Request&) -> std::optional<Reply> { return Reply{.status = 403}; });
  auto session = open();
  auto fetched = fetch(*session, {"http://127.0.0.1:1/x"});
  ASSERT_FALSE(fetched.ok());
  EXPECT_EQ(fetched.error().code(), Code::kPermissionDenied);
}

TEST_F(ForeignTest, ARegistryElsewhereCannotSendUsToThisMachine) {
  write("registry.test/hosts.toml", "server = \"http://registry.test\"\n");
  auto proxy = Fake::start().value();
  options_.proxies.http = cat("http://", proxy->host());
  auto session = open("registry.test");
  auto fetched = fetch(*session, {cat("http://", fake_->host(), "/secret")});
  ASSERT_FALSE(fetched.ok());
  EXPECT_THAT(fetched.error().message(), HasSubstr("expected another machine"));
  EXPECT_TRUE(fake_->requests().empty());
}

TEST_F(ElsewhereTest, AServerThatWouldTakeForeverGivesWay) {
  auto mirror = Fake::start().value();
  std::string bytes(20'000'000, 'x');
  const std::string path = cat("/v2/a/b/blobs/", digest(bytes).text());
  fake_->serve(path, "application/octet-stream", bytes);
  mirror->set_hook([&](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.body = bytes, .fault = Reply::Fault::kTrickle, .cut = 5000};
  });
  write("registry.test/hosts.toml",
        cat("server = \"http://", fake_->host(), "\"\n[host.\"http://", mirror->host(), "\"]\n"));
  options_.timeouts.stall_bytes_per_second = 1;  // it does not stand still
  options_.timeouts.slow_blob_ms = 60'000;
  uint64_t got = 0;
  const int64_t before = now_boot_ns();
  auto fetched =
      open("registry.test")
          ->fetch_blob(digest(bytes), bytes.size(), [&](std::string_view piece) -> Result<> {
            got += piece.size();
            return {};
          });
  ASSERT_TRUE(fetched.ok()) << fetched.error().message();
  EXPECT_EQ(got, bytes.size());
  EXPECT_LT(now_boot_ns() - before, 20'000'000'000);
  EXPECT_EQ(mirror->requests().size(), 1U);
}

TEST_F(ElsewhereTest, DockersFilesComeInPairs) {
  write("registry.test/ca.crt", "");
  write("registry.test/client.cert", "");
  auto lonely = try_open("registry.test");
  ASSERT_FALSE(lonely.ok());
  EXPECT_THAT(lonely.error().message(), HasSubstr("client.cert: expected client.key beside it"));
  write("registry.test/client.key", "");
  EXPECT_TRUE(try_open("registry.test").ok());
  write("registry.test/other.key", "");
  EXPECT_FALSE(try_open("registry.test").ok());
}

/// `openssl s_server -HTTP`: each file is a whole answer.
class TlsTest : public ElsewhereTest {
 protected:
  void SetUp() override {
    ElsewhereTest::SetUp();
    certificate("server", "localhost");
    ASSERT_TRUE(sys::make_dirs(folder_.path() + "/www/v2/a/b/manifests", 0700).ok());
  }
  void TearDown() override {
    for (sys::Process& server : servers_) {
      server.kill(SIGKILL).ignore("it may have ended");
      server.wait(Deadline::after_ms(5000)).ignore("nothing depends on it");
    }
  }
  std::string path(const std::string& name) const { return cat(folder_.path(), "/", name); }
  void certificate(const std::string& name, const std::string& host) const {
    auto made = sys::run({.args = {"/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                                   "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                                   "/CN=" + host, "-addext", "subjectAltName=DNS:" + host,
                                   "-keyout", path(name + ".key"), "-out", path(name + ".pem")},
                          .env = {"PATH=/usr/bin"}},
                         "", 65536, Deadline::after_ms(30'000));
    ASSERT_TRUE(made.ok() && made->status.shell_code() == 0) << (made.ok() ? made->err : "");
  }
  static uint16_t free_port() {
    const sys::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(socket.raw(), raw, size), 0);
    EXPECT_EQ(::getsockname(socket.raw(), raw, &size), 0);
    return ntohs(address.sin_port);
  }
  // Another with the same certificate and content.
  void serve(const std::vector<std::string>& more = {}) {
    port_ = free_port();
    std::vector<std::string> args{"/usr/bin/openssl",
                                  "s_server",
                                  "-accept",
                                  cat("127.0.0.1:", port_),
                                  "-cert",
                                  path("server.pem"),
                                  "-key",
                                  path("server.key"),
                                  "-HTTP",
                                  "-quiet"};
    args.insert(args.end(), more.begin(), more.end());
    servers_.push_back(
        sys::spawn({.args = args, .env = {"PATH=/usr/bin"}, .cwd = path("www")}).value());
    for (int i = 0; i < 200; ++i) {
      const sys::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      address.sin_port = htons(port_);
      if (::connect(socket.raw(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    FAIL() << "openssl s_server does not answer";
  }
  std::string host() const { return cat("localhost:", port_); }
  void answer(const std::string& text) { write("www/v2/a/b/manifests/v1", text); }
  static constexpr const char* kGood = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{}";
  std::vector<sys::Process> servers_;
  uint16_t port_ = 0;
};

TEST_F(TlsTest, ARedirectFromHttpsToHttpIsRefused) {
  fake_->serve("/x", kManifestType, "{}");
  answer(cat("HTTP/1.0 302 Found\r\nLocation: http://", fake_->host(),
             "/x\r\nContent-Length: 0\r\n\r\n"));
  serve();
  auto got = open(host())->get_manifest("v1");
  ASSERT_FALSE(got.ok());
  EXPECT_THAT(got.error().message(), HasSubstr("plain http is refused"));
  EXPECT_TRUE(fake_->requests().empty());
}

TEST_F(TlsTest, ACertificateIsCheckedAgainstTheCaThatIsGiven) {
  answer(kGood);
  serve();
  certificate("another", "localhost");
  const auto with_ca = [&](const std::string& ca) {
    write(cat(host(), "/hosts.toml"),
          cat("server = \"https://", host(), "\"\nca = \"", ca, "\"\n"));
    return open(host())->get_manifest("v1");
  };
  auto good = with_ca(path("server.pem"));
  EXPECT_TRUE(good.ok()) << good.error().message();
  auto wrong = with_ca(path("another.pem"));
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().code(), Code::kPermissionDenied) << wrong.error().message();
  // The same in Docker's form.
  ASSERT_TRUE(sys::remove_tree(path(host())).ok());
  write(cat(host(), "/ca.crt"), sys::read_file(path("server.pem"), 65536).value());
  good = open(host())->get_manifest("v1");
  EXPECT_TRUE(good.ok()) << good.error().message();
}

TEST_F(TlsTest, TheCaHoldsWhereARedirectLeads) {
  serve();
  answer(cat("HTTP/1.0 302 Found\r\nLocation: https://", host(),
             "/v2/a/b/manifests/there\r\nContent-Length: 0\r\n\r\n"));
  write("www/v2/a/b/manifests/there", kGood);
  serve();
  for (const char* trust : {"ca = \"../server.pem\"\n", "skip_verify = true\n"}) {
    write(cat(host(), "/hosts.toml"), cat("server = \"https://", host(), "\"\n", trust));
    const auto got = open(host())->get_manifest("v1");
    EXPECT_TRUE(got.ok()) << got.error().message();
  }
}

TEST_F(TlsTest, TheCaHoldsForTheTokenServer) {
  serve();
  answer(cat("HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"https://", host(),
             "/token\",service=\"s\"\r\nContent-Length: 0\r\n\r\n"));
  write("www/token?service=s&scope=repository%3Aa%2Fb%3Apull&account=u",
        "HTTP/1.0 200 OK\r\n\r\n{\"token\":\"t\"}");
  serve();
  write(cat(host(), "/hosts.toml"),
        cat("server = \"https://", host(), "\"\nca = \"../server.pem\"\n"));
  const auto got = open(host())->get_manifest("v1");
  ASSERT_FALSE(got.ok());
  EXPECT_THAT(got.error().message(), HasSubstr("GET /v2/a/b/manifests/v1 = 401"))
      << "the registry's refusal, with a token";
}

TEST_F(TlsTest, AClientCertificateIsShown) {
  certificate("client", "me");
  answer(kGood);
  serve({"-Verify", "1", "-CAfile", path("client.pem"), "-verify_return_error"});
  const auto with = [&](const std::string& client) {
    write(cat(host(), "/hosts.toml"),
          cat("server = \"https://", host(), "\"\nca = \"", path("server.pem"), "\"\n", client));
    return open(host())->get_manifest("v1");
  };
  EXPECT_FALSE(with("").ok());
  auto good =
      with(cat("client = [[\"", path("client.pem"), "\", \"", path("client.key"), "\"]]\n"));
  EXPECT_TRUE(good.ok()) << good.error().message();
}

}  // namespace
}  // namespace fluyt::image::registry
