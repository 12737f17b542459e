#pragma once

#include "fluyt/v1/control.pb.h"
#include "image/library.h"

/// The image store's values to messages and back.
namespace fluyt::control {

void fill(const image::Image& image, v1::Image& message);
void fill(const image::OneOfSeveral& one, v1::OneOfSeveral& message);
void fill(const image::ImageDetail& detail, v1::ImageDetail& message);
image::Credentials credentials_of(const v1::Credentials& message);

}  // namespace fluyt::control
