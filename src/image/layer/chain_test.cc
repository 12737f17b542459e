#include <gmock/gmock.h>

#include <algorithm>

#include "image/layer/layer_test.h"
#include "image/layer/name.h"
#include "sys/mount.h"

namespace fluyt::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

class Chain : public LayerFormTest {
 protected:
  std::vector<std::string> resolve(const std::vector<oci::Digest>& layers) {
    auto dirs = store_->resolve_chain(layers);
    EXPECT_TRUE(dirs.ok()) << (dirs.ok() ? "" : dirs.error().message());
    return dirs.ok() ? *dirs : std::vector<std::string>{};
  }
  struct Shown {
    mode_t mode;
    uid_t uid;
    gid_t gid;
    ino_t inode;
  };
  static Shown shown(const LayerView& view, const std::string& path) {
    const auto found = view.find(path, LayerView::LastLink::kKeep).value();
    if (!found) return {};
    const struct stat& info = found->info;
    return {info.st_mode & 07777U, info.st_uid, info.st_gid, info.st_ino};
  }
};

FLUYT_FOR_BOTH_FORMS(Chain);

TEST_P(Chain, IdsAreThoseOfTheSpecification) {
  const oci::Digest a = digest_of("sha256", "a").value();
  const oci::Digest b = digest_of("sha256", "b").value();
  EXPECT_EQ(chain_ids_of(std::vector{a, b}).value(),
            std::vector({a, digest_of("sha256", a.text() + " " + b.text()).value()}));
}

TEST_P(Chain, ImpliedDirectoriesLookLikeThoseBelow) {
  const LayerInfo base =
      unpack_ok(TarBuild()
                    .dir("./", 0711)
                    .dir("srv", 02770, 7, 1234)
                    .pax({{"SCHILY.xattr.user.a", "v"}, {"mtime", "1500000000.25"}})
                    .dir("srv/deep", 0700)
                    .dir("plain")
                    .file("plain/f")
                    .end());
  const LayerInfo top =
      unpack_ok(TarBuild().file("srv/deep/new").file("plain/g").file("own/h").end());
  const auto dirs = resolve({base.diff_id, top.diff_id});
  ASSERT_EQ(dirs.size(), 3U) << "a fix-up between";
  const LayerView view = LayerView::open(dirs).value();
  EXPECT_EQ(shown(view, "srv").mode, 02770U);
  EXPECT_EQ(shown(view, "srv").gid, 1234U);
  EXPECT_EQ(shown(view, "srv/deep").mode, 0700U);
  EXPECT_EQ(xattrs_of(dirs[0] + "/srv/deep").at("user.a"), "v");
  const timespec time = sys::stat_of(*view.open_dir("srv/deep").value())->st_mtim;
  EXPECT_EQ(time.tv_sec, 1'500'000'000);
  EXPECT_EQ(time.tv_nsec, 250'000'000);
  EXPECT_EQ(shown(view, "").mode, 0711U);
  EXPECT_EQ(shown(view, "own").mode, 0755U);
  EXPECT_EQ(view.read_file("srv/deep/new", 10).value(), "x");
  EXPECT_EQ(look(top, "srv").mode & 07777U, 0755U) << "the shared tree is as it was";
  EXPECT_FALSE(sys::exists(dirs[0] + "/plain")) << "what is right needs no fixing";
  // The same layers once more give the same answer; another base another one.
  EXPECT_EQ(resolve({base.diff_id, top.diff_id}), dirs);
  const LayerInfo other = unpack_ok(TarBuild().dir("srv", 0750, 9, 9).end());
  const auto other_dirs = resolve({other.diff_id, top.diff_id});
  EXPECT_EQ(shown(LayerView::open(other_dirs).value(), "srv").uid, 9U);
  EXPECT_EQ(shown(LayerView::open(dirs).value(), "srv").uid, 7U);
  EXPECT_EQ(store_->list_fixups()->size(), 2U);
  const std::vector<oci::Digest> chains = store_->list_fixups().value();
  for (const oci::Digest& chain : chains) ASSERT_TRUE(store_->remove_fixup(chain).ok());
  EXPECT_TRUE(store_->list_fixups()->empty());
  EXPECT_TRUE(is_clean());
}

TEST_P(Chain, NothingIsMadeWhereNothingDiffers) {
  const LayerInfo base = unpack_ok(TarBuild().dir("usr").dir("usr/bin").end());
  const LayerInfo top = unpack_ok(TarBuild().file("usr/bin/x").file("new/y").end());
  EXPECT_EQ(resolve({base.diff_id, top.diff_id}).size(), 2U);
  EXPECT_EQ(store_->list_fixups()->size(), 1U) << "but it is noted that the chain was looked at";
  EXPECT_EQ(resolve({base.diff_id, top.diff_id}).size(), 2U);
}

TEST_P(Chain, FixUpsBuildOnThoseBelow) {
  const LayerInfo base = unpack_ok(TarBuild().dir("d", 0700, 3, 3).end());
  const LayerInfo middle = unpack_ok(TarBuild().file("d/m").end());
  const LayerInfo top = unpack_ok(TarBuild().file("d/t").end());
  const LayerView view =
      LayerView::open(resolve({base.diff_id, middle.diff_id, top.diff_id})).value();
  EXPECT_EQ(shown(view, "d").mode, 0700U);
  EXPECT_EQ(shown(view, "d").uid, 3U);
  EXPECT_TRUE(view.read_file("d/m", 10).value());
  EXPECT_TRUE(view.read_file("d/t", 10).value());
}

TEST_P(Chain, AWhiteoutedDirectoryPassesNothingOn) {
  const LayerInfo base = unpack_ok(
      TarBuild().dir("d", 0700, 3, 3).file("d/old").dir("o", 0700).dir("o/in", 0700).end());
  const LayerInfo top =
      unpack_ok(TarBuild().file(".wh.d").file("d/new").file("o/.wh..wh..opq").file("o/in/f").end());
  const LayerView view = LayerView::open(resolve({base.diff_id, top.diff_id})).value();
  EXPECT_EQ(shown(view, "d").mode, 0755U);
  EXPECT_FALSE(view.read_file("d/old", 10).value());
  EXPECT_EQ(shown(view, "o").mode, 0700U) << "opaque hides what is in it, not itself";
  EXPECT_EQ(shown(view, "o/in").mode, 0755U);
}

TEST_P(Chain, HardLinksIntoLowerLayersAreTheSameFile) {
  const LayerInfo base =
      unpack_ok(TarBuild()
                    .dir("a", 0700)
                    .add({.name = "a/f", .data = "data", .mode = 04711, .uid = 5})
                    .end());
  const LayerInfo top = unpack_ok(TarBuild().hard_link("b/l", "a/f").hard_link("l2", "b/l").end());
  ASSERT_EQ(top.lower_links.size(), 2U);
  const LayerView view = LayerView::open(resolve({base.diff_id, top.diff_id})).value();
  EXPECT_EQ(view.read_file("b/l", 10).value(), "data");
  EXPECT_EQ(shown(view, "b/l").mode, 04711U);
  EXPECT_EQ(shown(view, "l2").mode, 04711U);
  if (form() == LayerForm::kErofs) return;  // no link leads into an image: they are copies
  EXPECT_EQ(shown(view, "b/l").inode, shown(view, "a/f").inode);
  EXPECT_EQ(shown(view, "l2").inode, shown(view, "a/f").inode);
}

TEST_P(Chain, AFileBelowIsCopiedOnceForAllItsLinks) {
  const LayerInfo base = unpack_ok(TarBuild().file("f", "data").end());
  const LayerInfo top =
      unpack_ok(TarBuild().hard_link("l1", "f").hard_link("d/l2", "f").hard_link("l3", "f").end());
  const LayerView view = LayerView::open(resolve({base.diff_id, top.diff_id})).value();
  EXPECT_EQ(view.read_file("d/l2", 10).value(), "data");
  EXPECT_EQ(shown(view, "l1").inode, shown(view, "l3").inode);
  EXPECT_EQ(shown(view, "l1").inode, shown(view, "d/l2").inode);
}

TEST_P(Chain, HardLinksThatLeadNowhereAreRefused) {
  const LayerInfo base = unpack_ok(TarBuild().dir("a").end());
  const LayerInfo top = unpack_ok(TarBuild().hard_link("l", "a/none").end());
  auto dirs = store_->resolve_chain(std::vector{base.diff_id, top.diff_id});
  ASSERT_FALSE(dirs.ok());
  EXPECT_THAT(dirs.error().message(), HasSubstr("no layer below has the target"));
  EXPECT_THAT(store_->resolve_chain(std::vector{top.diff_id}).error().message(),
              HasSubstr("there is none"));
  EXPECT_TRUE(is_clean());
}

TEST_P(Chain, ALayerThatHidesAllEndsTheList) {
  const LayerInfo base = unpack_ok(TarBuild().file("old").end());
  const LayerInfo top = unpack_ok(TarBuild().file(".wh..wh..opq").file("new").end());
  EXPECT_EQ(resolve({base.diff_id, top.diff_id}).size(), 1U);
}

// Applied one after the other, as the specification says.
TEST_P(Chain, ALayerThatIsThereTwiceIsStackedOnce) {
  const LayerInfo base = unpack_ok(TarBuild()
                                       .dir("etc", 0700, 3, 3)
                                       .file("etc/a", "base")
                                       .dir("opq")
                                       .file("opq/old")
                                       .file("gone")
                                       .end());
  const LayerInfo twice = unpack_ok(TarBuild()
                                        .file(".wh.gone")
                                        .file("etc/a", "twice")
                                        .file("etc/new", "twice")
                                        .hard_link("link", "etc/b")
                                        .file("opq/.wh..wh..opq")
                                        .file("opq/own", "twice")
                                        .end());
  const LayerInfo first = unpack_ok(TarBuild().file("etc/b", "linked").end());
  const LayerInfo between = unpack_ok(TarBuild()
                                          .file("gone", "again")
                                          .file("etc/a", "between")
                                          .file("etc/.wh.new")
                                          .file("opq/between")
                                          .hard_link("to", "opq/own")
                                          .end());
  const auto dirs = resolve(
      {base.diff_id, first.diff_id, twice.diff_id, between.diff_id, twice.diff_id, twice.diff_id});
  const LayerView view = LayerView::open(dirs).value();
  EXPECT_FALSE(view.read_file("gone", 10).value());
  EXPECT_EQ(view.read_file("etc/a", 10).value(), "twice");
  EXPECT_EQ(view.read_file("etc/new", 10).value(), "twice");
  EXPECT_EQ(view.read_file("link", 10).value(), "linked");
  EXPECT_EQ(view.read_file("to", 10).value(), "twice") << "a link into the lower one";
  EXPECT_EQ(view.read_file("opq/own", 10).value(), "twice");
  EXPECT_FALSE(view.read_file("opq/old", 10).value());
  EXPECT_FALSE(view.read_file("opq/between", 10).value());
  EXPECT_EQ(shown(view, "etc").mode, 0700U);
  EXPECT_EQ(shown(view, "etc").uid, 3U);
  const auto mounted = sys::make_overlay({.lower_dirs = dirs, .upper_dir = {}, .work_dir = {}});
  ASSERT_TRUE(mounted.ok()) << mounted.error().message();
  EXPECT_EQ(sys::read_file(*mounted, "etc/new", 10).value(), "twice");
  const LayerInfo empty = unpack_ok(TarBuild().end());
  const auto empties = resolve({base.diff_id, empty.diff_id, empty.diff_id});
  ASSERT_EQ(empties.size(), 2U);
  EXPECT_TRUE(sys::make_overlay({.lower_dirs = empties, .upper_dir = {}, .work_dir = {}}).ok());
  EXPECT_EQ(resolve({empty.diff_id, empty.diff_id}).size(), 1U);
}

TEST_P(Chain, AMissingLayerIsNamed) {
  const oci::Digest none = digest_of("sha256", "none").value();
  EXPECT_EQ(store_->resolve_chain(std::vector{none}).error().code(), Code::kNotFound);
}

TEST_P(Chain, ViewsReadWithinTheRootAlone) {
  const LayerInfo base = unpack_ok(TarBuild()
                                       .file("etc/passwd", "root:x")
                                       .symlink("etc/out", "/../../../../etc/hostname")
                                       .symlink("etc/in", "/etc/passwd")
                                       .add({.type = '6', .name = "etc/fifo"})
                                       .symlink("etc/loop", "loop")
                                       .file("etc/gone", "x")
                                       .end());
  const LayerInfo top = unpack_ok(TarBuild().file("etc/.wh.gone").file("etc/new", "n").end());
  for (const auto& dirs : {std::vector{tree_of(base)}, std::vector{tree_of(top), tree_of(base)}}) {
    const LayerView view = LayerView::open(dirs).value();
    EXPECT_EQ(view.read_file("/etc/passwd", 100).value(), "root:x");
    EXPECT_EQ(view.read_file("etc/in", 100).value(), "root:x");
    EXPECT_FALSE(view.read_file("etc/out", 100).value());
    EXPECT_FALSE(view.read_file("etc/fifo", 100).value());
    EXPECT_FALSE(view.read_file("etc/loop", 100).value());
    EXPECT_FALSE(view.read_file("etc", 100).value());
    EXPECT_EQ(view.read_file("etc/passwd", 5).error().code(), Code::kResourceExhausted);
    EXPECT_EQ(view.read_file("etc/gone", 100).value().has_value(), dirs.size() == 1);
  }
  EXPECT_FALSE(LayerView::open({tree_of(top)})->read_file("etc/gone", 100).value())
      << "a whiteout is no file";
}

TEST_P(Chain, AWhiteoutOfNothingIsNotListed) {
  const LayerInfo base = unpack_ok(TarBuild().dir("e").file("e/below").file("e/gone").end());
  const LayerInfo top = unpack_ok(TarBuild()
                                      .dir("d")
                                      .file("d/real")
                                      .file("d/.wh.ghost")
                                      .dir("d/below")
                                      .file("d/below/.wh.ghost")
                                      .dir("e")
                                      .file("e/.wh..wh..opq")
                                      .file("e/.wh.gone")
                                      .file("e/own")
                                      .file("implied/.wh.ghost")
                                      .end());
  const auto dirs = resolve({base.diff_id, top.diff_id});
  const sys::Fd overlay =
      sys::make_overlay({.lower_dirs = dirs, .upper_dir = {}, .work_dir = {}}).value();
  const auto names_in = [&](const std::string& path) {
    return sys::list_dir(sys::open(overlay, path, O_RDONLY | O_DIRECTORY).value()).value();
  };
  EXPECT_THAT(names_in("d"), ElementsAre("below", "real"));
  EXPECT_THAT(names_in("d/below"), IsEmpty());
  EXPECT_THAT(names_in("e"), ElementsAre("own"));
  EXPECT_THAT(names_in("implied"), IsEmpty());
  EXPECT_THAT(xattrs_of(tree_of(top) + "/d"), ElementsAre(Pair(kOverlayOrigin, "")));
}

// overlayfs itself is the oracle: a copy of the view, and the mount of the same layers.
TEST_P(Chain, ACopyIsWhatOverlayfsShows) {
  const LayerInfo base =
      unpack_ok(TarBuild()
                    .dir("./", 0711, 1, 2)
                    .dir("a", 02750, 3, 4)
                    .file("a/gone")
                    .file("a/kept", std::string(100'000, 'k'), 04755)
                    .hard_link("a/kept2", "a/kept")
                    .dir("b")
                    .file("b/hidden")
                    .dir("c")
                    .file("c/in")
                    .file("d", "a file")
                    .symlink("lib", "a")
                    .add({.type = '3', .name = "null", .mode = 0666, .major = 1, .minor = 3})
                    .add({.type = '6', .name = "fifo", .mode = 0600})
                    .end());
  const LayerInfo middle = unpack_ok(TarBuild()
                                         .file("a/.wh.gone")
                                         .file("b/.wh..wh..opq")
                                         .file("b/own")
                                         .file("c", "a file now")
                                         .dir("d", 0700)
                                         .file("d/in")
                                         .end());
  const LayerInfo top = unpack_ok(TarBuild()
                                      .dir("c", 0750)
                                      .file("c/new")
                                      .file("lib/implied")
                                      .hard_link("x/link", "a/kept")
                                      .pax({{"SCHILY.xattr.user.a", "v"}, {"mtime", "-5.25"}})
                                      .file("odd\xff")
                                      .end());
  const auto dirs = resolve({base.diff_id, middle.diff_id, top.diff_id});
  const std::string copy = dir_.path() + "/copy";
  const std::string mounted = dir_.path() + "/mounted";
  ASSERT_TRUE(sys::make_dirs(copy, 0755).ok());
  ASSERT_TRUE(sys::make_dirs(mounted, 0755).ok());
  const sys::Fd into = sys::open(copy, O_RDONLY | O_DIRECTORY).value();
  const auto copied = LayerView::open(dirs)->copy_to(into);
  ASSERT_TRUE(copied.ok()) << copied.error().message();
  const sys::Fd overlay =
      sys::make_overlay({.lower_dirs = dirs, .upper_dir = {}, .work_dir = {}}).value();
  const auto compare = [&](const auto& self, const std::string& path) -> void {
    const sys::Fd shown = sys::open(overlay, path, O_RDONLY | O_DIRECTORY).value();
    std::vector<std::string> names = sys::list_dir(shown).value();
    std::vector<std::string> copied_names = sys::list_dir(copy + "/" + path).value();
    std::sort(names.begin(), names.end());
    std::sort(copied_names.begin(), copied_names.end());
    EXPECT_EQ(names, copied_names) << path;
    for (const std::string& name : names) {
      const std::string at = path + "/" + name;
      const Look a = look_at(cat("/proc/self/fd/", overlay.raw(), "/", at));
      const Look b = look_at(copy + "/" + at);
      EXPECT_EQ(a.mode, b.mode) << at;
      EXPECT_EQ(a.uid, b.uid) << at;
      EXPECT_EQ(a.gid, b.gid) << at;
      EXPECT_EQ(a.size, b.size) << at;
      EXPECT_EQ(a.device, b.device) << at;
      EXPECT_EQ(a.mtime.tv_sec, b.mtime.tv_sec) << at;
      EXPECT_EQ(a.mtime.tv_nsec, b.mtime.tv_nsec) << at;
      EXPECT_EQ(a.content, b.content) << at;
      EXPECT_EQ(a.xattrs, b.xattrs) << at;
      if (S_ISDIR(a.mode)) self(self, at);
    }
  };
  compare(compare, ".");
  EXPECT_EQ(look_at(copy).mode, 0711U | S_IFDIR);
  EXPECT_GE(look_at(copy + "/a/kept").links, 2U);
}

}  // namespace
}  // namespace fluyt::image
