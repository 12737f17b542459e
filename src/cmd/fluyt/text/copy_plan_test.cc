#include "cmd/fluyt/text/copy_plan.h"

#include <gtest/gtest.h>

#include <vector>

namespace fluyt::cli {
namespace {

TEST(CopyPlace, IsHereOrInAContainer) {
  EXPECT_EQ(parse_copy_place("web:/etc"), (CopyPlace{"web", "/etc"}));
  EXPECT_EQ(parse_copy_place("pod/web:etc/a:b"), (CopyPlace{"pod/web", "etc/a:b"}));
  for (const char* here : {"/a:b", "./a:b", "../a:b", "file", ":x", "-", "."}) {
    EXPECT_EQ(parse_copy_place(here), (CopyPlace{"", here})) << here;
  }
  EXPECT_TRUE(parse_copy_place("-").is_tar());
  EXPECT_FALSE(parse_copy_place("web:-").is_tar());
}

TEST(CopyPlan, IsThatOfCp) {
  using K = CopyKind;
  struct Row {
    std::string source;
    K source_kind;
    std::string target;
    K target_kind;
    CopyPlan expected;  // an empty folder: an error
  };
  const std::vector<Row> rows = {
      {"a/file", K::kFile, "dir", K::kDirectory, {"/there/dir", "file"}},
      {"a/file", K::kFile, "dir/", K::kDirectory, {"/there/dir", "file"}},
      {"a/file", K::kFile, "new", K::kMissing, {"/there", "new"}},
      {"a/file", K::kFile, "/new", K::kMissing, {"/", "new"}},
      {"a/file", K::kFile, "new/", K::kMissing, {}},
      {"a/file", K::kFile, "old", K::kFile, {"/there", "old"}},
      {"a/file", K::kFile, "old/", K::kFile, {}},
      {"a/file/", K::kFile, "dir", K::kDirectory, {}},
      {"a/file/.", K::kFile, "dir", K::kDirectory, {}},
      {"tree", K::kDirectory, "dir", K::kDirectory, {"/there/dir", "tree"}},
      {"tree/", K::kDirectory, "dir", K::kDirectory, {"/there/dir", "tree"}},
      {"tree/.", K::kDirectory, "dir", K::kDirectory, {"/there/dir", ""}},
      {".", K::kDirectory, "dir", K::kDirectory, {"/there/dir", ""}},
      {"/", K::kDirectory, "dir", K::kDirectory, {"/there/dir", ""}},
      {"..", K::kDirectory, "dir", K::kDirectory, {"/there/dir", ""}},  // of /here, that is /
      {"x/..", K::kDirectory, "dir", K::kDirectory, {"/there/dir", "here"}},
      {"tree", K::kDirectory, "new", K::kMissing, {"/there", "new"}},
      {"tree/.", K::kDirectory, "new/", K::kMissing, {"/there", "new"}},
      {"tree", K::kDirectory, "old", K::kFile, {}},
      {"tree", K::kDirectory, "", K::kDirectory, {"/there", "tree"}},
  };
  for (const Row& row : rows) {
    const auto plan =
        plan_copy({row.source, "/here", row.source_kind}, {row.target, "/there", row.target_kind});
    EXPECT_EQ(plan.ok() ? *plan : CopyPlan(), row.expected) << row.source << " to " << row.target;
  }
}

}  // namespace
}  // namespace fluyt::cli
