# What a pod's calls take with each cgroup driver (bench.py): run by fluyt-payload.service as /payload/run. ROUNDS pods a driver, one after
# the other, as a kubelet asks for them; what fluytd traced of each goes to /out/DRIVER.
. ./common.sh

install() {
  install_fluyt || return 1
  mkdir -p /etc/cni/net.d && cp net.conflist /etc/cni/net.d/10-vm.conflist
  modprobe -a overlay bridge veth
  printf '{"metadata":{"name":"c"},"image":{"image":"busybox"},"command":["sleep","1000"],"log_path":"c.log",
    "linux":{"resources":{"memory_limit_in_bytes":67108864,"cpu_shares":512}}}' >/tmp/container.json
}
driver() { # NAME: it is changed without pods
  printf '[cgroup]\ndriver = "%s"\n' "$1" >/etc/fluyt/conf.d/10-systemd.toml
  systemctl restart fluytd && wait_for 60 "fluytd to answer" answers
}
pod() { # NUMBER: made, and on stdout its id
  local made container
  printf '{"metadata":{"name":"pod%s","namespace":"bench","uid":"u%s"},"log_directory":"/tmp/pod%s"}' "$1" "$1" "$1" >/tmp/pod.json
  made=$(crictl runp /tmp/pod.json) || { echo "$made"; return 1; }
  container=$(crictl create "$made" /tmp/container.json /tmp/pod.json) && crictl start "$container" >/dev/null || { echo "$container"; return 1; }
  echo "$made"
}
gone() { crictl stopp "$1" >/dev/null && crictl rmp "$1" >/dev/null; }
measure() { # DRIVER
  local number id stays
  driver "$1" && mkdir -p "/out/$1" || return 1
  stays=$(pod stays) || { die "$stays"; return 1; } # what pods lie in is there, as on a node that has some
  for number in $(seq -2 "$ROUNDS"); do
    id=$(pod "$number") || { die "$id"; return 1; }
    gone "$id" || return 1
    [ "$number" -lt 1 ] || fluyt trace --format json "$id" >"/out/$1/$number.json" || return 1
  done
  gone "$stays"
}
with_systemd() { measure systemd; }
with_cgroupfs() { measure cgroupfs; }

run_parts install with_systemd with_cgroupfs
