"""`fluyt check`: what this host can do, as a table and as data, with an exit status, and nothing left behind."""

import glob
import json
import os
import re
import subprocess

import pytest

import harness
import host


def check(*words, before=()):
    return subprocess.run([*before, harness.BIN + "/fluyt", "check", *words], check=False, timeout=60, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(name="config")
def a_configuration(tmp_path):
    (tmp_path / "net.d").mkdir()
    path = tmp_path / "fluytd.toml"
    path.write_text(f'root = "{tmp_path}/root"\n[cni]\nconf_dir = "{tmp_path}/net.d"\n')
    return str(path)


def rows(table):
    """{name: yes, no or partly} of the table's lines."""
    return {found[1]: found[2] for found in re.finditer(r"^  (\S.*?) {3,}(yes|no|partly)\b", table, re.MULTILINE)}


def data(*words, before=(), code=0):
    done = check("--format", "json", *words, before=before)
    assert done.returncode == code, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    return {ability["name"]: ability for ability in answer["abilities"]}, answer["missing"]


def in_own_mounts(script):
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script + ' && exec "$@"', "sh"]


def test_the_table_says_what_the_data_says(config):
    abilities, missing = data("--config", config)
    assert missing == []
    table = check("--config", config)
    assert table.returncode == 0, table.stdout
    assert rows(table.stdout) == {name: ability["has"] for name, ability in abilities.items()}
    assert table.stdout.endswith("\neverything that pods need is there\n") and table.stderr == ""
    for ability in abilities.values():
        assert ability["found"], ability
        assert bool(ability["loses"]) == (ability["has"] != "yes"), ability
        assert ability["needed"] or not ability["needed"] and ability["group"], ability
    # What the other walks live by.
    for name in ("clone3 and pidfds", "namespaces", "cgroups", "processes in cgroups", "overlayfs", "bridge and veth", "nftables",
                 "seccomp filters"):
        assert abilities[name]["has"] == "yes" and abilities[name]["needed"], abilities[name]
    assert abilities["configuration"]["found"] == config


def test_quiet_shows_what_is_missing_alone(config):
    abilities, _ = data("--config", config)
    quiet = check("-q", "--config", config)
    assert rows(quiet.stdout) == {name: ability["has"] for name, ability in abilities.items() if ability["has"] != "yes"}
    for name, ability in data("-q", "--config", config)[0].items():
        assert ability["has"] != "yes", name
    assert "to do: " in quiet.stdout  # in walks / is never shared, or there is no CNI network


def holdings(tmp_path):
    """What a probe could leave: mounts, devices, cgroups, processes, files."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = file.read()
    links = subprocess.run(["ip", "-o", "link"], check=True, stdout=subprocess.PIPE, text=True).stdout
    cgroups = [folder for top in harness.cgroup_tops() for folder in glob.glob(top + "/fluyt-check*")]
    # One that ended with its parent away is pid 1's to come to.
    processes = [process for process in host.processes() if process.name == "fluyt" and process.state != "Z"]
    rules = subprocess.run(["nft", "list", "ruleset"], check=True, stdout=subprocess.PIPE, text=True).stdout
    with open("/proc/sys/net/ipv4/ip_forward", encoding="utf-8") as file:
        forwarding = file.read()
    return mounts, links, cgroups, processes, rules, forwarding, sorted(os.listdir(tmp_path)), os.listdir("/run/netns") if \
        os.path.isdir("/run/netns") else []


def test_nothing_is_left_behind(config, tmp_path):
    before = holdings(tmp_path)
    assert before[2] == before[3] == []
    for _ in range(3):
        check("--config", config)
    assert holdings(tmp_path) == before
    # Neither by one that is ended in the middle.
    for after in (0.02, 0.05, 0.1):
        subprocess.run(["timeout", "--signal=INT", str(after), harness.BIN + "/fluyt", "check", "--config", config], check=False,
                       stdout=subprocess.DEVNULL)
    assert holdings(tmp_path) == before


def test_an_ordinary_user_is_told_what_needs_root(config):
    # Without /root and the like on the way; the configuration is not for everybody to read either.
    before = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*before, harness.BIN + "/fluyt", "--version"], check=False, stdout=subprocess.DEVNULL).returncode != 0:
        pytest.skip("an ordinary user cannot reach the programs")
    abilities, missing = data(before=before, code=1)
    assert abilities["openat2"]["has"] == "yes"
    assert abilities["privileges"]["found"].startswith("not root")
    for name in ("namespaces", "mount calls", "overlayfs"):
        assert abilities[name]["has"] == "no" and abilities[name]["found"] == "needs root to be tried", abilities[name]
        assert name in missing
    assert config


def test_what_is_taken_away_is_named_in_the_last_line(config):
    without_cgroups = check("--config", config, before=in_own_mounts("umount -R /sys/fs/cgroup"))
    assert without_cgroups.returncode == 1
    assert without_cgroups.stdout.splitlines()[-1] == "missing, and needed by pods: cgroups"
    assert rows(without_cgroups.stdout)["cgroups"] == "no"
    _, missing = data("--config", config, before=in_own_mounts("mount -o bind,ro /proc/sys /proc/sys"), code=1)
    assert missing == ["forwarding"]
    folder = os.path.dirname(config)
    abilities, missing = data("--config", config, before=in_own_mounts(f"mount -t ramfs ramfs {folder}/net.d && "
                                                                       f"mkdir {folder}/root && mount -t ramfs ramfs {folder}/root"),
                              code=1)
    assert "file system of root" in missing and abilities["disk"]["has"] != "no"
    os.rmdir(folder + "/root")


def test_the_configuration_decides_what_is_needed(config):
    folder = os.path.dirname(config)
    with open(config, "a", encoding="utf-8") as file:
        file.write('bin_dirs = ["/nowhere"]\n[image]\nlayer_form = "erofs"\n')
    with open(folder + "/net.d/10-x.conflist", "w", encoding="utf-8") as file:
        json.dump({"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "wormhole"}]}, file)
    abilities, missing = data("--config", config, code=1)
    assert "CNI network" in missing and "not there: wormhole" in abilities["CNI network"]["found"]
    assert abilities["erofs"]["needed"] and not abilities["bridge and veth"]["needed"]
    with open(config, "a", encoding="utf-8") as file:
        file.write('layer_from = "erofs"\n')
    abilities, missing = data("--config", config, code=1)
    assert "configuration" in missing and "layer_from" in abilities["configuration"]["found"]


def test_wrong_usage(config):
    for words in (["--format", "xml"], ["--no-such"], ["word"]):
        assert check("--config", config, *words).returncode == 2
    assert "leaves\nnothing behind" in check("--help").stdout
