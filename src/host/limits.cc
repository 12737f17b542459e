#include <algorithm>
#include <cstdint>

#include "base/strings.h"
#include "host/probe.h"
#include "sys/file.h"

namespace fluyt::host {

namespace {

// A limit of the kernel's for the whole host, and how much of it a pod may take in ordinary use.
struct Limit {
  const char* name;
  const char* sysctl;
  uint64_t a_pod;
  uint64_t at_least;
  const char* loses;
};
constexpr Limit kLimits[] = {
    {"inotify instances", "fs.inotify.max_user_instances", 4, 1024,
     "programs in pods that watch files fail: all that run as root share these"},
    {"inotify watches", "fs.inotify.max_user_watches", 200, 65'536,
     "programs in pods that watch files fail: all that run as root share these"},
    {"process ids", "kernel.pid_max", 200, 65'536, "fork fails in every pod when they are used up"},
    {"threads", "kernel.threads-max", 200, 65'536, "fork fails in every pod when they are used up"},
    {"open files", "fs.file-max", 2'000, 1U << 20U,
     "open fails in every pod when they are used up"},
    {"open files a process", "fs.nr_open", 0, 1U << 20U,
     "fluytd's unit asks for this many (LimitNOFILE)"},
};

std::string path_of(const Options& options, std::string name) {
  for (char& c : name) {
    if (c == '.') c = '/';
  }
  return cat(options.proc, "/sys/", name);
}

Result<uint64_t> read_limit(const Options& options, const char* sysctl) {
  constexpr size_t kMax = 64;
  const std::string path = path_of(options, sysctl);
  const std::string text = FLUYT_TRY(sys::read_file(path, kMax));
  const auto value = parse_number<uint64_t>(trim(text));
  if (value) return *value;
  return Error(Code::kDataLoss, cat(path, ": ", quote(trim(text)), " is no number"));
}

void examine(const Options& options, const Limit& limit, Findings& findings) {
  const uint64_t wanted = std::max(limit.at_least, limit.a_pod * options.pods);
  Findings::About about{.name = limit.name,
                        .loses = limit.loses,
                        .remedy = cat("sysctl -w ", limit.sysctl, "=", wanted)};
  const auto value = read_limit(options, limit.sysctl);
  if (!value.ok()) return findings.add(std::move(about), value.error());
  const bool enough = *value >= wanted;
  std::string found = cat(*value);
  if (!enough) found += cat(limit.a_pod == 0 ? "" : cat(": low for ", options.pods, " pods"));
  findings.add(std::move(about), enough ? Has::kYes : Has::kPartly, std::move(found));
}

}  // namespace

void examine_limits(const Options& options, Findings findings) {
  for (const Limit& limit : kLimits) examine(options, limit, findings);
  // Of the three only the strict one is worth a word: overcommitting is what pods' limits are for.
  const auto overcommit = read_limit(options, "vm.overcommit_memory");
  if (overcommit.ok() && *overcommit == 2) {
    findings.add({.name = "overcommit",
                  .loses = "memory that programs only reserve counts as used: mmap fails early",
                  .remedy = "sysctl -w vm.overcommit_memory=1"},
                 Has::kPartly, "vm.overcommit_memory is 2");
  }
}

}  // namespace fluyt::host
