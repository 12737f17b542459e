"""The official CRI suite on a Debian with cgroup v2, systemd as pid 1 and AppArmor (`./dev vm critest [ARG...]`): fluyt from its
package, with the systemd driver, and the images that the suite asks for from a registry in the machine. Arguments go to critest;
-ginkgo.focus=AppArmor takes a tenth of the time of the whole, which is hours in software emulation (minutes with FLUYT_VM=uml). A spec that fails is run once
more alone, and told apart: what passes then fails by time alone.
"""

import json
import os
import shutil
import sys

import debian
import machine
import unit

sys.path.insert(0, os.path.join(machine.ROOT, "tests", "lib"))
sys.path.insert(0, os.path.join(machine.ROOT, "tests", "critest"))
import critest_images  # noqa: E402  (found there)
import harness  # noqa: E402
import run as critest_run  # noqa: E402

LIMIT_S = 6 * 3600
CONFLIST = {**harness.BRIDGE, "name": "vm"}
SCRIPT = r"""set -u
modprobe -a overlay bridge veth nf_tables nft_masq nft_nat nft_chain_nat br_netfilter xt_MASQUERADE 2>/dev/null
ip link set lo up
echo "127.0.0.1 localhost vm" >/etc/hosts # the suite takes what sudo says of an unknown name for a failure
sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.ip_forward=1
mkdir -p /etc/cni/net.d /etc/fluyt
cp net.conflist /etc/cni/net.d/10-vm.conflist
cp -r certs.d /etc/fluyt/
echo "AppArmor: $(cat /sys/module/apparmor/parameters/enabled)"
mkdir -p /etc/fluyt/conf.d
if [ "$(systemd-detect-virt)" = uml ]; then # its nftables has no NAT: the programs, with the other iptables
  mkdir -p /usr/lib/cni
  cp cni/* /usr/lib/cni/
  for name in iptables ip6tables; do update-alternatives --set $name /usr/sbin/$name-legacy >/dev/null; done
  printf '[network]\nbuiltin = false\n' >/etc/fluyt/conf.d/20-programs.toml
fi
docker-registry serve registry/config.yml >/out/registry.log 2>&1 &
if [ -e /sys/fs/selinux/enforce ]; then # what is made in the store has its type (docs/selinux.md)
  mkdir -p /var/lib/fluyt/image && chcon -t container_ro_file_t /var/lib/fluyt/image
  printf 'selinux = true\n' >/etc/fluyt/conf.d/15-selinux.toml
fi
dpkg -i deb/*.deb >/dev/null || exit 1
printf '[cgroup]\ndriver = "systemd"\n' >/etc/fluyt/conf.d/10-systemd.toml
systemctl restart fluytd || exit 1
endpoint=unix:///run/fluyt/fluyt.sock
suite() { # REPORT ARG...
  local report=$1; shift
  ./critest -runtime-endpoint $endpoint -image-endpoint $endpoint -runtime-service-timeout 20m -image-service-timeout 20m \
    -ginkgo.no-color -ginkgo.seed=1 -ginkgo.timeout=5h -ginkgo.json-report="/out/$report" "$@" </dev/null >"/out/$report.log" 2>&1
  echo "critest: exit $?"
}
echo "== critest"
suite report.json $(cat arguments)
jq -r '.[].SpecReports[]? | select(.State == "failed" or .State == "timedout" or .State == "interrupted") |
  ((.ContainerHierarchyTexts // []) + [.LeafNodeText]) | join(" ")' /out/report.json >/out/failed
number=0
while read -r name; do
  number=$((number + 1))
  [ $number -le 20 ] || break
  echo "again, alone: $name"
  suite "again$number.json" "-ginkgo.focus=$(printf '%s' "$name" | sed 's/[][().*+?^$|\\{}]/./g')\$"
done </out/failed
journalctl -u fluytd --no-pager >/out/fluytd.log
systemctl list-units --all --no-pager 'cri-fluyt-*' 'fluyt*'
echo "== exit 0"
"""


def files(arguments):
    folder = machine.WORK + "/critest"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    registry = harness.Registry(folder + "/registry")
    try:
        critest_images.make(registry.address, os.path.join(machine.ROOT, "build", "critest-images"))
    finally:
        registry.stop()
    # The same files at the same place in the machine.
    with open(folder + "/registry/config.yml", encoding="utf-8") as file:
        config = json.load(file)
    config["storage"]["filesystem"]["rootdirectory"] = "/payload/registry/data"
    config["http"]["addr"] = "127.0.0.1:5000"
    with open(folder + "/registry/config.yml", "w", encoding="utf-8") as file:
        json.dump(config, file)
    harness.write_mirrors(folder + "/certs.d", "127.0.0.1:5000", critest_run.HOSTS)
    with open(folder + "/net.conflist", "w", encoding="utf-8") as file:
        json.dump(CONFLIST, file)
    with open(folder + "/arguments", "w", encoding="utf-8") as file:
        file.write(" ".join(arguments))
    return {"deb": unit.package(machine.WORK + "/package", "1"), "registry": folder + "/registry", "certs.d": folder + "/certs.d",
            "net.conflist": folder + "/net.conflist", "arguments": folder + "/arguments", "cni": "/usr/lib/cni",
            "critest": os.path.join(machine.ROOT, "build", "tools", "critest")}


def run(arguments, **boot):
    """Yields the console's lines, and then what came of the specs. `boot` is debian.run()'s."""
    out = machine.WORK + "/critest/out"
    yield from debian.run(files(arguments), SCRIPT, out=out, limit_s=LIMIT_S, **boot)
    yield from told(out)


def told(out):
    if not os.path.exists(out + "/report.json"):
        yield "== report"
        yield "== exit 1"
        return
    rows = critest_run.outcomes(out + "/report.json")
    passed_alone = set()
    for name in os.listdir(out):
        if name.startswith("again") and name.endswith(".json"):
            passed_alone |= {spec for spec, row in critest_run.outcomes(f"{out}/{name}").items() if row[0] == "pass"}
    failed = {name: row for name, row in rows.items() if row[0] == "fail" and name not in passed_alone}
    yield "== report"
    for name, (state, reason) in sorted(rows.items()):
        if state == "fail":
            yield f"{'failed by time alone' if name in passed_alone else 'failed'}: {name}: {reason}"
        elif state == "skip":
            yield f"skipped: {name}: {reason}"
    counts = {state: sum(row[0] == state for row in rows.values()) for state in ("pass", "fail", "skip")}
    yield f"{counts['pass']} passed, {counts['fail']} failed ({len(failed)} also alone), {counts['skip']} skipped"
    yield f"== exit {1 if failed or not counts['pass'] else 0}"
