#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/core.h"
#include "image/image_store.h"
#include "oci/runtime_spec.h"
#include "spec/container_spec.h"

/// What `spec` wants to be told for a container: everything that has to be looked up on the host,
/// in the image or in the sandbox.
namespace fluyt::engine {

/// The AppArmor profile for RuntimeDefault where `loaded` has it, else empty. `loaded` is what
/// securityfs says in apparmor/profiles: lines of "NAME (MODE)". Profiles are the host's to load.
std::string find_apparmor_default(std::string_view loaded);
/// What this host can do, for `spec`. Probed at start, but for the profile and what SELinux has for
/// containers, which are looked for anew for each container.
spec::Host probe_spec_host(const Host& host);

/// The runtime spec of `container`.
Result<oci::Spec> make_spec(Engine::Core& core, const Container& container, const Sandbox& sandbox,
                            const image::Image& image);

/// Where a sandbox's own container has its program, a file to be mounted over, and the folders of
/// its root, which is "rootfs" in its bundle.
inline constexpr std::string_view kSandboxProgram = "/pod-init";
inline constexpr std::array<std::string_view, 3> kSandboxFolders = {"proc", "dev", "sys"};
/// Its runtime spec, as JSON: the pod init, in the sandbox's namespaces, without a right to
/// anything.
Result<std::string> sandbox_spec(Engine::Core& core, const Sandbox& sandbox);

/// The image's users and groups.
Result<spec::UserFiles> read_user_files(Engine::Core& core, const std::string& image_id);

spec::Resources spec_resources(const Resources& resources);

}  // namespace fluyt::engine
