#include "base/base64.h"
#include "image/store_fixture.h"
#include "sys/process.h"

namespace fluyt::image {
namespace {

using testing::FakeRegistry;
using ::testing::HasSubstr;
using testing::ImageMaker;
using testing::sha256_of;

constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";

/// Images that are here, and rules that ask for cosign's signatures, for programs, or for nothing.
class AdmitTest : public testing::StoreFixture {
 protected:
  std::string file(const std::string& name) const { return cat(folder_->path(), "/", name); }
  void put(const std::string& name, std::string_view text, mode_t mode = 0600) const {
    ASSERT_TRUE(sys::make_dirs(file(name).substr(0, file(name).rfind('/')), 0700).ok());
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, file(name), text, mode).ok());
  }
  void change(policy::VerifyOptions verify) {
    StoreChange to;
    to.certs_dir = options_.certs_dir;
    to.unpack_program = options_.unpack_program;
    to.verify = options_.verify = std::move(verify);
    auto ready = library().prepare(std::move(to));
    ASSERT_TRUE(ready.ok()) << ready.error().message();
    (*ready)();
  }
  policy::VerifyOptions with_policy() const {
    policy::VerifyOptions out;
    out.policy_file = file("policy.json");
    out.policy_folder = file("policies");
    out.lookaside_folder = file("registries.d");
    return out;
  }
  std::string run(std::vector<std::string> args) const {
    auto done = sys::run({.args = std::move(args), .env = {"PATH=/usr/bin:/bin"}}, "", 1U << 20U,
                         Deadline::after_ms(60'000));
    EXPECT_TRUE(done.ok() && done->status.shell_code() == 0);
    return done.ok() ? done->out : "";
  }
  void make_key(const std::string& name) const {
    run({"/usr/bin/openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-out", file(name + ".pem")});
    run({"/usr/bin/openssl", "pkey", "-in", file(name + ".pem"), "-pubout", "-out",
         file(name + ".pub")});
  }
  /// What policy.json says of images of the fake registry; all others are refused.
  std::string signed_by(const std::string& key) const {
    return cat(R"({"default":[{"type":"reject"}],"transports":{"docker":{")", fake_->host(),
               R"(":[{"type":"sigstoreSigned","keyPath":")", file(key + ".pub"),
               R"(","signedIdentity":{"type":"matchRepository"}}]}}})");
  }
  /// Attaches a signature to the image as cosign does.
  void sign(const ImageMaker& image, const std::string& repository, const std::string& key) const {
    const std::string digest = image.manifest_digest();
    const std::string payload =
        cat(R"({"critical":{"identity":{"docker-reference":")", fake_->host(), "/", repository,
            R"("},"image":{"docker-manifest-digest":")", digest,
            R"("},"type":"cosign container image signature"},"optional":null})");
    put("to-sign", payload);
    const std::string signature =
        run({"/usr/bin/openssl", "dgst", "-sha256", "-sign", file(key + ".pem"), file("to-sign")});
    const std::string empty = "sha256:" + std::string(64, '0');
    fake_->serve(cat("/v2/", repository, "/blobs/", sha256_of(payload)), "application/octet-stream",
                 payload);
    fake_->serve(cat("/v2/", repository, "/manifests/sha256-", digest.substr(7), ".sig"),
                 kManifestType,
                 cat(R"({"schemaVersion":2,"mediaType":")", kManifestType,
                     R"(","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":")",
                     empty, R"(","size":2},"layers":[{"mediaType":)",
                     R"("application/vnd.dev.cosign.simplesigning.v1+json","digest":")",
                     sha256_of(payload), R"(","size":)", payload.size(),
                     R"(,"annotations":{"dev.cosignproject.cosign/signature":")",
                     base64_encode(signature), R"("}}]})"));
  }
  Result<> admit(const Image& image, const std::string& as, const std::string& in = "") {
    return store_->admit({image.id, as, in});
  }
  void expect_admitted(const Result<>& result) {
    EXPECT_TRUE(result.ok()) << result.error().message();
  }
  void expect_refused(const Result<>& result, const std::string& words,
                      Code code = Code::kPermissionDenied) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), code) << result.error().message();
    EXPECT_THAT(result.error().message(), HasSubstr(words));
  }
};

TEST_F(AdmitTest, WithoutRulesNothingIsAsked) {
  image_with("a").serve(*fake_, "team/app", "v1");
  const auto image = pull_to_run("team/app:v1");
  ASSERT_TRUE(image.ok());
  const size_t before = fake_->requests().size();
  expect_admitted(admit(*image, name("team/app:v1"), "anywhere"));
  EXPECT_EQ(fake_->requests().size(), before);
}

TEST_F(AdmitTest, WhatAPullHasProvenIsRememberedWithoutTheRegistry) {
  make_key("key");
  put("policy.json", signed_by("key"));
  change(with_policy());
  const ImageMaker maker = image_with("a");
  maker.serve(*fake_, "team/app", "v1");
  sign(maker, "team/app", "key");
  const auto image = pull_to_run("team/app:v1");
  ASSERT_TRUE(image.ok()) << image.error().message();
  const std::string asked = name("team/app:v1");
  fake_.reset();  // and no registry to ask from now on
  expect_admitted(admit(*image, asked));
  expect_admitted(admit(*image, image->id));
  expect_admitted(admit(*image, image->id.substr(7, 12)));
  reopen();  // as a new fluytd does
  expect_admitted(admit(*image, asked, "any-namespace"));
}

TEST_F(AdmitTest, RulesThatChangedAreAskedAnewOnce) {
  const ImageMaker maker = image_with("a");
  maker.serve(*fake_, "team/app", "v1");
  const auto image = pull_to_run("team/app:v1");
  ASSERT_TRUE(image.ok());
  make_key("key");
  make_key("next");
  put("policy.json", signed_by("key"));
  change(with_policy());
  const std::string asked = name("team/app:v1");
  expect_refused(
      admit(*image, asked),
      cat("image ", quote(asked), ": image policy ", file("policy.json"), ": transports.docker[\"",
          fake_->host(), "\"][0] (sigstoreSigned): no signature is attached to ",
          maker.manifest_digest()));
  sign(maker, "team/app", "key");
  expect_admitted(admit(*image, asked));
  const size_t before = fake_->requests().size();
  expect_admitted(admit(*image, asked));
  EXPECT_EQ(fake_->requests().size(), before);
  // Another key in the same file at the same path.
  put("key.pub", sys::read_file(file("next.pub"), 4096).value());
  expect_refused(admit(*image, asked), "1 signature, not by the key given");
}

TEST_F(AdmitTest, ARegistryThatIsGoneRefusesAndTheRuleIsNamed) {
  image_with("a").serve(*fake_, "team/app", "v1");
  const auto image = pull_to_run("team/app:v1");
  ASSERT_TRUE(image.ok());
  make_key("key");
  put("policy.json", signed_by("key"));
  change(with_policy());
  const std::string asked = name("team/app:v1");
  fake_.reset();
  const int64_t began = now_boot_ns();
  expect_refused(admit(*image, asked), cat("image policy ", file("policy.json"), ": transports"),
                 Code::kUnavailable);
  EXPECT_LT(now_boot_ns() - began, 10'000'000'000);
}

// Whoever keeps the signatures from us is not the policy, and says nothing of what was proven.
TEST_F(AdmitTest, AServerThatRefusesSignaturesTakesNothingBack) {
  make_key("key");
  put("policy.json", signed_by("key"));
  change(with_policy());
  const ImageMaker maker = image_with("a");
  maker.serve(*fake_, "team/app", "v1");
  sign(maker, "team/app", "key");
  const auto image = pull_to_run("team/app:v1");
  ASSERT_TRUE(image.ok()) << image.error().message();
  fake_->set_hook([](const FakeRegistry::Request& request) {
    return request.target.ends_with(".sig") ? std::optional(FakeRegistry::Reply{.status = 403})
                                            : std::nullopt;
  });
  const auto again = pull_to_run("team/app:v1");
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code(), Code::kUnavailable) << again.error().message();
  EXPECT_THAT(again.error().message(), HasSubstr("403"));
  expect_admitted(admit(*image, name("team/app:v1")));
}

TEST_F(AdmitTest, ANamespaceHasItsOwnRules) {
  image_with("a").serve(*fake_, "team/app", "v1");
  put("policy.json", R"({"default":[{"type":"insecureAcceptAnything"}]})");
  put("policies/strict.json", R"({"default":[{"type":"reject"}]})");
  change(with_policy());
  const auto image = pull_to_run("team/app:v1");
  ASSERT_TRUE(image.ok()) << image.error().message();
  const std::string asked = name("team/app:v1");
  expect_admitted(admit(*image, asked));
  expect_admitted(admit(*image, asked, "lenient"));
  expect_refused(admit(*image, asked, "strict"),
                 cat("image policy ", file("policies/strict.json"), ": default[0] (reject)"));
  expect_refused(admit(*image, image->id, "strict"), "default[0] (reject)");
}

TEST_F(AdmitTest, AskedByIdOneNameThatMayIsEnough) {
  image_with("a").serve(*fake_, "team/app", "v1");
  const auto image = pull_to_run("team/app:v1");
  ASSERT_TRUE(image.ok());
  put("policy.json",
      cat(R"({"default":[{"type":"reject"}],"transports":{"docker":{"docker.io/library/mine":)",
          R"([{"type":"insecureAcceptAnything"}]}}})"));
  change(with_policy());
  expect_refused(admit(*image, image->id), "default[0] (reject)");
  ASSERT_TRUE(library().tag(image->id, "mine").ok());
  expect_admitted(admit(*image, image->id));
  expect_admitted(admit(*image, "mine"));
  expect_refused(admit(*image, name("team/app:v1")), "default[0] (reject)");
}

TEST_F(AdmitTest, PinsHoldForWhatIsHere) {
  const ImageMaker maker = image_with("a");
  maker.serve(*fake_, "team/app", "v1");
  const auto image = pull_to_run("team/app:v1");
  ASSERT_TRUE(image.ok());
  policy::VerifyOptions pinned;
  const std::string other = "sha256:" + std::string(64, 'a');
  ASSERT_TRUE(policy::add_pin(pinned.pins, fake_->host(), {other}).ok());
  change(pinned);
  expect_refused(admit(*image, name("team/app:v1")),
                 cat("pinned_digests[\"", fake_->host(), "\"]: ", maker.manifest_digest()));
  ASSERT_TRUE(policy::add_pin(pinned.pins, fake_->host(), {other, maker.manifest_digest()}).ok());
  change(pinned);
  expect_admitted(admit(*image, name("team/app:v1")));
}

TEST_F(AdmitTest, ProgramsAreAskedOnceAndAPullTheyRefuseTakesItBack) {
  const ImageMaker maker = image_with("a");
  maker.serve(*fake_, "team/app", "v1");
  policy::VerifyOptions verify;
  verify.programs.folder = file("verifiers");
  const std::string body =
      cat("#!/bin/sh\necho \"$@\" >> ", file("asked"), "\n[ -e ", file("fine"), " ]\n");
  put("verifiers/a", body, 0700);
  put("fine", "");
  change(verify);
  const auto times = [&] {
    const std::string asked = sys::read_file(file("asked"), 1U << 16U).value();
    return std::count(asked.begin(), asked.end(), '\n');
  };
  const auto image = pull_to_run("team/app:v1");
  ASSERT_TRUE(image.ok()) << image.error().message();
  const auto of_pull = times();
  expect_admitted(admit(*image, name("team/app:v1")));
  EXPECT_EQ(times(), of_pull);
  // Under another name it is another question.
  ASSERT_TRUE(library().tag(image->id, "mine").ok());
  expect_admitted(admit(*image, "mine"));
  EXPECT_EQ(times(), of_pull + 1);
  const std::string by_digest = name("team/app@" + maker.manifest_digest());
  expect_admitted(admit(*image, by_digest));
  EXPECT_EQ(times(), of_pull + 2);
  ASSERT_TRUE(sys::remove_file(sys::kCwd, file("fine")).ok());
  expect_admitted(admit(*image, name("team/app:v1")));
  expect_admitted(admit(*image, by_digest));
  EXPECT_FALSE(pull_to_run("team/app:v1").ok());
  expect_refused(admit(*image, name("team/app:v1")), "verifiers/a: refused it with status 1");
  expect_refused(admit(*image, by_digest), "verifiers/a: refused it with status 1");
  expect_admitted(
      admit(*image, "mine"));  // of another repository, about which nothing new is known
  // Another program in its place is asked, too.
  put("verifiers/a", body + "\n", 0700);
  expect_refused(admit(*image, "mine"), "verifiers/a: refused it with status 1");
}

TEST_F(AdmitTest, AnImageThatCameByAnIndexIsThatIndex) {
  const ImageMaker maker = image_with("a");
  maker.serve(*fake_, "team/app", "v1");
  const std::string index =
      cat(R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",)",
          R"("manifests":[{"mediaType":")", kManifestType, R"(","digest":")",
          maker.manifest_digest(), R"(","size":)", maker.manifest_json().size(), "}]}");
  for (const std::string& target : {std::string("all"), sha256_of(index)}) {
    fake_->serve("/v2/team/app/manifests/" + target, "application/vnd.oci.image.index.v1+json",
                 index);
  }
  const auto image = pull_to_run("team/app:all");
  ASSERT_TRUE(image.ok()) << image.error().message();
  policy::VerifyOptions verify;
  verify.programs.folder = file("verifiers");
  put("verifiers/a", cat("#!/bin/sh\ncat > ", file("stdin")), 0700);
  change(verify);
  expect_admitted(admit(*image, name("team/app:all")));
  EXPECT_EQ(sys::read_file(file("stdin"), 4096).value(),
            cat(R"({"mediaType":"application/vnd.oci.image.index.v1+json","digest":")",
                sha256_of(index), R"(","size":)", index.size(), "}"));
  // By another repository's name its manifest is all that is known.
  expect_admitted(admit(*image, "elsewhere.test/app:v1"));
  EXPECT_THAT(sys::read_file(file("stdin"), 4096).value(), HasSubstr(maker.manifest_digest()));
}

TEST_F(AdmitTest, AnImageWithoutAName) {
  std::vector<testing::TarFile> files = image_with("a").layout_files("");
  put("nameless.tar", testing::make_tar(files));
  auto imported = store_->import(file("nameless.tar"), {});
  ASSERT_TRUE(imported.ok()) << imported.error().message();
  const Image image = imported->front();
  if (!image.repo_tags.empty() || !image.repo_digests.empty()) GTEST_FAIL() << "it has a name";
  put("policy.json", R"({"default":[{"type":"insecureAcceptAnything"}]})");
  change(with_policy());
  expect_admitted(admit(image, image.id));
  make_key("key");
  put("policy.json",
      cat(R"({"default":[{"type":"sigstoreSigned","keyPath":")", file("key.pub"), R"("}]})"));
  expect_refused(admit(image, image.id), "has no name");
}

}  // namespace
}  // namespace fluyt::image
