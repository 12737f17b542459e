# fluyt as a package under systemd: run by fluyt-payload.service in the machine of debian.py, as /payload/run, with first/ and second/
# (a package each), image/ (an OCI layout), crictl and test/. Says "== NAME" and "== exit N" of every part; the first that fails ends it.
# OOM_ROUNDS says how often a container is to run out of memory.
. ./common.sh
OOM_ROUNDS=${OOM_ROUNDS:-10}
modprobe -a overlay bridge veth 2>/dev/null

main_pid() { property fluytd.service MainPID; }
pid_of() { fluyt inspect "$1" | jq -r '.info.info | if type == "string" then fromjson else . end | .pid'; }
id_of() { fluyt inspect "$1" | jq -r .status.id; }
counts() { fluyt logs "$1" >"/tmp/log.$1" && tail -1 "/tmp/log.$1"; }

# Every container that was started by `begin` still has its process, and writes.
PODS="one two"
begin() {
  local name
  for name in $PODS; do
    fluyt run -d --network host --name "$name" busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done' >/dev/null ||
      return 1
  done
  for name in $PODS; do pid_of "$name" >"/tmp/pid.$name"; done
}
go_on() { # WHAT
  local name before
  for name in $PODS; do
    want "$1: pid of $name" "$(cat "/tmp/pid.$name")" "$(pid_of "$name")" || return 1
    before=$(counts "$name")
    sleep 1
    [ "$(counts "$name")" -gt "$before" ] || { die "$1: $name writes no more"; return 1; }
    # No line is missing from 1 up to the last.
    want "$1: lines of $name" "$(tail -1 "/tmp/log.$name")" "$(sort -n "/tmp/log.$name" | uniq | wc -l)" || return 1
  done
}

install_package() {
  dpkg -i first/*.deb || return 1
  want "type" notify "$(property fluytd.service Type)" || return 1
  want "kill mode" process "$(property fluytd.service KillMode)" || return 1
  want "delegated" yes "$(property fluytd.service Delegate)" || return 1
  want "after installation" active "$(systemctl is-active fluytd)" || return 1
  want "status" "serves unix:/run/fluyt/fluyt.sock" "$(property fluytd.service StatusText)" || return 1
  want "oom score" -999 "$(cat "/proc/$(main_pid)/oom_score_adj")" || return 1
  mkdir -p /etc/fluyt/conf.d /etc/systemd/system/fluytd.service.d
  printf '[cgroup]\ndriver = "systemd"\n' >/etc/fluyt/conf.d/10-systemd.toml
  printf '[Service]\nWatchdogSec=20\n' >/etc/systemd/system/fluytd.service.d/10-test.conf
  systemctl daemon-reload && systemctl restart fluytd || { journalctl -u fluytd --no-pager | tail -20; return 1; }
  want "driver" systemd "$(crictl info | jq -r '.config | if type == "string" then fromjson else . end | .cgroupDriver')" || return 1
  fluyt import -q --name busybox image
}

run_pods() {
  begin || return 1
  go_on "running" || return 1
  local id
  id=$(id_of one)
  want "scopes of containers" 2 "$(scopes 'cri-fluyt-*.scope')" || return 1
  want "scopes of monitors" 2 "$(scopes 'fluyt-monitor-*.scope')" || return 1
  want "slice" fluyt-pods.slice "$(property "cri-fluyt-$id.scope" Slice)" || return 1
  want "no limit of tasks" infinity "$(property "cri-fluyt-$id.scope" TasksMax)" || return 1
  grep -q '^0::/$' "/proc/$(pid_of one)/cgroup" || grep -q "fluyt-pods.slice/cri-fluyt-$id.scope" "/proc/$(pid_of one)/cgroup"
}

confined() { # by the package's AppArmor profile, where the capability alone would allow it
  local said
  want "AppArmor" Y "$(cat /sys/module/apparmor/parameters/enabled)" || return 1
  want "profile" "fluyt-default (enforce)" "$(fluyt exec one cat /proc/self/attr/current)" || return 1
  fluyt run -d --network host --cap-add SYS_ADMIN --cap-add SYS_PTRACE --name held busybox sleep 1000 >/dev/null || return 1
  said=$(fluyt exec held sh -c 'mkdir /held && mount -t tmpfs none /held' 2>&1) && { die "a mount under the profile"; return 1; }
  want "a mount" "mount: mounting none on /held failed: Permission denied" "$said" || return 1
  want "a signal" 143 "$(fluyt exec held sh -c 'sleep 100 & kill $!; wait $!; echo $?')" || return 1
  want "another process" 1 "$(fluyt exec held sh -c 'tr "\0" "\n" </proc/1/environ | grep -c ^PATH=')" || return 1
  want "a file" hello "$(fluyt exec held sh -c 'echo hello >/held/new && cp /held/new /held/copy && cat /held/copy')" || return 1
  want "privileged" unconfined "$(fluyt run --rm --network host --privileged busybox cat /proc/self/attr/current)" || return 1
  fluyt rm -f held >/dev/null || return 1
  [ -z "$(dmesg | grep 'apparmor="DENIED"')" ] || { dmesg | grep 'apparmor="DENIED"' | tail -5; die "something else was refused"; return 1; }
}

# In a user namespace no new procfs is to be had behind masks, neither for the container's first process nor for one that joins it.
confined_users() {
  local bundle=/tmp/mapped
  mkdir -p $bundle/rootfs/bin $bundle/rootfs/proc && cp "/proc/$(pid_of one)/root/bin/busybox" $bundle/rootfs/bin/ || return 1
  runf spec --rootless --bundle $bundle || return 1
  jq '.process.args = ["/bin/busybox", "sleep", "1000"] | .process.terminal = false | .process.apparmorProfile = "fluyt-default"' \
    $bundle/config.json >$bundle/new && mv $bundle/new $bundle/config.json || return 1
  runf run --detach --bundle $bundle mapped </dev/null >/tmp/mapped.log 2>&1 || { cat /tmp/mapped.log; return 1; }
  want "masks of kcore" 1 "$(runf exec mapped /bin/busybox grep -c " /proc/kcore " /proc/self/mountinfo)" || return 1
  want "profile" "fluyt-default (enforce)" "$(runf exec mapped /bin/busybox cat /proc/1/attr/current)" || return 1
  want "profile of another" "fluyt-default (enforce)" \
    "$(runf exec --apparmor fluyt-default mapped /bin/busybox cat /proc/self/attr/current)" || return 1
  runf delete --force mapped
}

restart_unit() { systemctl restart fluytd && go_on "restart"; }
stop_and_start() {
  systemctl stop fluytd || return 1
  sleep 2
  want "stopped" inactive "$(systemctl is-active fluytd)" || return 1
  want "containers without fluytd" 2 "$(scopes 'cri-fluyt-*.scope')" || return 1
  systemctl start fluytd && go_on "stop and start"
}
reexec_manager() { systemctl daemon-reexec && go_on "daemon-reexec" && systemctl daemon-reload && go_on "daemon-reload"; }
reload_unit() {
  local before; before=$(main_pid)
  systemctl reload fluytd || return 1
  sleep 2
  want "the same process after reload" "$before" "$(main_pid)" || return 1
  want "after reload" active "$(systemctl is-active fluytd)" && go_on "reload"
}
killed() {
  kill -KILL "$(main_pid)"
  wait_for 60 "fluytd to come back" answers && go_on "SIGKILL"
}
other_pid() { local pid; pid=$(main_pid); [ "$pid" != 0 ] && [ "$pid" != "$1" ]; }
watchdog() {
  local before; before=$(main_pid)
  kill -STOP "$before"
  wait_for 90 "the watchdog to end a fluytd that hangs" other_pid "$before" || return 1
  wait_for 60 "fluytd to come back" answers && go_on "watchdog"
}
activation() {
  systemctl stop fluytd && systemctl start fluytd.socket || return 1
  want "before its first client" inactive "$(systemctl is-active fluytd)" || return 1
  fluyt version >/dev/null || return 1
  want "after its first client" active "$(systemctl is-active fluytd)" || return 1
  go_on "socket activation" || return 1
  systemctl stop fluytd.socket fluytd.service && systemctl start fluytd.service
}

kubelet_pod() { # what a kubelet asks for, with a slice in both forms, and the update of limits
  local uid=1f2e3d4c_0000 pod container unit
  for parent in "kubepods-burstable-pod$uid.slice" "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod$uid.slice"; do
    printf '{"metadata":{"name":"p","namespace":"n","uid":"%s"},"log_directory":"/tmp/p","linux":{"cgroup_parent":"%s",
      "security_context":{"namespace_options":{"network":2}}}}' "$uid" "$parent" >/tmp/pod.json
    printf '{"metadata":{"name":"c"},"image":{"image":"busybox"},"command":["sleep","1000"],"log_path":"c.log",
      "linux":{"resources":{"memory_limit_in_bytes":67108864,"cpu_shares":512}}}' >/tmp/container.json
    pod=$(crictl runp /tmp/pod.json) || return 1
    container=$(crictl create "$pod" /tmp/container.json /tmp/pod.json) && crictl start "$container" >/dev/null || return 1
    unit=cri-fluyt-$container.scope
    want "slice" "kubepods-burstable-pod$uid.slice" "$(property "$unit" Slice)" || return 1
    want "limit" 67108864 "$(property "$unit" MemoryMax)" || return 1
    crictl update --memory 33554432 "$container" >/dev/null || return 1
    want "limit after update" 33554432 "$(property "$unit" MemoryMax)" || return 1
    want "limit in the kernel" 33554432 "$(cat "/sys/fs/cgroup$(property "$unit" ControlGroup)/memory.max")" || return 1
    want "processes" 1 "$(crictl statsp -o json "$pod" | jq -r '.stats[0].linux.process.processCount.value')" ||
      return 1
    crictl stats -o json "$container" | jq -e '.stats[0].memory.workingSetBytes.value | tonumber > 0' >/dev/null ||
      { die "no statistics"; return 1; }
    crictl stopp "$pod" >/dev/null && crictl rmp "$pod" >/dev/null || return 1
    want "scopes of removed containers" 0 "$(scopes "$unit")" || return 1
  done
  sed -i 's|"cgroup_parent":"[^"]*"|"cgroup_parent":"/kubepods/burstable/pod1"|' /tmp/pod.json
  crictl runp /tmp/pod.json 2>&1 | grep -q 'expected a slice, such as kubepods-burstable.slice, as the driver is systemd'
}

busy_manager() { # systemd answers late, as it reads its units again and again: a pod that is removed waits for it
  local reloads round rc
  while :; do systemctl daemon-reload; done &
  reloads=$!
  for round in 1 2 3 4 5; do
    fluyt run -d --network host --name slow busybox sleep 1000 >/dev/null && fluyt rm -f slow >/tmp/slow
    rc=$?
    [ $rc = 0 ] || break
  done
  kill $reloads; wait $reloads
  [ $rc = 0 ] || { cat /tmp/slow; die "removal under a busy manager"; return 1; }
  ! journalctl -u fluytd --no-pager | grep "monitor does not end"
}

oom() { # the kernel's kill is what the status says, every time
  local round reason bad=0
  for round in $(seq "$OOM_ROUNDS"); do
    fluyt run --network host --name oom -m 24m busybox sh -c 'exec dd if=/dev/zero of=/dev/null bs=200M count=1' >/dev/null 2>&1
    reason=$(fluyt inspect oom | jq -r .status.reason)
    [ "$reason" = OOMKilled ] || { bad=$((bad + 1)); echo "round $round: reason '$reason'"; }
    fluyt rm -f oom >/dev/null || return 1
  done
  echo "OOMKilled in $((OOM_ROUNDS - bad)) of $OOM_ROUNDS rounds"
  [ $bad -eq 0 ]
}

handlers() { # runtime programs are told to use systemd as well
  local name id
  { echo '[runtime.handlers.runc]'; echo 'path = "/usr/sbin/runc"'; echo '[runtime.handlers.crun]'; echo 'path = "/usr/bin/crun"'
    echo '[runtime.handlers.runf-program]'; echo 'path = "/usr/bin/runf"'; } >/etc/fluyt/conf.d/20-handlers.toml
  systemctl restart fluytd || return 1
  for name in runc crun runf-program; do
    fluyt run -d --network host --runtime "$name" --name other -m 24m busybox sleep 1000 >/dev/null || return 1
    id=$(id_of other)
    want "$name: slice" fluyt-pods.slice "$(property "cri-fluyt-$id.scope" Slice)" || return 1
    # crun sets limits in a cgroup of its own below the scope: the one that the process is in is asked.
    want "$name: limit" 25165824 "$(cat "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(pid_of other)/cgroup")/memory.max")" || return 1
    want "$name: exec" hello "$(fluyt exec other echo hello)" || return 1
    fluyt rm -f other >/dev/null || return 1
    want "$name: scopes left" 0 "$(scopes "cri-fluyt-$id.scope")" || return 1
  done
}

upgrade() {
  local before; before=$(main_pid)
  dpkg -i second/*.deb || return 1
  want "after the upgrade" active "$(systemctl is-active fluytd)" || return 1
  [ "$(main_pid)" != "$before" ] || { die "fluytd was not replaced"; return 1; }
  go_on "upgrade" || return 1
  want "exec after the upgrade" hello "$(fluyt exec one echo hello)" || return 1
  want "an administrator's file" "driver = \"systemd\"" "$(sed -n 2p /etc/fluyt/conf.d/10-systemd.toml)"
}

removal() {
  local name
  dpkg -r fluyt || return 1
  for name in $PODS; do kill -0 "$(cat "/tmp/pid.$name")" || { die "$name was ended by removal"; return 1; }; done
  [ ! -e /usr/bin/fluytd ] || { die "fluytd is left"; return 1; }
  dpkg -i second/*.deb && go_on "removed and installed again"
}

end() { # nothing is left of what ran
  local name
  for name in $PODS; do fluyt rm -f "$name" >/dev/null || return 1; done
  wait_for 20 "scopes to go" sh -c '[ -z "$(systemctl list-units --all --plain --no-legend "cri-fluyt-*" "fluyt-monitor-*")" ]' ||
    { systemctl list-units --all 'cri-fluyt-*' 'fluyt-monitor-*'; return 1; }
  want "cgroups left" "" "$(find /sys/fs/cgroup/fluyt.slice -mindepth 2 -type d -name '*.scope')" || return 1
  want "failed units" "" "$(systemctl --failed --plain --no-legend)" || return 1
  dpkg --purge fluyt || return 1
  [ ! -e /var/lib/fluyt ] && [ ! -e /etc/fluyt ] || die "purge left files"
}

run_parts ${PARTS:-install_package run_pods confined confined_users restart_unit stop_and_start reexec_manager reload_unit killed watchdog activation kubelet_pod busy_manager oom \
  handlers upgrade removal end}
