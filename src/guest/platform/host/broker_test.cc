#include "guest/platform/host/broker.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest/platform/host/io.h"

namespace fluyt::guest::host {
namespace {

TEST(BrokerSettings, AreThoseOfTheListAlone) {
  std::string folder = "/tmp/fluyt-settings-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  {
    auto procfs = open_procfs();
    ASSERT_TRUE(procfs.ok());
    auto broker =
        Broker::start(folder, *procfs, {"kernel/shmmni", "kernel/nothing", "net/core/somaxconn"});
    ASSERT_TRUE(broker.ok()) << broker.error().message();
    const auto text = [&](size_t index) {
      const ErrnoOr<sys::Fd> file = (*broker)->open_setting(index);
      return file.ok() ? text_of(file.value()) : std::to_string(file.error().value());
    };
    EXPECT_EQ(text(0), host_text(*procfs, "sys/kernel/shmmni"));
    EXPECT_EQ(text(1), std::to_string(ENOENT));
    EXPECT_EQ(text(2), host_text(*procfs, "sys/net/core/somaxconn"));
    EXPECT_EQ(text(3), std::to_string(ENOENT));
    EXPECT_TRUE((*broker)->find_root().ok());
  }
  {
    auto procfs = open_procfs();
    auto broker = Broker::start(folder, *procfs);
    ASSERT_TRUE(broker.ok());
    EXPECT_EQ((*broker)->open_setting(0).error(), Errno(ENOENT));
  }
  rmdir(folder.c_str());
}

}  // namespace
}  // namespace fluyt::guest::host
