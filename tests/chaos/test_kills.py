"""kill -9 of either role at any moment: the other notices, sandboxes die with them, a restart finds everything that
was acknowledged, and nothing leaks. The moments come from a seeded generator: a failure names its seed."""

import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import harness

SOURCE = """
import time
time.sleep(0.05)
def handler(event, context):
    time.sleep(0.01)
    return event
"""


def kill_role(daemon, role):
    """SIGKILL to one role; then the other must end by itself, and all sandboxes with it."""
    os.kill(daemon.roles()[role], signal.SIGKILL)
    try:
        daemon.process.wait(harness.PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the warden still runs after the {role} was killed: {daemon.log()[-3000:]}") from None
    daemon.process = None
    daemon.check_nothing_left()


@pytest.mark.parametrize("role", ["front", "warden"])
def test_killed_while_idle(new_daemon, make_function, role):
    daemon = new_daemon().start()
    function = make_function(SOURCE, on=daemon, snap_start=True)
    version = function.publish()
    assert function.call(1, version) == 1
    kill_role(daemon, role)
    daemon.start()
    about = function.client.get_function_configuration(FunctionName=function.name, Qualifier=version)
    assert about["State"] == "Active" and about["SnapStart"]["OptimizationStatus"] == "On"
    answer = function.raw(2, version, LogType="Tail")
    assert json.loads(answer["Payload"]) == 2
    assert "RESTORE_START" in answer["Log"], "the snapshot is still there and is used"
    assert function.call(3) == 3


class Traffic:
    """Clients that create, publish and invoke until told to stop, and remember what was acknowledged."""

    def __init__(self, daemon, seed):
        self.daemon, self.seed = daemon, seed
        self.acknowledged = {}  # function name -> set of versions
        self.wrong = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.deploy, args=(i,), daemon=True) for i in range(2)]
        self.threads += [threading.Thread(target=self.invoke, args=(i,), daemon=True) for i in range(4)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(harness.PATIENCE_S)

    def deploy(self, number):
        client = self.daemon.client(read_timeout=20, connect_timeout=5)
        for i in range(1000):
            if self.stopping.is_set():
                return
            name = f"chaos-{self.seed}-{number}-{i}"
            try:
                client.create_function(FunctionName=name, Runtime=harness.PYTHON, Handler="app.handler",
                                       Role=harness.ROLE, Code={"ZipFile": harness.python_zip(SOURCE)},
                                       SnapStart={"ApplyOn": "PublishedVersions"})
                self.acknowledged[name] = set()
                version = client.publish_version(FunctionName=name)["Version"]
                self.acknowledged[name].add(version)
            except (BotoCoreError, ClientError):
                pass  # The server is gone, as it should be at some moment.

    def invoke(self, number):
        client = self.daemon.client(read_timeout=20, connect_timeout=5)
        chooser = random.Random(self.seed * 100 + number)
        while not self.stopping.is_set():
            names = list(self.acknowledged)
            if not names:
                time.sleep(0.02)
                continue
            try:
                value = chooser.randrange(10**6)
                answer = client.invoke(FunctionName=chooser.choice(names), Payload=json.dumps(value).encode())
                payload = answer["Payload"].read()
                if "FunctionError" not in answer and json.loads(payload) != value:
                    self.wrong.append((value, payload))
            except (BotoCoreError, ClientError, ValueError):
                time.sleep(0.02)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_a_random_moment(new_daemon, seed):
    chooser = random.Random(seed)
    daemon = new_daemon().start()
    acknowledged = {}
    for _ in range(2):
        with Traffic(daemon, seed * 10 + _) as traffic:
            time.sleep(chooser.uniform(0.05, 2.5))
            role = chooser.choice(["front", "warden"])
            kill_role(daemon, role)
        assert not traffic.wrong, f"seed {seed}: answers of another call: {traffic.wrong}"
        acknowledged.update(traffic.acknowledged)
        daemon.start()
        check_everything_is_there(daemon, acknowledged, f"seed {seed}, {role} killed")


def check_everything_is_there(daemon, acknowledged, told):
    client = daemon.client()
    for name, versions in acknowledged.items():
        listed = client.list_versions_by_function(FunctionName=name)["Versions"]
        assert {"$LATEST", *versions} <= {v["Version"] for v in listed}, f"{told}: {name}"
        for version in versions:
            def settled(name=name, version=version):
                about = client.get_function_configuration(FunctionName=name, Qualifier=version)
                return about if about["State"] != "Pending" else None
            about = harness.wait_until(settled, f"{told}: {name}:{version}")
            assert about["State"] == "Active", (told, about)
    for name, versions in list(acknowledged.items())[:5]:
        for qualifier in ["$LATEST", *versions]:
            answer = client.invoke(FunctionName=name, Qualifier=qualifier, Payload=b'"there"')
            assert answer["Payload"].read() == b'"there"', (told, name, qualifier)


def test_a_frozen_front_does_not_stop_the_end(new_daemon, make_function):
    """A front that does not answer SIGTERM (stopped, here) is ended by the warden after a while."""
    daemon = new_daemon(arguments=["--drain", "1"]).start()
    function = make_function(SOURCE, on=daemon)
    assert function.call(1) == 1
    front = daemon.roles()["front"]
    os.kill(front, signal.SIGSTOP)
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.wait(harness.PATIENCE_S)
    daemon.process = None
    daemon.check_nothing_left()


def test_sigterm_lets_running_calls_finish(new_daemon, make_function):
    daemon = new_daemon().start()
    function = make_function("import time\ndef handler(e, c): time.sleep(1.5); return e", on=daemon, Timeout=20)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(function.call("finished")))
    caller.start()
    harness.wait_until(lambda: "START RequestId" in daemon.thaw("logs", function.name).stdout, "the call to run")
    daemon.stop()
    caller.join()
    assert answers == ["finished"]


def test_restart_with_the_same_data(new_daemon, make_function):
    daemon = new_daemon().start()
    function = make_function(SOURCE, on=daemon, snap_start=True, Description="kept")
    version = function.publish()
    for _ in range(2):
        daemon.stop()
        daemon.start()
        assert function.client.get_function(FunctionName=function.name)["Configuration"]["Description"] == "kept"
        assert "RESTORE_START" in function.raw(1, version, LogType="Tail")["Log"]
