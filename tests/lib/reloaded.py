"""fluytd with all its settings in files, so that they can change under it."""

import os
import signal
import subprocess

import harness

PROGRAM = harness.BIN + "/fluytd"


def fluytd(*words):
    return subprocess.run([PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30, check=False)


def write(path, text):
    """As a careful administrator does: a new file, renamed over the old one."""
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(text)
    os.rename(path + ".new", path)


class Reloaded(harness.Engine):
    """An engine all of whose settings are in its files, so that they can change."""

    def __init__(self, base="", prefix=()):
        super().__init__(prefix=prefix)
        self.base = base
        self.drop_in("")

    def settings(self, **other):
        keys = {"root": self.root, "state": self.state, "listen": "unix:" + self.socket, "log_level": "info",
                "log_target": "file", "log_file": self.folder + "/own.log", **other}
        text = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        return text + f'[image]\ncerts_dir = "{self.certs}"\n[cni]\nconf_dir = "{self.cni}"\nbin_dirs = ["/usr/lib/cni"]\n'

    def drop_in(self, text, **other):
        """Writes the files: the main one, and one with `text` in conf.d."""
        os.makedirs(self.folder + "/conf.d", exist_ok=True)
        write(self.folder + "/fluytd.toml", self.settings(**other))
        write(self.folder + "/conf.d/50-test.toml", self.base + text)

    def start(self, wait=True):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.prefix, PROGRAM, "--config", self.folder + "/fluytd.toml"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            harness.wait_for(self._ready, "fluytd to answer")

    def text(self):
        with open(self.folder + "/own.log", encoding="utf-8") as file:
            return file.read()

    def reload(self, wanted="reload: "):
        """SIGHUP, and what the log says of it until the line with `wanted` behind the last key."""
        before = len(self.text())
        self.process.send_signal(signal.SIGHUP)
        end = {"reload: ": " keys changed; read: "}.get(wanted, wanted)
        harness.wait_for(lambda: end in self.text()[before:], "the reload")
        return self.text()[before:]

    def change(self, text="", **other):
        self.drop_in(text, **other)
        return self.reload()
