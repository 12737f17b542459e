# The machine is reset under a kubelet's pods (reset.py): run by fluyt-payload.service as /payload/run in each of two boots of one disk.
# Before the reset a kubelet runs PODS static pods with addresses, host ports and limits. After it nobody does anything: fluytd and the
# kubelet are started by their units. Each pod is back once, and of the old ones nothing is left but what the kubelet keeps to tell of.
. ./common.sh
PODS=20
NODE=10.186.0.1 # the kubelet wants an address that is not of 127/8
CONFIG=/etc/kubernetes

install_kubelet() {
  mkdir -p $CONFIG/manifests /usr/local/bin
  cp kubelet /usr/local/bin/kubelet
  cp kubelet.json $CONFIG/kubelet.json
  cat >/etc/systemd/system/kubelet.service <<END
[Unit]
Wants=fluytd.service
After=fluytd.service
[Service]
ExecStartPre=ip addr replace $NODE/32 dev lo
ExecStart=/usr/local/bin/kubelet --config $CONFIG/kubelet.json --hostname-override vm --node-ip $NODE -v 2 --vmodule kuberuntime_manager=4
Restart=always
RestartSec=2
LogRateLimitIntervalSec=0
[Install]
WantedBy=multi-user.target
END
  if [ "$VM" = uml ]; then # its cpuinfo tells no clock, which the kubelet wants to know
    sed "/^$/d; \$a cpu MHz\t\t: 1000.000\n" /proc/cpuinfo >$CONFIG/cpuinfo
    sed -i "/^ExecStartPre/a ExecStartPre=sh -c 'mountpoint -q /proc/cpuinfo || mount --bind $CONFIG/cpuinfo /proc/cpuinfo'" \
      /etc/systemd/system/kubelet.service
  fi
  systemctl daemon-reload && systemctl enable -q kubelet
}
manifest() { # NUMBER
  printf '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"pod%s","namespace":"walk"},"spec":{"terminationGracePeriodSeconds":5,"containers":[
    {"name":"serves","image":"busybox","imagePullPolicy":"Never","command":["sh","-c",
      "trap \\"exit 0\\" TERM; hostname >/tmp/name; httpd -h /tmp; i=0; while :; do i=$((i+1)); echo $i; sleep 1; done"],
     "ports":[{"containerPort":80,"hostPort":%s}],"resources":{"requests":{"cpu":"1m"},"limits":{"memory":"64Mi"}},
     "readinessProbe":{"httpGet":{"path":"/name","port":80},"periodSeconds":2,"timeoutSeconds":10}}]}}' "$1" $((9000 + $1))
}
install() {
  local number
  install_network && install_fluyt && install_kubelet || return 1
  mkdir -p $WALK/manifests
  for number in $(seq $PODS); do manifest "$number" >"$WALK/manifests/pod$number.json"; done
  sync # from here on nothing but what fluytd and the kubelet do themselves is made durable
  mv $WALK/manifests/*.json $CONFIG/manifests/ && sync $CONFIG/manifests
}

told() { curl -sk -m 30 https://127.0.0.1:10250/pods >/tmp/pods.json && jq -e .items /tmp/pods.json >/dev/null; }
ready() { # how many pods the kubelet calls ready
  told && jq '[.items[] | select(any(.status.conditions[]?; .type == "Ready" and .status == "True"))] | length' /tmp/pods.json
}
all_ready() { [ "$(ready)" = $PODS ]; }
all_serve() {
  local number address
  told || return 1
  for number in $(seq $PODS); do
    address=$(jq -r ".items[] | select(.metadata.name == \"pod$number-vm\") | .status.podIP" /tmp/pods.json)
    want "pod$number by its address" "pod$number-vm" "$(curl -s -m 10 "http://$address/name")" || return 1
    want "pod$number by its host port" "pod$number-vm" "$(curl -s -m 10 "http://$NODE:$((9000 + number))/name")" || return 1
  done
}
all_write() { # RESTARTS: the log of each container that runs has every line from 1
  local number log
  for number in $(seq $PODS); do
    log=$(echo /var/log/pods/walk_pod"$number"-vm_*/serves/"$1".log)
    cut -d ' ' -f 4 "$log" >/tmp/lines && [ -s /tmp/lines ] || { die "pod$number writes nothing"; return 1; }
    want "lines of pod$number" "$(seq "$(wc -l </tmp/lines)" | cksum)" "$(cksum </tmp/lines)" || return 1
  done
}
# Of each pod "NAME UID", of its container "NAME ID".
names() { told && jq -r '.items[] | "\(.metadata.name) \(.metadata.uid)"' /tmp/pods.json | sort; }
ids() { told && jq -r '.items[] | "\(.metadata.name) \(.status.containerStatuses[].containerID | sub(".*//"; ""))"' /tmp/pods.json | sort; }
each_pod() { # WORDS: a line for each
  seq $PODS | sed "s/.*/pod&-vm $*/" | sort
}

start_pods() {
  systemctl start kubelet || return 1
  wait_for 300 "every pod to be ready" all_ready && wait_for 60 "every pod to serve" quiet all_serve && all_write 0 || return 1
  names >$WALK/names && ids >$WALK/containers && crictl pods -q | sort >$WALK/old || return 1
  want "pods" $PODS "$(wc -l <$WALK/names)" && want "sandboxes" $PODS "$(wc -l <$WALK/old)" || return 1
  want "leases" $PODS "$(leases | wc -l)" && want "ports of the bridge" $PODS "$(ports | wc -l)"
}

come_back() { # by themselves
  another_boot || return 1
  wait_for 300 "every pod to be ready" all_ready || return 1
  echo "$PODS pods are ready $(cut -d . -f 1 /proc/uptime) s after the kernel's start"
  wait_for 60 "every pod to serve" quiet all_serve && all_write 1
}
each_once() {
  crictl pods -o json >/tmp/sandboxes.json && crictl ps -a -o json >/tmp/containers.json && names >/tmp/names && ids >/tmp/ids || return 1
  want "pods" "$(cat $WALK/names)" "$(cat /tmp/names)" || return 1
  want "ready sandboxes" "$(each_pod 1)" \
    "$(jq -r '.items[] | select(.state == "SANDBOX_READY") | "\(.metadata.name) \(.metadata.attempt)"' /tmp/sandboxes.json | sort)" || return 1
  want "other sandboxes" "$(cat $WALK/old)" "$(jq -r '.items[] | select(.state != "SANDBOX_READY").id' /tmp/sandboxes.json | sort)" || return 1
  want "running containers" "$(each_pod 1)" "$(jq -r '.containers[] | select(.state == "CONTAINER_RUNNING") |
    "\(.labels["io.kubernetes.pod.name"]) \(.metadata.attempt)"' /tmp/containers.json | sort)" || return 1
  # The kubelet keeps the last dead container of each name, and its sandbox with it.
  want "ended containers" "$(cut -d ' ' -f 2 $WALK/containers | sort)" \
    "$(jq -r '.containers[] | select(.state != "CONTAINER_RUNNING").id' /tmp/containers.json | sort)" || return 1
  local id
  for id in $(cut -d ' ' -f 2 $WALK/containers); do
    want "$id" "CONTAINER_EXITED 255 Unknown 0" \
      "$(crictl inspect "$id" | jq -r '.status | "\(.state) \(.exitCode) \(.reason) \(.metadata.attempt)"')" || return 1
  done
  want "what the kubelet tells" "$(each_pod 1 255 Unknown)" "$(jq -r '.items[] | "\(.metadata.name) \(.status.containerStatuses[] |
    "\(.restartCount) \(.lastState.terminated.exitCode) \(.lastState.terminated.reason)")"' /tmp/pods.json | sort)"
}
made_once() { # by the kubelet's log: of each pod a sandbox and a container are made and start, and nothing fails
  journalctl -u kubelet -b -o cat >/tmp/kubelet.log
  local number name
  for number in $(seq $PODS); do
    name="pod=\"walk/pod$number-vm\""
    want "sandboxes made of pod$number" 1 "$(grep "Creating PodSandbox for pod" /tmp/kubelet.log | grep -cF "$name")" || return 1
    want "starts of pod$number" 2 "$(grep "(PLEG)" /tmp/kubelet.log | grep -F "$name" | grep -c ContainerStarted)" || return 1
  done
  ! grep -E "CreatePodSandbox for pod failed|RunPodSandbox from runtime service failed|(Create|Start)Container in sandbox .*failed" /tmp/kubelet.log ||
    die "the kubelet was refused"
}
nothing_of_the_old() {
  no_trace_of $WALK/old || return 1
  want "leases" $PODS "$(leases | wc -l)" && want "ports of the bridge" $PODS "$(ports | wc -l)" || return 1
  want "scopes of containers" $PODS "$(scopes 'cri-fluyt-*.scope')" && want "scopes of monitors" $PODS "$(scopes 'fluyt-monitor-*.scope')" || return 1
  want "doctor" "nothing found" "$(fluyt doctor)"
}
stay() { # through a round of everything that the kubelet does from time to time
  cp /tmp/ids $WALK/new
  sleep 75
  each_once && made_once && nothing_of_the_old && all_serve && want "containers" "$(cat $WALK/new)" "$(cat /tmp/ids)"
}

no_pods() { [ -z "$(crictl pods -q)$(crictl ps -a -q)" ]; }
slices() { find /sys/fs/cgroup/kubepods.slice -mindepth 1 -type d -name '*-pod*.slice' 2>/dev/null; }
no_slices() { [ -z "$(slices)" ]; }
end() {
  crictl pods -q | sort >/tmp/all
  rm $CONFIG/manifests/*
  wait_for 240 "every sandbox to be removed" no_pods || return 1
  want "leases" "" "$(leases)" && want "ports of the bridge" "" "$(ports)" && no_trace_of /tmp/all || return 1
  want "scopes of containers" 0 "$(scopes 'cri-fluyt-*.scope')" && want "scopes of monitors" 0 "$(scopes 'fluyt-monitor-*.scope')" || return 1
  wait_for 60 "every pod's slice to go" no_slices || { slices; return 1; }
  want "doctor" "nothing found" "$(fluyt doctor)" && want "failed units" "" "$(systemctl --failed --plain --no-legend)"
}

two_boots "install start_pods" "come_back each_once made_once nothing_of_the_old stay end"
