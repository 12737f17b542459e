#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/resolve.h"
#include "cmd/fluyt/terminal.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/log_file.h"
#include "cmd/fluyt/text/log_line.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

// How often a followed container is asked about, when its log says nothing.
constexpr int kLookMs = 500;
constexpr size_t kMaxPending = 64 * 1024;

class Logs final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("CONTAINER", container_, Options::Need::kRequired);
    options.flag("-f,--follow", follow_, "go on until the container ends");
    options.value("-n,--tail", tail_, "LINES", "the last so many lines only (all)");
    options.value("--since", since_, "TIME", "only from then: 10m, 1h30m or 2026-01-02T03:04:05Z");
    options.flag("-t,--timestamps", timestamps_, "show when each line was written");
  }

  Result<int> run(Context& context) override {
    LogFilter filter;
    if (tail_ != "all") {
      filter.tail = parse_number<uint32_t>(tail_);
      if (!filter.tail) return context.usage(cat("--tail: ", quote(tail_, 64), " is not a number"));
    }
    if (!since_.empty()) {
      const auto since = parse_since(since_, now_unix_ns());
      if (!since.ok()) return context.usage(cat("--since: ", since.error().message()));
      filter.since = *since;
    }
    Client* client = FLUYT_TRY(context.client());
    const std::string id = FLUYT_TRY(find_container(*client, container_)).id();
    const auto status = FLUYT_TRY(client->container_status(id));
    LogFile file = FLUYT_TRY(open(status.status().log_path()));
    FLUYT_TRY(show_past(file, filter));
    if (follow_) FLUYT_TRY(follow(*client, id, file, filter));
    std::vector<LogLine> rest;
    reader_.finish(rest);
    show(rest, filter);
    return 0;
  }

 private:
  Result<LogFile> open(const std::string& path) const {
    if (path.empty()) {
      return Error(Code::kNotFound, cat("container ", quote(container_), " keeps no log"));
    }
    return FLUYT_TRY_CONTEXT(LogFile::open(path),
                             "the log is on fluytd's host, and cannot be read from here");
  }

  // Only as many lines as were asked for are kept while a long log is read.
  Result<> show_past(LogFile& file, const LogFilter& filter) {
    std::vector<LogLine> lines;
    const size_t keep = filter.tail.value_or(0);
    FLUYT_TRY(file.read_available([&](std::string_view bytes) {
      reader_.feed(bytes, lines);
      if (!filter.tail) {
        show(lines, filter);
        lines.clear();
      } else if (lines.size() > keep) {
        lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(keep));
      }
    }));
    for (const LogLine& line : select(std::move(lines), filter)) show(line);
    flush();
    return {};
  }

  Result<> follow(Client& client, const std::string& id, LogFile& file, const LogFilter& filter) {
    const LogFilter all{.tail = {}, .since = filter.since};
    bool running = true;
    while (!closed_) {
      std::vector<LogLine> lines;
      FLUYT_TRY(file.read_available([&](std::string_view bytes) { reader_.feed(bytes, lines); }));
      show(lines, all);
      if (!running) return {};
      FLUYT_TRY(file.wait(kLookMs));
      const auto status = client.container_status(id);
      // Removed while we followed: what it wrote was shown. One more look for what came last.
      running = status.ok() && status->status().state() != cri::CONTAINER_EXITED;
      if (!status.ok() && status.error().code() != Code::kNotFound) return status.error();
    }
    return {};
  }

  void show(const std::vector<LogLine>& lines, const LogFilter& filter) {
    for (const LogLine& line : lines) {
      if (line.time >= filter.since) show(line);
    }
    flush();
  }

  void show(const LogLine& line) {
    const Stream stream = line.is_stderr ? Stream::kErr : Stream::kOut;
    // One write for many lines, but the streams' order is kept.
    if (stream != pending_stream_ || pending_.size() > kMaxPending) flush();
    pending_stream_ = stream;
    const auto timestamps = timestamps_ ? Timestamps::kShown : Timestamps::kNone;
    const bool terminal = line.is_stderr ? err_is_terminal_ : out_is_terminal_;
    if (!terminal) {
      // A file or a pipe gets the bytes as they were.
      pending_ += format_log_line(line, timestamps);
      return;
    }
    LogLine shown = line;
    shown.text = printable_log(line.text);
    pending_ += format_log_line(shown, timestamps);
  }

  void flush() {
    if (!pending_.empty() && !write_out(pending_stream_, pending_)) closed_ = true;
    pending_.clear();
  }

  std::string container_;
  std::string tail_ = "all";
  std::string since_;
  bool follow_ = false;
  bool timestamps_ = false;
  bool closed_ = false;  // nobody reads us any more
  const bool out_is_terminal_ = is_terminal(Stream::kOut);
  const bool err_is_terminal_ = is_terminal(Stream::kErr);
  LogReader reader_;
  std::string pending_;
  Stream pending_stream_ = Stream::kOut;
};

}  // namespace

CommandInfo logs_command() {
  return {.name = "logs",
          .arguments = "[OPTIONS] CONTAINER",
          .summary = "Show what a container has written",
          .details =
              "What went to its standard error goes to standard error here.\n\n"
              "Examples:\n"
              "  fluyt logs web\n"
              "  fluyt logs -f --tail 20 web\n"
              "  fluyt logs --since 10m -t web",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Logs>()); }};
}

}  // namespace fluyt::cli
