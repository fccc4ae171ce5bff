"""Snapshots in an object store: several machines share them, and whatever network and store do, a clone is right or there is none."""

import concurrent.futures
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading

import pytest

import harness
import s3

SOURCE = """
import os
mark = os.urandom(16).hex()
memory = [os.urandom(1000) for _ in range(2000)]

def handler(event, context):
    return {"mark": mark, "sum": sum(map(len, memory))}
"""
SUM = 2000 * 1000
KEYS = {"AWS_ACCESS_KEY_ID": s3.KEY, "AWS_SECRET_ACCESS_KEY": s3.SECRET}


@pytest.fixture
def on_origin(new_daemon, s3_proxy, request):
    """on_origin(data=...): a daemon whose origin is a prefix of this test's own."""
    prefix = re.sub(r"[^a-z0-9-]", "-", request.node.name)

    def make(environment=None, endpoint=s3_proxy.endpoint, arguments=(), **more):
        daemon = new_daemon(environment={**KEYS, **(environment or {})},
                            arguments=["--blanks", "2", "--origin", f"s3://{s3.BUCKET}/{prefix}", "--s3-endpoint", endpoint, *arguments],
                            **more)
        daemon.prefix = prefix + "/"
        return daemon

    return make


def objects(server, daemon, part=""):
    """The names below the daemon's prefix that begin with `part`; without hot sets, which come when they come."""
    names = {key[len(daemon.prefix):] for key in server.keys(daemon.prefix + part)}
    return {name for name in names if not name.endswith("/hot")}


def change(function):
    """So that the next version is another one."""
    function.client.update_function_configuration(FunctionName=function.name, Description=os.urandom(4).hex())
    function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)


def forget(function, version):
    """As on a machine that has never seen the snapshot: no template, no files."""
    function.evict(version, templates=True)
    store = function.daemon.data / "store"
    for snapshot in (store / "snapshots").iterdir():
        while snapshot.exists():
            shutil.rmtree(snapshot, ignore_errors=True)  # a hot set may just come
    for chunk in (store / "chunks").glob("*/*"):
        chunk.unlink()


def copy_of(daemon, tmp_path):
    """Its data on another machine, without the store."""
    data = tmp_path / "copy"
    shutil.copytree(daemon.data, data, ignore=shutil.ignore_patterns("store", "lock"))
    return data


def test_machines_share_snapshots(on_origin, make_function, s3_server, s3_proxy, tmp_path):
    first = on_origin().start()
    function = make_function(SOURCE, on=first, snap_start=True)
    version = function.publish()
    said = function.call(version=version)
    snapshot, = {name.split("/")[1] for name in objects(s3_server, first, "snapshots/")}
    assert {f"snapshots/{snapshot}/key", f"snapshots/{snapshot}/manifest", "domains/default"} <= objects(s3_server, first)
    local = {f"chunks/{path.parent.name}/{path.name}" for path in (first.data / "store" / "chunks").glob("*/*")}
    assert local and local == objects(s3_server, first, "chunks/")

    # What is known to be there is not sent again: a second version sends what is new in it.
    s3_proxy.forget()
    change(function)
    function.publish()
    new = objects(s3_server, first, "chunks/") - local
    assert s3_proxy.count("PUT", "/chunks/") == s3_proxy.count("HEAD", "/chunks/") == len(new) < len(local)

    second = on_origin(data=copy_of(first, tmp_path)).start()
    there = harness.Function(second, second.client(), function.name)
    assert there.call(version=version) == said
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in (second.data / "store" / "chunks").glob("*/*"))
    # And it shares chunks with the first, by the salt that it found there.
    s3_proxy.forget()
    before = objects(s3_server, first, "chunks/")
    change(there)
    third = there.publish()
    assert len(objects(s3_server, first, "chunks/") - before) < len(local) and there.call(version=third)["sum"] == SUM

    there.client.delete_function(FunctionName=function.name, Qualifier=version)
    harness.wait_until(lambda: not objects(s3_server, first, f"snapshots/{snapshot}/"), "the snapshot to be gone from the origin")


def test_chunks_that_nobody_names_go_from_the_origin(on_origin, make_function, s3_server, s3_proxy, tmp_path):
    first = on_origin().start()
    s3_proxy.fault = no_hot_sets
    function = make_function(SOURCE, on=first, snap_start=True)
    version = function.publish()
    second = on_origin(data=copy_of(first, tmp_path)).start()
    there = harness.Function(second, second.client(), function.name)
    change(there)
    kept = there.publish()
    said = there.call(version=kept)
    needed = {f"chunks/{path.parent.name}/{path.name}" for path in (second.data / "store" / "chunks").glob("*/*")}
    stray = f"chunks/ab/{'0' * 62}"
    s3_server.put(first.prefix + stray, b"what a publish left that died")
    function.client.delete_function(FunctionName=function.name, Qualifier=version)
    harness.wait_until(lambda: len(objects(s3_server, first, "snapshots/")) == 2, "the snapshot to be gone")
    before = objects(s3_server, first, "chunks/")
    assert needed < before - {stray}

    # What is young stays: a publish of another machine may just be relying on it.
    totals = json.loads(first.thaw("store", "gc", "--json").stdout)
    assert totals["origin_removed_chunks"] == 0 and totals["origin_young_chunks"] == len(before - needed)
    assert objects(s3_server, first, "chunks/") == before

    # Nor does anything go while it is not known what the other machine's snapshot needs.
    first.stop()
    first.environment = {**KEYS, "THAWD_ORIGIN_GRACE_S": "0"}
    first.start()
    for part in "/manifest", "/key":
        key, = [key for key in s3_server.keys(first.prefix + "snapshots/") if key.endswith(part)]
        whole = s3_server.get(key)
        s3_server.put(key, s3.Proxy.flip(whole))
        refused = first.thaw("store", "gc", check=False)
        assert refused.returncode != 0 and key.split("/")[-2] in refused.stderr, refused
        assert objects(s3_server, first, "chunks/") == before
        s3_server.put(key, whole)

    text = first.thaw("store", "gc").stdout
    assert f"in the origin: removed {len(before - needed)} chunks" in text and f"kept {len(needed)} that 1 snapshots need" in text, text
    assert objects(s3_server, first, "chunks/") == needed and not objects(s3_server, first, "collections/run-")
    forget(there, kept)
    assert there.call(version=kept) == said

    # A publish waits for a collection that runs, and then looks whether that took it.
    running = first.prefix + "collections/run-" + "0" * 32
    s3_server.put(running, b"")
    taken = []

    def take_and_end(request):
        if request.method == "GET" and "collections" in request.path:
            new = objects(s3_server, first, "chunks/") - needed
            if taken:
                s3_server.client.delete_object(Bucket=s3.BUCKET, Key=running)
            elif new:
                taken.append(min(new))
                s3_server.client.delete_object(Bucket=s3.BUCKET, Key=first.prefix + taken[0])
        return no_hot_sets(request)

    s3_proxy.fault = take_and_end
    change(there)
    there.publish()
    assert taken and taken[0] in objects(s3_server, first, "chunks/")


def store_many(server, prefix, names):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: server.put(prefix + name, b"x"), names))


def test_a_collection_in_a_large_bucket(on_origin, make_function, s3_server, s3_proxy):
    """More names than any page has; then in pages of a few, of which some have only names that are not ours."""
    daemon = on_origin(environment={"THAWD_ORIGIN_GRACE_S": "0"}).start()
    s3_proxy.fault = no_hot_sets
    function = make_function(SOURCE, on=daemon, snap_start=True)
    old = function.publish()
    change(function)
    version = function.publish()
    said = function.call(version=version)
    needed = objects(s3_server, daemon, "chunks/")
    function.client.delete_function(FunctionName=function.name, Qualifier=old)
    harness.wait_until(lambda: len(objects(s3_server, daemon, "snapshots/")) == 2, "the snapshot to be gone")
    strays = [f"chunks/{i % 256:02x}/{i:062x}" for i in range(1050)]
    foreign = {f"chunks/{i:02x}/ {i}" for i in range(60)}
    # What publishes left that died, or who stored a hot set when the snapshot was just deleted; in order before and behind the one there is.
    whole = objects(s3_server, daemon, "snapshots/")
    halves = {f"snapshots/{digit * 32}/{file}" for digit in "0f" for file in ("key", "hot")} | {f"snapshots/{'1' * 32}/hot"}
    store_many(s3_server, daemon.prefix, [*strays, *foreign, *halves])
    totals = json.loads(daemon.thaw("store", "gc", "--json").stdout)
    garbage = len(needed) - totals["origin_kept_chunks"]
    assert garbage > 0 and totals["origin_snapshots"] == 1, totals
    assert totals["origin_removed_chunks"] == len(strays) + garbage and totals["origin_young_chunks"] == 0, totals
    assert totals["origin_removed_files"] == len(halves) and objects(s3_server, daemon, "snapshots/") == whole, totals
    left = objects(s3_server, daemon, "chunks/")
    assert foreign < left < needed | foreign and len(left) == totals["origin_kept_chunks"] + len(foreign)

    s3_proxy.page = 25
    store_many(s3_server, daemon.prefix, [*strays[:70], *(f"snapshots/{i:032x}/key" for i in range(1, 31)), *halves])
    again = json.loads(daemon.thaw("store", "gc", "--json").stdout)
    assert again["origin_removed_files"] == 30 + len(halves) and objects(s3_server, daemon, "snapshots/") == whole, again
    assert again["origin_removed_chunks"] == 70 and again["origin_kept_chunks"] == totals["origin_kept_chunks"], again
    assert objects(s3_server, daemon, "chunks/") == left and not objects(s3_server, daemon, "collections/run-")
    forget(function, version)
    assert function.call(version=version) == said
    daemon.thaw("store", "verify")  # what is not here yet is there


@pytest.mark.parametrize("victim", ["daemon", "courier"])
def test_a_collector_that_is_killed_in_the_middle(on_origin, make_function, s3_server, s3_proxy, tmp_path, victim):
    """While it removes chunks of which another machine's publish has just heard that they are there."""
    first = on_origin(environment={"THAWD_ORIGIN_GRACE_S": "0"}).start()
    function = make_function(SOURCE, on=first, snap_start=True)
    s3_proxy.fault = no_hot_sets
    version = function.publish()
    second = on_origin(environment={"THAWD_ORIGIN_BURST_WAIT_S": "3"}, data=copy_of(first, tmp_path)).start()
    there = harness.Function(second, second.client(), function.name)
    there.call(version=version)
    function.client.delete_function(FunctionName=function.name, Qualifier=version)
    harness.wait_until(lambda: not objects(s3_server, first, "snapshots/"), "the snapshot to be gone")
    garbage = objects(s3_server, first, "chunks/")
    for path in (second.data / "store" / "chunks").glob("*/*"):
        if "user.thaw.origin" in os.listxattr(path):
            os.removexattr(path, "user.thaw.origin")  # it asks then
    change(there)
    has_asked, collected = threading.Event(), threading.Event()
    asked, removals, killed = set(), itertools.count(1), []

    def kill_once(request):
        if request.method == "HEAD":
            asked.add(request.path.split(first.prefix)[-1])
        if request.method == "PUT" and "/chunks/" in request.path and not collected.is_set():
            has_asked.set()
            collected.wait(harness.PATIENCE_S)
        if request.method == "DELETE" and "/chunks/" in request.path and next(removals) == len(garbage) // 2:
            killed.append(request.path)
            if victim == "daemon":
                os.kill(first.process.pid, signal.SIGKILL)
            else:
                os.kill(courier_of(first), signal.SIGKILL)
            return ("reset",)
        return no_hot_sets(request)

    s3_proxy.fault = kill_once
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(there.publish)
        assert has_asked.wait(harness.PATIENCE_S)
        harness.wait_until(lambda: len(asked & garbage) > len(garbage) // 3, "the publish to have asked for most of it")
        done = first.thaw("store", "gc", check=False)
        if victim == "daemon":
            first.process.wait(harness.PATIENCE_S)
            first.process = None
        relied_upon = (garbage - objects(s3_server, first, "chunks/")) & asked
        collected.set()
        assert killed and relied_upon and (done.returncode == 0) == (victim == "courier"), done
        version = publishing.result(harness.PATIENCE_S)
    said = there.call(version=version)
    assert relied_upon <= objects(s3_server, first, "chunks/")
    forget(there, version)
    assert there.call(version=version) == said
    second.thaw("store", "verify")  # what is not here yet is there
    assert not objects(s3_server, first, "collections/run-")

    if victim == "daemon":
        first.check_nothing_left()
        first.start()
    first.thaw("store", "gc")
    totals = json.loads(first.thaw("store", "gc", "--json").stdout)
    assert totals["origin_removed_chunks"] == 0 and totals["origin_kept_chunks"] == len(objects(s3_server, first, "chunks/")), totals
    forget(there, version)
    assert there.call(version=version) == said


def test_only_the_courier_has_the_keys(on_origin, s3_proxy):
    daemon = on_origin().start()

    def confined_courier():  # a daemon that is ready may have a courier that is still giving up its rights
        for pid in harness.descendants(daemon.process.pid):
            if "--role=courier" in harness.command_line(pid):
                lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                status = dict(line.split(":\t", 1) for line in lines)
                if status["Seccomp"] == "2":
                    return pid, status
        return None

    courier, status = harness.wait_until(confined_courier, "the courier's system call filter, which comes last")
    for pid in [daemon.process.pid, *harness.descendants(daemon.process.pid)]:
        try:
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # it has gone
        assert s3.SECRET.encode() not in environment, harness.command_line(pid)
        assert s3.SECRET not in harness.command_line(pid)
    assert "0" not in status["Uid"].split() and not status["Groups"].strip()
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    root = pathlib.Path(f"/proc/{courier}/root")
    assert {path.name for path in root.iterdir()} == {"dev", "etc", "store", "tmp"}
    assert not {path.name for path in (root / "etc").iterdir()} - {
        "resolv.conf", "hosts", "nsswitch.conf", "host.conf", "gai.conf", "ssl", "pki"}
    uid = int(status["Uid"].split()[0])
    for folder, allowed in ("snapshots", False), ("domains", False), ("chunks", False), ("chunks/00", True), ("tmp", True):
        done = subprocess.run(["/usr/bin/python3", "-c", "import os, sys; os.setgroups([]); os.setresgid(*[int(sys.argv[1])] * 3);"
                               "os.setresuid(*[int(sys.argv[1])] * 3); sys.exit(not os.access(sys.argv[2], os.W_OK | os.X_OK))",
                               str(uid), daemon.data / "store" / folder], check=False)
        assert (done.returncode == 0) == allowed, folder


def test_certificates_are_checked(on_origin, make_function, s3_server, tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key],
                   check=True, capture_output=True, timeout=harness.PATIENCE_S)
    proxy = s3.Proxy(s3_server, (certificate, key))
    try:
        trusting = on_origin(endpoint=proxy.endpoint, arguments=["--s3-ca", certificate]).start()
        function = make_function(SOURCE, on=trusting, snap_start=True)
        said = function.call(version=function.publish())
        assert said["sum"] == SUM and objects(s3_server, trusting, "snapshots/")
        wary = on_origin(endpoint=proxy.endpoint).start()
        assert "certificate" in make_function(SOURCE, on=wary, snap_start=True).fail_to_publish()
    finally:
        proxy.stop()


PASSING = [("status", 500), ("reset",), ("wrong",), ("wrong_write",)]  # all kinds: tests/api/test_origin_requests.py


def no_hot_sets(request):
    """A fault: with a hot set, a first request may need no chunk at all."""
    return ("status", 403) if request.path.endswith("/hot") and request.method != "DELETE" else None


def test_faults_that_pass(on_origin, make_function, s3_proxy):
    daemon = on_origin().start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    for fault in PASSING:
        seen = set()

        def first_time(request, fault=fault, seen=seen):
            which = (request.method, request.path)
            if request.path.endswith("/hot") or which in seen:
                return no_hot_sets(request)
            seen.add(which)
            return fault if len(seen) % 3 == 1 else None  # every third object meets it

        s3_proxy.fault = first_time
        change(function)
        version = function.publish()
        said = function.call(version=version)
        forget(function, version)
        seen.clear()
        assert function.call(version=version) == said, fault
        function.client.delete_function(FunctionName=function.name, Qualifier=version)


def test_an_origin_that_fails(on_origin, make_function, s3_server, s3_proxy):
    daemon = on_origin().start()
    s3_proxy.fault = no_hot_sets
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    said = function.call(version=version)
    stored = objects(s3_server, daemon, "snapshots/")

    # Nothing half-done is left of a publish that the origin fails; and a thaw waits no longer than it must.
    for fault, part, words in ((("status", 500), "/chunks/", "500"), (("status", 403), "/manifest", "403"), (("reset",), "/key", "origin")):
        s3_proxy.fault = lambda request, fault=fault, part=part: fault if part in request.path and request.method != "DELETE" else no_hot_sets(request)
        change(function)
        assert words in function.fail_to_publish()
        harness.wait_until(lambda: objects(s3_server, daemon, "snapshots/") <= stored | {f"snapshots/{n.name}/key" for n in
                           (daemon.data / "store" / "removals").glob("*") if len(n.name) == 32}, "the snapshot to be gone")
    s3_proxy.fault = lambda request: ("status", 500) if "/chunks/" in request.path else no_hot_sets(request)
    forget(function, version)
    with pytest.raises(Exception, match="500|Restore|origin"):
        function.call(version=version)
    s3_proxy.fault = no_hot_sets
    assert function.call(version=version) == said

    # Where it does not say whether it has what is not here, nothing counts as lost.
    s3_proxy.fault = lambda request: ("status", 403) if "/chunks/" in request.path else no_hot_sets(request)
    function.evict(version, templates=True)
    for chunk in (daemon.data / "store" / "chunks").glob("*/*"):
        chunk.unlink()
    done = daemon.thaw("store", "verify", "--repair", check=False)
    assert done.returncode != 0 and "403" in done.stderr + done.stdout, done
    s3_proxy.fault = no_hot_sets
    assert function.call(version=version) == said, "its snapshot was made anew"
    change(function)
    assert function.call(version=function.publish())["sum"] == SUM


@pytest.mark.parametrize("part", ["/chunks/", "/manifest", "/key"])
def test_what_the_origin_has_is_damaged(on_origin, make_function, s3_server, s3_proxy, part):
    daemon = on_origin().start()
    s3_proxy.fault = no_hot_sets
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    said = function.call(version=version)
    for key in [key for key in s3_server.keys(daemon.prefix) if part in key]:
        s3_server.put(key, s3.Proxy.flip(s3_server.get(key)))
    forget(function, version)
    # Refused in words, or initialised anew: never a clone that was put together from it.
    answer = harness.wait_until(lambda: attempt(function, version), "an answer")
    assert answer["sum"] == SUM and answer["mark"] != said["mark"], daemon.log()[-3000:]


def attempt(function, version):
    try:
        answer = function.raw(version=version)
    except Exception:
        return None
    if "FunctionError" in answer:
        return None
    return json.loads(answer["Payload"])


def courier_of(daemon):
    found = [pid for pid in harness.descendants(daemon.process.pid) if "--role=courier" in harness.command_line(pid)]
    return found[0] if found else None


def test_a_courier_that_is_killed_in_the_middle(on_origin, make_function, s3_proxy):
    daemon = on_origin().start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    killed = []

    def kill_once(request):
        courier = courier_of(daemon)
        if request.method == "PUT" and "/chunks/" in request.path and courier and courier not in killed and len(killed) < 2:
            killed.append(courier)
            os.kill(courier, signal.SIGKILL)
            return ("reset",)

    s3_proxy.fault = kill_once
    version = function.publish()
    assert len(killed) == 2 and courier_of(daemon) not in killed
    said = function.call(version=version)

    def kill_a_third(request):
        """Chunks are on their way, into files that have no place yet."""
        courier = courier_of(daemon)
        if request.method == "GET" and "/chunks/" in request.path and courier and courier not in killed and len(killed) < 3:
            harness.wait_until(lambda: list(tmp.glob("fetch-*")), "a file to be begun")
            killed.append(courier)
            os.kill(courier, signal.SIGKILL)
            return ("reset",)

    tmp = daemon.data / "store" / "tmp"
    s3_proxy.fault = kill_a_third
    forget(function, version)
    assert function.call(version=version) == said and len(killed) == 3
    harness.wait_until(lambda: not list(tmp.glob(f"fetch-{killed[2]}-*")), "what the courier has left to go")


@pytest.mark.parametrize("point", ["origin.publish_chunks", "origin.publish_key", "origin.publish_stored"])
def test_killed_in_the_middle_of_a_publish(on_origin, s3_server, point, tmp_path):
    daemon = on_origin(environment={"THAWD_FAULT": f"{point}:2"}).start()
    client = daemon.client()
    client.create_function(FunctionName="f", Runtime=harness.PYTHON, Handler="app.handler", Role=harness.ROLE,
                           Code={"ZipFile": harness.python_zip(SOURCE)}, SnapStart={"ApplyOn": "PublishedVersions"})
    client.get_waiter("function_active_v2").wait(FunctionName="f")
    function = harness.Function(daemon, client, "f")
    version = function.publish()
    said = function.call(version=version)
    stored = objects(s3_server, daemon, "snapshots/")
    change(function)
    client.publish_version(FunctionName="f")
    daemon.process.wait(harness.PATIENCE_S)
    daemon.process = None
    daemon.check_nothing_left()  # the front lives a moment longer, and holds the port
    daemon.environment = KEYS
    daemon.start()
    # It froze the second version anew, and nothing is left of the first try.
    client = daemon.client()
    function = harness.Function(daemon, client, "f")

    def settled():
        state = client.get_function_configuration(FunctionName="f", Qualifier="2")["State"]
        return state if state != "Pending" else None

    assert harness.wait_until(settled, "the second version") == "Active"
    snapshots = daemon.data / "store" / "snapshots"
    harness.wait_until(lambda: {name.split("/")[1] for name in objects(s3_server, daemon, "snapshots/")} ==
                       {path.name for path in snapshots.iterdir()} and len(list(snapshots.iterdir())) == 2, "the first try to be gone")
    assert stored <= objects(s3_server, daemon, "snapshots/")
    assert function.call(version=version) == said and function.call(version="2")["sum"] == SUM


def test_options_that_make_no_sense(tmp_path):
    def refused(*arguments, environment=None):
        done = subprocess.run([harness.THAWD, "--listen", "127.0.0.1:0", "--data", tmp_path / "data", *arguments],
                              capture_output=True, text=True, timeout=harness.PATIENCE_S,
                              env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | (environment or {}))
        assert done.returncode in (1, 2), done
        return done.stderr

    assert "s3://BUCKET/PREFIX" in refused("--origin", "http://x")
    assert "an endpoint is" in refused("--origin", "s3://bucket/x", "--s3-endpoint", "localhost:9000", environment=KEYS)
    assert "AWS_ACCESS_KEY_ID" in refused("--origin", "s3://bucket/x")
    readable = tmp_path / "credentials"
    readable.write_text("[default]\naws_access_key_id = a\n")
    assert "chmod 600" in refused("--origin", "s3://bucket/x", "--s3-credentials", readable)
    readable.chmod(0o600)
    assert "aws_secret_access_key" in refused("--origin", "s3://bucket/x", "--s3-credentials", readable)


def test_a_tree_of_processes_comes_as_a_whole(on_origin, make_function, s3_proxy):
    """Its pages are not filled in on demand: all chunks are read in order, and brought ahead."""
    daemon = on_origin().start()
    function = make_function(f"{SOURCE}\nif os.fork() == 0:\n    import time\n    while True:\n        time.sleep(1000)\n", on=daemon, snap_start=True)
    version = function.publish()
    said = function.call(version=version)
    forget(function, version)
    s3_proxy.forget()
    assert function.call(version=version) == said
    assert s3_proxy.count("GET", "/chunks/") == len(list((daemon.data / "store" / "chunks").glob("*/*")))
