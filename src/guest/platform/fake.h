#pragma once

#include <atomic>
#include <functional>
#include <initializer_list>
#include <memory>

#include "guest/platform/platform.h"

/// A platform without processes, for tests and fuzzing: memory is a map of pages, and what the
/// guest thread does next is said by a function.
namespace fluyt::guest {

class FakeContext;

/// What a guest thread does when it is let go: the next event. `thread` shows the registers, the
/// value that the last call returned among them (rax).
using FakeProgram = std::function<Event(FakeContext& thread)>;

class FakePlatform final : public Platform {
 public:
  /// `program` is given every thread that is created; it is called by the sentry threads.
  explicit FakePlatform(FakeProgram program) : program_(std::move(program)) {}
  ErrnoOr<std::unique_ptr<AddressSpace>> create_address_space() override;
  bool has_rseq() const override { return true; }

 private:
  FakeProgram program_;
};

class FakeContext final : public Context {
 public:
  FakeContext(FakeProgram program, const ThreadImage& image)
      : program_(std::move(program)), image_(image) {}
  Event run() override;
  void set_return(uint64_t value) override { image_.registers.rax = value; }
  void carry_out() override;
  Registers* registers() override { return gone_ ? nullptr : &image_.registers; }
  std::span<std::byte> fp_state() override { return image_.fp; }
  Errno set_fp_state(std::span<const std::byte> state) override;
  uint64_t fs_base() override { return image_.fs_base; }
  uint64_t gs_base() override { return image_.gs_base; }
  RseqArea rseq() const override { return image_.rseq; }
  void drop_rseq() override { image_.rseq = {}; }
  void interrupt() override;
  void finish() override { gone_ = true; }

 private:
  FakeProgram program_;
  ThreadImage image_;
  Event last_;
  std::atomic<bool> interrupted_{false};
  bool gone_ = false;
};

/// A call of the program that a FakeProgram plays.
Event fake_call(int number, std::initializer_list<uint64_t> arguments = {});

}  // namespace fluyt::guest
