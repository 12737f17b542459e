// fluyt-unpack: turns one layer's blob, on its standard input, into a tree; or an archive of images
// into its files (--form members). Started by fluytd for each, and by nobody else: descriptor 3 is
// the empty directory, descriptor 4 takes the report, descriptor 5 is the empty file for --form
// erofs or --manifest yes, descriptor 6 with
// --gives-way says when there are calls to give way to. It shuts itself in before it reads the
// first byte.
//
// Linked dynamically: Debian has ISA-L as a shared library alone, and the loader gives it a random
// address. All its libraries are loaded before it confines itself.

#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"
#include "confine.h"
#include "image/archive/members_unpack.h"
#include "image/blob/hasher.h"
#include "image/layer/unpack.h"
#include "sys/file.h"
#include "sys/precedence.h"
#include "sys/priority.h"

namespace fluyt {
namespace {

Result<uint64_t> number(std::string_view name, std::string_view value) {
  const auto parsed = parse_number<uint64_t>(value);
  if (parsed) return *parsed;
  return Error(Code::kInvalidArgument, cat(name, " ", quote(value), ": not a number"));
}

Result<bool> yes_or_no(std::string_view name, std::string_view value) {
  if (value == "yes" || value == "no") return value == "yes";
  return Error(Code::kInvalidArgument, cat(name, " ", quote(value), ": expected yes or no"));
}

struct Options : image::UnpackOptions {
  bool of_members = false;  // an archive's, and no layer's tree
};

Result<Options> parse_options(const std::vector<std::string_view>& args) {
  Options options;
  for (size_t i = 0; i < args.size(); i += 2) {
    const std::string_view name = args[i];
    if (i + 1 == args.size())
      return Error(Code::kInvalidArgument, cat(name, ": its value is missing"));
    const std::string_view value = args[i + 1];
    if (name == "--blob-algorithm") {
      options.blob_algorithm = value;
    } else if (name == "--diff-algorithm") {
      options.diff_algorithm = value;
    } else if (name == "--max-blob-bytes") {
      options.max_blob_bytes = FLUYT_TRY(number(name, value));
    } else if (name == "--max-unpacked-bytes") {
      options.max_unpacked_bytes = FLUYT_TRY(number(name, value));
    } else if (name == "--keep-free-bytes") {
      options.keep_free_bytes = FLUYT_TRY(number(name, value));
    } else if (name == "--max-entries") {
      options.tree.max_entries = FLUYT_TRY(number(name, value));
    } else if (name == "--form" && value == "members") {
      options.of_members = true;
    } else if (name == "--form") {
      options.form = FLUYT_TRY(image::parse_layer_form(value));
    } else if (name == "--manifest") {
      options.has_manifest = FLUYT_TRY(yes_or_no(name, value));
    } else if (name == "--gives-way") {
      if (!FLUYT_TRY(yes_or_no(name, value))) continue;
      auto way = FLUYT_TRY(sys::GiveWay::open(sys::FdRef(image::kPrecedenceFd)));
      options.between_steps = [way]() mutable { way.between_steps(); };
    } else {
      return Error(Code::kInvalidArgument, cat("unknown option ", quote(name)));
    }
  }
  return options;
}

struct Outcome {
  std::string report;
  bool ok = false;
};

template <class T>
Outcome told(const Result<T>& outcome) {
  return {to_report(outcome), outcome.ok()};
}

Result<Outcome> work(const std::vector<std::string_view>& args, sys::Fd tree) {
  const Options options = FLUYT_TRY(parse_options(args));
  // The library reads its configuration and picks its code for this CPU at the first use.
  FLUYT_TRY(image::digest_of(options.blob_algorithm, ""));
  FLUYT_TRY(image::digest_of(options.diff_algorithm, ""));
  umask(0);
  // A thread's own arena, when it shrinks, asks /proc/sys/vm/overcommit_memory, which from here on
  // would be the layer's: a FIFO there holds the thread for good. The first arena does not ask.
  mallopt(M_ARENA_MAX, 1);
  FLUYT_TRY_CONTEXT(confine(tree), "confine the unpacker");
  image::UnpackThreads threads;
  FLUYT_TRY_CONTEXT(confine_calls(), "confine the unpacker");
  const sys::FdRef in(STDIN_FILENO);
  if (options.of_members)
    return told(image::archive::unpack_members(in, tree, options.max_unpacked_bytes));
  return told(image::unpack(in, tree, sys::FdRef(image::kFileFd), options, threads));
}

// Out of memory is the one thing that the standard library throws at us here.
Outcome work_caught(const std::vector<std::string_view>& args, sys::Fd tree) {
  const auto failed = [](const Error& error) { return told(Result<image::LayerInfo>(error)); };
  try {
    auto outcome = work(args, std::move(tree));
    return outcome.ok() ? std::move(*outcome) : failed(outcome.error());
  } catch (const std::exception& error) {
    return failed({Code::kResourceExhausted, cat("unpack: ", error.what())});
  }
}

}  // namespace
}  // namespace fluyt

int main(int argc, char** argv) {
  using namespace fluyt;
  const std::vector<std::string_view> args(argv + 1, argv + argc);
  sys::Fd tree(image::kTreeFd);
  const sys::Fd report(image::kReportFd);
  if (!sys::stat_of(tree).ok() || !sys::stat_of(report).ok()) {
    fputs("fluyt-unpack is started by fluytd: it unpacks one layer or archive from its input\n",
          stderr);
    return 2;
  }
  sys::step_back();
  const Outcome outcome = work_caught(args, std::move(tree));
  const bool written = sys::write_all(report, outcome.report).ok();
  // Nothing is left to be done, and freeing a large tree's memory piece by piece takes its time.
  _exit(outcome.ok && written ? 0 : 1);
}
