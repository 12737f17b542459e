# Labels of pods, of their files and of their volumes on a host whose SELinux enforces the policy of selinux.cil: run by
# fluyt-payload.service as /payload/run in the machine of selinux.py.
. ./common.sh
trap 'dmesg | grep "avc:  denied" | tail -30' EXIT

# Made with {network: NODE}, beside what SECURITY (JSON, with a comma in front) says.
pod() { # NAME [SECURITY]
  printf '{"metadata":{"name":"%s","namespace":"walk","uid":"u-%s"},"hostname":"%s","linux":{"security_context":{"namespace_options":%s%s}}}' \
    "$1" "$1" "$1" "${NAMESPACES:-{\"network\":2\}}" "${2:-}" >"/tmp/pod.$1"
  crictl runp "/tmp/pod.$1" >"/tmp/id.$1" || { cat "/tmp/id.$1"; return 1; }
}
container() { # POD NAME [SECURITY [MOUNTS]]
  printf '{"metadata":{"name":"%s"},"image":{"image":"busybox"},"command":["sleep","100000"],
    "linux":{"security_context":{"namespace_options":%s%s}},"mounts":[%s]}' "$2" "${NAMESPACES:-{\"network\":2\}}" "${3:-}" "${4:-}" \
    >"/tmp/container.$2"
  crictl create "$(cat "/tmp/id.$1")" "/tmp/container.$2" "/tmp/pod.$1" >"/tmp/id.$2" && crictl start "$(cat "/tmp/id.$2")" >/dev/null ||
    { cat "/tmp/id.$2"; return 1; }
}
in_it() { local name=$1; shift; crictl exec "$(cat "/tmp/id.$name")" "$@"; }
refused() { # WHAT NAME COMMAND...: with these words of the kernel
  local what=$1; shift
  local said; said=$(in_it "$@" 2>&1) && { die "$what: it may"; return 1; }
  case $said in *"ermission denied"*) ;; *) die "$what: $said"; return 1 ;; esac
}
process_label() { in_it "$1" cat /proc/self/attr/current | tr -d '\0\n'; }
level_of() { echo "$1" | cut -d: -f4-; }
init_of() { crictl inspect "$(cat "/tmp/id.$1")" | jq -r '.info | if .pid then .pid else (.info | fromjson | .pid) end'; }
label_of() { # PATH: a context of four words, without a word on what is not there
  ls -dZ "$1" | cut -d' ' -f1
}

install() {
  want "SELinux" 1 "$(cat /sys/fs/selinux/enforce)" || return 1
  want "this script's label" system_u:system_r:host_t:s0 "$(tr -d '\0' </proc/self/attr/current)" || return 1
  modprobe -a overlay erofs loop 2>/dev/null
  # What is made there has its type.
  mkdir -p /var/lib/fluyt/image /etc/fluyt/conf.d && chcon -t container_ro_file_t /var/lib/fluyt/image || return 1
  printf 'selinux = true\n' >/etc/fluyt/conf.d/15-selinux.toml
  install_fluyt || return 1
  fluyt check 2>/dev/null | grep -i selinux
  ! fluyt info | grep -i "lacks.*selinux"
}

labels() { # of programs, roots and what is mounted; each pod has a level of its own, which its containers share
  local one two level
  pod one && pod two && container one first && container one second && container two third || return 1
  one=$(process_label first)
  level=$(level_of "$one")
  want "type" system_u:system_r:container_t "$(echo "$one" | cut -d: -f1-3)" || return 1
  echo "$level" | grep -qE '^s0:c[0-9]+,c[0-9]+$' || { die "level: $level"; return 1; }
  want "another container of the pod" "$one" "$(process_label second)" || return 1
  two=$(process_label third)
  [ "$(level_of "$two")" != "$level" ] || { die "two pods have the level $level"; return 1; }
  want "first process" "$one" "$(tr -d '\0' <"/proc/$(init_of first)/attr/current")" || return 1
  ps -eZ | grep -q "$one .* sleep" || { ps -eZ | tail -5; die "ps -Z"; return 1; }
  local root=/proc/$(init_of first)/root place
  for place in / /bin/busybox /dev /dev/shm /etc/hosts /etc/hostname /etc/resolv.conf; do
    want "label of $place" "system_u:object_r:container_file_t:$level" "$(label_of "$root$place")" || return 1
  done
  in_it first sh -c 'echo x >/root/file && cat /root/file /etc/hosts /etc/resolv.conf /etc/hostname >/dev/null && echo x >/dev/shm/x' ||
    { die "its own files"; return 1; }
  want "what a container of the pod left in /dev/shm" x "$(in_it second cat /dev/shm/x)" || return 1
  refused "the host's files" first ls "/proc/1/root/etc"
}

volumes() { # one that was given away is its pod's; one that was not is nobody's
  local level; level=$(level_of "$(process_label first)")
  mkdir -p /srv/given/below /srv/kept
  echo x >/srv/given/below/file
  ln -s /srv/kept /srv/given/link
  echo x >/srv/kept/file
  container one owner "" '{"container_path":"/v","host_path":"/srv/given","selinux_relabel":true},{"container_path":"/k","host_path":"/srv/kept"}' || return 1
  local place
  for place in /srv/given /srv/given/below /srv/given/below/file /srv/given/link; do
    want "label of $place" "system_u:object_r:container_file_t:$level" "$(label_of $place)" || return 1
  done
  want "label of what is not asked for" system_u:object_r:host_file_t:s0 "$(label_of /srv/kept)" || return 1
  want "a volume that was given" x "$(in_it owner cat /v/below/file)" && in_it owner touch /v/new || return 1
  want "label of a new file" "system_u:object_r:container_file_t:$level" "$(label_of /srv/given/new)" || return 1
  refused "a volume that was not given" owner cat /k/file || return 1
  container two guest "" '{"container_path":"/v","host_path":"/srv/given"}' || return 1
  refused "another pod's volume" guest cat /v/below/file || return 1
  # What no label may be taken from.
  local said
  said=$(container one thief "" '{"container_path":"/v","host_path":"/etc","selinux_relabel":true}') && { die "/etc was given"; return 1; }
  case $said in *'mounts[0].selinux_relabel: '*'/etc'*'a place of the host whose label nothing may change'*) ;; *) die "$said"; return 1 ;; esac
  want "label of /etc" system_u:object_r:host_file_t:s0 "$(label_of /etc)"
}

chosen() { # what callers ask for; what the policy does not know is refused by name
  container one other ',"selinux_options":{"type":"spc_t","level":"s0:c7,c9"}' || return 1
  want "chosen" system_u:system_r:spc_t:s0:c7,c9 "$(process_label other)" || return 1
  container one still ',"no_new_privs":true' && want "without new privileges" "$(process_label first)" "$(process_label still)" || return 1
  pod choosy ',"selinux_options":{"level":"s0:c3,c4"}' && container choosy fourth || return 1
  want "chosen by the pod" system_u:system_r:container_t:s0:c3,c4 "$(process_label fourth)" || return 1
  local said
  said=$(container one wrong ',"selinux_options":{"type":"nobody_t"}') && { die "a type that is not there"; return 1; }
  case $said in *'selinux_options: '*'nobody_t'*'knows no such label'*) ;; *) die "$said"; return 1 ;; esac
  said=$(container one wrong ',"selinux_options":{"level":"s0,c4,c5"}') && { die "a level that is none"; return 1; }
  case $said in *'selinux_options: level: '*'s0,c4,c5'*) ;; *) die "$said"; return 1 ;; esac
}

unconfined() { # privileged, or among the host's processes: as the policy has it for what the runtime starts
  pod free ',"privileged":true' && container free strong ',"privileged":true' || return 1
  want "privileged" system_u:system_r:spc_t:s0 "$(process_label strong)" || return 1
  local NAMESPACES='{"network":2,"pid":2}'
  pod seeing && container seeing watcher || return 1
  want "host PID" system_u:system_r:spc_t:s0 "$(process_label watcher)"
}

restart() { # levels are on record; an exec has its container's label
  local before after; before=$(process_label first)
  systemctl restart fluytd && wait_for 60 "fluytd to answer" answers || return 1
  want "exec after a restart" "$before" "$(process_label first)" || return 1
  pod after && container after fifth || return 1
  after=$(process_label fifth)
  [ "$(level_of "$after")" != "$(level_of "$before")" ] || { die "the level of before: $after"; return 1; }
  printf 'selinux = false\n' >/etc/fluyt/conf.d/20-selinux.toml
  systemctl reload fluytd && pod plain && container plain sixth || return 1
  want "switched off" system_u:system_r:spc_t:s0 "$(process_label sixth)" || return 1
  container one seventh && want "a pod from before" "$before" "$(process_label seventh)" || return 1
  rm /etc/fluyt/conf.d/20-selinux.toml
  systemctl reload fluytd
}

remove_pods() { local id; for id in $(crictl pods -q); do crictl rmp -f "$id" >/dev/null || return 1; done; }
copies() { # roots that are no mounts
  printf '[image]\nroot_driver = "copy"\n' >/etc/fluyt/conf.d/30-form.toml
  systemctl reload fluytd && pod copied && container copied whole || return 1
  want "label of a file" "system_u:object_r:container_file_t:$(level_of "$(process_label whole)")" \
    "$(label_of "/proc/$(init_of whole)/root/bin/busybox")" && in_it whole touch /root/new || return 1
  rm /etc/fluyt/conf.d/30-form.toml
  systemctl reload fluytd
}

programs() { # another runtime is told the same
  { echo '[runtime.handlers.runc]'; echo 'path = "/usr/sbin/runc"'; } >/etc/fluyt/conf.d/40-runc.toml
  systemctl reload fluytd || return 1
  local id label
  id=$(fluyt run -d --network host --runtime runc --name foreign busybox sleep 100000) || { echo "$id"; return 1; }
  label=$(fluyt exec foreign cat /proc/self/attr/current | tr -d '\0\n')
  case $label in system_u:system_r:container_t:s0:c*,c*) ;; *) die "runc: $label"; return 1 ;; esac
  fluyt exec foreign sh -c 'touch /root/x && cat /proc/1/mountinfo' | grep -q ' / / .*context="system_u:object_r:container_file_t:'"$(level_of "$label")"
}

users() { # a pod with ids of its own
  local ids='{"container_id":0,"host_id":200000,"length":65536}'
  local NAMESPACES="{\"network\":2,\"userns_options\":{\"mode\":0,\"uids\":[$ids],\"gids\":[$ids]}}"
  pod mapped && container mapped nobody || return 1
  want "label of a file" "system_u:object_r:container_file_t:$(level_of "$(process_label nobody)")" \
    "$(label_of "/proc/$(init_of nobody)/root/bin/busybox")" || return 1
  in_it nobody sh -c 'touch /root/new /dev/shm/new && cat /etc/hosts >/dev/null'
}

end() {
  remove_pods || return 1
  want "scopes left" 0 "$(scopes 'cri-fluyt-*.scope')"
}

run_parts ${PARTS:-install labels volumes chosen unconfined users restart copies programs end}
