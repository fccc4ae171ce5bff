"""Many at once: each is served by an environment of its own, or told that there are too many."""

import concurrent.futures
import json

import pytest
from botocore.exceptions import ClientError

import harness

SLOW = """
import os, time
seen = []
def handler(event, context):
    seen.append(event)
    time.sleep(5)  # so long that all calls are surely there before the first is answered
    return {"event": event, "seen": seen}
"""


def test_each_call_has_an_environment_of_its_own(make_function):
    function = make_function(SLOW, Timeout=60)
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(function.call, range(5)))
    assert [a["event"] for a in answers] == list(range(5))
    assert all(a["seen"] == [a["event"]] for a in answers)


def test_fifty_first_requests(make_function):
    function = make_function("def handler(event, context): return event", snap_start=True, Timeout=60)
    version = function.publish()
    function.evict(version)
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda i: function.call(i, version), range(200)))
    assert answers == list(range(200))


def test_ab_right_after_an_eviction(make_function, server, tmp_path):
    import shutil, subprocess
    assert shutil.which("ab"), "apache2-utils is not installed: ./run test installs it"
    function = make_function("def handler(event, context): return {'pet': 'Rex'}", snap_start=True)
    version = function.publish()
    (tmp_path / "event.json").write_text("{}")
    function.evict(version)
    done = subprocess.run(["ab", "-q", "-n", "1000", "-c", "50", "-p", tmp_path / "event.json",
                           "-T", "application/json",
                           f"{server.endpoint}/2015-03-31/functions/{function.name}/invocations?Qualifier={version}"],
                          capture_output=True, text=True, timeout=120)
    assert "Complete requests:      1000" in done.stdout, done.stdout + done.stderr
    assert "Failed requests:        0" in done.stdout and "Non-2xx" not in done.stdout, done.stdout


def test_the_limit_is_said_with_429(new_daemon, make_function):
    daemon = new_daemon(arguments=["--concurrency", "3"]).start()
    function = make_function("import time\ndef handler(e, c): time.sleep(1); return e", on=daemon, Timeout=30)

    def call(i):
        try:
            return function.call(i)
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, range(8)))
    throttled = [a for a in answers if a == ("TooManyRequestsException", 429)]
    served = [a for a in answers if isinstance(a, int)]
    assert len(served) + len(throttled) == 8 and len(served) >= 3 and throttled, answers
    assert function.call(9) == 9


def test_idle_environments_are_reclaimed(new_daemon, make_function):
    daemon = new_daemon(arguments=["--idle", "1"]).start()
    function = make_function("count = 0\ndef handler(e, c):\n    global count\n    count += 1\n    return count",
                             on=daemon)
    assert [function.call(), function.call()] == [1, 2]
    import time
    time.sleep(1.5)
    harness.wait_until(lambda: function.call() == 1 or time.sleep(1.5), "a new environment")


def test_one_function_leaves_room_for_others(new_daemon, make_function):
    daemon = new_daemon(arguments=["--function-concurrency", "1"]).start()
    slow = make_function("import time\ndef handler(e, c): time.sleep(2); return e", on=daemon, Timeout=30)
    other = make_function("def handler(e, c): return e", on=daemon)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(slow.call, 1)
        harness.wait_until(lambda: daemon.get("/thaw/v1/status")["in_flight"] == 1, "the call to run")
        with pytest.raises(ClientError) as caught:
            slow.call(2)
        assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"
        assert caught.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"
        assert other.call(3) == 3
        assert running.result() == 1
