#include "cmd/fluyt/check/abilities.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace fluyt::cli {
namespace {

using host::Ability;
using host::Has;
using host::Need;

std::vector<Ability> some() {
  return {{.group = "files",
           .name = "overlayfs",
           .need = Need::kPods,
           .has = Has::kYes,
           .found = "on ext4"},
          {.group = "files",
           .name = "erofs",
           .has = Has::kNo,
           .found = "fsopen(\"erofs\") = ENODEV",
           .loses = "no images",
           .remedy = "modprobe erofs"},
          {.group = "limits",
           .name = "pids",
           .has = Has::kPartly,
           .found = "32768",
           .loses = "few",
           .remedy = ""}};
}

TEST(Abilities, AreAlignedWithWhatToDoBelow) {
  EXPECT_EQ(abilities_text(some(), Shown::kAll),
            "files\n"
            "  overlayfs   yes      on ext4\n"
            "  erofs       no       fsopen(\"erofs\") = ENODEV\n"
            "                       no images\n"
            "                       to do: modprobe erofs\n"
            "\n"
            "limits\n"
            "  pids        partly   32768\n"
            "                       few\n"
            "\n"
            "everything that pods need is there\n");
}

TEST(Abilities, QuietLeavesOutWhatIsThereAndNamesWhatPodsNeed) {
  auto all = some();
  all[0].has = Has::kNo;
  all[0].loses = "no roots";
  EXPECT_EQ(abilities_text({all[0]}, Shown::kMissing),
            "files\n"
            "  overlayfs   no       on ext4\n"
            "                       no roots\n"
            "\n"
            "missing, and needed by pods: overlayfs\n");
  EXPECT_EQ(abilities_text({some()[0]}, Shown::kMissing), "everything that pods need is there\n");
}

TEST(Abilities, WhatOthersChoseIsEscaped) {
  auto all = some();
  all[0].found = "\x1b[2J";
  EXPECT_EQ(abilities_text(all, Shown::kAll).find('\x1b'), std::string::npos);
}

TEST(Abilities, AreDataToo) {
  auto all = some();
  all[0].has = Has::kNo;
  const auto json = nlohmann::json::parse(abilities_json(all, Shown::kAll));
  EXPECT_EQ(json["missing"], nlohmann::json({"overlayfs"}));
  ASSERT_EQ(json["abilities"].size(), 3U);
  EXPECT_EQ(json["abilities"][1], (nlohmann::json{{"group", "files"},
                                                  {"name", "erofs"},
                                                  {"needed", false},
                                                  {"has", "no"},
                                                  {"found", "fsopen(\"erofs\") = ENODEV"},
                                                  {"loses", "no images"},
                                                  {"remedy", "modprobe erofs"}}));
  EXPECT_EQ(nlohmann::json::parse(abilities_json(some(), Shown::kMissing))["abilities"].size(), 2U);
}

}  // namespace
}  // namespace fluyt::cli
