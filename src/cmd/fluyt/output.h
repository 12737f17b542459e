#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace google::protobuf {
class Message;
}

namespace fluyt::cli {

/// "table" or "json"; anything else is a usage error.
enum class Format { kTable, kJson };
Result<Format> parse_format(const std::string& text);

/// A message as JSON over several lines, with every field; no newline at its end. JSON that CRI
/// puts into text (the `info` of a verbose status) is shown as JSON.
std::string to_json(const google::protobuf::Message& message);
/// Several as one list.
std::string to_json(const std::vector<const google::protobuf::Message*>& messages);

void print(const std::string& text);
/// "fluyt: ..." on standard error.
void complain(const Error& error);

}  // namespace fluyt::cli
