#pragma once

#include <span>

#include "guest/vfs/file.h"

/// An ioctl's structure, from and to the caller's memory.
namespace fluyt::guest {

template <class T>
Errno copy_out(Caller& caller, uint64_t address, const T& value) {
  return caller.memory != nullptr &&
                 caller.memory->write(address, std::as_bytes(std::span(&value, 1))) == sizeof value
             ? kOk
             : Errno(EFAULT);
}
template <class T>
Errno copy_in(Caller& caller, uint64_t address, T& value) {
  return caller.memory != nullptr &&
                 caller.memory->read(address, std::as_writable_bytes(std::span(&value, 1))) ==
                     sizeof value
             ? kOk
             : Errno(EFAULT);
}

}  // namespace fluyt::guest
