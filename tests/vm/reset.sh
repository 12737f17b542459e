# The machine is reset under pods (reset.py): run by fluyt-payload.service as /payload/run in each of two boots of one disk. Before the
# reset: PODS pods with addresses, host ports and processes. After it: what the first boot left is told as ended, each pod comes back once
# by what a kubelet calls, and of the old ones no lease, veth or packet rule is left.
. ./common.sh
PODS=20

install() { install_network && install_fluyt && sync; }

manifest() { # NUMBER ATTEMPT
  printf '{"metadata":{"name":"pod%s","namespace":"walk","uid":"u%s","attempt":%s},"hostname":"pod%s","log_directory":"/var/log/pods/pod%s",
    "labels":{"app":"walk","number":"%s"},"port_mappings":[{"protocol":0,"container_port":80,"host_port":%s}],
    "linux":{"cgroup_parent":"kubepods-burstable-pod%s.slice"}}' "$1" "$1" "$2" "$1" "$1" "$1" $((9000 + $1)) "$1" >/tmp/pod.json
}
container() { # NAME ATTEMPT COMMAND
  printf '{"metadata":{"name":"%s","attempt":%s},"image":{"image":"busybox"},"command":["sh","-c","%s"],"log_path":"%s-%s.log",
    "labels":{"of":"walk"},"linux":{"resources":{"memory_limit_in_bytes":67108864}}}' "$1" "$2" "$3" "$1" "$2" >/tmp/container.json
}
start_pod() { # NUMBER ATTEMPT
  local pod made
  manifest "$1" "$2"
  pod=$(crictl runp /tmp/pod.json) || { echo "$pod"; return 1; }
  container runs "$2" 'hostname >/tmp/name; httpd -h /tmp; i=0; while :; do i=$((i+1)); echo $i; sleep 1; done'
  made=$(crictl create "$pod" /tmp/container.json /tmp/pod.json) && crictl start "$made" >/dev/null || { echo "$made"; return 1; }
  [ "$2" = 0 ] || return 0
  container ended 0 'exit 3'
  made=$(crictl create "$pod" /tmp/container.json /tmp/pod.json) && crictl start "$made" >/dev/null || { echo "$made"; return 1; }
}
all_serve() {
  local number address
  for number in $(seq $PODS); do
    address=$(crictl pods -q --state ready --name "^pod$number\$" | xargs ./crictl inspectp 2>/dev/null | jq -r .status.network.ip)
    want "pod$number by its address" "pod$number" "$(curl -s -m 10 "http://$address/name")" || return 1
    want "pod$number by its host port" "pod$number" "$(curl -s -m 10 "http://10.189.0.1:$((9000 + number))/name")" || return 1
  done
}
listing() { # what must be the same in another boot
  crictl pods -o json | jq -c '[.items[] | {id, metadata, labels, createdAt}] | sort_by(.id)' >"$1.pods" || return 1
  crictl ps -a -o json | jq -c '[.containers[] | {id, podSandboxId, metadata, labels, imageRef, createdAt}] | sort_by(.id)' >"$1.containers"
  local id
  for id in $(crictl ps -a -q | sort); do crictl inspect "$id" | jq -r '.status | "\(.id) \(.logPath) \(.startedAt)"'; done >"$1.logs"
}
all_ended() { want "containers that have ended" $PODS "$(crictl ps -a -q --state exited | wc -l)"; }
start_pods() {
  local number
  for number in $(seq $PODS); do start_pod "$number" 0 || return 1; done
  wait_for 60 "the exits" quiet all_ended && wait_for 60 "every pod to serve" quiet all_serve || return 1
  listing $WALK/before || return 1
  crictl pods -q | sort >$WALK/old
  crictl ps -a -q --name ended | sort >$WALK/ended
  want "pods" $PODS "$(wc -l <$WALK/old)" && want "leases" $PODS "$(leases | wc -l)" && want "ports of the bridge" $PODS "$(ports | wc -l)"
}

told_as_ended() {
  wait_for 120 "fluytd to answer" answers || return 1
  another_boot || return 1
  listing /tmp/after || return 1
  local list
  for list in pods containers logs; do
    cmp $WALK/before.$list /tmp/after.$list || { diff $WALK/before.$list /tmp/after.$list; die "$list differ"; return 1; }
  done
  want "ready sandboxes" 0 "$(crictl pods -q --state ready | wc -l)" || return 1
  want "running containers" 0 "$(crictl ps -q | wc -l)" || return 1
  local id status
  for id in $(crictl ps -a -q); do
    status=$(crictl inspect "$id" | jq -r '.status | "\(.state) \(.exitCode) \(.reason)"')
    if grep -q "$id" $WALK/ended; then want "$id" "CONTAINER_EXITED 3 Error" "$status"; else want "$id" "CONTAINER_EXITED 255 Unknown" "$status"; fi || return 1
  done
  while read -r id path _; do [ -e "$path" ] || { die "the log of $id is not at $path"; return 1; }; done <$WALK/before.logs
  want "scopes of containers" 0 "$(scopes 'cri-fluyt-*.scope')" && want "scopes of monitors" 0 "$(scopes 'fluyt-monitor-*.scope')"
}
come_back() { # as a kubelet does it: the old sandbox is stopped, then there is another attempt; the dead ones are collected later
  local number old began=$(date +%s)
  for number in $(seq $PODS); do
    old=$(crictl pods -q --name "^pod$number\$")
    crictl stopp "$old" >/dev/null || return 1
    start_pod "$number" 1 || return 1
  done
  echo "$PODS pods are back in $(($(date +%s) - began)) s"
  want "ready pods, each once" $PODS "$(crictl pods --state ready -o json | jq -r '.items[].metadata.name' | sort -u | wc -l)" || return 1
  want "ready pods" $PODS "$(crictl pods -q --state ready | wc -l)" || return 1
  want "running containers" $PODS "$(crictl ps -q | wc -l)" || return 1
  no_trace_of $WALK/old && wait_for 60 "every pod to serve" quiet all_serve
}
collected() {
  local id
  for id in $(crictl ps -a -q --state exited); do crictl rm "$id" >/dev/null || return 1; done
  for id in $(cat $WALK/old); do crictl rmp "$id" >/dev/null || return 1; done
  want "pods" $PODS "$(crictl pods -q | wc -l)" && want "containers" $PODS "$(crictl ps -a -q | wc -l)" || return 1
  want "leases" $PODS "$(leases | wc -l)" && want "ports of the bridge" $PODS "$(ports | wc -l)" || return 1
  no_trace_of $WALK/old && all_serve || return 1
  want "doctor" "nothing found" "$(fluyt doctor)"
}
end() {
  local id
  crictl pods -q | sort >/tmp/new
  for id in $(cat /tmp/new); do crictl stopp "$id" >/dev/null && crictl rmp "$id" >/dev/null || return 1; done
  want "leases" "" "$(leases)" && want "ports of the bridge" "" "$(ports)" && no_trace_of /tmp/new || return 1
  want "scopes" 0 "$(scopes 'cri-fluyt-*.scope')" && want "failed units" "" "$(systemctl --failed --plain --no-legend)"
}

two_boots "install start_pods" "told_as_ended come_back collected end"
