#include "guest/sandbox/processes.h"

#include "base/strings.h"

namespace fluyt::guest {
namespace {

constexpr size_t kFields = 16;

std::string printable(std::string text) {
  for (char& byte : text)
    if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f) byte = '?';
  return text;
}

template <class T>
bool read(std::string_view field, T& to) {
  const auto value = parse_number<T>(field);
  if (value) to = *value;
  return value.has_value();
}

}  // namespace

std::string to_text(const std::vector<ProcessRow>& rows) {
  std::string out;
  for (const ProcessRow& row : rows) {
    out += cat(row.pid, "\t", row.parent, "\t", row.group, "\t", row.session, "\t", row.uid, "\t",
               row.gid, "\t", row.terminal, "\t", std::string(1, row.state), "\t", row.nice, "\t",
               row.threads, "\t");
    out += cat(row.age_ms, "\t", row.used_ms, "\t", row.mapped_bytes, "\t", row.usable_bytes, "\t",
               printable(row.name), "\t", printable(row.arguments), "\n");
  }
  return out;
}

Result<std::vector<ProcessRow>> parse_processes(std::string_view text) {
  std::vector<ProcessRow> out;
  for (const std::string_view line : split(text, '\n')) {
    if (line.empty()) continue;
    const auto fields = split(line, '\t');
    ProcessRow row;
    const bool whole = fields.size() == kFields && read(fields[0], row.pid) &&
                       read(fields[1], row.parent) && read(fields[2], row.group) &&
                       read(fields[3], row.session) && read(fields[4], row.uid) &&
                       read(fields[5], row.gid) && fields[7].size() == 1 &&
                       read(fields[8], row.nice) && read(fields[9], row.threads) &&
                       read(fields[10], row.age_ms) && read(fields[11], row.used_ms) &&
                       read(fields[12], row.mapped_bytes) && read(fields[13], row.usable_bytes);
    if (!whole)
      return Error(Code::kInvalidArgument,
                   cat("processes of a container: expected a row, have ", quote(line)));
    row.terminal = fields[6];
    row.state = fields[7][0];
    row.name = fields[14];
    row.arguments = fields[15];
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace fluyt::guest
