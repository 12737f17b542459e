#include "base/program.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>

namespace fluyt {
namespace {

/// A file system of a few paths, each with the errno that executing it gives.
IsExecutable only(std::map<std::string, int> paths) {
  return [paths = std::move(paths)](const std::string& path) -> Result<> {
    const auto found = paths.find(path);
    const int why = found == paths.end() ? ENOENT : found->second;
    if (why == 0) return {};
    return Error::from_errno(why, "open(" + path + ")");
  };
}

TEST(FindVariable, TheLastOneCountsAndPrefixesAreOthers) {
  const std::vector<std::string> all = {"HOME=/a", "HOMES=/b", "HOME=/c", "HOM=/d", "EMPTY="};
  ASSERT_NE(find_variable(all, "HOME"), nullptr);
  EXPECT_EQ(*find_variable(all, "HOME"), "HOME=/c");
  EXPECT_EQ(*find_variable(all, "EMPTY"), "EMPTY=");
  EXPECT_EQ(find_variable(all, "HO"), nullptr);
  EXPECT_EQ(find_variable({}, "HOME"), nullptr);
}

TEST(FindHome, IsTheSixthFieldOfTheUsersLine) {
  constexpr std::string_view kText =
      "root:x:0:0:root:/root:/bin/sh\n"
      "short:x:7\n"
      "odd:x:12x:1::/wrong:/bin/sh\n"
      "sailor:x:1000:1000::/home/sailor\n"
      "again:x:1000:1000::/later:/bin/sh\n"
      "none:x:8:8:::/bin/sh\n"
      "bad:x:9:9::/a\tb:/bin/sh\n";
  EXPECT_EQ(find_home(kText, 0), "/root");
  EXPECT_EQ(find_home(kText, 1000), "/home/sailor");
  EXPECT_EQ(find_home(kText, 7), "/");
  EXPECT_EQ(find_home(kText, 8), "/");
  EXPECT_EQ(find_home(kText, 9), "/") << "a control character would go into the environment";
  EXPECT_EQ(find_home(kText, 12), "/");
  EXPECT_EQ(find_home("", 0), "/");
}

TEST(FindProgram, APathIsTakenAsItIs) {
  const auto there = only({{"./x", 0}, {"/secret", EACCES}, {"/a/b", ENOTDIR}, {"/odd", EIO}});
  EXPECT_EQ(find_program("./x", {"PATH=/bin"}, there).value(), "./x");
  const auto missing = find_program("/none", {}, there);
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_EQ(missing.error().message(), "process.args[0]: \"/none\": no such file or directory");
  EXPECT_EQ(find_program("/a/b", {}, there).error().code(), Code::kNotFound);
  const auto refused = find_program("/secret", {}, there);
  EXPECT_EQ(refused.error().code(), Code::kPermissionDenied);
  EXPECT_TRUE(refused.error().message().starts_with(
      "process.args[0]: \"/secret\": permission denied: open(/secret)"))
      << refused.error().message();
  EXPECT_EQ(find_program("/odd", {}, there).error().code(), Error::from_errno(EIO, "").code());
}

TEST(FindProgram, ANameIsLookedForInTheFoldersOfPath) {
  const auto there = only({{"/usr/bin/x", 0}, {"/opt/x", EACCES}, {"/last/x", 0}, {"/x", 0}});
  EXPECT_EQ(find_program("x", {}, there).value(), "/usr/bin/x") << "the usual folders";
  EXPECT_EQ(find_program("x", {"PATH=/none:/last:/usr/bin"}, there).value(), "/last/x");
  EXPECT_EQ(find_program("x", {"PATH=/opt:/last"}, there).value(), "/last/x");
  EXPECT_EQ(find_program("x", {"PATH=/opt:/none"}, there).error().code(), Code::kPermissionDenied);
  const auto missing = find_program("y", {"PATH=/opt:/none"}, there);
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_EQ(missing.error().message(),
            "process.args[0]: \"y\": executable file not found in $PATH \"/opt:/none\"");
}

TEST(FindProgram, AnEmptyFolderIsNotTheWorkingDirectory) {
  EXPECT_FALSE(find_program("x", {"PATH=:"}, only({{"x", 0}, {"/x", 0}, {"./x", 0}})).ok());
  EXPECT_FALSE(find_program("x", {"PATH="}, only({{"x", 0}, {"/x", 0}, {"/bin/x", 0}})).ok());
}

}  // namespace
}  // namespace fluyt
