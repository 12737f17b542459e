# What the scripts share that run as /payload/run in the machine of debian.py: each reads it first. In the payload they expect first/ (a
# package of fluyt), image/ (an OCI layout), crictl, net.conflist and cni/ (CNI's programs), as far as they use them.
set -u
export CONTAINER_RUNTIME_ENDPOINT=unix:///run/fluyt/fluyt.sock IMAGE_SERVICE_ENDPOINT=unix:///run/fluyt/fluyt.sock
VM=$(systemd-detect-virt)
WALK=/var/lib/walk # what a script keeps over a reset
trap 'journalctl -b -u fluytd -u kubelet -o short-precise --no-pager >/out/journal' EXIT

crictl() { ./crictl -t 120s "$@" 2>/tmp/crictl.err || { cat /tmp/crictl.err; return 1; }; }
die() { echo "FAILED: $*"; return 1; }
want() { # WHAT EXPECTED GOT
  [ "$2" = "$3" ] || die "$1: expected '$2', got '$3'"
}
wait_for() { # SECONDS WHAT COMMAND...
  local left=$1 what=$2; shift 2
  until "$@"; do
    left=$((left - 1))
    [ $left -gt 0 ] || { die "gave up: $what"; return 1; }
    sleep 1
  done
}
quiet() { "$@" >/dev/null; }
property() { systemctl show -p "$2" --value "$1"; }
answers() { fluyt version >/dev/null 2>&1; }
scopes() { systemctl list-units --all --plain --no-legend "$1" | wc -l; }
leases() { find /var/lib/cni/networks/vm -name '10.*' 2>/dev/null; }
ports() { ls /sys/class/net/fluytvm0/brif 2>/dev/null; }
rules() { nft list ruleset 2>/dev/null; [ "$VM" != uml ] || { iptables-legacy-save -t nat; ip6tables-legacy-save -t nat; }; }
# The bridge plugin names its rules by the sandbox's id, and so does portmap.
no_trace_of() { # FILE with ids
  local id
  rules >/tmp/rules
  while read -r id; do
    ! grep -F "$id" /tmp/rules || { die "a packet rule of $id is left"; return 1; }
    ! grep -rlF "$id" /var/lib/cni/networks/vm || { die "a lease of $id is left"; return 1; }
  done <"$1"
}

# As an administrator has them, in files: another boot needs nothing more.
install_network() {
  local name
  mkdir -p /etc/cni/net.d /etc/fluyt/conf.d
  for name in overlay bridge veth nf_tables nft_masq nft_nat nft_chain_nat nft_ct br_netfilter xt_MASQUERADE xt_comment; do
    ! modprobe -q $name || echo $name
  done >/etc/modules-load.d/walk.conf
  echo net.ipv4.ip_forward=1 >/etc/sysctl.d/walk.conf
  sysctl -q -p /etc/sysctl.d/walk.conf
  cp net.conflist /etc/cni/net.d/10-vm.conflist
  [ "$VM" = uml ] || return 0
  # Its nftables has no NAT: the programs, with the other iptables.
  mkdir -p /usr/lib/cni
  cp cni/* /usr/lib/cni/
  for name in iptables ip6tables; do update-alternatives --set $name /usr/sbin/$name-legacy >/dev/null; done
  printf '[network]\nbuiltin = false\n' >/etc/fluyt/conf.d/20-programs.toml
}
install_fluyt() { # with the systemd driver
  mkdir -p /etc/fluyt/conf.d
  printf '[cgroup]\ndriver = "systemd"\n' >/etc/fluyt/conf.d/10-systemd.toml
  dpkg -i first/*.deb || return 1
  wait_for 60 "fluytd to answer" answers && fluyt import -q --name busybox image
}

run_parts() { # PART...: says "== NAME" and "== exit N" of each; the first that fails ends the script
  local part began rc
  for part; do
    echo "== $part"
    began=$(date +%s)
    if $part; then rc=0; else rc=1; fi
    echo "   $(($(date +%s) - began)) s"
    echo "== exit $rc"
    [ $rc != 0 ] || continue
    journalctl -u fluytd -u kubelet --no-pager -n 60
    systemctl list-units --all --no-pager 'cri-fluyt-*' 'fluyt*'
    exit
  done
}
# The parts of two boots of one disk. The first boot ends by a reset from without (reset.py).
two_boots() { # "PART..." "PART..."
  if [ -e $WALK/boot ]; then run_parts $2; return; fi
  mkdir -p $WALK
  run_parts $1
  cp /proc/sys/kernel/random/boot_id $WALK/boot
  sync $WALK/* $WALK # what the script wrote; what fluytd wrote is its own care
  echo "== reset"
  sleep 600 # until it comes
}
another_boot() { [ "$(cat $WALK/boot)" != "$(cat /proc/sys/kernel/random/boot_id)" ] || die "this is the boot of before"; }
