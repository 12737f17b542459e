#include "runtime/checkpoint/archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::runtime::checkpoint {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(Archive, IsReadAsItWasWritten) {
  const Archive archive{.descriptors = {"pipe:[7]", "file[1f:2a]", ""},
                        .submounts = {{3, {"a/b", "c"}}, {12, {"d"}}}};
  const auto read = parse_archive(to_json(archive));
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read->descriptors, archive.descriptors);
  EXPECT_EQ(read->submounts, archive.submounts);
}

TEST(Archive, RefusesWhatNoDumpOfOursWrites) {
  for (const char* text : {"", "[]", R"({"version":2,"descriptors":[],"submounts":[]})",
                           R"({"version":1,"descriptors":["a","","",""],"submounts":[]})",
                           R"({"version":1,"descriptors":["net:[1]"],"submounts":[]})",
                           R"({"version":1,"descriptors":["pipe:[1]x]"],"submounts":[]})",
                           R"({"version":1,"descriptors":["file[1:2:3]"],"submounts":[]})",
                           R"({"version":1,"descriptors":[],"submounts":[[0,["a\nb"]]]})",
                           R"({"version":1,"descriptors":[],"submounts":[[0,[""]]]})",
                           R"({"version":1,"descriptors":[],"submounts":{"a":1}})"}) {
    const auto read = parse_archive(text);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_EQ(read.error().code(), Code::kDataLoss) << text;
  }
}

MountInfo mount(uint64_t id, std::string point) {
  MountInfo out;
  out.id = id;
  out.point = std::move(point);
  return out;
}

TEST(ExternalMounts, AreNamedByPlacesNotByPaths) {
  Placed placed;
  placed.keys = {{5, mount_key(2)}, {6, submount_key(2, 0)}, {7, kNullKey}};
  const auto named = external_mounts(
      placed, {mount(1, "/"), mount(5, "/a b:c"), mount(6, "/a b:c/d"), mount(7, "/proc/kcore")});
  ASSERT_TRUE(named.ok());
  EXPECT_THAT(*named,
              ElementsAre(Pair("/a b:c", "fluyt-mount-2"), Pair("/a b:c/d", "fluyt-mount-2-0"),
                          Pair("/proc/kcore", "fluyt-null")));
}

// CRIU would read "mnt[/a]:/etc]:fluyt-mount-0" as a mount at /a with the key
// "/etc]:fluyt-mount-0".
TEST(ExternalMounts, RefusesPointsThatCriuWouldMisread) {
  Placed placed;
  placed.keys = {{5, mount_key(0)}};
  for (const char* point : {"/a]:/etc", "/a\nb", "/a\x7f"}) {
    const auto named = external_mounts(placed, {mount(5, point)});
    ASSERT_FALSE(named.ok()) << point;
    EXPECT_THAT(named.error().message(), HasSubstr("control characters"));
  }
}

TEST(ExternalMounts, RefusesOneUnderAnother) {
  Placed placed;
  placed.keys = {{5, mount_key(0)}};
  EXPECT_FALSE(external_mounts(placed, {mount(5, "/a"), mount(6, "/a")}).ok());
}

}  // namespace
}  // namespace fluyt::runtime::checkpoint
