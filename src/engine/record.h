#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/model.h"

/// Sandboxes and containers as the database keeps them: JSON of this version of fluyt. A field that
/// a record lacks gets its default, one that is unknown is ignored, so that one release back and
/// forth can be read.
namespace fluyt::engine {

std::string to_record(const Sandbox& sandbox);
std::string to_record(const Container& container);
/// kDataLoss, with what is wrong, for bytes that are no record.
Result<Sandbox> parse_sandbox_record(std::string_view bytes);
Result<Container> parse_container_record(std::string_view bytes);

}  // namespace fluyt::engine
