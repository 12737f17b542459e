#pragma once

#include "cri/api.h"
// after api.h
#include "base/result.h"
#include "image/image_store.h"

namespace fluyt::cri {

/// The credentials of a pull. `auth` is base64 of "user:password", as Docker's configuration has
/// it; username and password win over it.
Result<image::Credentials> credentials_of(const api::AuthConfig& auth);

}  // namespace fluyt::cri
