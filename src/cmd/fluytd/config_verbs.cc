#include "config_verbs.h"

#include <cstdio>

#include "base/strings.h"
#include "cmd/fluytd/config/print.h"

namespace fluyt::daemon {
namespace {

int print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return std::fflush(stdout) == 0 ? 0 : 1;
}

int say(const Problems& problems) {
  for (const Problem& problem : problems) std::fprintf(stderr, "%s\n", problem.text().c_str());
  return problems.empty() ? 0 : 1;
}

}  // namespace

int print_default_config() { return print(default_config()); }

int check_config(const Invocation& invocation) {
  const Loaded loaded = load(invocation);
  if (!loaded.problems.empty()) return say(loaded.problems);
  if (loaded.config.files.empty()) return print("no file: defaults\n");
  return print(cat(join(loaded.config.files, "\n"), "\nno errors\n"));
}

int dump_config(const Invocation& invocation) {
  const Loaded loaded = load(invocation);
  return loaded.problems.empty() ? print(dump(loaded.config)) : say(loaded.problems);
}

}  // namespace fluyt::daemon
