#include "oci/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace fluyt::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string digest(char digit) { return "sha256:" + std::string(64, digit); }

std::string descriptor(char digit, std::string_view type, std::string_view more = "") {
  return cat(R"({"mediaType":")", type, R"(","digest":")", digest(digit), R"(","size":7)", more,
             "}");
}

std::string manifest_text(std::string_view more = "") {
  return cat(R"({"schemaVersion":2,"config":)", descriptor('a', media_type::kOciConfig),
             R"(,"layers":[)", descriptor('b', media_type::kOciLayerGzip), "]", more, "}");
}

std::string index_text(std::string_view entries, std::string_view more = "") {
  return cat(R"({"schemaVersion":2,"manifests":[)", entries, "]", more, "}");
}

std::string entry(char digit, std::string_view os, std::string_view arch,
                  std::string_view variant = "") {
  return descriptor(digit, media_type::kOciManifest,
                    cat(R"(,"platform":{"os":")", os, R"(","architecture":")", arch,
                        R"(","variant":")", variant, R"("})"));
}

std::string why(std::string_view text, std::string_view content_type = "") {
  const auto result = parse_manifest_or_index(text, content_type);
  return result.ok() ? "taken" : result.error().message();
}

TEST(Manifest, ReadsEveryField) {
  const auto manifest = parse_manifest(
      manifest_text(cat(R"(,"mediaType":")", media_type::kOciManifest,
                        R"(","artifactType":"a/b","annotations":{"k":"v"},"subject":)",
                        descriptor('c', "x/y", R"(,"data":"aGVsbG8=","urls":["https://q"])"))));
  ASSERT_TRUE(manifest.ok()) << manifest.error().message();
  EXPECT_EQ(manifest->media_type, media_type::kOciManifest);
  EXPECT_EQ(manifest->config.digest.text(), digest('a'));
  ASSERT_EQ(manifest->layers.size(), 1U);
  EXPECT_EQ(manifest->layers[0].media_type, media_type::kOciLayerGzip);
  EXPECT_EQ(manifest->layers[0].size, 7);
  EXPECT_EQ(manifest->subject->data, "hello");
  EXPECT_THAT(manifest->subject->urls, ElementsAre("https://q"));
  EXPECT_EQ(manifest->annotations.at("k"), "v");
}

TEST(Manifest, PrintsWhatItRead) {
  const auto manifest = parse_manifest(manifest_text(R"(,"annotations":{"k":"v"})"));
  ASSERT_TRUE(manifest.ok());
  EXPECT_EQ(to_json(*manifest), manifest_text(R"(,"annotations":{"k":"v"})"));
}

TEST(Manifest, InlineDataOfEveryLengthSurvives) {
  for (const char* data : {"", "a", "ab", "abc", "abcd"}) {
    auto manifest = parse_manifest(manifest_text()).value();
    manifest.config.data = data;
    EXPECT_EQ(parse_manifest(to_json(manifest))->config.data, data);
  }
  EXPECT_THAT(why(manifest_text(cat(R"(,"subject":)", descriptor('c', "x", R"(,"data":"a*bc")")))),
              HasSubstr("subject.data: \"a*bc\": expected base64"));
}

TEST(Manifest, ContentTypeMustAgreeWithTheBody) {
  const std::string typed =
      manifest_text(cat(R"(,"mediaType":")", media_type::kDockerManifest, R"(")"));
  EXPECT_EQ(why(typed, media_type::kDockerManifest), "taken");
  EXPECT_EQ(why(typed, cat(media_type::kDockerManifest, "; charset=utf-8")), "taken");
  EXPECT_EQ(why(typed, "application/json"), "taken");
  EXPECT_THAT(why(typed, media_type::kOciManifest), HasSubstr("mediaType: "));
  EXPECT_THAT(why(typed, media_type::kOciIndex), HasSubstr("mediaType: "));
}

TEST(Manifest, RefusesABodyThatIsTwoThings) {
  EXPECT_THAT(why(manifest_text(R"(,"manifests":[])")), HasSubstr("not both"));
  EXPECT_THAT(why(manifest_text(), media_type::kOciIndex), HasSubstr("over a manifest"));
  EXPECT_THAT(why(index_text(""), media_type::kOciManifest), HasSubstr("over an index"));
  EXPECT_THAT(why(R"({"schemaVersion":2,"manifests":[],"manifests":[]})"), HasSubstr("twice"));
}

TEST(Manifest, RefusesSchemaOneWithTheReason) {
  EXPECT_THAT(why(R"({"schemaVersion":1,"fsLayers":[]})"), HasSubstr("schema 1"));
  EXPECT_THAT(why("{}", media_type::kDockerManifestV1Signed), HasSubstr("schema 1"));
}

TEST(Manifest, RefusesWhatIsMissingOrWrongByName) {
  EXPECT_THAT(why("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(why("{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(why("<html>"), HasSubstr("syntax error at byte 1"));
  EXPECT_THAT(why("{}"), HasSubstr("schemaVersion: missing"));
  EXPECT_THAT(why(R"({"schemaVersion":2})"), HasSubstr("config: missing"));
  EXPECT_THAT(why(R"({"schemaVersion":"2"})"), HasSubstr("schemaVersion: \"2\": expected"));
  EXPECT_THAT(why(manifest_text(), "text/html"), HasSubstr("text/html"));
  EXPECT_THAT(
      why(cat(
          R"({"schemaVersion":2,"layers":[],"config":{"mediaType":"x","size":1,"digest":"a"}})")),
      HasSubstr("config.digest: digest \"a\""));
  EXPECT_THAT(why(cat(R"({"schemaVersion":2,"layers":[],"config":{"mediaType":"x","size":-1,)",
                      R"("digest":")", digest('a'), R"("}})")),
              HasSubstr("config.size: -1: expected"));
  EXPECT_THAT(why(cat(R"({"schemaVersion":2,"config":)", descriptor('a', "x"),
                      R"(,"layers":[{"mediaType":"x","size":1}]})")),
              HasSubstr("layers[0].digest: missing"));
}

TEST(Manifest, LimitsDepthLayersAndBytes) {
  EXPECT_THAT(why(std::string(65, '[') + std::string(65, ']')), HasSubstr("deeper than 64"));
  std::string layers = descriptor('b', "x");
  for (size_t i = 0; i < kMaxLayers; ++i) {
    layers += "," + descriptor('b', "x");
  }
  EXPECT_THAT(why(cat(R"({"schemaVersion":2,"config":)", descriptor('a', "x"), R"(,"layers":[)",
                      layers, "]}")),
              HasSubstr("layers: 501 entries: expected at most 500"));
  EXPECT_THAT(why(std::string(kMaxManifestBytes + 1, ' ')), HasSubstr("expected at most"));
}

TEST(Index, ReadsAndPrints) {
  const auto index = parse_index(index_text(entry('a', "linux", "amd64")));
  ASSERT_TRUE(index.ok()) << index.error().message();
  EXPECT_EQ(index->manifests[0].platform->text(), "linux/amd64");
  EXPECT_EQ(parse_index(to_json(*index))->manifests[0].digest, index->manifests[0].digest);
  EXPECT_FALSE(parse_index(manifest_text()).ok());
  EXPECT_FALSE(parse_manifest(index_text("")).ok());
}

std::string chosen(std::string_view entries, const Platform& platform) {
  const auto index = parse_index(index_text(entries)).value();
  const auto result = choose_platform(index, platform);
  return result.ok() ? std::string(1, result->digest.hex()[0]) : result.error().message();
}

TEST(ChoosePlatform, TakesTheHighestVariantNotAboveTheWanted) {
  const std::string entries =
      cat(entry('5', "linux", "arm", "v5"), ",", entry('6', "linux", "arm", "v6"), ",",
          entry('7', "linux", "arm", "v7"), ",", entry('8', "linux", "arm64", "v8"));
  EXPECT_EQ(chosen(entries, {.os = "linux", .architecture = "arm", .variant = "v6"}), "6");
  EXPECT_EQ(chosen(entries, {.os = "linux", .architecture = "arm", .variant = "v8"}), "7");
  EXPECT_EQ(chosen(entries, {.os = "linux", .architecture = "arm"}), "7");
  EXPECT_EQ(chosen(entries, {.os = "linux", .architecture = "arm64"}), "8");
}

TEST(ChoosePlatform, DoesNotTakeAnInstructionSetThatIsTooNew) {
  const std::string entries =
      cat(entry('3', "linux", "amd64", "v3"), ",", entry('1', "linux", "amd64"));
  EXPECT_EQ(chosen(entries, {.os = "linux", .architecture = "amd64"}), "1");
  EXPECT_EQ(chosen(entries, {.os = "linux", .architecture = "amd64", .variant = "v4"}), "3");
}

TEST(ChoosePlatform, TakesThirtyTwoBitsWhereThereIsNothingElse) {
  const Platform amd64{.os = "linux", .architecture = "amd64", .variant = "v3"};
  const Platform arm64{.os = "linux", .architecture = "arm64"};
  const std::string small = cat(entry('3', "linux", "386"), ",", entry('6', "linux", "arm", "v6"),
                                ",", entry('7', "linux", "arm", "v7"));
  EXPECT_EQ(chosen(small, amd64), "3");
  EXPECT_EQ(chosen(small, arm64), "7");
  EXPECT_EQ(chosen(cat(small, ",", entry('1', "linux", "amd64")), amd64), "1");
  EXPECT_EQ(chosen(cat(small, ",", entry('8', "linux", "arm64", "v8")), arm64), "8");
  EXPECT_THAT(chosen(entry('a', "linux", "amd64"), {.os = "linux", .architecture = "386"}),
              HasSubstr("no image for"));
}

TEST(ChoosePlatform, UnderstandsWhatImagesSay) {
  EXPECT_EQ(chosen(entry('1', "Linux", "x86_64"), {.os = "linux", .architecture = "amd64"}), "1");
  EXPECT_EQ(chosen(entry('2', "linux", "aarch64"), {.os = "linux", .architecture = "arm64"}), "2");
  EXPECT_TRUE(
      is_for({.os = "linux", .architecture = "x86_64"}, {.os = "linux", .architecture = "amd64"}));
  EXPECT_TRUE(is_for({.os = "linux", .architecture = "amd64", .variant = "v4"},
                     {.os = "linux", .architecture = "amd64"}));
  EXPECT_FALSE(
      is_for({.os = "linux", .architecture = "arm"}, {.os = "linux", .architecture = "amd64"}));
}

TEST(ChoosePlatform, PassesOverAttestations) {
  const std::string attestation =
      descriptor('0', media_type::kOciManifest,
                 R"(,"annotations":{"vnd.docker.reference.type":"attestation-manifest"},)"
                 R"("platform":{"os":"linux","architecture":"amd64"})");
  EXPECT_EQ(chosen(cat(attestation, ",", entry('1', "linux", "amd64")),
                   {.os = "linux", .architecture = "amd64"}),
            "1");
  EXPECT_THAT(
      chosen(entry('0', "unknown", "unknown"), {.os = "unknown", .architecture = "unknown"}),
      HasSubstr("no image for"));
}

TEST(ChoosePlatform, TakesAnEntryWithoutPlatformOnlyAlone) {
  const std::string bare = descriptor('9', media_type::kOciManifest);
  EXPECT_EQ(chosen(bare, {.os = "linux", .architecture = "amd64"}), "9");
  EXPECT_THAT(chosen(cat(bare, ",", bare), {.os = "linux", .architecture = "amd64"}),
              HasSubstr("no image for linux/amd64"));
}

TEST(ChoosePlatform, SaysWhatThereIs) {
  EXPECT_THAT(chosen(cat(entry('1', "linux", "s390x"), ",", entry('2', "windows", "amd64")),
                     {.os = "linux", .architecture = "amd64"}),
              HasSubstr("linux/s390x, windows/amd64"));
}

TEST(Platform, ReadsAliases) {
  EXPECT_EQ(Platform::parse("linux/x86_64")->text(), "linux/amd64");
  EXPECT_EQ(Platform::parse("linux/aarch64")->text(), "linux/arm64");
  EXPECT_EQ(Platform::parse("linux/armhf")->text(), "linux/arm/v7");
  EXPECT_EQ(Platform::parse("Linux/ARM/v6")->text(), "linux/arm/v6");
  for (const char* bad : {"", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64"}) {
    EXPECT_FALSE(Platform::parse(bad).ok()) << bad;
  }
}

const char* const kConfig =
    R"({"created":"2026-01-01T00:00:00Z","author":"a","architecture":"arm","os":"linux",)"
    R"("variant":"v7","config":{"User":"1:2","ExposedPorts":{"80/tcp":{}},"Env":["A=b","C="],)"
    R"("Entrypoint":["/e"],"Cmd":["c"],"Volumes":{"/v":{}},"WorkingDir":"/w",)"
    R"("Labels":{"l":"m"},"StopSignal":"SIGINT","Shell":["/bin/sh","-c"]},)"
    R"("rootfs":{"type":"layers","diff_ids":["sha256:)"
    R"(0000000000000000000000000000000000000000000000000000000000000001"]},)"
    R"("history":[{"created":"x","created_by":"y","author":"z","comment":"k","empty_layer":true}]})";

TEST(ImageConfig, RoundTrips) {
  const auto config = parse_image_config(kConfig);
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->platform.text(), "linux/arm/v7");
  EXPECT_EQ(config->config.user, "1:2");
  EXPECT_THAT(config->config.exposed_ports, ElementsAre("80/tcp"));
  EXPECT_THAT(config->config.volumes, ElementsAre("/v"));
  EXPECT_EQ(config->diff_ids.size(), 1U);
  EXPECT_TRUE(config->history[0].empty_layer);
  EXPECT_EQ(to_json(*config), kConfig);
}

TEST(ImageConfig, NullsAreAbsent) {
  const auto config = parse_image_config(
      R"({"config":{"Env":null,"Entrypoint":null,"Labels":null,"Volumes":null,"Cmd":["x"]},)"
      R"("rootfs":{"type":"layers","diff_ids":null},"history":null})");
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_THAT(config->config.cmd, ElementsAre("x"));
}

TEST(ImageConfig, RefusesEnvWithoutAValue) {  // CVE-2026-57231
  const auto with_env = [](std::string_view env) {
    return parse_image_config(cat(R"({"rootfs":{},"config":{"Env":["OK=1",")", env, R"("]}})"));
  };
  EXPECT_TRUE(with_env("A=").ok());
  for (const char* bad : {"AWS_SECRET_ACCESS_KEY", "", "=x", "*"}) {
    const auto result = with_env(bad);
    ASSERT_FALSE(result.ok()) << bad;
    EXPECT_THAT(result.error().message(), HasSubstr("config.Env[1]: "));
  }
}

TEST(ImageConfig, RefusesByField) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", "rootfs: missing"},
      {R"({"rootfs":{"type":"blobs"}})", "rootfs.type: \"blobs\": expected one of layers"},
      {R"({"rootfs":{"diff_ids":["x"]}})", "rootfs.diff_ids: digest \"x\""},
      {R"({"rootfs":{},"config":{"Cmd":"sh"}})", "config.Cmd: \"sh\": expected an array"},
      {R"({"rootfs":{},"config":{"Labels":{"a":1}}})",
       "config.Labels[\"a\"]: 1: expected a string"},
      {R"({"rootfs":{},"config":{"Cmd":["a\u0000b"]}})", "NUL"},
      {"{\"rootfs\":{},\"author\":\"\xff\"}", "not valid JSON"},
  };
  for (const auto& [text, expected] : cases) {
    const auto result = parse_image_config(text);
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_THAT(result.error().message(), HasSubstr(expected));
  }
}

}  // namespace
}  // namespace fluyt::oci
