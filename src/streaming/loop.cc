#include "streaming/loop.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>

#include "sys/file.h"

namespace fluyt::streaming {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

class AsioTimer final : public Loop::Timer {
 public:
  AsioTimer(asio::io_context& context, int64_t ms, std::function<void()> then) : timer_(context) {
    timer_.expires_after(std::chrono::milliseconds(ms));
    timer_.async_wait([alive = std::weak_ptr<char>(alive_), then = std::move(then)](error_code) {
      if (alive.lock()) then();
    });
  }

 private:
  // Who cancels a timer that has fired already is called all the same: hence this.
  std::shared_ptr<char> alive_ = std::make_shared<char>();
  asio::steady_timer timer_;
};

class AsioWatch final : public Loop::Watch {
 public:
  AsioWatch(asio::io_context& context, sys::Fd fd) : descriptor_(context, fd.release()) {}

  sys::FdRef fd() const override {
    return sys::FdRef(const_cast<asio::posix::stream_descriptor&>(descriptor_).native_handle());
  }
  void when_readable(std::function<void()> then) override {
    wait(asio::posix::stream_descriptor::wait_read, std::move(then));
  }
  void when_writable(std::function<void()> then) override {
    wait(asio::posix::stream_descriptor::wait_write, std::move(then));
  }

 private:
  void wait(asio::posix::stream_descriptor::wait_type what, std::function<void()> then) {
    descriptor_.async_wait(
        what, [alive = std::weak_ptr<char>(alive_), then = std::move(then)](error_code) {
          if (alive.lock()) then();
        });
  }

  std::shared_ptr<char> alive_ = std::make_shared<char>();
  asio::posix::stream_descriptor descriptor_;
};

class AsioLoop final : public Loop {
 public:
  void run() override {
    const auto work = asio::make_work_guard(context_);
    context_.run();
  }
  void stop() override { context_.stop(); }
  void post(std::function<void()> work) override { asio::post(context_, std::move(work)); }
  std::unique_ptr<Timer> after(int64_t ms, std::function<void()> then) override {
    return std::make_unique<AsioTimer>(context_, ms, std::move(then));
  }
  Result<std::unique_ptr<Watch>> watch(sys::Fd fd) override {
    FLUYT_TRY(sys::set_nonblocking(fd, true));
    return std::unique_ptr<Watch>(std::make_unique<AsioWatch>(context_, std::move(fd)));
  }
  asio::io_context& context() override { return context_; }

 private:
  asio::io_context context_{1};
};

}  // namespace

std::unique_ptr<Loop> Loop::create() { return std::make_unique<AsioLoop>(); }

}  // namespace fluyt::streaming
