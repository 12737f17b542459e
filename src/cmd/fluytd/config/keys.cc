#include "cmd/fluytd/config/keys.h"

namespace fluyt::daemon {
namespace {

constexpr int64_t kMostFetches = 64;
constexpr int64_t kMostVerifiers = 1000;
constexpr int64_t kMostConnections = 100'000;
constexpr int64_t kHour = 3600;
constexpr int64_t kMostLogBytes = 1LL << 40;
constexpr int64_t kMostLogFiles = 1000;
constexpr int64_t kMostIdleSeconds = 30 * 24 * kHour;

// A member of the settings, for reading and for writing.
#define FLUYT_AT(member) [](auto& settings) -> auto& { return settings.member; }

std::vector<Key> top_keys() {
  return {
      {.name = "root",
       .doc = "Images, records and logs: what outlives a reboot.",
       .change = Key::Change::kByRestart,
       .field = field(FLUYT_AT(root), absolute_path())},
      {.name = "state",
       .doc = "What ends with the boot: sandboxes' folders and sockets.",
       .change = Key::Change::kByRestart,
       .field = field(FLUYT_AT(state), absolute_path())},
      {.name = "listen",
       .doc = "Where the CRI and fluyt.v1 are served: unix:/ABSOLUTE/PATH, in a folder that only\n"
              "root can write to.",
       .change = Key::Change::kByRestart,
       .field = field(FLUYT_AT(listen), listen_address())},
      {.name = "log_level",
       .doc = "trace, debug, info, warn or error.",
       .field = field(FLUYT_AT(log.level), log_level())},
      {.name = "log_format",
       .doc = "text, or json: an object a line with time, level and message.",
       .field = field(FLUYT_AT(log.format), log_format())},
      {.name = "log_target",
       .doc = "stderr, journald (by its own protocol, with priorities) or file. A file is opened "
              "anew\n"
              "by SIGHUP.",
       .field = field(FLUYT_AT(log.target), log_target())},
      {.name = "log_file",
       .doc = "With log_target = \"file\".",
       .example = "\"/var/log/fluytd.log\"",
       .field = field(FLUYT_AT(log.file), optional_path())},
      {.name = "log_file_max_bytes",
       .doc = "Then the file is renamed, fluytd.log to fluytd.1.log; 0: never.",
       .field = field(FLUYT_AT(log.max_bytes), count(0, kMostLogBytes))},
      {.name = "log_file_keep",
       .doc = "How many renamed ones there are at most: 1 to 1000.",
       .field = field(FLUYT_AT(log.keep), count(1, kMostLogFiles))},
      {.name = "cdi_dirs",
       .doc = "Folders of CDI specifications; of one device in several the later folder's wins.",
       .field = field(FLUYT_AT(cdi_dirs), paths())},
      {.name = "selinux",
       .doc =
           "Whether new pods and their files have SELinux labels, where the host has SELinux on,\n"
           "enforcing or permissive. It takes labels of the images' folder too (docs/selinux.md).",
       .field = field(FLUYT_AT(selinux), flag())},
  };
}

std::vector<Key> cgroup_keys() {
  return {
      {.name = "cgroup.driver",
       .doc = "Who makes cgroups: \"cgroupfs\", or \"systemd\" (docs/systemd.md). A kubelet asks "
              "for it\n"
              "and does the same. Pods that run keep theirs.",
       .change = Key::Change::kByRestart,
       .field = field(FLUYT_AT(cgroup_driver), cgroup_driver())},
      {.name = "cgroup.parent",
       .doc =
           "Where the containers of pods go whose caller names no cgroup: a path, or a slice with\n"
           "systemd. \"\": /fluyt, or fluyt-pods.slice.",
       .example = "\"/pods\"",
       .field = field(FLUYT_AT(cgroup_parent), text())},
      {.name = "cgroup.monitors",
       .doc = "Where monitors go, a leaf or a scope each: outside every pod's. \"\": "
              "/fluyt-monitors, or\n"
              "fluyt-monitors.slice.",
       .example = "\"/pods-monitors\"",
       .field = field(FLUYT_AT(monitor_cgroup_parent), text())},
  };
}

std::vector<Key> cni_keys() {
  return {
      {.name = "cni.conf_dir",
       .doc = "The first valid *.conflist, *.conf or *.json by name is the network of new pods.\n"
              "Files are read again when they change.",
       .field = field(FLUYT_AT(cni_conf_dir), absolute_path())},
      {.name = "cni.bin_dirs",
       .doc = "Where plugins are looked for that are run as programs.",
       .field = field(FLUYT_AT(cni_bin_dirs), paths())},
      {.name = "network.builtin",
       .doc =
           "Whether common CNI plugins (bridge, portmap, loopback) run in fluytd itself; false:\n"
           "always the programs. A pod's network is taken down by who set it up.",
       .field = field(FLUYT_AT(network_builtin), flag())},
  };
}

std::vector<Key> image_keys() {
  return {
      {.name = "image.certs_dir",
       .doc = "One folder a registry with a hosts.toml or certificates (docs/registries.md).",
       .field = field(FLUYT_AT(certs_dir), absolute_path())},
      {.name = "image.parallel_fetches",
       .doc = "Layers of one pull that are fetched at a time: 1 to 64.",
       .field = field(FLUYT_AT(parallel_fetches), count(1, kMostFetches))},
      {.name = "image.max_fetches",
       .doc = "Layers of all pulls together that are fetched and unpacked at a time: 1 to 64. The\n"
              "first of each pull waits for no other pull's.",
       .field = field(FLUYT_AT(max_fetches), count(1, kMostFetches))},
      {.name = "image.keep_blobs",
       .doc = "Which compressed layers are kept beside their trees, without which an image cannot\n"
              "be pushed or saved: \"never\", \"pushable\" (of what was imported, or pulled by\n"
              "`fluyt pull`) or \"always\".",
       .field = field(FLUYT_AT(keep_blobs), keep_blobs())},
      {.name = "image.layer_form",
       .doc = "How new layers are kept: \"directory\" trees, \"erofs\" images (Linux 6.12), which\n"
              "are written and removed several times faster, or \"auto\": images where the kernel\n"
              "mounts them.",
       .field = field(FLUYT_AT(layer_form), layer_form())},
      {.name = "image.root_driver",
       .doc =
           "How new containers' roots are made: \"overlay\", or \"copy\" where overlayfs is not\n"
           "to be had.",
       .field = field(FLUYT_AT(root_driver), root_driver())},
      {.name = "image.pinned",
       .doc = "Images that are never collected: names, or the start of names with a '*' behind.",
       .field = field(FLUYT_AT(pinned_images), image_patterns())},
      {.name = "image.auth_file",
       .doc =
           "Credentials for registries in Docker's form: auths alone, no helpers. Read anew for\n"
           "each pull.",
       .example = "\"/etc/fluyt/auth.json\"",
       .field = field(FLUYT_AT(auth_file), optional_path())},
      {.name = "image.policy_file",
       .doc = "What images have to prove: a policy.json (docs/verification.md). The files of this\n"
              "and the next two keys are read anew for each pull and each container.",
       .example = "\"/etc/fluyt/policy.json\"",
       .field = field(FLUYT_AT(verify.policy_file), optional_path())},
      {.name = "image.policy_dir",
       .doc = "A policy.json for each Kubernetes namespace, NAMESPACE.json, in place of that file.",
       .example = "\"/etc/fluyt/policies\"",
       .field = field(FLUYT_AT(verify.policy_folder), optional_path())},
      {.name = "image.registries_dir",
       .doc = "Where lookaside stores of signatures are named.",
       .field = field(FLUYT_AT(verify.lookaside_folder), absolute_path())},
      {.name = "image.verifier_dir",
       .doc = "Programs that an image has to please, in containerd's form.",
       .example = "\"/etc/fluyt/verifiers\"",
       .field = field(FLUYT_AT(verify.programs.folder), optional_path())},
      {.name = "image.verifier_timeout",
       .doc = "Seconds that each of them may take; then the image is refused.",
       .field = field(FLUYT_AT(verify.programs.timeout_ms), seconds(kHour))},
      {.name = "image.max_verifiers",
       .doc = "The first so many by name are asked; -1: all.",
       .field = field(FLUYT_AT(verify.programs.max_programs), count_or_all(kMostVerifiers))},
      {.name = "image.pinned_digests",
       .doc = "Which digests names may stand for, by the longest prefix of a name.",
       .example = "{ \"registry.example/team\" = [\"sha256:"
                  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"] }",
       .field = field(FLUYT_AT(verify.pins), digest_pins())},
      {.name = "image.credentials",
       .doc = "What the node itself logs in to registries with where a caller brings nothing; the\n"
              "longest match wins, *.example.org is for the hosts below it. Of each: match;\n"
              "username with password or password_file; or identity_token or registry_token.\n"
              "Entries of later files come beside earlier ones, in place of one with their match.",
       .example = "[{ match = \"registry.example/team\", username = \"robot\", password = \"x\" }]",
       .merge = Key::Merge::kAppend,
       .field = field(FLUYT_AT(credentials), credentials())},
  };
}

std::vector<Key> streaming_keys() {
  return {
      {.name = "cri.streaming.address",
       .doc =
           "Where exec, attach and port-forward are served: an IP address, beyond loopback only\n"
           "with TLS. Sessions that are open go on when it changes.",
       .field = field(FLUYT_AT(streaming.address), text())},
      {.name = "cri.streaming.port",
       .doc = "0: a free one.",
       .field = field(FLUYT_AT(streaming.port), port())},
      {.name = "cri.streaming.tls_cert",
       .doc = "PEM, the chain behind it. The files are read again when they change.",
       .example = "\"/etc/fluyt/streaming.pem\"",
       .field = field(FLUYT_AT(streaming.tls.certificate), optional_path())},
      {.name = "cri.streaming.tls_key",
       .doc = "PEM.",
       .example = "\"/etc/fluyt/streaming.key\"",
       .field = field(FLUYT_AT(streaming.tls.key), optional_path())},
      {.name = "cri.streaming.tls_client_ca",
       .doc = "Whose certificates clients have to show; without it they show none.",
       .example = "\"/etc/fluyt/clients-ca.pem\"",
       .field = field(FLUYT_AT(streaming.tls.client_ca), optional_path())},
      {.name = "cri.streaming.idle_timeout",
       .doc = "Seconds after which a session in which nothing moves is ended.",
       .field = field(FLUYT_AT(streaming.idle_ms), seconds(kMostIdleSeconds))},
      {.name = "cri.streaming.stream_creation_timeout",
       .doc = "Seconds that a client has to make its streams.",
       .field = field(FLUYT_AT(streaming.streams_ms), seconds(kHour))},
      {.name = "cri.streaming.max_connections",
       .doc = "Sessions at a time; 1 to 100000. Who has not asked for one yet is not counted.",
       .field = field(FLUYT_AT(streaming.max_connections), count(1, kMostConnections))},
  };
}

std::vector<Key> metrics_keys() {
  return {
      {.name = "metrics.listen",
       .doc =
           "Where Prometheus finds /metrics (docs/metrics.md): unix:/ABSOLUTE/PATH, IPV4:PORT or\n"
           "[IPV6]:PORT. Anybody who reaches it may read it: names and numbers, no secrets.",
       .example = "\"127.0.0.1:9477\"",
       .field = field(FLUYT_AT(metrics_listen), metrics_address())},
  };
}

std::vector<Key> tracing_keys() {
  return {
      {.name = "tracing.endpoint",
       .doc = "Where spans of pods' and containers' calls are sent (docs/tracing.md): a collector\n"
              "that speaks OTLP over HTTP; /v1/traces is put behind. \"\": nowhere.",
       .example = "\"http://127.0.0.1:4318\"",
       .field = field(FLUYT_AT(tracing.endpoint), tracing_endpoint())},
      {.name = "tracing.sampling_per_million",
       .doc =
           "How many of a million calls are sent whose caller brings no trace context; one that\n"
           "does decides itself.",
       .field = field(FLUYT_AT(tracing.sampling_per_million), count(0, kAllOfAMillion))},
      {.name = "tracing.service_name",
       .doc = "The resource's service.name.",
       .field = field(FLUYT_AT(tracing.service_name), text())},
  };
}

std::vector<Key> program_keys() {
  return {
      {.name = "programs.monitor",
       .doc =
           "Helper programs; by default those beside fluytd, else in /usr/libexec/fluyt. New pods\n"
           "get this one.",
       .example = "\"/usr/libexec/fluyt/fluyt-monitor\"",
       .field = field(FLUYT_AT(monitor_program), optional_path())},
      {.name = "programs.pod_init",
       .doc = "Pid 1 of pods that share their PID namespace.",
       .example = "\"/usr/libexec/fluyt/fluyt-pod-init\"",
       .field = field(FLUYT_AT(pod_init_program), optional_path())},
      {.name = "programs.unpack",
       .doc = "Unpacks layers.",
       .example = "\"/usr/libexec/fluyt/fluyt-unpack\"",
       .field = field(FLUYT_AT(unpack_program), optional_path())},
      {.name = "programs.gpgv",
       .doc = "Checks OpenPGP signatures.",
       .field = field(FLUYT_AT(verify.gpgv_program), absolute_path())},
  };
}

std::vector<Key> runtime_keys() {
  return {
      {.name = "runtime.default_handler",
       .doc = "What runs pods without a RuntimeClass: \"runf\", which is built in, or one of\n"
              "runtime.handlers.",
       .field = field(FLUYT_AT(default_handler), text())},
      {.name = "runtime.handlers",
       .doc =
           "Other runtimes, each a table of its name (docs/runtimes.md). A later file may change\n"
           "single members of one.",
       .example = "{ runc = { path = \"/usr/sbin/runc\", options = [], root = \"/run/fluyt-runc\", "
                  "annotations = [\"run.oci.*\"] } }",
       .field = field(FLUYT_AT(handlers), runtime_handlers())},
  };
}

#undef FLUYT_AT

}  // namespace

std::vector<Key> all_keys() {
  std::vector<Key> all;
  for (auto* table : {top_keys, cgroup_keys, cni_keys, image_keys, streaming_keys, metrics_keys,
                      tracing_keys, program_keys, runtime_keys}) {
    for (Key& key : table()) all.push_back(std::move(key));
  }
  return all;
}

}  // namespace fluyt::daemon
