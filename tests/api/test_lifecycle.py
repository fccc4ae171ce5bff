"""What becomes of versions over time: Inactive when nobody invokes them, frozen anew when what they were frozen on is
no longer what there is."""

import contextlib
import json
import os
import signal
import sqlite3
import time

import pytest
from botocore.exceptions import ClientError

import harness

BORN = """
import time
born = time.time()
def handler(event, context):
    return {"born": born}
"""
NOT_READY = ("Lambda is initializing your function. It will be ready to invoke once your function state becomes "
             "ACTIVE.")


def configuration(function, version):
    return function.client.get_function_configuration(FunctionName=function.name, Qualifier=version)


def wait_for_state(function, version, state):
    def reached():
        answer = configuration(function, version)
        return answer if answer["State"] == state else None

    return harness.wait_until(reached, f"{function.name}:{version} to be {state}")


def refused(function, version, **more):
    """The error of an Invoke that must not have run: (status, type, message)."""
    with pytest.raises(ClientError) as caught:
        function.raw(None, version, **more)
    error = caught.value.response
    return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]


def snapshot_folders(daemon):
    for place in ("store/snapshots", "snapshots"):
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(daemon.data / place))
    return []


def snapshots(daemon, name=None):
    """{"NAME:VERSION": what the server tells about its snapshot}"""
    path = "/thaw/v1/snapshots" + (f"?function={name}" if name else "")
    return {f"{s['function']}:{s['version']}": s for s in daemon.get(path)["snapshots"]}


@contextlib.contextmanager
def catalog(daemon):
    """The catalog of a daemon that does not run."""
    assert daemon.process is None
    database = sqlite3.connect(daemon.data / "catalog" / "catalog.sqlite")
    with contextlib.closing(database), database:
        yield database


# Inactive

def test_an_unused_version_becomes_inactive_and_wakes_up(new_daemon, make_function):
    daemon = new_daemon(arguments=["--inactive-after", "2s"]).start()
    source = "import time\ntime.sleep(1)\n" + BORN.replace("return", "print('got', event)\n    return")
    function = make_function(source, snap_start=True, on=daemon)
    version = function.publish()
    born = function.call(None, version)["born"]
    answer = wait_for_state(function, version, "Inactive")
    assert answer["StateReasonCode"] == "Idle" and answer["StateReason"]
    assert answer["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    harness.wait_until(lambda: not snapshot_folders(daemon), "the snapshot to be deleted")
    assert not [e for e in daemon.environments() if e["version"] == version]
    assert function.call()["born"] > born, "$LATEST has nothing to do with it"

    assert daemon.thaw("inspect", f"{function.name}:{version}", check=False).stderr.count("inactive") == 1

    assert refused(function, version) == (409, "SnapStartNotReadyException", NOT_READY)
    for number in range(20):  # these wait for it
        assert function.raw(f"e{number}", version, InvocationType="Event")["StatusCode"] == 202
    answer = configuration(function, version)
    assert (answer["State"], answer["StateReasonCode"]) == ("Pending", "Restoring")
    assert refused(function, version) == (409, "SnapStartNotReadyException", NOT_READY)
    fast = {"WaiterConfig": {"Delay": 1, "MaxAttempts": harness.PATIENCE_S}}
    function.client.get_waiter("function_active_v2").wait(FunctionName=function.name, Qualifier=version, **fast)
    function.client.get_waiter("published_version_active").wait(
        FunctionName=function.name, Qualifier=version, **fast)
    answer = configuration(function, version)
    assert answer["SnapStart"]["OptimizationStatus"] == "On" and "StateReason" not in answer
    assert function.call(None, version)["born"] > born
    assert len(snapshot_folders(daemon)) == 1

    def delivered():
        log = daemon.request("GET", f"/thaw/v1/logs?function={function.name}&lines=1000")[2].decode()
        return all(f"got e{number}\n" in log for number in range(20))

    harness.wait_until(delivered, "all events to be delivered")


def test_a_version_in_use_stays(new_daemon, make_function):
    daemon = new_daemon(arguments=["--inactive-after", "3s"]).start()
    unused = make_function(BORN, snap_start=True, on=daemon)
    slow = make_function("import time\ndef handler(event, context):\n    time.sleep(event)\n    return 1\n",
                         snap_start=True, on=daemon, Timeout=30)
    used = make_function(BORN, snap_start=True, on=daemon)
    versions = [f.publish() for f in (unused, slow, used)]
    slow.raw(5, versions[1], InvocationType="Event")
    begin = time.monotonic()
    born = used.call(None, versions[2])["born"]
    while configuration(unused, versions[0])["State"] == "Active" or time.monotonic() < begin + 3.5:
        assert used.call(None, versions[2])["born"] == born
        time.sleep(0.1)
    assert configuration(used, versions[2])["State"] == "Active"
    assert configuration(slow, versions[1])["State"] == "Active", "an invocation runs"


def test_when_it_was_used_survives_a_restart(new_daemon, make_function):
    """Also that of a version whose server was killed. The state itself does, too."""
    daemon = new_daemon(arguments=["--inactive-after", "never"]).start()
    functions = [make_function(BORN, snap_start=True, on=daemon) for _ in range(2)]
    versions = [f.publish() for f in functions]
    for function, version in zip(functions, versions):
        function.call(None, version)
    daemon.stop()
    with catalog(daemon) as database:
        changed = database.execute("UPDATE uses SET used_ms = used_ms - 1000 * 3600 * 24 * 13 WHERE of_function = ?",
                                   [functions[0].name]).rowcount
        assert changed == 1
    daemon.arguments[1] = "12d"
    daemon.start()
    assert wait_for_state(functions[0], versions[0], "Inactive")
    assert configuration(functions[1], versions[1])["State"] == "Active"
    told = snapshots(daemon)[f"{functions[0].name}:{versions[0]}"]
    assert 13 * 24 * 3600 <= told["idle_seconds"] < 13 * 24 * 3600 + 600
    daemon.kill()
    daemon.start()
    assert configuration(functions[0], versions[0])["State"] == "Inactive"
    assert refused(functions[0], versions[0])[1] == "SnapStartNotReadyException"
    daemon.kill()  # in the middle of waking up
    daemon.start()
    assert wait_for_state(functions[0], versions[0], "Active")
    assert functions[0].call(None, versions[0])


def test_a_version_that_cannot_wake_up_says_why(new_daemon, make_function):
    """It stays Inactive, as on Lambda, and is tried again when it is invoked, but not all the time."""
    daemon = new_daemon(arguments=["--inactive-after", "2s"]).start()
    flag = "/usr/local/share/thaw-test-lifecycle-" + str(os.getpid())
    function = make_function(f"import os\nif os.path.exists({flag!r}):\n    raise ValueError('no database')\n" + BORN,
                             snap_start=True, on=daemon)
    version = function.publish()
    wait_for_state(function, version, "Inactive")
    try:
        os.makedirs(os.path.dirname(flag), exist_ok=True)
        open(flag, "w").close()
        assert refused(function, version)[1] == "SnapStartNotReadyException"

        def failed():
            answer = configuration(function, version)
            return answer if (answer["State"], answer.get("StateReasonCode")) == ("Inactive", "FunctionError") else None

        assert "no database" in harness.wait_until(failed, "the restoration to fail")["StateReason"]
        status, kind, message = refused(function, version)
        assert (status, kind) == (409, "SnapStartRegenerationFailureException") and "no database" in message
    finally:
        os.remove(flag)

    def wakes():
        kind = refused(function, version)[1]
        return kind == "SnapStartNotReadyException"

    harness.wait_until(wakes, "another try")
    wait_for_state(function, version, "Active")
    assert function.call(None, version)


# Frozen anew

def edit_stamps(daemon, what, function):
    with catalog(daemon) as database:
        assert database.execute(f"UPDATE snapshots SET {what} WHERE of_function = ?", [function.name]).rowcount == 1


def wait_until_anew(daemon, before):
    """Until every snapshot is another one than in `before`, and nothing is stale; what there is then."""
    def all_new():
        now = snapshots(daemon)
        done = all(now[key].get("snapshot") not in (None, before[key]["snapshot"]) for key in before)
        return now if done and daemon.get("/thaw/v1/status")["stale"] == 0 else None

    return harness.wait_until(all_new, "all snapshots to be frozen anew")


def test_another_machine_or_format(new_daemon, make_function):
    daemon = new_daemon().start()
    functions = [make_function("import time\ntime.sleep(1)\n" + BORN, snap_start=True, on=daemon) for _ in range(2)]
    versions = [f.publish() for f in functions]
    born = [f.call(None, v)["born"] for f, v in zip(functions, versions)]
    before = snapshots(daemon)
    daemon.stop()
    edit_stamps(daemon, "machine = 'ffff'", functions[0])
    edit_stamps(daemon, "format = '0'", functions[1])
    daemon.start()
    harness.wait_until(lambda: daemon.get("/thaw/v1/status")["building"] == 1, "the first to be frozen anew")
    assert functions[1].call(None, versions[1])["born"] == born[1], "the old one serves until then"
    most = 0

    def done():
        nonlocal most
        status = daemon.get("/thaw/v1/status")
        most = max(most, status["building"])
        return status["refreezes"] == 2

    harness.wait_until(done, "both to be frozen anew")
    assert most == 1, "one at a time"
    wait_until_anew(daemon, before)
    for function, version, old in zip(functions, versions, born):
        assert configuration(function, version)["State"] == "Active"
        assert function.call(None, version)["born"] > old
    assert harness.wait_until(lambda: len(snapshot_folders(daemon)) == 2, "the old ones to be deleted")
    daemon.stop()
    daemon.start()
    now = snapshots(daemon)
    time.sleep(0.5)
    assert daemon.get("/thaw/v1/status")["stale"] == 0, "once is enough"
    assert {k: s["snapshot"] for k, s in snapshots(daemon).items()} == {k: s["snapshot"] for k, s in now.items()}


MAPS = """
import ctypes, mmap, time
born = time.time()
file = open("/var/task/library", "rb")
mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
file.close()
def handler(event, context):
    return {"born": born, "has": mapped[:3].decode()}
"""


def test_a_changed_file_that_it_maps(new_daemon, make_function):
    """The old snapshot cannot be used then: calls wait for the new one, whoever comes first: they or the scan."""
    daemon = new_daemon().start()
    function = make_function(files={"app.py": MAPS, "library": "one" * 5000}, snap_start=True, on=daemon)
    version = function.publish()
    first = function.call(None, version)
    assert first["has"] == "one"
    before = snapshots(daemon)
    library = next(iter(daemon.data.glob("code/*/library")))
    daemon.stop()
    library.write_text("two" * 5000)
    daemon.start()
    second = function.call(None, version)
    assert second["has"] == "two" and second["born"] > first["born"]
    wait_until_anew(daemon, before)
    assert "library" in daemon.log(), "the log says why"
    # While it runs, a template that is dropped has to be built anew, and finds it.
    library.write_text("tri" * 5000)
    function.evict(version, templates=True)
    third = function.call(None, version)
    assert third["has"] == "tri" and third["born"] > second["born"]


def test_a_refreeze_that_fails_keeps_the_old_one(new_daemon, make_function):
    daemon = new_daemon().start()
    flag = "/usr/local/share/thaw-test-lifecycle-" + str(os.getpid())
    function = make_function(f"import os\nif os.path.exists({flag!r}):\n    raise ValueError('no database')\n" + BORN,
                             snap_start=True, on=daemon)
    version = function.publish()
    born = function.call(None, version)["born"]
    before = snapshots(daemon)
    daemon.stop()
    edit_stamps(daemon, "kernel = '5.4.0-other'", function)
    try:
        os.makedirs(os.path.dirname(flag), exist_ok=True)
        open(flag, "w").close()
        daemon.start()
        harness.wait_until(lambda: daemon.get("/thaw/v1/status")["refreezes_failed"] > 0, "the first try")
        answer = configuration(function, version)
        assert answer["State"] == "Active" and answer["SnapStart"]["OptimizationStatus"] == "On"
        assert answer["LastUpdateStatus"] == "Failed" and "no database" in answer["LastUpdateStatusReason"]
        told = snapshots(daemon)[f"{function.name}:{version}"]
        assert "kernel 5.4.0-other" in told["stale"] and "no database" in told["failure"] and told["failures"] >= 1
        function.evict(version, templates=True)
        assert function.call(None, version)["born"] == born
    finally:
        os.remove(flag)
    wait_until_anew(daemon, before)
    assert configuration(function, version)["LastUpdateStatus"] == "Successful"
    assert function.call(None, version)["born"] > born


def test_killed_while_it_is_frozen_anew(new_daemon, make_function):
    """At several moments, and always one snapshot is left that can be used."""
    daemon = new_daemon().start()
    function = make_function("import time\ntime.sleep(0.3)\n" + BORN, snap_start=True, on=daemon)
    version = function.publish()
    born = function.call(None, version)["born"]
    daemon.stop()
    for pause_s, role in ((0.1, "front"), (0.4, "warden"), (0.5, "front"), (0.7, "warden")):
        edit_stamps(daemon, "kernel = '5.4.0-other'", function)
        daemon.start()
        harness.wait_until(lambda: daemon.get("/thaw/v1/status")["building"] == 1, "the refreeze to begin")
        time.sleep(pause_s)
        os.kill(daemon.roles()[role], signal.SIGKILL)
        daemon.process.wait(harness.PATIENCE_S)
        daemon.process = None
        daemon.check_nothing_left()
        daemon.start()
        function.client = daemon.client()  # without connections to the old one
        now = function.call(None, version)["born"]
        assert now >= born
        born = now
        before = snapshots(daemon)
        daemon.stop()
    edit_stamps(daemon, "kernel = '5.4.0-other'", function)
    daemon.start()
    wait_until_anew(daemon, before)
    assert function.call(None, version)["born"] > born
    harness.wait_until(lambda: len(snapshot_folders(daemon)) == 1, "nothing to be left of the others")


def test_a_changed_custom_runtime_program(new_daemon, make_function):
    """A program of the function's own that maps a library of the host's: a stand-in for an interpreter that is
    upgraded."""
    daemon = new_daemon().start()
    library = f"/usr/local/lib/thaw-test-lifecycle-{os.getpid()}.so"
    os.makedirs(os.path.dirname(library), exist_ok=True)
    open(library, "w").write("old" * 5000)
    bootstrap = harness.ECHO_BOOTSTRAP.replace(
        "import http.client, os\n",
        f"import http.client, mmap, os\nmapped = mmap.mmap(os.open({library!r}, os.O_RDONLY), 0, mmap.MAP_PRIVATE, "
        "mmap.PROT_READ)\n")
    bootstrap = bootstrap.replace("response\", body)", "response\", b'\"' + mapped[:3] + b'\"')")
    try:
        function = make_function(files={"bootstrap": bootstrap}, runtime="provided.al2023", handler="any",
                                 snap_start=True, on=daemon)
        version = function.publish()
        assert function.call(1, version) == "old"
        before = snapshots(daemon)
        daemon.stop()
        open(library, "w").write("new" * 5000)
        daemon.start()
        wait_until_anew(daemon, before)
        assert library in daemon.log()
        assert function.call(1, version) == "new"
    finally:
        os.remove(library)


# What people see

def test_the_snapshots_command(new_daemon, make_function):
    daemon = new_daemon(arguments=["--inactive-after", "3s"]).start()
    assert "no published" in daemon.thaw("snapshots").stderr
    function = make_function(BORN, snap_start=True, on=daemon)
    version = function.publish()
    function.call(None, version)
    told = json.loads(daemon.thaw("snapshots", "--json").stdout)
    assert [(s["function"], s["version"], s["state"]) for s in told] == [(function.name, version, "Active")]
    assert told[0]["memory_bytes"] > 1 << 20 and told[0]["stored_bytes"] > 0
    assert told[0]["age_seconds"] < 60 and told[0]["idle_seconds"] < 60 and told[0]["inactive_in_seconds"] <= 3
    lines = daemon.thaw("snapshots", function.name).stdout.splitlines()
    assert lines[0].split() == ["FUNCTION", "VERSION", "STATE", "AGE", "MEMORY", "STORED", "LAST", "USE", "NOTE"]
    assert lines[1].split()[:3] == [function.name, version, "Active"]
    wait_for_state(function, version, "Inactive")
    assert lines[1] != daemon.thaw("snapshots", function.name).stdout.splitlines()[1]
    assert daemon.thaw("snapshots", "no-such-function", check=False).returncode == 1
    assert "0 are to be made anew" in daemon.thaw("status").stdout
    assert json.loads(daemon.thaw("status", "--json").stdout)["stale"] == 0


@pytest.mark.parametrize("text", ["", "14", "d", "0s", "1.5d", "-1d", "14 d", "99999999999d", "12y"])
def test_times_that_make_no_sense(new_daemon, text):
    daemon = new_daemon(arguments=["--inactive-after", text]).start(wait=False)
    assert daemon.process.wait(harness.PATIENCE_S) == 2
    daemon.process = None
    assert "--inactive-after" in daemon.log()
