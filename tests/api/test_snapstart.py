"""Versions with SnapStart: initialised once, frozen, and thawed any number of times."""

import concurrent.futures
import json
import re
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

import harness

COUNTER = """
import time
born = time.time()
count = 0
def handler(event, context):
    global count
    count += 1
    return {"born": born, "count": count}
"""


def test_initialised_once(make_function):
    function = make_function("import time\ntime.sleep(0.7)\n" + COUNTER, snap_start=True)
    version = function.publish()
    first = function.call(None, version)
    again = function.call(None, version)
    assert (first["count"], again["count"]) == (1, 2)
    for templates in [False, True, False]:
        function.evict(version, templates)
        thawed = function.call(None, version)
        assert thawed == {"born": first["born"], "count": 1}, "every clone begins where the snapshot was taken"


def test_latest_is_never_frozen(make_function):
    function = make_function(COUNTER, snap_start=True)
    function.publish()
    born = function.call()["born"]
    function.evict()
    assert function.call()["born"] != born


def test_publish_is_pending_while_it_is_frozen(make_function):
    function = make_function("import time\ntime.sleep(1)\n" + COUNTER, snap_start=True)
    answer = function.client.publish_version(FunctionName=function.name)
    assert answer["State"] == "Pending"
    assert answer["SnapStart"]["OptimizationStatus"] == "Off"
    assert function.publish() == answer["Version"]


def test_publish_of_what_fails_says_why(make_function):
    function = make_function("raise ValueError('no database')", snap_start=True)
    version = function.client.publish_version(FunctionName=function.name)["Version"]

    def settled():
        answer = function.client.get_function_configuration(FunctionName=function.name, Qualifier=version)
        return answer if answer["State"] != "Pending" else None

    answer = harness.wait_until(settled, "the version to fail")
    assert answer["State"] == "Failed"
    assert answer["StateReason"] and answer["StateReasonCode"]
    with pytest.raises(Exception):
        function.client.invoke(FunctionName=function.name, Qualifier=version)


RANDOM = """
import os, random, uuid, secrets, ssl, hashlib, tempfile
random.random()
uuid.uuid4()
os.urandom(8)
ssl.RAND_bytes(8)
def handler(event, context):
    return {"random": random.random(), "uuid": str(uuid.uuid4()), "urandom": os.urandom(16).hex(),
            "secrets": secrets.token_hex(), "ssl": ssl.RAND_bytes(16).hex(), "shuffled": random.sample(range(10**9), 3)}
"""


def test_what_is_random_is_unique(make_function):
    function = make_function(RANDOM, snap_start=True)
    version = function.publish()
    seen = []
    for _ in range(8):
        function.evict(version)
        seen.append(function.call(None, version))
    for key in seen[0]:
        assert len({json.dumps(answer[key]) for answer in seen}) == len(seen), f"{key} repeats: {seen}"


HOOKS = """
import os, time
from snapshot_restore_py import register_before_snapshot, register_after_restore
order = []
@register_before_snapshot
def first_before():
    order.append("before registered first")
@register_before_snapshot
def second_before():
    order.append("before registered second")
@register_after_restore
def first_after():
    order.append("after registered first")
register_after_restore(lambda what: order.append(what), "after registered second")
def handler(event, context):
    return order
"""


def test_hooks_and_their_order(make_function):
    function = make_function(HOOKS, snap_start=True)
    version = function.publish()
    expected = ["before registered second", "before registered first",
                "after registered first", "after registered second"]
    for _ in range(2):
        function.evict(version)
        assert function.call(None, version) == expected
    assert function.call() == [], "no hooks without a snapshot"


def test_a_hook_that_fails_before(make_function):
    function = make_function("""
from snapshot_restore_py import register_before_snapshot
@register_before_snapshot
def fail():
    raise RuntimeError("cannot close the pool")
def handler(e, c):
    return 1
""", snap_start=True)
    version = function.client.publish_version(FunctionName=function.name)["Version"]
    answer = harness.wait_until(
        lambda: (lambda a: a if a["State"] != "Pending" else None)(
            function.client.get_function_configuration(FunctionName=function.name, Qualifier=version)), "an outcome")
    assert answer["State"] == "Failed" and answer["StateReason"]


def test_a_hook_that_fails_after(make_function):
    function = make_function("""
from snapshot_restore_py import register_after_restore
@register_after_restore
def fail():
    raise RuntimeError("cannot open the pool")
def handler(e, c):
    return 1
""", snap_start=True)
    version = function.publish()
    function.evict(version)
    answer = function.raw(None, version, LogType="Tail")
    assert answer["FunctionError"] == "Unhandled"
    assert "cannot open the pool" in answer["Payload"].decode() or "AfterRestoreError" in answer["Payload"].decode()


def test_environment_variables_and_context(make_function):
    function = make_function("""
import os
init_type = os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
def handler(e, c):
    return [init_type, os.environ["AWS_LAMBDA_FUNCTION_VERSION"], os.environ["MINE"], c.function_version,
            c.aws_request_id, os.environ.get("AWS_ACCESS_KEY_ID")]
""", snap_start=True, Environment={"MINE": "yes"})
    version = function.publish()
    answers = []
    for _ in range(2):
        function.evict(version)
        answers.append(function.call(None, version))
    assert answers[0][:4] == ["snap-start", version, "yes", version]
    assert answers[0][4] != answers[1][4]
    assert answers[0][5] is None, "a snapshot holds no credentials in its environment"


def test_tmp_is_part_of_the_snapshot(make_function):
    function = make_function("""
import os
os.makedirs("/tmp/deep/folder")
open("/tmp/deep/folder/data", "w").write("from init " * 1000)
os.symlink("deep/folder/data", "/tmp/link")
os.chmod("/tmp/deep", 0o700)
kept = open("/tmp/deep/folder/data")
kept.seek(5)
hidden = open("/tmp/hidden", "w+")
hidden.write("deleted but open")
hidden.flush()
os.remove("/tmp/hidden")
def handler(e, c):
    before = sorted(os.listdir("/tmp"))
    open("/tmp/mine", "w").write("x")
    hidden.seek(0)
    return [before, open("/tmp/link").read(9), kept.read(4), oct(os.stat("/tmp/deep").st_mode & 0o777), hidden.read()]
""", snap_start=True)
    version = function.publish()
    for _ in range(2):
        function.evict(version)
        assert function.call(None, version) == [["deep", "link"], "from init", "init", "0o700", "deleted but open"]


def test_clocks_do_not_go_back(make_function):
    function = make_function("""
import time
at_init = [time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time(), time.perf_counter()]
def handler(e, c):
    now = [time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time(), time.perf_counter()]
    return [n - i for n, i in zip(now, at_init)]
""", snap_start=True)
    version = function.publish()
    function.evict(version)
    passed = function.call(None, version)
    assert all(p >= 0 for p in passed), passed
    assert abs(passed[2]) < 3600


def test_clones_alive_at_once_are_isolated(make_function):
    function = make_function("""
import os, time
mine = None
def handler(event, context):
    global mine
    if mine is None:
        mine = event
        open("/tmp/mine", "w").write(str(event))
    time.sleep(0.5)
    return [mine == event, open("/tmp/mine").read() == str(event), os.getpid(), os.listdir("/tmp")]
""", snap_start=True, Timeout=30)
    version = function.publish()
    function.evict(version)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: function.call(i, version), range(6)))
    assert all(a[0] and a[1] and a[3] == ["mine"] for a in answers), answers
    assert len({a[2] for a in answers}) == 1, "each sees the pid it had when it was frozen"


def test_threads_go_on(make_function):
    function = make_function("""
import threading, queue, time
work, done = queue.Queue(), queue.Queue()
ticks = 0
def worker():
    while True:
        done.put(work.get() * 2)
def ticker():
    global ticks
    while True:
        time.sleep(0.01)
        ticks += 1
threads = [threading.Thread(target=worker, daemon=True) for _ in range(8)] + [threading.Thread(target=ticker, daemon=True)]
for thread in threads:
    thread.start()
def handler(event, context):
    for i in range(100):
        work.put(i)
    before = ticks
    while ticks == before:
        time.sleep(0.01)
    return [sorted(done.get() for _ in range(100)) == [2 * i for i in range(100)], threading.active_count()]
""", snap_start=True, Timeout=20)
    version = function.publish()
    for _ in range(3):
        function.evict(version)
        assert function.call(None, version) == [True, 10]


def test_descriptors_go_on(make_function):
    function = make_function("""
import os, select, socket, mmap, signal
r, w = os.pipe()
os.write(w, b"in the pipe")
a, b = socket.socketpair()
b.send(b"in the socket")
memory = mmap.mmap(-1, 8192)
memory[:5] = b"hello"
ep = select.epoll()
ep.register(r, select.EPOLLIN)
caught = []
signal.signal(signal.SIGUSR1, lambda *x: caught.append(1))
server = socket.create_server(("127.0.0.1", 0))
def handler(event, context):
    os.kill(os.getpid(), signal.SIGUSR1)
    ready = ep.poll(1)
    client = socket.create_connection(server.getsockname())
    peer, _ = server.accept()
    client.send(b"ping")
    answer = [os.read(r, 100).decode(), a.recv(100).decode(), memory[:5].decode(), len(ready), len(caught) > 0,
              peer.recv(10).decode()]
    os.write(w, b"in the pipe")
    b.send(b"in the socket")
    client.close(); peer.close()
    return answer
""", snap_start=True)
    version = function.publish()
    for _ in range(2):
        function.evict(version)
        assert function.call(None, version) == ["in the pipe", "in the socket", "hello", 1, True, "ping"]


def test_logs_tell_of_the_restore(make_function):
    function = make_function("print('initialising')\ndef handler(e, c): print('handling'); return 1", snap_start=True)
    version = function.publish()
    function.evict(version)
    log = function.raw(None, version, LogType="Tail")["Log"]
    lines = log.splitlines()
    assert lines[0].startswith("RESTORE_START Runtime Version: "), log
    assert re.match(r"RESTORE_REPORT Restore Duration: [\d.]+ ms", lines[1]), log
    assert lines[2].startswith("START RequestId: ") and lines[2].endswith(f"Version: {version}")
    assert "handling" in lines and "initialising" not in log
    report = lines[-1]
    assert "Restore Duration: " in report and "Billed Restore Duration: " in report and "Init Duration" not in report
    warm = function.raw(None, version, LogType="Tail")["Log"]
    assert "RESTORE" not in warm and "Restore Duration" not in warm


def test_many_thaws_leave_nothing(make_function, server):
    function = make_function(COUNTER, snap_start=True)
    version = function.publish()
    function.call(None, version)
    function.evict(version)
    time.sleep(0.1)
    before = len(harness.descendants(server.process.pid))
    for _ in range(100):
        assert function.call(None, version)["count"] == 1
        function.evict(version)
    # Blank sandboxes that are being prepared come and go.
    harness.wait_until(lambda: len(harness.descendants(server.process.pid)) <= before + 8, "the clones to be gone")


def test_a_provided_runtime_is_frozen_too(make_function, tmp_path):
    source = harness.ROOT / "examples/c-hello/bootstrap.c"
    subprocess.run(["gcc", "-O2", "-o", tmp_path / "bootstrap", source], check=True)
    function = make_function(runtime="provided.al2023", handler="none", snap_start=True,
                             files={"bootstrap": (tmp_path / "bootstrap").read_bytes()})
    version = function.publish()
    for _ in range(3):
        function.evict(version)
        assert "RESTORE_START" in function.raw(None, version, LogType="Tail")["Log"]
        answer = function.raw(None, version, LogType="Tail")
        assert "RESTORE_START" not in answer["Log"] and "FunctionError" not in answer


def test_a_hook_that_does_not_end_after(make_function):
    function = make_function("""
import time
from snapshot_restore_py import register_after_restore
@register_after_restore
def hang():
    time.sleep(1000)
def handler(e, c):
    return 1
""", snap_start=True)
    version = function.publish()
    function.evict(version)
    with pytest.raises(ClientError) as caught:
        function.call(None, version)
    assert caught.value.response["Error"]["Code"] == "SnapStartTimeoutException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 408


TOUCHER = """
import resource
memory = bytearray(8 << 20)
memory[::4096] = b"x" * 2048
def handler(event, context):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for at in range(0, len(memory), 4096):
        memory[at] += 1
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {"faults": faults, "values": sorted(set(memory[::4096])), "rest": any(memory[1::4096])}
"""


def test_pages_that_all_clones_write_to_are_copied_by_the_fork(make_function):
    function = make_function(TOUCHER, snap_start=True, MemorySize=512)
    version = function.publish()
    seen = []

    def thawed():
        function.evict(version)
        seen.append(function.call(None, version))
        assert function.call(None, version)["faults"] < 200, "the same pages again: they are its own"
        return seen[-1]

    assert thawed()["faults"] > 1800, "the first clone copies each page when it writes to it"
    # Looked at are clones that were made when all pages were there.
    harness.wait_until(lambda: thawed()["faults"] < 200, "clones that have copies from the start")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        function.evict(version)
        seen += pool.map(lambda _: function.call(None, version), range(4))
    for answer in seen[:-4]:
        assert answer["values"] == [ord("x") + 1], f"a clone begins with the snapshot's memory: {seen}"
        assert not answer["rest"]
