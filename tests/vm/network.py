"""The built-in CNI plugins beside Debian's programs on a Debian's own kernel (`./dev vm network [FILTER]`), which has the modules that a
test machine's may lack: ipvlan, macvlan, vlan, ifb. FILTER goes to --gtest_filter. Whatever is skipped is told.
With FLUYT_VM=uml what needs nftables' inet tables fails: there, name tests, such as Devices.Ipvlan Devices.Vlan."""

import os

import debian
import machine

PROGRAMS = "/usr/lib/cni"
LIMIT_S = 5400
SCRIPT = r"""set -u
for name in overlay bridge veth ipvlan macvlan 8021q dummy ifb sch_tbf sch_ingress cls_u32 act_mirred nf_tables nft_masq nft_nat \
  nft_chain_nat nft_fib_inet nft_ct nft_compat xt_comment xt_MASQUERADE br_netfilter; do
  modprobe $name || echo "no module $name"
done
sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
mkdir -p /usr/lib/cni
cp cni/* /usr/lib/cni/
for test in network_builtin_test network_test; do
  echo "== $test"
  { unshare --net timeout 5000 test/$test "--gtest_filter=$(cat filter)" </dev/null 2>&1; echo $? >/tmp/rc; } | grep -v '^\[ RUN '
  echo "== exit $(cat /tmp/rc)"
done
"""


def run(arguments):
    folder = machine.WORK + "/network"
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/filter", "w", encoding="ascii") as file:
        file.write(":".join(arguments) or "*")
    files = {"cni": PROGRAMS, "filter": folder + "/filter", "bin": machine.RELEASE + "/bin"}
    for name in ("network_builtin_test", "network_test"):
        files["test/" + name] = f"{machine.RELEASE}/test/{name}"
    yield from debian.run(files, SCRIPT, limit_s=LIMIT_S)
