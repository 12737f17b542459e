#pragma once

#include <optional>
#include <string_view>

/// The states of sandboxes and containers, and the only way from one to the next.
namespace fluyt::engine {

///                 made               stopped
///   kCreating ───────────▶ kReady ───────────▶ kNotReady
///       │ │ undone         ▲ │ lost                ▲ ▲ │
///       │ ▼                │ └─────────────────────┘ │ │
///       │ (gone) ◀─────────┼── removed ──────────────┤ │
///       │                  └── made again ───────────┼─┘
///       └─────────── could not be undone ────────────┘
///
/// A sandbox in kCreating is shown to nobody. One that could not be undone is shown, so that
/// whoever asked for it can stop and remove it.
enum class SandboxState { kCreating, kReady, kNotReady };
enum class SandboxEvent { kMade, kStopped, kLost, kNotUndone };

///                 made               started             exited
///   kCreating ───────────▶ kCreated ─────────▶ kRunning ─────────▶ kExited
///                           ▲ │ exited (killed at its gate, or it could not be started)  ▲ │
///                           │ └──────────────────────────────────────────────────────────┘ │
///                           └────────────────── made again ────────────────────────────────┘
///
/// A container in kCreating is shown to nobody. A late "started" of one that has exited changes
/// nothing.
enum class ContainerState { kCreating, kCreated, kRunning, kExited };
enum class ContainerEvent { kMade, kStarted, kExited };

/// The state after `event`, or nothing where the event does not belong.
std::optional<SandboxState> next(SandboxState state, SandboxEvent event);
std::optional<ContainerState> next(ContainerState state, ContainerEvent event);

std::string_view name_of(SandboxState state);
std::string_view name_of(ContainerState state);

}  // namespace fluyt::engine
