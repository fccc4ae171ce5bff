"""Every fault point (thawd --list-fault-points): a daemon is killed at that very spot while it does what leads there;
then nothing of it is left but its data, and with that a new daemon has everything that was acknowledged, answers rightly, and
collects whatever the dead one did not finish. Where a call can fail, it also fails with a full disk: the operation
is refused in words, and the daemon serves on.

A point is reached by the first of OPERATIONS whose prefix it has. A new point with a prefix of its own needs an operation here:
the test fails until it has one, and for each point that its operation does not reach."""

import concurrent.futures
import contextlib
import http.client
import os
import shutil
import signal
import sqlite3
import subprocess

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import ballast
import harness
import s3

AT_ONCE = 4  # daemons
KEYS = {"AWS_ACCESS_KEY_ID": s3.KEY, "AWS_SECRET_ACCESS_KEY": s3.SECRET}
COMMITS = 2  # of the catalog, that are tried one after the other
ARGUMENTS = ["--blanks", "1", "--drain", "1"]


def listed():
    """[(name, may fail)]"""
    done = subprocess.run([harness.THAWD, "--list-fault-points"], capture_output=True, text=True, check=True, timeout=60)
    return [(line.split()[0], line.endswith(" errno")) for line in done.stdout.splitlines()]


class Case:
    """One daemon on a copy of the prepared data, and what its clients know."""

    def __init__(self, prepared, folder, known, armed, operation, origin=None):
        self.data = folder / f"{armed.replace(':', '-')}-{operation.__name__}"
        subprocess.run(["cp", "-a", prepared, self.data], check=True)
        self.known = dict(known)  # {(name, version): seed}: acknowledged
        self.maybe = {}  # asked for; no answer came
        self.armed = armed
        if armed.startswith("refreeze."):
            self.move_to_another_kernel()
        self.daemon = harness.make_daemon(data=self.data, arguments=ARGUMENTS, environment={"THAWD_FAULT": armed})
        if origin:  # with a prefix of its own
            self.daemon.arguments += ["--origin", f"s3://{s3.BUCKET}/{self.data.name}", "--s3-endpoint", origin.endpoint,
                                      "--store-budget", "1M"]
            self.daemon.environment |= KEYS

    def move_to_another_kernel(self):
        """As if its snapshots had been frozen on one: each is to be frozen anew."""
        with contextlib.closing(sqlite3.connect(self.data / "catalog" / "catalog.sqlite")) as database, database:
            assert database.execute("UPDATE snapshots SET kernel = 'another'").rowcount == len(self.known)

    def client(self):
        return self.daemon.client(read_timeout=harness.PATIENCE_S, connect_timeout=5)

    def end(self):
        try:
            harness.end_daemon(self.daemon)
        finally:
            shutil.rmtree(self.data, ignore_errors=True)


# Operations: each goes on until it is done, or the daemon is gone (then a request fails).

def publish(case):
    seed = ballast.change(harness.Function(case.daemon, case.client(), "first"))
    case.maybe["first", "2"] = seed
    version = case.client().publish_version(FunctionName="first")["Version"]
    case.known["first", version] = case.maybe.pop(("first", "2"))
    settled(case, "first", version)
    ballast.answer_of(case.client(), "first", version, seed)


def settled(case, name, version):
    def state():
        about = case.client().get_function_configuration(FunctionName=name, Qualifier=version)
        return about if about["State"] != "Pending" else None
    return harness.wait_until(state, f"{case.armed}: {name}:{version}")


def delete(case):
    case.maybe["first", "1"] = case.known.pop(("first", "1"))
    case.client().delete_function(FunctionName="first", Qualifier="1")
    del case.maybe["first", "1"]
    harness.wait_until(lambda: case.daemon.process.poll() is not None or "totals" in
                       case.daemon.request("POST", "/thaw/v1/store/gc")[2].decode() and
                       len(list((case.data / "store" / "snapshots").iterdir())) == 1, "the snapshot to go")
    case.daemon.get("/thaw/v1/status")


def collect(case):
    status, _, body = case.daemon.request("POST", "/thaw/v1/store/gc")
    assert status == 200 and b"removed_chunks" in body, body


def refreeze(case):
    harness.wait_until(lambda: case.daemon.get("/thaw/v1/status")["refreezes"] == len(case.known), "all to be frozen anew")


def rotate(case):
    case.daemon.thaw("key", "rotate")


def record(case):
    """The first thaw of a snapshot whose hot set is not known yet."""
    ballast.answer_of(case.client(), "first", "1", case.known["first", "1"])
    harness.wait_until(lambda: case.daemon.process.poll() is not None or list(case.data.glob("store/snapshots/*/hot")),
                       "a hot set", patience_s=10)


def refreeze(case):
    """A snapshot is damaged, and its version initialised anew."""
    (snapshot,) = [s["snapshot"] for s in case.daemon.get("/thaw/v1/snapshots")["snapshots"] if s["function"] == "first"]
    (case.data / "store" / "snapshots" / snapshot / "manifest").write_bytes(b"?")
    ballast.answer_of(case.client(), "first", "1", case.known["first", "1"])


def evict(case):
    """Two versions more are more than the budget; what is evicted is fetched again."""
    publish(case)
    collect(case)
    harness.Function(case.daemon, case.client(), "first").evict(templates=True)
    for (name, version), seed in case.known.items():
        ballast.answer_of(case.client(), name, version, seed)


OPERATIONS = {
    "origin.": publish,
    "evict.": evict,
    "hot.": record,
    "refreeze.": refreeze,
    "publish.": publish,
    "catalog.": publish,
    "delete.": delete,
    "gc.": collect,
    "rotate.": rotate,
    "refreeze.": refreeze,
}
GONE = (BotoCoreError, ClientError, OSError, AssertionError, http.client.HTTPException)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data folder with two functions, and chunks of a third that is gone: (path, {(name, version): seed})."""
    data = tmp_path_factory.mktemp("prepared") / "data"
    data.mkdir()
    daemon = harness.make_daemon(data=data, arguments=ARGUMENTS)
    known = {}
    try:
        daemon.start()
        for name in ("first", "second", "gone"):
            function, seed = ballast.create(daemon, name)
            version = function.publish()
            ballast.answer_of(function.client, name, version, seed)
            known[name, version] = seed
        daemon.client().delete_function(FunctionName="gone")
        del known["gone", "1"]
        harness.wait_until(lambda: len(list((data / "store" / "snapshots").iterdir())) == 2, "the snapshot to go")
    finally:
        harness.end_daemon(daemon)
    for hot in data.glob("store/snapshots/*/hot"):
        hot.unlink()
    return data, known


def check_after(case):
    """The new daemon has all that was acknowledged; what was not may be there or not, but not half."""
    daemon, client = case.daemon, case.client()
    for (name, version), seed in case.known.items():
        assert settled(case, name, version)["State"] == "Active", (case.armed, name, version)
        ballast.answer_of(client, name, version, seed)
    for (name, version), seed in case.maybe.items():
        try:
            state = settled(case, name, version)["State"]
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ResourceNotFoundException", error
            continue
        assert state == "Active", (case.armed, name, version)
        ballast.answer_of(client, name, version, seed)
        case.known[name, version] = seed
    stats = ballast.check_store(daemon)
    assert stats["totals"]["snapshots"] == len(case.known), (case.armed, stats)
    left = [p.name for p in (case.data / "store").iterdir()]
    assert set(left) <= {"chunks", "domains", "snapshots", "tmp", "removals"}, left
    notes = {p.name for p in case.data.glob("store/removals/*")}  # of publishes since the start, until the next one
    assert notes <= {f"{p.name}.new" for p in case.data.glob("store/snapshots/*")}, notes


def try_kill(case, operation):
    try:
        with contextlib.suppress(*GONE):
            case.daemon.start()
            operation(case)
        try:
            code = case.daemon.process.wait(harness.PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{case.armed} was not reached: {case.daemon.log()[-3000:]}") from None
        assert f"fault point {case.armed.split(':')[0]} reached" in case.daemon.log(), case.daemon.log()[-3000:]
        assert code in (-signal.SIGKILL, 1), code  # 1: the front was killed, and the warden ended by itself
        case.daemon.process = None
        case.daemon.check_nothing_left()
        del case.daemon.environment["THAWD_FAULT"]
        case.daemon.start()
        check_after(case)
    finally:
        case.end()


def try_failure(case, operation):
    """The disk is full at that very call: refused or failed in words, and the next attempt works."""
    try:
        with contextlib.suppress(*GONE):
            case.daemon.start()
            operation(case)
        if case.daemon.process.poll() is not None:  # at its start, which it then refuses
            assert "No space left" in case.daemon.log() and case.daemon.process.wait() == 1, case.daemon.log()[-3000:]
            case.daemon.process = None
            case.daemon.check_nothing_left()
            del case.daemon.environment["THAWD_FAULT"]
            case.daemon.start()
        assert f"fault point {case.armed.split(':')[0]} reached" in case.daemon.log(), case.daemon.log()[-3000:]
        assert case.daemon.process.poll() is None, case.daemon.log()[-3000:]
        for (name, version), seed in list(case.known.items()):
            about = settled(case, name, version)
            if about["State"] == "Failed":
                assert "No space left" in about["StateReason"], about
                case.client().delete_function(FunctionName=name, Qualifier=version)
                del case.known[name, version]
        check_after(case)
        publish_again(case)
    finally:
        case.end()


def publish_again(case):
    function = harness.Function(case.daemon, case.client(), "second")
    seed = ballast.change(function)
    ballast.answer_of(function.client, "second", function.publish(), seed)


def cases():
    for name, may_fail in listed():
        if name.startswith("origin."):
            continue  # need an object store: test_origin.py tries them
        operation = next((o for prefix, o in OPERATIONS.items() if name.startswith(prefix)), None)
        assert operation, f"no operation reaches {name}"
        for count in range(1, COMMITS + 1 if name.startswith("catalog.") else 2):
            yield f"{name}:{count}", operation, try_kill
            if may_fail:
                yield f"{name}:{count}:ENOSPC", operation, try_failure
        if name.startswith("catalog."):
            yield f"{name}:2", delete, try_kill


def needs_origin(armed):
    return armed.startswith(("origin.", "evict."))


def test_every_fault_point(prepared, tmp_path, s3_server):
    data, known = prepared
    failures = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        tried = {pool.submit(attempt, Case(data, tmp_path, known, armed, operation, needs_origin(armed) and s3_server), operation): armed
                 for armed, operation, attempt in cases()}
        for done in concurrent.futures.as_completed(tried):
            if done.exception() is not None:
                failures.append(f"{tried[done]}: {done.exception()}")
    assert not failures, "\n\n".join(sorted(failures))


def test_an_unknown_fault_point_is_refused():
    done = subprocess.run([harness.THAWD, "--listen", "127.0.0.1:0", "--data", "/nonexistent"], capture_output=True,
                          text=True, env={**os.environ, "THAWD_FAULT": "no.such.point"}, timeout=60)
    assert done.returncode == 2 and "no.such.point" in done.stderr
