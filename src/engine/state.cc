#include "engine/state.h"

namespace fluyt::engine {

std::optional<SandboxState> next(SandboxState state, SandboxEvent event) {
  switch (event) {
    case SandboxEvent::kMade:
      if (state == SandboxState::kCreating || state == SandboxState::kNotReady)
        return SandboxState::kReady;
      break;
    case SandboxEvent::kStopped:
    case SandboxEvent::kLost:
      if (state == SandboxState::kReady) return SandboxState::kNotReady;
      break;
    case SandboxEvent::kNotUndone:
      if (state == SandboxState::kCreating) return SandboxState::kNotReady;
      break;
  }
  return std::nullopt;
}

std::optional<ContainerState> next(ContainerState state, ContainerEvent event) {
  switch (event) {
    case ContainerEvent::kMade:
      if (state == ContainerState::kCreating || state == ContainerState::kExited)
        return ContainerState::kCreated;
      break;
    case ContainerEvent::kStarted:
      if (state == ContainerState::kCreated) return ContainerState::kRunning;
      break;
    case ContainerEvent::kExited:
      if (state == ContainerState::kCreated || state == ContainerState::kRunning) {
        return ContainerState::kExited;
      }
      break;
  }
  return std::nullopt;
}

std::string_view name_of(SandboxState state) {
  switch (state) {
    case SandboxState::kCreating:
      return "creating";
    case SandboxState::kReady:
      return "ready";
    case SandboxState::kNotReady:
      return "not ready";
  }
  return "?";
}

std::string_view name_of(ContainerState state) {
  switch (state) {
    case ContainerState::kCreating:
      return "creating";
    case ContainerState::kCreated:
      return "created";
    case ContainerState::kRunning:
      return "running";
    case ContainerState::kExited:
      return "exited";
  }
  return "?";
}

}  // namespace fluyt::engine
