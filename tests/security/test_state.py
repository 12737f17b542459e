"""runf's own files: nobody else's to read, and nowhere but in the state folder."""

import os
import subprocess

import pytest


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_state_is_nobody_elses_whatever_the_umask(box, open_umask):
    """CVE-2021-41103, CVE-2024-25621"""
    box.save(["/bin/true"])
    done = box.runf("create", "--bundle", box.folder, box.id, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert done.code == 0, done
    seen = 0
    for top, folders, files in os.walk(box.state):
        for name in (*folders, *files, "."):
            assert os.lstat(os.path.join(top, name)).st_mode & 0o077 == 0, f"{top}/{name}"
            seen += 1
    assert seen >= 5


@pytest.mark.parametrize("identifier", ["..", ".", "../outside", "a/b", "/absolute", "a/../b", "", "a b", "a\nb", "a\tb",
                                        "a;b", "a" * 1025])
@pytest.mark.parametrize("verb", ["run", "create", "exec", "delete", "state", "kill"])
def test_an_id_is_no_path(box, tmp_path, canary, verb, identifier):
    """An id that would lead out of the state folder, or is none"""
    before = set(os.listdir(tmp_path))
    box.save(["/bin/true"])
    words = {"run": ["run", "--bundle", box.folder], "create": ["create", "--bundle", box.folder],
             "exec": ["exec"], "delete": ["delete", "--force"], "state": ["state"], "kill": ["kill"]}[verb]
    done = box.runf(*words, "--", identifier, *(["/bin/true"] if verb == "exec" else []))
    if verb == "delete" and done.code == 0:
        assert "/" not in identifier and "." not in identifier, done  # --force of what is not there
    else:
        assert done.code != 0, done
    assert set(os.listdir(tmp_path)) - before <= {"state"}
    assert not os.path.exists(box.state) or os.listdir(box.state) == []
