"""Real programs, unmodified, from this machine's packages under the guest kernel, each with a check of its own. What is not
installed is skipped by name."""

import glob
import os
import re
import shutil
import subprocess

import harness
import pytest

RUNG = os.path.join(harness.BIN, "rung")
LIMIT_S = 300

NGINX = """
worker_processes 2; pid /tmp/nginx.pid; error_log /tmp/error.log;
events { worker_connections 256; }
http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
  server { listen 127.0.0.1:8081; location / { return 200 "answer\\n"; } location /file { alias /etc/debian_version; } } }
"""

NODE = """
const http = require("http"), fs = require("fs"), child = require("child_process"), { Worker } = require("worker_threads");
fs.mkdirSync("/tmp/d"); fs.writeFileSync("/tmp/d/f", "kept"); console.log(fs.readFileSync("/tmp/d/f", "utf8"));
console.log(child.execSync("echo child").toString().trim());
new Worker("require('worker_threads').parentPort.postMessage(6 * 7)", { eval: true }).on("message", m => console.log(m));
const server = http.createServer((q, r) => r.end("node " + q.url)).listen(8080, "127.0.0.1", () =>
  http.get("http://127.0.0.1:8080/x", r => { let d = ""; r.on("data", c => d += c); r.on("end", () => { console.log(d); server.close(); }); }));
"""

GO = """package main
import ("fmt"; "io"; "net"; "net/http"; "os"; "os/exec"; "sync"; "time")
func main() {
  listener, err := net.Listen("tcp", "127.0.0.1:0"); if err != nil { panic(err) }
  go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "go ", r.URL.Path) }))
  var all sync.WaitGroup
  for i := 0; i < 50; i++ { all.Add(1); go func(i int) { defer all.Done()
    answer, err := http.Get(fmt.Sprintf("http://%s/%d", listener.Addr(), i)); if err != nil { panic(err) }
    text, _ := io.ReadAll(answer.Body); if string(text) != fmt.Sprintf("go /%d", i) { panic(string(text)) } }(i) }
  all.Wait()
  out, err := exec.Command("/bin/echo", "child").Output(); fmt.Print(string(out), err, "\\n")
  os.WriteFile("/tmp/f", []byte("kept"), 0600); text, _ := os.ReadFile("/tmp/f"); fmt.Println(string(text))
  timer := time.After(20 * time.Millisecond); <-timer; fmt.Println("done")
}
"""

GIT = """
set -e; export HOME=/tmp; cd /tmp; git init -q origin; cd origin; git config user.email a@b; git config user.name x
for i in 1 2 3 4 5; do echo $i > f$i; git add .; git commit -qm c$i; done; git checkout -qb side HEAD~2; echo s > side; git add .; git commit -qm side
git checkout -q -; git merge -q -m merged side; git gc -q; git clone -q file:///tmp/origin /tmp/copy; cd /tmp/copy; git log --oneline | wc -l; git fsck 2>&1 | grep -ci error || true; git status --short | wc -l
"""

MAKE = """
set -e; cd /tmp; mkdir project; cd project
for i in 1 2 3 4 5 6 7 8; do printf 'int part%d(void) { return %d; }\\n' $i $i > part$i.c; done
printf '#include <stdio.h>\\n#include <thread>\\nextern "C" {' > main.cc; for i in 1 2 3 4 5 6 7 8; do printf 'int part%d(void);' $i >> main.cc; done
printf '}\\nint main() { int sum = 0; std::thread t([&] { sum = part1()+part2()+part3()+part4()+part5()+part6()+part7()+part8(); }); t.join(); printf("%%d\\\\n", sum); }\\n' >> main.cc
printf 'OBJECTS = $(patsubst %%.c,%%.o,$(wildcard part*.c)) main.o\\nproject: $(OBJECTS)\\n\\tg++ -pthread -o $@ $^\\n' > Makefile
make -s -j4; ./project; touch part3.c; make -q || echo again; make -s; make -q && echo settled
"""

SQLITE = """
create table t(a integer primary key, b text); insert into t(b) select hex(randomblob(20)) from generate_series(1, 2000);
begin; update t set b = 'x' where a % 3 = 0; commit; select count(*) from t where b = 'x'; pragma integrity_check; vacuum; select count(*) from t;
"""

WATCH = """
import ctypes, os, select, struct, subprocess
libc = ctypes.CDLL(None); os.mkdir("/tmp/w"); fd = libc.inotify_init(); assert libc.inotify_add_watch(fd, b"/tmp/w", 0xfff) == 1
child = subprocess.Popen(["/bin/sh", "-c", "sleep 0.2; echo a > /tmp/w/f; cat /tmp/w/f > /dev/null; mv /tmp/w/f /tmp/w/g; rm -r /tmp/w"])
cookies, seen = set(), []
names = {1: "access", 2: "modify", 4: "attrib", 8: "wrote", 16: "closed", 32: "open", 64: "from", 128: "to", 256: "create", 512: "delete", 1024: "gone", 0x8000: "end"}
while "end" not in seen:
    assert select.select([fd], [], [], 30)[0]
    data = os.read(fd, 4096)
    while data:
        watch, mask, cookie, length = struct.unpack("iIII", data[:16]); name = data[16:16 + length].rstrip(b"\\0").decode(); data = data[16 + length:]
        if cookie: cookies.add(cookie)
        if name: seen.append(names[mask & 0xffff] + " " + name)
        elif mask & 0x8400: seen.append(names[mask & 0xffff])
child.wait(); print(" ".join(seen)); print(len(cookies))
"""

PERL = """
use strict; my $pid = fork; if (!$pid) { exit 3 } waitpid($pid, 0); print $? >> 8, "\\n"; pipe(my $r, my $w); if (!fork) { print $w "piped\\n"; exit } close $w; print <$r>;
local $SIG{ALRM} = sub { print "alarm\\n" }; alarm 1; select(undef, undef, undef, 5); print join(",", sort { $b <=> $a } map { $_ * 2 } 1 .. 5), "\\n"; print scalar(glob("/etc/deb*_version")), "\\n";
"""

TOOLS = """
set -e; cd /tmp; mkdir -p tree/a/b; for i in $(seq 50); do echo "line $i" > tree/a/b/f$i; done; ln -s a/b/f1 tree/link; ln tree/a/b/f2 tree/hard; mkfifo tree/fifo
tar cf t.tar tree; mkdir out; tar xf t.tar -C out; diff -r --no-dereference -x fifo tree out/tree && echo same; stat -c %h out/tree/hard; find out -type p | wc -l
grep -rl "line 7" out | wc -l; sort -R tree/a/b/* | sort -t' ' -k2 -n | tail -1; cp -a out copy; du -s --apparent-size copy/tree/a/b/f1 | cut -f1; split -n 3 t.tar part.; cat part.* | cmp - t.tar && echo whole
sha256sum t.tar | wc -c; xargs -P4 -n5 echo < tree/a/b/f1 | wc -l; timeout 0.2 sleep 5; echo $?
"""


def program(*names):
    """Skips where one is not installed."""
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")


def run(*words, text=None):
    done = subprocess.run([RUNG, "do", "--", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, check=False,
                          **({"input": text} if text is not None else {"stdin": subprocess.DEVNULL}))
    if done.returncode == 125 and "expected 5.19" in done.stdout:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def test_coreutils_tar_find_and_grep():
    lines = run("/bin/bash", "-c", TOOLS.replace("; echo $?", " || echo $?"))
    assert lines == ["same", "2", "1", "1", "line 50", "1", "whole", "72", "1", "124"], lines


def test_who_watches_files():
    program("python3", "tail")
    assert run("/usr/bin/python3", "-c", WATCH) == [
        "create f open f modify f wrote f open f access f closed f from f to g delete g gone end", "1"]
    lines = run("/bin/bash", "-c", "cd /tmp; echo first > f; (sleep 0.5; echo more >> f) & timeout 4 tail -n +1 -f f > out 2>&1; cat out")
    assert lines == ["first", "more"], lines  # and no word of polling


def test_ping():
    program("ping")
    lines = run("/usr/bin/env", "ping", "-n", "-c", "3", "-i", "0.2", "127.0.0.1")
    assert "3 packets transmitted, 3 received, 0% packet loss" in lines[-2], lines
    assert sum("ttl=64" in line for line in lines) == 3, lines
    lines = run("/usr/bin/env", "ping", "-6", "-n", "-c", "2", "-i", "0.2", "-s", "1400", "::1")
    assert "2 packets transmitted, 2 received, 0% packet loss" in lines[-2], lines


@pytest.mark.parametrize("suite", ["test_os", "test_posix", "test_subprocess", "test_signal", "test_threading", "test_mmap", "test_select", "test_socket"])
def test_pythons_own_tests(suite):
    interpreter = next((path for path in sorted(glob.glob("/usr/bin/python3.[0-9]*")) if path[-1].isdigit() and glob.glob(
        f"/usr/lib/{os.path.basename(path)}/test/{suite}.py")), None)
    if interpreter is None:
        pytest.skip("Python's own test suite is not installed")
    # vsock is the hypervisor's.
    words = [interpreter, "-m", "test", suite, "-v", "-i", "*VSOCK*"]
    runs = [subprocess.Popen([*command, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                             cwd="/tmp") for command in ([], [RUNG, "do", "--"])]
    native, inside = [set(re.findall(r"^(test\w+ \([\w.]+\)).*\.\.\. ok$", run.communicate(timeout=LIMIT_S)[0], re.MULTILINE)) for run in runs]
    # Some of them race with themselves on a busy machine, hence not all of them.
    missing = native - inside
    assert len(native) >= 5 and len(missing) * 20 <= len(native), sorted(missing)


def test_perl():
    program("perl")
    assert run("/usr/bin/perl", "-e", PERL) == ["3", "piped", "alarm", "10,8,6,4,2", "/etc/debian_version"]


def test_sqlite():
    program("sqlite3")
    assert run("/usr/bin/sqlite3", "/tmp/a.db", text=SQLITE) == ["666", "ok", "2000"]


def test_dpkg_lists_packages():
    program("dpkg")
    native = len(subprocess.run(["dpkg", "-l"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines())
    assert run("/bin/sh", "-c", "dpkg -l | wc -l") == [str(native)]


def test_gcc_and_make():
    program("g++", "make")
    assert run("/bin/bash", "-c", MAKE) == ["36", "again", "settled"]


def test_git():
    program("git")
    assert run("/bin/sh", "-c", GIT) == ["7", "0", "0"]


def test_redis_and_its_benchmark():
    program("redis-server", "redis-benchmark")
    lines = run("/bin/sh", "-c", "cd /tmp; redis-server --port 7777 --appendonly yes > log 2>&1 & sleep 1; c='redis-cli -p 7777'; $c set a b; $c get a; $c bgsave > log2; "
                "redis-benchmark -p 7777 -c 20 -n 2000 -q -t ping,set,get --csv | grep -c '\"[A-Z]'; $c lastsave > log3; $c dbsize; $c shutdown; grep -c 'ready to exit' log")
    assert lines[:2] == ["OK", "b"] and int(lines[2]) >= 3 and lines[3] == "2" and lines[4] == "1", lines


def test_nginx_under_load_through_a_reload():
    program("nginx", "curl")
    load = "wrk -t1 -c10 -d2 http://127.0.0.1:8081/ | grep -c requests" if shutil.which("wrk") else "echo 1"
    lines = run("/bin/sh", "-c", f"cat > /tmp/nginx.conf; cd /tmp; n='nginx -c /tmp/nginx.conf'; c='curl -s http://127.0.0.1:8081'; $n; sleep 0.5; $c/; $c/file; {load}; "
                "$n -s reload 2> log; sleep 0.5; $c/; $n -s quit 2> log; sleep 0.5; $c/ || echo away", text=NGINX)
    assert lines[0] == "answer" and lines[2] == "1" and lines[3:] == ["answer", "away"], lines


def test_node():
    program("node")
    assert sorted(run(shutil.which("node"), "-e", NODE)) == sorted(["kept", "child", "42", "node /x"])


def test_a_go_program(tmp_path):
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not os.path.exists(go):
        pytest.skip("go is not installed")
    with open(tmp_path / "main.go", "w", encoding="utf-8") as file:
        file.write(GO)
    root = tmp_path / "root"
    os.makedirs(root / "bin")
    environment = {**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off"}
    subprocess.run([go, "build", "-o", str(root / "program"), str(tmp_path / "main.go")], check=True, env=environment, timeout=LIMIT_S)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    os.symlink("busybox", root / "bin/echo")
    done = subprocess.run([RUNG, "do", "--root", str(root), "--", "/program"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S,
                          check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["child", "<nil>", "kept", "done"]), done.stdout
