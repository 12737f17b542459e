#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/archive/members.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace fluyt::image::archive {

struct Member {
  size_t number = 0;  // the file's name in the scratch folder
  MemberInfo info;
};

/// What a tar's members became, by clean names without NULs.
struct MemberTable {
  std::map<std::string, Member> files;
  std::map<std::string, std::string> links;  // clean name to clean name
};

/// What a worker does (`fluyt-unpack --form members`): reads a tar, plain or compressed, from `in`
/// to its end, and writes its regular files to `scratch`, an empty folder, each under a number.
/// Errors as open_tar().
Result<MemberTable> unpack_members(sys::FdRef in, sys::FdRef scratch, uint64_t limit_bytes);

/// What they are to others, with the folder that they lie in.
Result<std::unique_ptr<Members>> members_in(sys::TempDir scratch, MemberTable table);

/// How the worker tells its caller what came of it, in at most kMaxReportBytes.
std::string to_report(const Result<MemberTable>& outcome);
Result<MemberTable> parse_members_report(std::string_view report);

}  // namespace fluyt::image::archive
