#include "base/escapes.h"

#include <gtest/gtest.h>

namespace fluyt {
namespace {

TEST(OctalEscapes, AreBytes) {
  EXPECT_EQ(undo_octal_escapes(R"(/a\040b\012\134x)"), "/a b\n\\x");
  EXPECT_EQ(undo_octal_escapes(R"(\040)"), " ") << "at the very end";
  EXPECT_EQ(undo_octal_escapes(R"(\303\274)"), "\u00fc");
}

TEST(OctalEscapes, WhatIsNoneStays) {
  for (const std::string_view plain :
       {"", "/a", R"(\)", R"(\04)", R"(\048)", R"(\777)", R"(\+12)", R"(\x40)"})
    EXPECT_EQ(undo_octal_escapes(plain), plain);
}

}  // namespace
}  // namespace fluyt
