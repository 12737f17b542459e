#pragma once

#include <list>
#include <memory>

#include "engine/engine.h"
#include "streaming/loop.h"
#include "streaming/workers.h"

namespace fluyt::streaming {

/// Execs whose clients have gone. Their pipes and terminal are closed, which is what a terminal
/// that is hung up does to its programs: those that go by themselves are given a moment, the rest
/// is killed. On the loop's thread; ending an exec blocks, so workers do it.
class Farewells {
 public:
  Farewells(Loop& loop, Workers& workers) : loop_(loop), workers_(workers) {}
  /// The session's descriptors are closed already.
  void add(std::unique_ptr<engine::ExecSession> session);
  /// No moment for anybody any more.
  void end_all();

 private:
  struct Leaving {
    std::shared_ptr<engine::ExecSession> session;
    std::unique_ptr<Loop::Watch> exit;
    std::unique_ptr<Loop::Timer> late;
  };
  void end(Leaving* leaving);

  Loop& loop_;
  Workers& workers_;
  std::list<std::unique_ptr<Leaving>> leaving_;
};

}  // namespace fluyt::streaming
