#include "image/policy/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <set>

#include "base/base64.h"
#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/policy/gpg.h"
#include "image/policy/public_key.h"
#include "image/testing/fake_registry.h"
#include "sys/file.h"
#include "sys/process.h"

// Signatures made by openssl and gpg, served by a registry, judged by a node's policy.
namespace fluyt::image::policy {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Fake = image::testing::FakeRegistry;
using Reply = Fake::Reply;

constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kSignatureType = "application/vnd.dev.cosign.artifact.sig.v1+json";
constexpr const char* kEmptyConfig =
    R"({"mediaType":"application/vnd.oci.empty.v1+json","digest":)"
    R"("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2})";

std::string run(std::vector<std::string> args, std::string_view input = "") {
  auto done = sys::run({.args = std::move(args), .env = {"PATH=/usr/bin:/bin", "LC_ALL=C"}}, input,
                       1U << 20U, Deadline::after_ms(60'000));
  if (!done.ok()) {
    ADD_FAILURE() << done.error().message();
    return {};
  }
  EXPECT_EQ(done->status.shell_code(), 0) << done->err;
  return done->out;
}

class VerifyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);  // as fluytd does: a program need not read what it is given
    fake_ = Fake::start().value();
    options_.policy_file = path("policy.json");
    options_.lookaside_folder = path("registries.d");
    reference_ = cat(fake_->host(), "/a/b:v1");
  }

  std::string path(const std::string& name) const { return cat(folder_.path(), "/", name); }
  std::string write(const std::string& name, std::string_view text, mode_t mode = 0600) {
    const std::string file = path(name);
    EXPECT_TRUE(sys::make_dirs(file.substr(0, file.rfind('/')), 0700).ok());
    EXPECT_TRUE(sys::write_file_atomic(sys::kCwd, file, text, mode).ok());
    return file;
  }
  static oci::Digest digest_of_text(std::string_view text) {
    return digest_of("sha256", text).value();
  }
  void set_policy(const std::string& requirement) {
    write("policy.json", cat(R"({"default":[{"type":"reject"}],"transports":{"docker":{")",
                             fake_->host(), R"(":[)", requirement, "]}}}"));
  }
  std::string sigstore_rule(const std::string& key, std::string_view identity = "matchRepository") {
    return cat(R"({"type":"sigstoreSigned","keyPath":")", path(key + ".pub"),
               R"(","signedIdentity":{"type":")", identity, R"("}})");
  }

  // Keys by openssl: name.pem and name.pub.
  void make_key(const std::string& name, const std::string& kind) {
    std::vector<std::string> args{"/usr/bin/openssl", "genpkey", "-algorithm", kind, "-out",
                                  path(name + ".pem")};
    if (kind == "EC") args.insert(args.end(), {"-pkeyopt", "ec_paramgen_curve:P-256"});
    if (kind == "RSA") args.insert(args.end(), {"-pkeyopt", "rsa_keygen_bits:2048"});
    run(args);
    run({"/usr/bin/openssl", "pkey", "-in", path(name + ".pem"), "-pubout", "-out",
         path(name + ".pub")});
  }
  std::string sign(const std::string& name, const std::string& kind, std::string_view text) {
    write("to-sign", text);
    if (kind == "ED25519") {
      return run({"/usr/bin/openssl", "pkeyutl", "-sign", "-inkey", path(name + ".pem"), "-rawin",
                  "-in", path("to-sign")});
    }
    return run(
        {"/usr/bin/openssl", "dgst", "-sha256", "-sign", path(name + ".pem"), path("to-sign")});
  }
  static std::string payload_of(std::string_view type, const oci::Digest& digest,
                                const std::string& name) {
    return cat(R"({"critical":{"identity":{"docker-reference":")", name,
               R"("},"image":{"docker-manifest-digest":")", digest.text(), R"("},"type":")", type,
               R"("},"optional":null})");
  }
  static std::string cosign_payload(const oci::Digest& digest, const std::string& name) {
    return payload_of("cosign container image signature", digest, name);
  }

  // A signature as cosign stores it, as a manifest; its blob is served.
  std::string signature_manifest(const std::string& payload, const std::string& signature) {
    const std::string digest = digest_of_text(payload).text();
    fake_->serve("/v2/a/b/blobs/" + digest, "application/octet-stream", payload);
    return cat(R"({"schemaVersion":2,"mediaType":")", kManifestType, R"(","config":)", kEmptyConfig,
               R"(,"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json",)",
               R"("digest":")", digest, R"(","size":)", payload.size(),
               R"(,"annotations":{"dev.cosignproject.cosign/signature":")",
               base64_encode(signature), R"("}}]})");
  }
  void attach(const oci::Digest& to, const std::string& payload, const std::string& signature) {
    fake_->serve(cat("/v2/a/b/manifests/sha256-", to.hex(), ".sig"), kManifestType,
                 signature_manifest(payload, signature));
  }

  // Among the image's referrers.
  void refer(const std::string& manifest, const std::string& artifact_type) {
    const std::string digest = digest_of_text(manifest).text();
    fake_->serve("/v2/a/b/manifests/" + digest, kManifestType, manifest);
    const std::string index =
        cat(R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",)",
            R"("manifests":[{"mediaType":")", kManifestType, R"(","digest":")", digest,
            R"(","size":)", manifest.size(), R"(,"artifactType":")", artifact_type, R"("}]})");
    fake_->set_hook([=, this](const Fake::Request& request) -> std::optional<Reply> {
      if (tag_status_ != 0 && request.target.ends_with(".sig")) return Reply{.status = tag_status_};
      if (!request.target.starts_with("/v2/a/b/referrers/" + image_.text())) return std::nullopt;
      return Reply{.headers = {{"Content-Type", "application/vnd.oci.image.index.v1+json"}},
                   .body = index};
    });
  }

  Result<> check(std::string kubernetes_namespace = "", std::optional<oci::Digest> chosen = {},
                 Deadline deadline = Deadline::never()) {
    registry_ = std::make_unique<registry::Registry>(registry_options_, logger_);
    const auto reference = oci::Reference::parse(reference_).value();
    auto session = registry_->open(reference.registry, reference.repository, {}, nullptr).value();
    const Question question{reference,
                            {.media_type = kManifestType, .digest = image_, .size = 7},
                            std::move(chosen),
                            std::move(kubernetes_namespace)};
    return check_image(options_, question, *session, deadline);
  }
  void expect_refused(const Result<>& result, const std::string& words) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), Code::kPermissionDenied) << result.error().message();
    EXPECT_THAT(result.error().message(), HasSubstr(words));
  }

  NullLogger logger_;
  sys::TempDir folder_ = sys::TempDir::create().value();
  std::unique_ptr<Fake> fake_;
  registry::RegistryOptions registry_options_;
  std::unique_ptr<registry::Registry> registry_;
  VerifyOptions options_;
  std::string reference_;
  oci::Digest image_ = digest_of_text("the image's manifest");
  int tag_status_ = 0;  // of refer(): how the tag of signatures is answered; 0: as it is served
};

TEST_F(VerifyTest, WithoutAPolicyNothingIsAsked) {
  options_.policy_file.clear();
  EXPECT_TRUE(check().ok());
  EXPECT_TRUE(fake_->requests().empty());
}

TEST_F(VerifyTest, AMissingPolicyFileRefuses) {
  const auto result = check();
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message(), HasSubstr("policy.json"));
}

TEST_F(VerifyTest, TheErrorNamesFileAndRule) {
  set_policy(R"({"type":"insecureAcceptAnything"})");
  EXPECT_TRUE(check().ok());
  set_policy(R"({"type":"insecureAcceptAnything"},{"type":"reject"})");
  expect_refused(check(), cat("image policy ", path("policy.json"), ": transports.docker[\"",
                              fake_->host(), "\"][1] (reject): this rule refuses everything"));
  reference_ = "docker.io/library/busybox:latest";
  EXPECT_TRUE(fake_->requests().empty());
}

TEST_F(VerifyTest, SigstoreSignaturesOfEachKindOfKeyAreAccepted) {
  for (const std::string kind : {"EC", "RSA", "ED25519"}) {
    make_key("key", kind);
    set_policy(sigstore_rule("key"));
    const std::string payload = cosign_payload(image_, cat(fake_->host(), "/a/b"));
    attach(image_, payload, sign("key", kind, payload));
    const auto result = check();
    EXPECT_TRUE(result.ok()) << kind << ": " << result.error().message();
  }
}

TEST_F(VerifyTest, OneOfManyKeysIsEnoughAndKeyDataToo) {
  make_key("one", "EC");
  make_key("two", "EC");
  const std::string payload = cosign_payload(image_, cat(fake_->host(), "/a/b"));
  attach(image_, payload, sign("two", "EC", payload));
  set_policy(cat(R"({"type":"sigstoreSigned","keyPaths":[")", path("one.pub"), "\",\"",
                 path("two.pub"), R"("],"signedIdentity":{"type":"matchRepository"}})"));
  EXPECT_TRUE(check().ok());
  set_policy(cat(R"({"type":"sigstoreSigned","keyData":")",
                 base64_encode(sys::read_file(path("two.pub"), 10'000).value()),
                 R"(","signedIdentity":{"type":"matchRepository"}})"));
  EXPECT_TRUE(check().ok());
}

TEST_F(VerifyTest, SigstoreSignaturesAreFoundAmongReferrers) {
  make_key("key", "EC");
  set_policy(sigstore_rule("key"));
  const std::string payload = cosign_payload(image_, cat(fake_->host(), "/a/b"));
  refer(signature_manifest(payload, sign("key", "EC", payload)), kSignatureType);
  const auto result = check();
  EXPECT_TRUE(result.ok()) << result.error().message();
}

// In front of a registry that is out of reach, which may have the tag that the mirror has not.
TEST_F(VerifyTest, ReferrersOfAMirrorProveItAlone) {
  make_key("key", "EC");
  reference_ = "registry.test/a/b:v1";
  write("policy.json", cat(R"({"default":[)", sigstore_rule("key"), "]}"));
  registry_options_.certs_dir = path("certs");
  write("certs/registry.test/hosts.toml",
        cat("server = \"http://127.0.0.1:1\"\n[host.\"http://", fake_->host(), "\"]\n"));
  const auto nothing = check();
  ASSERT_FALSE(nothing.ok());
  EXPECT_EQ(nothing.error().code(), Code::kUnavailable) << nothing.error().message();
  EXPECT_THAT(nothing.error().message(), HasSubstr(".sig"));
  const std::string payload = cosign_payload(image_, "registry.test/a/b");
  refer(signature_manifest(payload, sign("key", "EC", payload)), kSignatureType);
  const auto result = check();
  EXPECT_TRUE(result.ok()) << result.error().message();
}

TEST_F(VerifyTest, ASignatureThatWasFoundCountsWhateverTheOtherPlaceAnswers) {
  make_key("key", "EC");
  set_policy(sigstore_rule("key"));
  registry_options_.retry = {.max_tries = 2, .first_delay_ms = 5, .delay_cap_ms = 10};
  const std::string payload = cosign_payload(image_, cat(fake_->host(), "/a/b"));
  const std::string signature = sign("key", "EC", payload);
  const auto refuse_referrers = [&](int status) {
    fake_->set_hook([=](const Fake::Request& request) -> std::optional<Reply> {
      if (!request.target.starts_with("/v2/a/b/referrers/")) return std::nullopt;
      return Reply{.status = status};
    });
  };
  attach(image_, payload, signature);
  for (const int status : {401, 403, 501, 503}) {
    refuse_referrers(status);
    const auto result = check();
    EXPECT_TRUE(result.ok()) << status << ": " << result.error().message();
  }
  for (const int status : {401, 403, 501, 503}) {
    refer(signature_manifest(payload, signature), kSignatureType);
    tag_status_ = status;
    const auto result = check();
    EXPECT_TRUE(result.ok()) << status << ": " << result.error().message();
  }
  // That of the chosen manifest, where the index has none at its tag.
  const oci::Digest chosen = digest_of_text("one of the index");
  image_ = digest_of_text("the index");
  const std::string of_chosen = cosign_payload(chosen, cat(fake_->host(), "/a/b"));
  attach(chosen, of_chosen, sign("key", "EC", of_chosen));
  refuse_referrers(501);
  const auto result = check("", chosen);
  EXPECT_TRUE(result.ok()) << result.error().message();
}

TEST_F(VerifyTest, ARegistryThatHangsIsNotAskedForEachPlace) {
  make_key("key", "EC");
  set_policy(sigstore_rule("key"));
  registry_options_.retry = {.max_tries = 1};
  registry_options_.timeouts.first_byte_ms = 100;
  fake_->set_hook([](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.fault = Reply::Fault::kHangBeforeHead};
  });
  const auto result = check("", digest_of_text("one of the index"));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kDeadlineExceeded) << result.error().message();
  EXPECT_EQ(fake_->requests().size(), 1U);
}

TEST_F(VerifyTest, ABundleIsNamed) {
  make_key("key", "EC");
  set_policy(sigstore_rule("key"));
  refer("{}", "application/vnd.dev.sigstore.bundle.v0.3+json");
  expect_refused(check(),
                 cat("a sigstore bundle (\"application/vnd.dev.sigstore.bundle.v0.3+json\") "
                     "is attached to ",
                     image_.text(), ", which is not read: sign with cosign"));
}

TEST_F(VerifyTest, ASignatureOfTheChosenManifestIsAsGoodAsOneOfTheIndex) {
  make_key("key", "EC");
  set_policy(sigstore_rule("key"));
  const oci::Digest chosen = digest_of_text("one of the index");
  const std::string payload = cosign_payload(chosen, cat(fake_->host(), "/a/b"));
  attach(chosen, payload, sign("key", "EC", payload));
  expect_refused(check(), cat("no signature is attached to ", image_.text()));
  EXPECT_TRUE(check("", chosen).ok());
}

TEST_F(VerifyTest, WhatDoesNotProveItIsRefusedWithTheReason) {
  make_key("key", "EC");
  make_key("other", "EC");
  set_policy(sigstore_rule("key"));
  expect_refused(check(), cat("(sigstoreSigned): no signature is attached to ", image_.text()));

  const std::string good = cosign_payload(image_, cat(fake_->host(), "/a/b"));
  attach(image_, good, sign("other", "EC", good));
  expect_refused(check(), "1 signature, not by the key given");

  attach(image_, good + " ", sign("key", "EC", good));  // bytes that were not signed
  expect_refused(check(), "1 signature, not by the key given");

  const std::string elsewhere =
      cosign_payload(digest_of_text("another"), cat(fake_->host(), "/a/b"));
  attach(image_, elsewhere, sign("key", "EC", elsewhere));
  expect_refused(check(), "a signature is for sha256:");

  const std::string renamed = cosign_payload(image_, cat(fake_->host(), "/evil"));
  attach(image_, renamed, sign("key", "EC", renamed));
  expect_refused(check(), cat("a signature is for the name \"", fake_->host(), "/evil\""));

  const std::string odd = payload_of("something else", image_, cat(fake_->host(), "/a/b"));
  attach(image_, odd, sign("key", "EC", odd));
  expect_refused(check(), "type: \"something else\"");
}

TEST_F(VerifyTest, ABlobThatIsNotWhatItSaysIsAnError) {
  make_key("key", "EC");
  set_policy(sigstore_rule("key"));
  const std::string payload = cosign_payload(image_, cat(fake_->host(), "/a/b"));
  attach(image_, payload, sign("key", "EC", payload));
  fake_->serve("/v2/a/b/blobs/" + digest_of_text(payload).text(), "application/octet-stream",
               std::string(payload.size(), 'x'));
  const auto result = check();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kDataLoss);
}

TEST_F(VerifyTest, TroubleOnTheWayToSignaturesRefusesToo) {
  make_key("key", "EC");
  set_policy(sigstore_rule("key"));
  fake_->set_hook(
      [](const Fake::Request&) -> std::optional<Reply> { return Reply{.status = 403}; });
  EXPECT_FALSE(check().ok());
}

TEST_F(VerifyTest, WeakAndForeignKeysAreRefused) {
  run({"/usr/bin/openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024",
       "-out", path("weak.pem")});
  run({"/usr/bin/openssl", "pkey", "-in", path("weak.pem"), "-pubout", "-out", path("weak.pub")});
  const auto weak = PublicKey::parse(sys::read_file(path("weak.pub"), 10'000).value());
  ASSERT_FALSE(weak.ok());
  EXPECT_THAT(weak.error().message(), HasSubstr("RSA of 1024 bits: expected 2048"));
  EXPECT_FALSE(PublicKey::parse("").ok());
  EXPECT_FALSE(PublicKey::parse(sys::read_file(path("weak.pem"), 10'000).value()).ok());
}

class SignedByTest : public VerifyTest {
 protected:
  void SetUp() override {
    VerifyTest::SetUp();
    if (!sys::exists("/usr/bin/gpg") || !sys::exists(options_.gpgv_program)) {
      GTEST_SKIP() << "needs Debian's gpg and gpgv";
    }
    make_gpg_key("mine");
    write("registries.d/x.yaml",
          cat("docker:\n  ", fake_->host(), ":\n    lookaside: file://", path("sigs"), "\n"));
  }
  void TearDown() override {
    for (const std::string& home : homes_) {
      sys::run({.args = {"/usr/bin/gpgconf", "--homedir", home, "--kill", "all"},
                .env = {"PATH=/usr/bin:/bin"}},
               "", 4096, Deadline::after_ms(10'000))
          .ignore("an agent that is not there needs no end");
    }
  }
  void make_gpg_key(const std::string& name) {
    const std::string home = path(name);
    ASSERT_TRUE(sys::make_dirs(home, 0700).ok());
    homes_.push_back(home);
    run({"/usr/bin/gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "",
         "--quick-gen-key", cat(name, "@test"), "rsa2048", "sign", "never"});
    write(name + ".gpg", run({"/usr/bin/gpg", "--homedir", home, "--batch", "--export"}));
    write(name + ".asc",
          run({"/usr/bin/gpg", "--homedir", home, "--batch", "--armor", "--export"}));
  }
  std::string gpg_sign(const std::string& name, std::string_view text) {
    write("to-sign", text);
    return run({"/usr/bin/gpg", "--homedir", path(name), "--batch", "--quiet", "--passphrase", "",
                "--pinentry-mode", "loopback", "--output", "-", "--sign", path("to-sign")});
  }
  void keep(int number, std::string_view message) {
    write(cat("sigs/a/b@sha256=", image_.hex(), "/signature-", number), message);
  }
  std::string atomic_payload(const oci::Digest& digest) const {
    return payload_of("atomic container signature", digest, reference_);
  }
  std::string rule(const std::string& key) const {
    return cat(R"({"type":"signedBy","keyType":"GPGKeys","keyPath":")", path(key), R"("})");
  }
  std::vector<std::string> homes_;
};

TEST_F(SignedByTest, ASignatureInTheLookasideStoreIsAccepted) {
  const std::string message = gpg_sign("mine", atomic_payload(image_));
  keep(1, message);
  for (const char* key : {"mine.gpg", "mine.asc"}) {
    set_policy(rule(key));
    const auto result = check();
    EXPECT_TRUE(result.ok()) << result.error().message();
  }
  // Served by a web server in the same way.
  write("registries.d/x.yaml",
        cat("default-docker:\n  lookaside: http://", fake_->host(), "/sigs\n"));
  fake_->serve(cat("/sigs/a/b@sha256=", image_.hex(), "/signature-1"), "application/octet-stream",
               message);
  const auto result = check();
  EXPECT_TRUE(result.ok()) << result.error().message();
}

TEST_F(SignedByTest, TheRegistrysExtensionIsAskedWithoutALookaside) {
  write("registries.d/x.yaml", "docker:\n");
  set_policy(rule("mine.gpg"));
  expect_refused(check(), "no signature was found");
  fake_->set_hook([](const Fake::Request& request) -> std::optional<Reply> {
    if (request.target != "/v2/") return std::nullopt;
    return Reply{.headers = {{"X-Registry-Supports-Signatures", "1"}}};
  });
  fake_->serve(cat("/extensions/v2/a/b/signatures/", image_.text()), "application/json",
               cat(R"({"signatures":[{"schemaVersion":2,"name":"x","type":"new","content":""},)",
                   R"({"schemaVersion":2,"name":"y","type":"atomic","content":")",
                   base64_encode(gpg_sign("mine", atomic_payload(image_))), R"("}]})"));
  const auto result = check();
  EXPECT_TRUE(result.ok()) << result.error().message();
}

TEST_F(SignedByTest, WhatDoesNotProveItIsRefused) {
  make_gpg_key("theirs");
  set_policy(rule("mine.gpg"));
  expect_refused(check(), "(signedBy): no signature was found");
  keep(1, gpg_sign("theirs", atomic_payload(image_)));
  expect_refused(check(), "gpgv: no good signature of these keys");
  keep(1, "not a message");
  expect_refused(check(), "gpgv: no good signature of these keys");
  keep(1, gpg_sign("mine", atomic_payload(digest_of_text("another"))));
  expect_refused(check(), "a signature is for sha256:");
  keep(1, gpg_sign("mine", "no payload"));
  expect_refused(check(), "signature payload");
  std::string broken = gpg_sign("mine", atomic_payload(image_));
  char& near_end = broken[broken.size() - 40];  // within the signature's number, which ends it
  near_end = static_cast<char>(near_end ^ 1);
  keep(1, broken);
  expect_refused(check(), "(signedBy)");
  keep(2, gpg_sign("mine", atomic_payload(image_)));  // a second one that is good
  EXPECT_TRUE(check().ok());
}

TEST_F(VerifyTest, ANamespaceHasItsOwnPolicy) {
  set_policy(R"({"type":"insecureAcceptAnything"})");
  options_.policy_folder = path("namespaces");
  const std::string own = write("namespaces/strict.json", R"({"default":[{"type":"reject"}]})");
  EXPECT_TRUE(check("lenient").ok());
  EXPECT_TRUE(check().ok());
  expect_refused(check("strict"), cat("image policy ", own, ": default[0] (reject)"));
  for (const char* name : {"../namespaces/strict", ".", "A", "a/b", "-a"}) {
    const auto result = check(name);
    ASSERT_FALSE(result.ok()) << name;
    EXPECT_EQ(result.error().code(), Code::kInvalidArgument) << name;
  }
}

TEST_F(VerifyTest, RulesAreOneByWhatTheyDemandAndNotByWhereItIsWritten) {
  make_key("key", "EC");
  make_key("other", "EC");
  const auto rules = [&](std::string kubernetes_namespace = "") {
    return read_rules(options_, oci::Reference::parse(reference_).value(), kubernetes_namespace)
        .value();
  };
  set_policy(sigstore_rule("key"));
  const Rules first = rules();
  EXPECT_TRUE(first.wants_proof);
  EXPECT_EQ(rules("any").digest, first.digest);
  // The same demand of another file, for a namespace and another scope.
  options_.policy_folder = path("namespaces");
  write("namespaces/own.json", cat(R"({"default":[)", sigstore_rule("key"), "]}"));
  EXPECT_EQ(rules("own").digest, first.digest);
  EXPECT_NE(rules("own").file, first.file);
  std::set<std::string> digests{first.digest};
  const auto expect_new = [&] { EXPECT_TRUE(digests.insert(rules().digest).second); };
  set_policy(sigstore_rule("key", "matchExact"));
  expect_new();
  set_policy(sigstore_rule("other"));
  expect_new();
  set_policy(cat(sigstore_rule("key"), ",", sigstore_rule("key")));
  expect_new();
  set_policy(R"({"type":"insecureAcceptAnything"})");
  EXPECT_FALSE(rules().wants_proof);
  expect_new();
  options_.programs.folder = path("verifiers");
  write("verifiers/a", "#!/bin/sh\n", 0700);
  EXPECT_TRUE(rules().wants_proof);
  expect_new();
  write("verifiers/b", "#!/bin/sh\n", 0700);
  expect_new();
  options_.programs.max_programs = 1;
  EXPECT_FALSE(digests.insert(rules().digest).second);  // as it was before there was b
  write("verifiers/a", "#!/bin/sh\n", 0700);            // another file with the same bytes
  expect_new();
  EXPECT_TRUE(fake_->requests().empty());
}

class ProgramsTest : public VerifyTest {
 protected:
  void SetUp() override {
    VerifyTest::SetUp();
    options_.policy_file.clear();
    options_.programs.folder = path("verifiers");
    options_.programs.timeout_ms = 10'000;
  }
  void program(const std::string& name, const std::string& body) {
    write("verifiers/" + name, "#!/bin/sh\n" + body + "\n", 0700);
  }
};

TEST_F(ProgramsTest, AreAskedInContainerdsForm) {
  program("a", cat("echo \"$@\" > ", path("args"), "; cat > ", path("stdin")));
  program("b", "exit 0");
  const auto result = check();
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_EQ(sys::read_file(path("args"), 4096).value(),
            cat("-name ", reference_, " -digest ", image_.text(),
                " -stdin-media-type application/vnd.oci.descriptor.v1+json\n"));
  EXPECT_EQ(
      sys::read_file(path("stdin"), 4096).value(),
      cat(R"({"mediaType":")", kManifestType, R"(","digest":")", image_.text(), R"(","size":7})"));
}

TEST_F(ProgramsTest, OneThatRefusesIsNamedWithItsWords) {
  program("a", "exit 0");
  program("b", "echo 'not on my watch'; exit 3");
  expect_refused(check(), cat("image policy: verifier ", path("verifiers/b"),
                              ": refused it with status 3: \"not on my watch\""));
}

TEST_F(ProgramsTest, OneThatHangsRefuses) {
  options_.programs.timeout_ms = 200;
  program("a", "sleep 60");
  expect_refused(check(), "gave no answer within 200 ms");
}

TEST_F(ProgramsTest, TheDeadlineIsOfAllTogether) {
  program("a", "exec sleep 0.2");
  program("b", cat("touch ", path("began"), "; exec sleep 60"));
  program("c", "exit 1");
  const int64_t began = now_boot_ns();
  const auto result = check("", {}, Deadline::after_ms(2'000));
  EXPECT_LT(now_boot_ns() - began, 9'000'000'000);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kDeadlineExceeded) << result.error().message();
  EXPECT_THAT(result.error().message(), HasSubstr(path("verifiers/b")));
  EXPECT_TRUE(sys::exists(path("began")));
  EXPECT_EQ(check("", {}, Deadline::after_ms(0)).error().code(), Code::kDeadlineExceeded);
}

TEST_F(ProgramsTest, NoMoreThanSoManyAreAsked) {
  program("a", "exit 0");
  program("b", "exit 1");
  options_.programs.max_programs = 1;
  EXPECT_TRUE(check().ok());
  options_.programs.max_programs = -1;
  expect_refused(check(), "verifiers/b");
}

TEST_F(ProgramsTest, WhatCannotBeRunRefuses) {
  EXPECT_FALSE(check().ok());  // the folder is not there
  write("verifiers/a", "no program", 0600);
  expect_refused(check(), path("verifiers/a"));
}

TEST_F(VerifyTest, PinnedDigestsHoldForTheLongestPrefix) {
  options_.policy_file.clear();
  const std::string other = digest_of_text("another").text();
  ASSERT_TRUE(add_pin(options_.pins, fake_->host(), {other}).ok());
  expect_refused(check(), cat("image policy: pinned_digests[\"", fake_->host(),
                              "\"]: ", image_.text(), ": expected one of the 1 digests listed"));
  ASSERT_TRUE(add_pin(options_.pins, cat(fake_->host(), "/a"), {other, image_.text()}).ok());
  EXPECT_TRUE(check().ok());
  EXPECT_FALSE(add_pin(options_.pins, "a", {"md5:1"}).ok());
  EXPECT_FALSE(add_pin(options_.pins, "", {other}).ok());
}

TEST(Armor, IsReadAndRefused) {
  EXPECT_EQ(dearmor("-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: x\n\nmQEN\n=abcd\n"
                    "-----END PGP PUBLIC KEY BLOCK-----\n")
                .value(),
            "\x99\x01\x0d");
  EXPECT_FALSE(dearmor("").ok());
  EXPECT_FALSE(dearmor("text").ok());
  EXPECT_FALSE(dearmor("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQEN\n").ok());
}

}  // namespace
}  // namespace fluyt::image::policy
