#include <gtest/gtest.h>

#include "cmd/fluyt/text/image_filter.h"
#include "cmd/fluyt/text/image_tree.h"

namespace fluyt::cli {
namespace {

TEST(ImageFilter, ReferencesMatchAsPeopleWriteThem) {
  const std::string busybox = "docker.io/library/busybox:1.36";
  EXPECT_TRUE(name_matches("busybox", busybox));
  EXPECT_TRUE(name_matches("busybox:1.36", busybox));
  EXPECT_TRUE(name_matches("busy*", busybox));
  EXPECT_TRUE(name_matches("library/busybox", busybox));
  EXPECT_TRUE(name_matches(busybox, busybox));
  EXPECT_FALSE(name_matches("busybox:1.3", busybox));
  EXPECT_FALSE(name_matches("box", busybox));
  EXPECT_FALSE(name_matches("*", "docker.io/team/app:1"));  // no star goes over a slash
  EXPECT_TRUE(name_matches("team/*", "docker.io/team/app:1"));
  EXPECT_TRUE(name_matches("host:5000/app", "host:5000/app:1"));
  EXPECT_TRUE(name_matches("host:5000/app", "host:5000/app@sha256:00"));
}

TEST(ImageFilter, EachOneNarrows) {
  const FilteredImage image{
      .tags = {"docker.io/library/a:1"}, .labels = {{"k", "v"}, {"e", ""}}, .created = 100};
  const auto matches = [&](const std::vector<std::string>& filters) {
    ImageFilter filter;
    for (const auto& text : filters) EXPECT_TRUE(filter.add(text).ok()) << text;
    return filter.matches(image);
  };
  EXPECT_TRUE(matches({}));
  EXPECT_TRUE(matches({"dangling=false", "label=k", "label=k=v", "label=e=", "reference=a"}));
  EXPECT_FALSE(matches({"dangling=true"}));
  EXPECT_FALSE(matches({"label=k=w"}));
  EXPECT_FALSE(matches({"label=none"}));
  EXPECT_TRUE(matches({"reference=b", "reference=a"}));
  EXPECT_FALSE(matches({"reference=b"}));
  ImageFilter times;
  times.resolve_before(101);
  times.resolve_since(99);
  EXPECT_TRUE(times.matches(image));
  times.resolve_since(100);
  EXPECT_FALSE(times.matches(image));
}

TEST(ImageFilter, ErrorsNameKeyAndValue) {
  ImageFilter filter;
  for (const char* text : {"dangling", "dangling=", "dangling=maybe", "colour=red", "=x"}) {
    const auto added = filter.add(text);
    ASSERT_FALSE(added.ok()) << text;
    EXPECT_NE(added.error().message().find("--filter: "), std::string::npos);
  }
}

TEST(ImageTree, DrawsWhoShares) {
  const TreeImage image{.name = "app:1",
                        .id = "sha256:3f57d9401f8dffff",
                        .disk_bytes = 219'000'000,
                        .shared_bytes = 180'000'000,
                        .unique_bytes = 39'000'000,
                        .layers = {{.diff_id = "sha256:5d20c808ce19ffff",
                                    .disk_bytes = 180'000'000,
                                    .blob_bytes = 80'000'000,
                                    .blob_kept = true,
                                    .images = {"busybox:latest", "we\x1b[31mb"},
                                    .containers = {"c1"}},
                                   {.diff_id = "sha256:aaaaaaaaaaaaffff", .disk_bytes = 512}}};
  EXPECT_EQ(draw_tree(image),
            "app:1  3f57d9401f8d  219MB on disk: 180MB shared, 39.0MB of its own\n"
            "├─ 5d20c808ce19  180MB  + blob 80.0MB\n"
            "│     also in busybox:latest, we\\x1b[31mb\n"
            "│     under c1\n"
            "└─ aaaaaaaaaaaa   512B\n");
}

}  // namespace
}  // namespace fluyt::cli
