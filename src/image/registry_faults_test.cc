#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <functional>

#include "base/strings.h"
#include "base/time.h"
#include "image/blob/hasher.h"
#include "image/image_store.h"
#include "image/layer/gzip.h"
#include "image/layer/tar_build.h"
#include "image/testing/fake_registry.h"
#include "image/testing/image_maker.h"
#include "image/testing/settled.h"
#include "sys/file.h"

// Every way in which a registry can misbehave, against a whole store: what pull answers, how often
// it asks, that nothing stays behind and that another image is untouched. docs/registry-faults.md
// is the table that this prints; a difference is a failure.
namespace fluyt::image {
namespace {

using Fake = testing::FakeRegistry;
using Request = Fake::Request;
using Reply = Fake::Reply;
using Fault = Reply::Fault;
using testing::ImageMaker;
using testing::sha256_of;

constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kIndexType = "application/vnd.oci.image.index.v1+json";

std::string beside_tests(const std::string& path) {
  const std::string self = sys::read_link(sys::kCwd, "/proc/self/exe").value();
  const std::string folder = self.substr(0, self.rfind('/'));
  return folder.substr(0, folder.rfind('/')) + path;
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  if (what.empty()) return text;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at)) {
    text.replace(at, what.size(), with);
    at += with.size();
  }
  return text;
}

/// A registry with one image of two layers under a/b:v1, and what a row of the table needs besides.
struct Scene {
  std::unique_ptr<Fake> registry = Fake::start().value();
  std::unique_ptr<Fake> mirror;  // in front of it, by hosts.toml
  std::unique_ptr<Fake> other;   // where a redirect or a URL leads
  ImageMaker maker;
  std::string server;  // what stands behind the mirror; empty: the registry
  std::string certs;   // folder of hosts.toml files
  PullOptions pull;
  std::string reference;
  std::vector<std::string> shown_elsewhere;  // Authorization headers that `other` saw
  std::string limits;  // arguments of fluyt-unpack that lower those that a node has

  explicit Scene(std::string folder) : certs(std::move(folder)) {
    std::string big;
    while (big.size() < 200'000) big += cat(big.size(), ",");
    maker.add_layer({{"etc/", ""}, {"etc/passwd", "root:x:0:0::/:/bin/sh\n"}});
    maker.add_layer({{"big", big}});
    maker.serve(*registry, "a/b", "v1");
    reference = cat(registry->host(), "/a/b:v1");
  }
  std::string layer(size_t index) const { return sha256_of(maker.layers()[index]); }
  std::string big_path() const { return cat("/v2/a/b/blobs/", layer(1)); }
  std::string manifest_path(const std::string& target = "v1") const {
    return cat("/v2/a/b/manifests/", target);
  }

  // Answers requests of `path` (its query aside) as `reply` says, `times` times.
  void on(const std::string& path, int times, std::function<Reply(const Request&)> reply) {
    registry->set_hook([=](const Request& request) -> std::optional<Reply> {
      const bool mine = request.target.substr(0, request.target.find('?')) == path;
      if (!mine || request.nth > times) return std::nullopt;
      return reply(request);
    });
  }
  void on_big(int times, const Reply& reply) {
    on(big_path(), times, [reply](const Request&) { return reply; });
  }
  void on_manifest(int times, const Reply& reply) {
    on(manifest_path(), times, [reply](const Request&) { return reply; });
  }
  // In place of the second layer these bytes, under an image that is right.
  void second_layer(std::string bytes) {
    maker = ImageMaker();
    maker.add_layer({{"etc/", ""}, {"etc/passwd", "root:x:0:0::/:/bin/sh\n"}});
    maker.add_layer_tar(std::move(bytes));
    maker.serve(*registry, "a/b", "v1");
  }
  Reply broken_big(Fault fault, size_t cut) const {
    return Reply{.body = maker.layers()[1], .fault = fault, .cut = cut};
  }
  // In place of the image: this document under the tag and its digest.
  void document(const std::string& type, const std::string& text, const std::string& said = "") {
    for (const std::string& target : {std::string("v1"), sha256_of(text)}) {
      registry->serve(manifest_path(target), said.empty() ? type : said, text);
    }
  }
  void with_mirror(const std::string& more = "") {
    mirror = Fake::start().value();
    reference = "registry.test/a/b:v1";
    hosts_toml(cat("http://", mirror->host()), more);
  }
  void hosts_toml(const std::string& mirror_url, const std::string& more = "") const {
    ASSERT_TRUE(sys::make_dirs(certs + "/registry.test", 0700).ok());
    ASSERT_TRUE(
        sys::write_file_atomic(sys::kCwd, certs + "/registry.test/hosts.toml",
                               cat("server = \"http://", server.empty() ? registry->host() : server,
                                   "\"\n[host.\"", mirror_url, "\"]\n", more),
                               0600)
            .ok());
  }
  // Wants the newest token of a token server that `token` answers for.
  void with_tokens(std::function<Reply(const Request&)> token,
                   std::function<bool(const Request&)> accepts) {
    registry->set_hook([=, this](const Request& request) -> std::optional<Reply> {
      if (request.target.starts_with("/token")) return token(request);
      if (accepts(request)) return std::nullopt;
      return Reply{.status = 401,
                   .headers = {{"WWW-Authenticate", cat("Bearer realm=\"http://", registry->host(),
                                                        "/token\",service=\"s\"")}}};
    });
  }
  // One name for each thing that is another in each run.
  std::string shown(std::string text) const {
    if (mirror) text = replaced(std::move(text), mirror->host(), "MIRROR");
    if (other) text = replaced(std::move(text), other->host(), "OTHER");
    text = replaced(std::move(text), registry->host(), "REGISTRY");
    text = replaced(std::move(text), maker.manifest_digest(), "sha256:MANIFEST");
    text = replaced(std::move(text), maker.image_id(), "sha256:CONFIG");
    text = replaced(std::move(text), layer(0), "sha256:LAYER1");
    text = replaced(std::move(text), layer(1), "sha256:LAYER2");
    text = replaced(std::move(text), certs, "CERTS_DIR");
    const size_t stalled = text.find("stalled: ");  // after how many bytes is a matter of chance
    if (stalled != std::string::npos) {
      text.replace(stalled + 9, text.find(' ', stalled + 9) - stalled - 9, "N");
    }
    text = replaced(std::move(text), oci::Platform::host().text(), "PLATFORM");
    // Digests of what the row itself made up.
    for (size_t at = text.find("sha256:"); at != std::string::npos; at = text.find("sha256:", at)) {
      at += 7;
      const size_t end = text.find_first_not_of("0123456789abcdef", at);
      const size_t length = (end == std::string::npos ? text.size() : end) - at;
      if (length == 64) text.replace(at, length, "…");
    }
    return text;
  }
  size_t asked() const {
    return registry->requests().size() + (mirror ? mirror->requests().size() : 0) +
           (other ? other->requests().size() : 0);
  }
};

struct Row {
  const char* fault;
  std::function<void(Scene&)> arrange;
  std::optional<Code> code;             // nothing: the pull succeeds
  std::vector<std::string> words = {};  // in the message
};

Reply status(int code) { return Reply{.status = code}; }
Reply status_after(int code, const std::string& retry_after) {
  return Reply{.status = code, .headers = {{"Retry-After", retry_after}}};
}

oci::Index index_of(std::vector<oci::Descriptor> entries) {
  return {.media_type = kIndexType, .manifests = std::move(entries)};
}

oci::Descriptor descriptor_of(const std::string& type, const std::string& text) {
  return {.media_type = type,
          .digest = digest_of("sha256", text).value(),
          .size = static_cast<int64_t>(text.size()),
          .platform = oci::Platform::parse("linux/amd64").value()};
}

void nest(Scene& scene, int depth) {
  std::string text = scene.maker.manifest_json();
  std::string type = kManifestType;
  for (int i = 0; i < depth; ++i) {
    oci::Descriptor entry = descriptor_of(type, text);
    entry.platform = scene.maker.config().platform;
    scene.registry->serve(scene.manifest_path(sha256_of(text)), type, text);
    text = oci::to_json(index_of({entry}));
    type = kIndexType;
  }
  scene.document(kIndexType, text);
}

void with_manifest(Scene& scene, const std::function<void(oci::Manifest&)>& change) {
  oci::Manifest manifest = scene.maker.manifest();
  change(manifest);
  scene.document(kManifestType, oci::to_json(manifest));
}

std::vector<Row> transport_rows() {
  return {
      {"none", [](Scene&) {}, {}},
      {"blob cut off at half, once",
       [](Scene& s) { s.on_big(1, s.broken_big(Fault::kClose, 100'000)); },
       {}},
      {"blob cut off at half, always",
       [](Scene& s) {
         s.on_big(99,
                  Reply{.body = s.maker.layers()[1].substr(0, 100'000), .announce_length = false});
       },
       Code::kUnavailable,
       {"the body ended after 100000 bytes"}},
      {"TCP reset at half, once",
       [](Scene& s) { s.on_big(1, s.broken_big(Fault::kReset, 100'000)); },
       {}},
      {"TCP reset before the head, always",
       [](Scene& s) { s.on_big(99, Reply{.fault = Fault::kDropBeforeHead}); }, Code::kUnavailable},
      {"a proxy that closes every 50 kB",
       [](Scene& s) {
         s.on(s.big_path(), 99, [&s](const Request& request) {
           const std::string_view range = request.header("range");
           const size_t from =
               range.empty() ? 0 : parse_number<size_t>(range.substr(6, range.size() - 7)).value();
           const std::string& whole = s.maker.layers()[1];
           Reply out{.body = whole.substr(from), .fault = Fault::kClose, .cut = 50'000};
           if (from > 0) {
             out.status = 206;
             out.headers = {
                 {"Content-Range", cat("bytes ", from, "-", whole.size() - 1, "/", whole.size())}};
           }
           if (whole.size() - from <= 50'000) out.fault = Fault::kNone;
           return out;
         });
       },
       {}},
      {"a server without ranges, cut off once",
       [](Scene& s) {
         s.on(s.big_path(), 99, [&s](const Request& request) {
           return request.nth == 1 ? s.broken_big(Fault::kClose, 100'000)
                                   : Reply{.body = s.maker.layers()[1]};
         });
       },
       {}},
      {"no answer, always",
       [](Scene& s) { s.on_manifest(99, Reply{.fault = Fault::kHangBeforeHead}); },
       Code::kDeadlineExceeded,
       {"no answer within"}},
      {"a hang in mid-body, once",
       [](Scene& s) { s.on_big(1, s.broken_big(Fault::kHangInBody, 100'000)); },
       {}},
      {"a hang in mid-body, always",
       [](Scene& s) { s.on_big(99, s.broken_big(Fault::kHangInBody, 10)); },
       Code::kDeadlineExceeded,
       {"stalled"}},
      {"a trickle of a byte now and then",
       [](Scene& s) { s.on_big(99, s.broken_big(Fault::kTrickle, 10)); },
       Code::kDeadlineExceeded,
       {"stalled"}},
      {"429 with Retry-After: 1, once", [](Scene& s) { s.on_big(1, status_after(429, "1")); }, {}},
      {"429 with Retry-After: 3600",
       [](Scene& s) {
         Reply reply = status_after(429, "3600");
         reply.headers.emplace_back("RateLimit-Limit", "100;w=21600");
         s.on_manifest(99, reply);
       },
       Code::kResourceExhausted,
       {"Retry-After \"3600\"", "ratelimit-limit \"100;w=21600\""}},
      {"429 without Retry-After, always", [](Scene& s) { s.on_manifest(99, status(429)); },
       Code::kResourceExhausted},
      {"blob 500, once", [](Scene& s) { s.on_big(1, status(500)); }, {}},
      {"blob 500, always", [](Scene& s) { s.on_big(99, status(500)); }, Code::kUnavailable},
      {"manifest 503, always", [](Scene& s) { s.on_manifest(99, status(503)); },
       Code::kUnavailable},
      {"no such tag", [](Scene& s) { s.on_manifest(99, status(404)); }, Code::kNotFound},
      {"a blob that is gone",
       [](Scene& s) { s.on_big(99, status(404)); },
       Code::kNotFound,
       {"no such blob there"}},
      {"headers without end",
       [](Scene& s) {
         Reply reply{.status = 200};
         for (int i = 0; i < 400; ++i) {
           reply.headers.emplace_back(cat("X-", i), std::string(1000, 'x'));
         }
         s.on_manifest(99, reply);
       },
       Code::kResourceExhausted,
       {"headers are over"}},
      {"blob in a content encoding that nobody asked for",
       [](Scene& s) {
         s.on_big(99, Reply{.headers = {{"Content-Encoding", "gzip"}}, .body = "x"});
       },
       Code::kDataLoss,
       {"Content-Encoding \"gzip\""}},
  };
}

std::vector<Row> content_rows() {
  return {
      {"a wrong byte in a blob",
       [](Scene& s) {
         std::string wrong = s.maker.layers()[1];
         wrong[700] = static_cast<char>(wrong[700] ^ 1);
         s.on_big(99, Reply{.body = wrong});
       },
       Code::kDataLoss,
       {"sha256:LAYER2"}},
      {"a wrong byte in the config",
       [](Scene& s) {
         std::string wrong = s.maker.config_json();
         wrong.back() = ' ';
         s.on(cat("/v2/a/b/blobs/", s.maker.image_id()), 99,
              [wrong](const Request&) { return Reply{.body = wrong}; });
       },
       Code::kDataLoss,
       {"expected sha256:CONFIG"}},
      {"a blob longer than the manifest says",
       [](Scene& s) { s.on_big(99, Reply{.body = s.maker.layers()[1] + "more"}); },
       Code::kDataLoss,
       {"Content-Length"}},
      {"a blob shorter than the manifest says",
       [](Scene& s) { s.on_big(99, Reply{.body = s.maker.layers()[1].substr(1)}); },
       Code::kDataLoss,
       {"Content-Length"}},
      {"a diff id that is not the layer's",
       [](Scene& s) {
         oci::ImageConfig config = s.maker.config();
         std::swap(config.diff_ids[0], config.diff_ids[1]);
         const std::string text = oci::to_json(config);
         s.registry->serve(cat("/v2/a/b/blobs/", sha256_of(text)), "application/octet-stream",
                           text);
         with_manifest(s, [&](oci::Manifest& m) {
           m.config.digest = digest_of("sha256", text).value();
           m.config.size = static_cast<int64_t>(text.size());
         });
       },
       Code::kDataLoss,
       {"sha256:LAYER"}},
      {"another manifest under the digest asked for",
       [](Scene& s) {
         s.reference = cat(s.registry->host(), "/a/b@", s.maker.manifest_digest());
         s.on(s.manifest_path(s.maker.manifest_digest()), 99, [](const Request& request) {
           return request.method == "HEAD" ? status(405) : Reply{.body = "{}"};
         });
       },
       Code::kDataLoss,
       {"expected sha256:MANIFEST"}},
      {"a Docker-Content-Digest that lies",
       [](Scene& s) {
         s.on_manifest(99, Reply{.headers = {{"Content-Type", kManifestType},
                                             {"Docker-Content-Digest", sha256_of("another")}},
                                 .body = s.maker.manifest_json()});
       },
       Code::kNotFound},
      {"a manifest with layers and manifests",
       [](Scene& s) {
         std::string text = s.maker.manifest_json();
         text.insert(1, "\"manifests\":[],");
         s.document(kManifestType, text);
       },
       Code::kInvalidArgument,
       {"manifests beside config or layers"}},
      {"a mediaType that is not the Content-Type",
       [](Scene& s) { s.document(kManifestType, s.maker.manifest_json(), kIndexType); },
       Code::kInvalidArgument,
       {"as it was sent"}},
      {"Docker schema 1",
       [](Scene& s) {
         s.document("application/vnd.docker.distribution.manifest.v1+prettyjws",
                    R"({"schemaVersion":1,"fsLayers":[]})");
       },
       Code::kInvalidArgument,
       {"schema 1"}},
      {"an artifact that is no image",
       [](Scene& s) {
         with_manifest(s, [](oci::Manifest& m) {
           m.config.media_type = "application/vnd.oci.empty.v1+json";
           m.artifact_type = "application/vnd.example.sbom";
         });
       },
       Code::kInvalidArgument,
       {"this is an artifact, not an image"}},
      {"a layer that is no file system",
       [](Scene& s) {
         with_manifest(s, [](oci::Manifest& m) { m.layers[1].media_type = "text/plain"; });
       },
       Code::kInvalidArgument,
       {"layers[1].mediaType: \"text/plain\""}},
      {"more diff ids than layers",
       [](Scene& s) { with_manifest(s, [](oci::Manifest& m) { m.layers.pop_back(); }); },
       Code::kInvalidArgument,
       {"expected as many"}},
      {"501 layers",
       [](Scene& s) {
         with_manifest(s, [](oci::Manifest& m) { m.layers.resize(501, m.layers[0]); });
       },
       Code::kInvalidArgument,
       {"501 entries: expected at most 500"}},
      {"a manifest of 9 MiB",
       [](Scene& s) {
         s.document(kManifestType, s.maker.manifest_json() + std::string(9U << 20U, ' '));
       },
       Code::kResourceExhausted,
       {"body is over 8388608 bytes"}},
      {"a manifest a thousand levels deep",
       [](Scene& s) {
         std::string text = s.maker.manifest_json();
         text.insert(1, cat("\"x\":", std::string(1000, '['), std::string(1000, ']'), ","));
         s.document(kManifestType, text);
       },
       Code::kInvalidArgument},
      {"a manifest that is no JSON", [](Scene& s) { s.document(kManifestType, "<html>"); },
       Code::kInvalidArgument},
      {"an index of 5000 entries",
       [](Scene& s) {
         const oci::Descriptor entry = descriptor_of(kManifestType, s.maker.manifest_json());
         s.document(kIndexType, oci::to_json(index_of(std::vector<oci::Descriptor>(5000, entry))));
       },
       Code::kInvalidArgument,
       {"5000 entries: expected at most 4096"}},
      {"indexes in each other, 8 deep", [](Scene& s) { nest(s, 8); }, {}},
      {"indexes in each other, 9 deep",
       [](Scene& s) { nest(s, 9); },
       Code::kInvalidArgument,
       {"more than 8 indexes in each other"}},
      {"an index of attestations alone",
       [](Scene& s) {
         oci::Descriptor entry = descriptor_of(kManifestType, s.maker.manifest_json());
         entry.platform->os = entry.platform->architecture = "unknown";
         entry.annotations["vnd.docker.reference.type"] = "attestation-manifest";
         s.document(kIndexType, oci::to_json(index_of({entry})));
       },
       Code::kNotFound},
      {"an index without our platform",
       [](Scene& s) {
         oci::Descriptor entry = descriptor_of(kManifestType, s.maker.manifest_json());
         entry.platform->architecture = "s390x";
         s.document(kIndexType, oci::to_json(index_of({entry})));
       },
       Code::kNotFound,
       {"linux/s390x"}},
      {"inline data that is not what its digest says",
       [](Scene& s) {
         oci::Descriptor entry = descriptor_of(kManifestType, s.maker.manifest_json());
         entry.platform = s.maker.config().platform;
         entry.data = std::string(static_cast<size_t>(entry.size), ' ');
         s.document(kIndexType, oci::to_json(index_of({entry})));
       },
       Code::kDataLoss,
       {"expected sha256:MANIFEST"}},
      {"a manifest of another size than the index says",
       [](Scene& s) {
         oci::Descriptor entry = descriptor_of(kManifestType, s.maker.manifest_json());
         entry.platform = s.maker.config().platform;
         ++entry.size;
         s.document(kIndexType, oci::to_json(index_of({entry})));
       },
       Code::kDataLoss,
       {"bytes, expected"}},
  };
}

std::string gzip_of(std::string_view bytes) {
  std::string out;
  GzipWriter writer([&](std::string_view piece) -> Result<> {
    out += piece;
    return {};
  });
  EXPECT_TRUE(writer.write(bytes).ok());
  EXPECT_TRUE(writer.finish().ok());
  return out;
}

// A file of 4 GiB of zeros in 131 kB: RFC 8878, blocks of one repeated byte.
std::string zstd_bomb() {
  constexpr uint64_t kSize = 4UL << 30U;
  constexpr uint32_t kBlock = 128UL << 10U;
  std::string out("\x28\xB5\x2F\xFD\x00\x58", 6);  // a window of 2 MiB, nothing else said
  const auto block = [&](uint32_t last, uint32_t type, uint32_t size, std::string_view content) {
    const uint32_t head = last | type << 1U | size << 3U;
    for (const uint32_t shift : {0U, 8U, 16U}) out += static_cast<char>(head >> shift);
    out += content;
  };
  const std::string header = TarBuild::header({.name = "zeros"}, kSize);
  block(0, 0, static_cast<uint32_t>(header.size()), header);
  for (uint64_t done = kBlock; done <= kSize; done += kBlock) {
    block(done == kSize ? 1 : 0, 1, kBlock, std::string_view("\0", 1));
  }
  return out;
}

std::vector<Row> layer_rows() {
  const auto layer = [](const TarBuild& tar, const char* limits = "") {
    return [bytes = tar.end(), limits](Scene& s) {
      s.limits = limits;
      s.second_layer(bytes);
    };
  };
  TarBuild many;
  for (int i = 0; i < 2000; ++i) many.file(cat("f", i), "");
  const auto sparse = [](const std::string& pieces, const std::string& map, const std::string& size,
                         const std::string& data) {
    return TarBuild()
        .pax({{"GNU.sparse.size", size}, {"GNU.sparse.numblocks", pieces}, {"GNU.sparse.map", map}})
        .file("sparse", data);
  };
  constexpr auto kSmall = "--max-unpacked-bytes 10000000";
  return {
      {"a gzip bomb: 40 MB of zeros, where 10 MB are free",
       [=](Scene& s) {
         s.limits = kSmall;
         s.second_layer(gzip_of(TarBuild().file("zeros", std::string(40'000'000, '\0')).end()));
       },
       Code::kResourceExhausted,
       {"unpacks to more than 10000000 bytes"}},
      {"a zstd bomb: 131 kB of 4 GiB of zeros, where 10 MB are free",
       [=](Scene& s) {
         s.limits = kSmall;
         s.second_layer(zstd_bomb());
       },
       Code::kResourceExhausted,
       {"unpacks to more than 10000000 bytes"}},
      {"gzip in gzip in gzip", [](Scene& s) { s.second_layer(gzip_of(gzip_of(gzip_of("x")))); },
       Code::kDataLoss},
      {"a sparse file of a tebibyte with 5 bytes in it, where 10 MB are free",
       layer(sparse("1", "1000000000,5", "1099511627776", "abcde"), kSmall),
       {}},
      {"a sparse file of two million pieces",
       layer(TarBuild()
                 .pax({{"GNU.sparse.major", "1"},
                       {"GNU.sparse.minor", "0"},
                       {"GNU.sparse.realsize", "9000000"}})
                 .file("sparse", "2000000\n" + std::string(504, '0'))),
       Code::kResourceExhausted,
       {"sparse"}},
      {"a sparse file whose pieces overlap",
       layer(sparse("2", "0,3,2,2", "100", "abcde")),
       Code::kInvalidArgument,
       {"overlap"}},
      {"more empty files than a layer may have (10 million; 1000 here)",
       layer(many, "--max-entries 1000"),
       Code::kResourceExhausted,
       {"more than 1000 entries"}},
      {"a name that climbs out",
       layer(TarBuild().file("../../evil")),
       Code::kInvalidArgument,
       {"climbs out of the layer"}},
      {"a hard link that climbs out",
       layer(TarBuild().hard_link("shadow", "../../etc/shadow")),
       Code::kInvalidArgument,
       {"climbs out of the layer"}},
      {"a file below a symlink to /: it stays in the layer",
       layer(TarBuild().symlink("out", "/").file("out/evil")),
       {}},
      {"a hard link to what no layer has",
       layer(TarBuild().hard_link("shadow", "etc/shadow")),
       Code::kInvalidArgument,
       {"etc/shadow"}},
      {"one name three times, the last a directory",
       layer(TarBuild().file("a", "one").symlink("a", "/").dir("a").file("a/b")),
       {}},
      {"a file below a file",
       layer(TarBuild().file("a").file("a/b")),
       Code::kInvalidArgument,
       {"is not a directory"}},
      {"a layer that ends in mid-file",
       [](Scene& s) {
         s.second_layer(TarBuild().file("a", std::string(5000, 'x')).bytes().substr(0, 3000));
       },
       Code::kDataLoss,
       {"ends in the middle"}},
      {"a layer of noise", [](Scene& s) { s.second_layer("noise" + std::string(2000, '\0')); },
       Code::kInvalidArgument},
  };
}

std::vector<Row> login_rows() {
  const auto good_token = [](const Request&) { return Reply{.body = R"({"token":"t"})"}; };
  const auto nobody = [](const Request&) { return false; };
  return {
      {"401 whatever is shown", [=](Scene& s) { s.with_tokens(good_token, nobody); },
       Code::kUnauthenticated},
      {"401 without a challenge",
       [](Scene& s) { s.on_manifest(99, status(401)); },
       Code::kUnauthenticated,
       {"wants credentials"}},
      {"a token that ends in mid-pull",
       [](Scene& s) {
         const auto tokens = std::make_shared<std::atomic<int>>(0);
         s.with_tokens(
             [tokens](const Request&) {
               return Reply{.body = cat(R"({"token":"t)", ++*tokens, "\"}")};
             },
             [tokens](const Request& request) {
               // Those before the blobs run out when the first blob is asked for.
               const bool is_blob = request.target.find("/blobs/") != std::string::npos;
               return request.header("authorization") == cat("Bearer t", is_blob ? 2 : 1);
             });
       },
       {}},
      {"a token server that is down",
       [=](Scene& s) { s.with_tokens([](const Request&) { return status(503); }, nobody); },
       Code::kUnavailable,
       {"token server"}},
      {"a token server with 429 and Retry-After: 1, once",
       [=](Scene& s) {
         s.with_tokens(
             [=](const Request& request) {
               return request.nth == 1 ? status_after(429, "1") : good_token(request);
             },
             [](const Request& request) { return !request.header("authorization").empty(); });
       },
       {}},
      {"a token server with 429 and Retry-After: 3600",
       [=](Scene& s) {
         s.with_tokens([](const Request&) { return status_after(429, "3600"); }, nobody);
       },
       Code::kResourceExhausted,
       {"token server", "Retry-After \"3600\""}},
      {"a token server that answers with a page",
       [=](Scene& s) {
         s.with_tokens([](const Request&) { return Reply{.body = "<html>"}; }, nobody);
       },
       Code::kDataLoss,
       {"token server", "not a JSON object"}},
      {"a token of a megabyte",
       [=](Scene& s) {
         s.with_tokens(
             [](const Request&) {
               return Reply{.body = cat(R"({"token":")", std::string(500'000, 'x'), "\"}")};
             },
             nobody);
       },
       Code::kDataLoss,
       {"token is too long"}},
      {"a scope that is too small",
       [](Scene& s) {
         s.registry->set_hook([&s](const Request& request) -> std::optional<Reply> {
           if (request.target.starts_with("/token")) return Reply{.body = R"({"token":"t"})"};
           return Reply{
               .status = 401,
               .headers = {{"WWW-Authenticate",
                            cat("Bearer realm=\"http://", s.registry->host(), "/token\",",
                                "scope=\"repository:a/b:pull\",error=\"insufficient_scope\"")}}};
         });
       },
       Code::kUnauthenticated},
      {"403 with the registry's reason",
       [](Scene& s) {
         s.on_big(99, Reply{.status = 403,
                            .body = R"({"errors":[{"code":"DENIED","message":"not yours"}]})"});
       },
       Code::kPermissionDenied,
       {"DENIED: not yours"}},
  };
}

std::vector<Row> host_rows() {
  const auto mirror_says = [](Scene& s, const Reply& reply) {
    s.with_mirror();
    s.mirror->set_hook([reply](const Request&) -> std::optional<Reply> { return reply; });
  };
  // A mirror that has it all, and says this once for the big blob.
  const auto alone_once = [](Scene& s, const Reply& reply) {
    s.server = "127.0.0.1:1";
    s.with_mirror();
    s.maker.serve(*s.mirror, "a/b", "v1");
    s.mirror->set_hook([path = s.big_path(), reply](const Request& r) -> std::optional<Reply> {
      if (!r.target.starts_with(path) || r.nth > 1) return std::nullopt;
      return reply;
    });
  };
  return {
      {"a mirror that refuses connections",
       [](Scene& s) {
         s.with_mirror();
         s.mirror.reset();
       },
       {}},
      {"a mirror that never answers",
       [=](Scene& s) { mirror_says(s, Reply{.fault = Fault::kHangBeforeHead}); },
       {}},
      {"a mirror that has nothing", [=](Scene& s) { mirror_says(s, status(404)); }, {}},
      {"a mirror that always fails", [=](Scene& s) { mirror_says(s, status(500)); }, {}},
      {"a mirror with wrong blobs",
       [](Scene& s) {
         s.with_mirror();
         s.maker.serve(*s.mirror, "a/b", "v1");
         s.mirror->serve(s.big_path(), "application/octet-stream",
                         std::string(s.maker.layers()[1].size(), 'x'));
       },
       {}},
      {"a mirror that breaks off in mid-blob",
       [](Scene& s) {
         s.with_mirror();
         s.maker.serve(*s.mirror, "a/b", "v1");
         const Reply broken = s.broken_big(Fault::kClose, 100'000);
         s.mirror->set_hook(
             [path = s.big_path(), broken](const Request& r) -> std::optional<Reply> {
               if (!r.target.starts_with(path)) return std::nullopt;
               return broken;
             });
       },
       {}},
      {"a mirror that breaks off in mid-blob once, the registry out of reach",
       [=](Scene& s) { alone_once(s, s.broken_big(Fault::kReset, 100'000)); },
       {}},
      {"a mirror with 503 once, the registry out of reach",
       [=](Scene& s) { alone_once(s, status(503)); },
       {}},
      {"a mirror with 429 and Retry-After: 1 once, the registry out of reach",
       [=](Scene& s) { alone_once(s, status_after(429, "1")); },
       {}},
      {"mirror and registry both without it",
       [=](Scene& s) {
         mirror_says(s, status(404));
         s.on_manifest(99, status(404));
       },
       Code::kNotFound,
       {"MIRROR", "REGISTRY"}},
      {"a hosts.toml with a key that is not known",
       [](Scene& s) { s.with_mirror("colour = \"red\"\n"); },
       Code::kInvalidArgument,
       {"hosts.toml", "colour"}},
      {"a redirect to another host, with credentials",
       [](Scene& s) {
         s.other = Fake::start().value();
         s.pull.credentials = {.username = "u", .password = "p"};
         s.other->set_hook([&s](const Request& request) -> std::optional<Reply> {
           s.shown_elsewhere.emplace_back(request.header("authorization"));
           return Reply{.body = s.maker.layers()[1]};
         });
         s.registry->set_hook([&s](const Request& request) -> std::optional<Reply> {
           if (request.header("authorization").empty()) {
             return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"r\""}}};
           }
           if (request.target != s.big_path()) return std::nullopt;
           return Reply{.status = 307,
                        .headers = {{"Location", cat("http://", s.other->host(), "/x?sig=1")}}};
         });
       },
       {}},
      {"a redirect that has run out (403), once",
       [](Scene& s) {
         s.other = Fake::start().value();
         s.other->set_hook([&s](const Request& request) -> std::optional<Reply> {
           if (request.nth == 1) return status(403);
           return Reply{.body = s.maker.layers()[1]};
         });
         s.on_big(99, Reply{.status = 307,
                            .headers = {{"Location", cat("http://", s.other->host(), "/x")}}});
       },
       {}},
      {"redirects in a circle",
       [](Scene& s) {
         s.on_manifest(99, Reply{.status = 302, .headers = {{"Location", s.manifest_path()}}});
       },
       Code::kFailedPrecondition,
       {"more than 10 redirects"}},
      {"a redirect to no URL",
       [](Scene& s) {
         s.on_manifest(99, Reply{.status = 302, .headers = {{"Location", "file:///etc/passwd"}}});
       },
       Code::kFailedPrecondition,
       {"expected http:// or https://"}},
      {"a foreign layer that only its URL has",
       [](Scene& s) {
         s.other = Fake::start().value();
         s.other->serve("/layer", "application/octet-stream", s.maker.layers()[1]);
         with_manifest(s, [&](oci::Manifest& m) {
           m.layers[1].media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar";
           m.layers[1].urls = {cat("http://", s.other->host(), "/layer")};
         });
         s.on_big(99, status(404));
       },
       {}},
  };
}

class RegistryFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    good_ = Fake::start().value();
    kept_.add_layer({{"kept", "still here\n"}});
    kept_.serve(*good_, "good", "v1");
  }

  // Names of all that the store has on disk, folder by folder.
  static std::string contents(const std::string& root) {
    std::string out;
    for (const char* folder : {"layers", "staging", "trash", "fixups", "blobs/sha256", "roots"}) {
      out += cat(folder, ":", join(testing::settled_names(cat(root, "/", folder)), ","), "\n");
    }
    return out;
  }

  std::string run(const Row& row) {
    SCOPED_TRACE(row.fault);
    const sys::TempDir folder = sys::TempDir::create().value();
    Scene scene(folder.path() + "/certs");
    row.arrange(scene);
    StoreOptions options;
    options.root = folder.path() + "/store";
    options.certs_dir = scene.certs;
    options.unpack_program = beside_tests("/bin/fluyt-unpack");
    if (!scene.limits.empty()) {
      // Of two arguments of one name the later holds.
      const std::string lowered = folder.path() + "/lowered";
      const std::string script =
          cat("#!/bin/sh\nexec ", options.unpack_program, " \"$@\" ", scene.limits, "\n");
      EXPECT_TRUE(sys::write_file_atomic(sys::kCwd, lowered, script, 0700).ok());
      options.unpack_program = lowered;
    }
    options.parallel_fetches = 1;  // so that the requests can be counted
    options.timeouts = {.connect_ms = 1000, .first_byte_ms = 1500, .stall_ms = 600};
    options.retry = {.max_tries = 3, .first_delay_ms = 5, .delay_cap_ms = 10};
    options.retry.progress_bytes = 40'000;
    auto opened = ImageStore::open(options, logger_);
    EXPECT_TRUE(opened.ok()) << opened.error().message();
    if (!opened.ok()) return {};
    ImageStore& store = **opened;
    const auto kept = store.pull(oci::Reference::parse(cat(good_->host(), "/good:v1")).value(), {});
    EXPECT_TRUE(kept.ok()) << kept.error().message();
    const std::string before = contents(options.root);

    const int64_t started = now_boot_ns();
    const auto got = store.pull(oci::Reference::parse(scene.reference).value(), scene.pull);
    EXPECT_LT(now_boot_ns() - started, 60'000'000'000) << "too long";
    const std::string answer = got.ok() ? "pulled" : scene.shown(got.error().message());
    const size_t asked = scene.asked();
    if (row.code.has_value() == got.ok()) {
      ADD_FAILURE() << answer;
    } else if (!got.ok()) {
      EXPECT_EQ(code_name(got.error().code()), code_name(*row.code)) << answer;
      for (const std::string& word : row.words) EXPECT_THAT(answer, ::testing::HasSubstr(word));
      // The one error names the image, and by its digest what is wrong with it; nothing of it
      // stays.
      EXPECT_THAT(answer, ::testing::HasSubstr(scene.shown(scene.reference)));
      EXPECT_EQ(contents(options.root), before);
    } else {
      const auto passwd = store.read_image_file(got->id, "/etc/passwd", 4096);
      EXPECT_TRUE(passwd.ok() && passwd->has_value());
    }
    for (const std::string& shown : scene.shown_elsewhere) EXPECT_EQ(shown, "");
    // The other image is as it was.
    if (kept.ok()) {
      const auto file = store.read_image_file(kept->id, "/kept", 4096);
      EXPECT_TRUE(file.ok() && file->has_value() && **file == "still here\n");
    }
    return cat("| ", row.fault, " | ", got.ok() ? "" : "`", answer, got.ok() ? "" : "`", " | ",
               asked, " |\n");
  }

  std::string table(const char* title, const std::vector<Row>& rows) {
    std::string out = cat("## ", title, "\n\n| fault | what pull answers | requests |\n",
                          "| --- | --- | --- |\n");
    for (const Row& row : rows) out += run(row);
    return out + "\n";
  }

  NullLogger logger_;
  std::unique_ptr<Fake> good_;
  ImageMaker kept_;
};

// What other tests show, on disks of their own.
constexpr const char* kDisk = R"(## On the disk

| fault | what comes of it | test of `image_test` |
| --- | --- | --- |
| a layer is larger than what is free | refused with both numbers before a byte of it is fetched | `DiskTest.WhatCannotFitIsRefusedBeforeItIsFetched` |
| the disk fills in mid-layer | one error that names the image, all is given back, the next pull works | `DiskTest.ADiskThatFillsInMidLayerIsGivenBack` |
| a layer has more files than the disk has inodes | the same | `DiskTest.ADiskWithoutInodesIsGivenBack` |
| the disk is full when fluytd starts | it starts; containers and images can be removed | `DiskTest.AFullDiskIsOpenedAndEmptied` |
| the disk is read-only | fluytd does not start, and names the folder | `DiskTest.AReadOnlyStoreIsRefusedWithItsPath` |
| two fluytd on one store | the second does not start, and names the first's pid | `GcTest.TheHolderOfAStoreIsNamed` |
)";

constexpr const char* kIntroduction =
    R"(# What a registry can do wrong, and what becomes of it

This page is what `src/image/registry_faults_test.cc` prints: a registry of ours misbehaves on purpose, one fault a row,
under a whole image store. In every row that fails, the error is the one that the caller gets; the test sees to it that it
names the image, that nothing of it stays in the store (no layer, no blob, no half-written folder), and that another image
is untouched. In the test a request is tried 3 times, a wait is some milliseconds and an answer has 1.5 s, a stretch 0.6 s; a node's values
are 6 tries, 0.5 to 20 s of back-off, 30 s for an answer and for a stretch below 1 KiB/s (`src/image/registry/options.h`).
The requests are all that were made: the image has a manifest (HEAD and GET), a config and two layers, so that a pull
without a fault takes 5. REGISTRY, MIRROR and OTHER stand for hosts, MANIFEST, CONFIG and LAYER for digests.

After a change of a message: `FLUYT_WRITE_FAULTS=1 build/release/test/image_test --gtest_filter=RegistryFaults.*`.

)";

TEST_F(RegistryFaults, AreAsTheTableSays) {
  std::string text = kIntroduction;
  text += table("On the way", transport_rows());
  text += table("In what is sent", content_rows());
  text += table("Logging in", login_rows());
  text += table("Mirrors, redirects and other hosts", host_rows());
  text += table("Layers that mean harm", layer_rows());
  text += kDisk;
  const std::string file = beside_tests("/../../docs/registry-faults.md");
  if (std::getenv("FLUYT_WRITE_FAULTS") != nullptr) {
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, file, text, 0644).ok());
    return;
  }
  if (!sys::exists(file)) GTEST_SKIP() << "the sources are not beside the build";
  const std::string written = sys::read_file(file, 1U << 20U).value();
  const auto have = split(written, '\n');
  const auto want = split(text, '\n');
  for (size_t i = 0; i < std::max(have.size(), want.size()); ++i) {
    EXPECT_EQ(i < have.size() ? have[i] : "(end)", i < want.size() ? want[i] : "(end)");
  }
}

}  // namespace
}  // namespace fluyt::image
