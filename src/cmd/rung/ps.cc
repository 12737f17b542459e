#include "cmd/rung/ps.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>

#include "base/strings.h"

namespace fluyt::rung {

namespace {

using guest::ProcessRow;

constexpr int64_t kSecondMs = 1000;

std::string two_digits(int64_t value) { return cat(value < 10 ? "0" : "", value); }

// "01:02:03", with days before it where there are any.
std::string hours(int64_t seconds) {
  const int64_t days = seconds / 86400;
  return cat(days > 0 ? cat(days, "-") : "", two_digits(seconds / 3600 % 24), ":",
             two_digits(seconds / 60 % 60), ":", two_digits(seconds % 60));
}

// The hour of a start of the last day, else the day.
std::string start_of(const ProcessRow& row, int64_t now_s) {
  const time_t began = now_s - row.age_ms / kSecondMs;
  tm parts{};
  localtime_r(&began, &parts);
  std::array<char, 16> text{};
  const bool today = row.age_ms < 86400 * kSecondMs;
  std::strftime(text.data(), text.size(), today ? "%H:%M" : "%b%d", &parts);
  return text.data();
}

int64_t percent_of(const ProcessRow& row) {
  return row.used_ms * 100 / std::max<int64_t>(row.age_ms, 1);
}

enum class Side : uint8_t { kLeft, kRight };

struct Column {
  std::string_view name;  // in -o
  std::string_view heading;
  Side side;
  std::string (*value)(const ProcessRow&, int64_t now_s);
};

constexpr std::array kColumns = std::to_array<Column>({
    {"pid", "PID", Side::kRight, [](const ProcessRow& r, int64_t) { return cat(r.pid); }},
    {"ppid", "PPID", Side::kRight, [](const ProcessRow& r, int64_t) { return cat(r.parent); }},
    {"pgid", "PGID", Side::kRight, [](const ProcessRow& r, int64_t) { return cat(r.group); }},
    {"sid", "SID", Side::kRight, [](const ProcessRow& r, int64_t) { return cat(r.session); }},
    // Names are the image's: numbers are what is known.
    {"user", "USER", Side::kLeft, [](const ProcessRow& r, int64_t) { return cat(r.uid); }},
    {"uid", "UID", Side::kLeft, [](const ProcessRow& r, int64_t) { return cat(r.uid); }},
    {"gid", "GID", Side::kLeft, [](const ProcessRow& r, int64_t) { return cat(r.gid); }},
    {"tty", "TTY", Side::kLeft, [](const ProcessRow& r, int64_t) { return r.terminal; }},
    {"s", "S", Side::kLeft, [](const ProcessRow& r, int64_t) { return std::string(1, r.state); }},
    {"stat", "STAT", Side::kLeft,
     [](const ProcessRow& r, int64_t) {
       return cat(std::string(1, r.state),
                  r.nice < 0   ? "<"
                  : r.nice > 0 ? "N"
                               : "",
                  r.session == r.pid ? "s" : "", r.threads > 1 ? "l" : "");
     }},
    {"nice", "NI", Side::kRight, [](const ProcessRow& r, int64_t) { return cat(r.nice); }},
    {"nlwp", "NLWP", Side::kRight, [](const ProcessRow& r, int64_t) { return cat(r.threads); }},
    {"c", "C", Side::kRight, [](const ProcessRow& r, int64_t) { return cat(percent_of(r)); }},
    {"pcpu", "%CPU", Side::kRight, [](const ProcessRow& r, int64_t) { return cat(percent_of(r)); }},
    {"vsz", "VSZ", Side::kRight,
     [](const ProcessRow& r, int64_t) { return cat(r.mapped_bytes / 1024); }},
    {"rss", "RSS", Side::kRight,
     [](const ProcessRow& r, int64_t) { return cat(r.usable_bytes / 1024); }},
    {"stime", "STIME", Side::kLeft, start_of},
    {"start", "START", Side::kLeft, start_of},
    {"etime", "ELAPSED", Side::kRight,
     [](const ProcessRow& r, int64_t) { return hours(r.age_ms / kSecondMs); }},
    {"time", "TIME", Side::kRight,
     [](const ProcessRow& r, int64_t) { return hours(r.used_ms / kSecondMs); }},
    {"comm", "COMMAND", Side::kLeft, [](const ProcessRow& r, int64_t) { return r.name; }},
    {"cmd", "CMD", Side::kLeft, [](const ProcessRow& r, int64_t) { return r.arguments; }},
    {"args", "COMMAND", Side::kLeft, [](const ProcessRow& r, int64_t) { return r.arguments; }},
});

Result<std::vector<const Column*>> columns_of(std::string_view names) {
  std::vector<const Column*> out;
  for (const std::string_view name : split(names, ',')) {
    const auto* found = std::ranges::find(kColumns, name, &Column::name);
    if (found == kColumns.end()) {
      std::string all;
      for (const Column& column : kColumns) all += cat(all.empty() ? "" : " ", column.name);
      return Error(Code::kInvalidArgument,
                   cat("ps: column ", quote(name), ": expected some of ", all));
    }
    out.push_back(found);
  }
  return out;
}

Result<std::vector<const Column*>> wanted(const std::vector<std::string>& options) {
  std::string names;
  for (size_t i = 0; i < options.size(); ++i) {
    std::string_view word = options[i];
    if (word.starts_with('-')) word.remove_prefix(1);
    if (word.empty() || word == "ef" || word == "e" || word == "f" || word == "A") continue;
    if (word == "aux") {
      names = "user,pid,pcpu,vsz,rss,tty,stat,start,time,args";
      continue;
    }
    if (word.starts_with('e')) word.remove_prefix(1);
    if (word.starts_with('o'))
      word.remove_prefix(1);
    else
      return Error(Code::kInvalidArgument,
                   cat("ps: option ", quote(options[i]), ": expected -ef, aux or -o"));
    if (word.empty() && i + 1 < options.size()) word = options[++i];
    names += cat(names.empty() ? "" : ",", word);
  }
  return columns_of(names.empty() ? "uid,pid,ppid,c,stime,tty,time,cmd" : names);
}

}  // namespace

Result<std::string> print_processes(const std::vector<ProcessRow>& rows,
                                    const std::vector<std::string>& options, int64_t now_s) {
  const std::vector<const Column*> columns = FLUYT_TRY(wanted(options));
  std::vector<std::vector<std::string>> cells(rows.size() + 1);
  for (const Column* column : columns) cells[0].emplace_back(column->heading);
  for (size_t i = 0; i < rows.size(); ++i)
    for (const Column* column : columns) cells[i + 1].push_back(column->value(rows[i], now_s));
  std::vector<size_t> widths(columns.size());
  for (const auto& row : cells)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string out;
  for (const auto& row : cells) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string gap(widths[i] - row[i].size(), ' ');
      if (i != 0) out += ' ';
      if (columns[i]->side == Side::kRight) out += gap;
      out += row[i];
      if (columns[i]->side == Side::kLeft && i + 1 != row.size()) out += gap;
    }
    out += '\n';
  }
  return out;
}

}  // namespace fluyt::rung
