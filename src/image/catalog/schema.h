#pragma once

#include "base/result.h"

namespace fluyt::image {

class Database;

/// The version of the tables that this program writes (PRAGMA user_version).
inline constexpr int kCatalogVersion = 3;

/// Makes the tables of a new file, or brings an older one up to kCatalogVersion, in one
/// transaction.
Result<> migrate(Database& database);

}  // namespace fluyt::image
