#include <unistd.h>

#include <cstdio>

#include "cmd/rung/launcher.h"
#include "cmd/rung/rung.h"
#include "guest/sys/table.h"

// rung: the runtime whose containers run on a guest kernel. Its command line is runf's, with `do`,
// which runs one program, and `syscalls`, which prints what the guest kernel has.

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  const std::string_view command = words.empty() ? std::string_view() : words[0];
  const std::vector<std::string_view> rest(words.empty() ? words.end() : words.begin() + 1,
                                           words.end());
  if (command == fluyt::rung::kSentry) fluyt::rung::run_sentry(rest);
  if (command == fluyt::rung::kKeeper) fluyt::rung::run_keeper(rest);
  if (command == fluyt::rung::kMember) fluyt::rung::run_member(rest);
  if (command == "do") {
    const int code = fluyt::rung::run_do(rest);
    std::fflush(nullptr);
    _exit(code);  // the sandbox's threads end with us
  }
  if (command == "syscalls") {
    std::fputs(fluyt::guest::describe_calls().c_str(), stdout);
    return 0;
  }
  fluyt::rung::Rung rung;
  const int code = fluyt::commands::run_program(argc, argv, rung);
  std::fflush(nullptr);
  _exit(code);
}
