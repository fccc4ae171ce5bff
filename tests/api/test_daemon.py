"""The daemon itself: its options, what its two roles may do, and how it talks to the service manager."""

import contextlib
import os
import pathlib
import socket
import subprocess
import time

import pytest

import harness


def run_thawd(*arguments, **more):
    return subprocess.run([harness.THAWD, *[str(a) for a in arguments]], capture_output=True, text=True,
                          timeout=harness.PATIENCE_S, **more)


@pytest.mark.parametrize("address", ["0.0.0.0:8429", "[::]:8429", "192.168.1.1:80", "10.0.0.1:8429"])
def test_other_than_loopback_is_refused(tmp_path, address):
    done = run_thawd("--listen", address, "--data", tmp_path)
    assert done.returncode == 2
    assert "refusing to listen" in done.stderr and "loopback" in done.stderr
    assert not list(tmp_path.iterdir()), "nothing was begun"


@pytest.mark.parametrize("arguments, word", [
    (["--listen", "nonsense"], "ADDRESS:PORT"), (["--listen", "127.0.0.1:70000"], "ADDRESS:PORT"),
    (["--idle-seconds", "0"], "--idle-seconds"), (["--concurrency", "many"], "--concurrency"),
    (["--log-level", "loud"], "--log-level"), (["--account-id", "12"], "--account-id"), (["--no-such"], "--help"),
    (["more"], "more"), (["--role", "king"], "king"), (["--role=front"], "itself")])
def test_bad_options_are_explained(tmp_path, arguments, word):
    done = run_thawd("--data", tmp_path, *arguments)
    assert done.returncode == 2 and word in done.stderr


def test_help_and_version():
    assert "--listen" in run_thawd("--help").stdout
    assert run_thawd("--version").stdout.startswith("thawd ")


def test_it_must_be_root(tmp_path):
    done = run_thawd("--data", tmp_path / "data", user=65534, group=65534, extra_groups=[])
    assert done.returncode == 1 and "must be started as root" in done.stderr


def test_an_unknown_user_is_named(tmp_path):
    done = run_thawd("--data", tmp_path, "--user", "nosuchuser")
    assert done.returncode == 1 and "nosuchuser" in done.stderr


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_the_front_has_no_rights(new_daemon):
    daemon = new_daemon().start()
    front = daemon.roles()["front"]
    status = status_of(front)
    assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split()
    assert status["Groups"] == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    seen = {entry.name for entry in pathlib.Path(f"/proc/{front}/root").iterdir()}
    assert {"data", "usr", "etc"} <= seen and not {"root", "home", "var", "sys", "boot"} & seen
    assert sorted(p.name for p in pathlib.Path(f"/proc/{front}/root/data").iterdir()) == ["catalog", "code", "logs"]


def test_the_data_folder_is_private(new_daemon):
    daemon = new_daemon().start()
    for name, root_only in [("store/snapshots", True), ("store/domains", True), ("thaw.key", True), ("catalog", False), ("code", False), ("logs", False)]:
        about = (daemon.data / name).stat()
        assert about.st_mode & 0o077 == 0, name
        assert (about.st_uid == 0) == root_only, name


def writable_ranges(pid):
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if line.split()[1].startswith("rw") and "[v" not in line:
                yield start, end - start


def memory_holds(pid, secret):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, length in writable_ranges(pid):
            with contextlib.suppress(OSError):
                memory.seek(start)
                if secret in memory.read(length):
                    return True
    return False


def test_only_the_warden_holds_the_key(new_daemon, make_function):
    """Whatever it forks, functions and templates above all, must not carry the master key along."""
    daemon = new_daemon().start()
    function = make_function("def handler(event, context): return event", on=daemon, snap_start=True)
    version = function.publish()
    assert function.call(1) == 1 and function.call(2, version) == 2
    key = (daemon.data / "thaw.key").read_bytes()
    warden = daemon.roles()["warden"]
    assert memory_holds(warden, key), "the search works"

    def names():
        found = set()
        for pid in harness.descendants(warden):
            with contextlib.suppress(OSError):
                found.add(pathlib.Path(f"/proc/{pid}/comm").read_text().strip())
        return found

    # What the next template will be made of is forked about now; it has the warden's memory until it has given that up.
    harness.wait_until(lambda: {"thaw-template", "thaw-builder", "thaw-feeder"} <= names(), "all kinds of children")
    assert any(name.startswith("python") for name in names()), names()
    harness.wait_until(lambda: not any(memory_holds(pid, key) for pid in harness.descendants(warden)), "no child to hold the key")


def test_the_service_manager_is_told(new_daemon, tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(harness.PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        daemon = new_daemon().start()
        assert "READY=1" in notify.recv(4096).decode()
        daemon.stop()
        assert "STOPPING=1" in notify.recv(4096).decode()


def test_a_second_signal_ends_it_at_once(new_daemon, make_function):
    daemon = new_daemon(arguments=["--drain", "600"]).start()
    front = daemon.roles()["front"]
    os.kill(front, 19)  # SIGSTOP: it will not end by itself
    daemon.process.terminate()
    harness.wait_until(lambda: "stopping" in daemon.log(), "the first signal to be seen")
    daemon.process.terminate()  # at once: the same wish again
    time.sleep(1.5)
    assert daemon.process.poll() is None
    daemon.process.terminate()
    assert daemon.process.wait(harness.PATIENCE_S) == 1
    daemon.process = None
    daemon.check_nothing_left()
