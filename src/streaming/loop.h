#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "sys/fd.h"

namespace boost::asio {
class io_context;
}

namespace fluyt::streaming {

/// The one thread on which every connection, pipe and timer of this module lives: nothing here is
/// locked, and nothing here may block. All but post() and stop() belong to that thread.
class Loop {
 public:
  /// Destroying it means that it is not called any more.
  class Timer {
   public:
    virtual ~Timer() = default;
  };
  /// A descriptor that is waited for. Destroying it closes the descriptor, and means that nobody is
  /// called any more.
  class Watch {
   public:
    virtual ~Watch() = default;
    virtual sys::FdRef fd() const = 0;
    /// Once, soon after it can be read (written) without blocking, or is broken. One at a time.
    virtual void when_readable(std::function<void()> then) = 0;
    virtual void when_writable(std::function<void()> then) = 0;
  };

  static std::unique_ptr<Loop> create();
  virtual ~Loop() = default;
  /// Runs until stop(). What was not done by then is dropped.
  virtual void run() = 0;
  virtual void stop() = 0;
  virtual void post(std::function<void()> work) = 0;
  virtual std::unique_ptr<Timer> after(int64_t ms, std::function<void()> then) = 0;
  /// Takes a pipe, socket or terminal, and makes it non-blocking.
  virtual Result<std::unique_ptr<Watch>> watch(sys::Fd fd) = 0;
  virtual boost::asio::io_context& context() = 0;
};

}  // namespace fluyt::streaming
