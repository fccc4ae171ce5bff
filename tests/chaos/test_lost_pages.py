"""What serves or stores the pages of a snapshot fails while clones run: the pager, its keeper or the template is killed, chunks
are damaged or removed. Every call is answered with what it should be answered with: by another environment when its own lost
pages, from a snapshot that was made anew when what was stored is damaged. Nothing is left behind."""

import contextlib
import json
import os
import pathlib
import signal
import threading
import time

import pytest

import harness

# 24 MB that are paged in, of which a request touches as much as it is told: no page is zero.
SOURCE = """
import os, time
PAGE = 4096
born = os.urandom(8).hex()
data = bytearray(os.urandom(1 << 20) * 24)
for at in range(0, len(data), PAGE):
    data[at:at + 8] = at.to_bytes(8, "little")
def check(mb):
    for at in range(0, int(mb * 1048576), PAGE):
        if int.from_bytes(data[at:at + 8], "little") != at:
            raise Exception(f"a wrong page at {at}")
def handler(event, context):
    if event.get("child"):
        child = os.fork()
        if child == 0:
            open("/proc/self/comm", "w").write("ballast-child")
            try:
                time.sleep(event["sleep"])
                check(event["mb"])
            except Exception:
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            raise Exception("a wrong page in the child")
    time.sleep(event.get("sleep", 0))
    check(event.get("mb", 0))
    print("answered", event["value"], born)
    return [event["value"], born]
"""


def named(daemon, name):
    """Pids below this daemon with that name, which are not dead."""
    found = []
    for pid in harness.descendants(daemon.process.pid):
        with contextlib.suppress(OSError):
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name and state != "Z":
                found.append(pid)
    return found


def the_one(daemon, name):
    return harness.wait_until(lambda: named(daemon, name), f"a process called {name}")[0]


class Call(threading.Thread):
    """An invocation under way."""

    def __init__(self, function, event, version):
        super().__init__()
        self.function, self.event, self.version, self.answer, self.error = function, event, version, None, None
        self.start()

    def run(self):
        try:
            self.answer = self.function.call(self.event, self.version)
        except Exception as error:  # noqa: BLE001: told by result()
            self.error = error

    def result(self):
        self.join(harness.PATIENCE_S)
        assert not self.is_alive(), f"no answer to {self.event}"
        assert self.error is None, self.error
        assert self.answer[0] == self.event["value"], self.answer
        return self.answer[1]


@pytest.fixture
def paged(new_daemon, make_function):
    """(daemon, function, version, born), frozen and not yet thawed."""
    daemon = new_daemon(arguments=["--log-level", "debug"]).start()
    function = make_function(SOURCE, on=daemon, snap_start=True, MemorySize=1024, Timeout=30)
    return daemon, function, function.publish()


def wait_for_state(daemon, state):
    harness.wait_until(lambda: [e for e in daemon.environments() if e["state"] == state], f"an environment that is {state}")


def kill(*pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("victims", [["thaw-pager"], ["thaw-keeper"], ["thaw-template"], ["thaw-pager", "thaw-template"]])
def test_killed_while_a_call_runs(paged, victims):
    daemon, function, version = paged
    for round in range(2):  # without, and with a recorded hot set
        call = Call(function, dict(value=round, sleep=0.5, mb=24), version)
        wait_for_state(daemon, "busy")
        kill(*[the_one(daemon, name) for name in victims])
        born = call.result()
        assert function.call(dict(value=7, mb=24), version) == [7, born], "the snapshot is still the same"
        function.evict(version, templates=True)
    for name in ("thaw-pager", "thaw-keeper", "thaw-template"):
        harness.wait_until(lambda name=name: not named(daemon, name), f"{name} to end")


@pytest.mark.parametrize("victim", ["thaw-pager", "thaw-keeper", "thaw-template"])
def test_killed_while_idle(paged, victim):
    daemon, function, version = paged
    born = function.call(dict(value=1), version)[1]
    for _ in range(3):
        kill(the_one(daemon, victim))
        assert function.call(dict(value=2, mb=24), version) == [2, born]
        function.evict(version, templates=True)
        assert function.call(dict(value=3), version) == [3, born]


def holding(daemon):
    """Living pids below this daemon whose memory holds the descriptors of what serves it."""
    found = []
    for pid in harness.descendants(daemon.process.pid):
        with contextlib.suppress(OSError):
            if "[io_uring]" in pathlib.Path(f"/proc/{pid}/maps").read_text():
                found.append(pid)
    return found


@contextlib.contextmanager
def stopped(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("where", ["clone", "child"])
def test_pager_and_keeper_are_killed_at_once(paged, where):
    """And nobody is there to kill those that wait for pages: the warden is stopped. They go on waiting."""
    daemon, function, version = paged
    born = function.call(dict(value=1), version)[1]
    pager, keeper, warden = the_one(daemon, "thaw-pager"), the_one(daemon, "thaw-keeper"), daemon.process.pid
    assert holding(daemon), "the memory of clones holds no descriptors: this needs a kernel with io_uring, which may be used " \
        "(kernel.io_uring_disabled=0, no container that forbids it) and pidfd_getfd"
    call = None
    if where == "child":  # it is made while it can be served, and touches its pages when it can be no more
        call = Call(function, dict(value=2, mb=24, sleep=1, child=True), version)
        harness.wait_until(lambda: named(daemon, "ballast-child"), "the function to fork")
    with stopped(pager, keeper, warden):
        call = call or Call(function, dict(value=2, mb=24), version)
        wait_for_state(daemon, "busy")
        clones = set(holding(daemon)) - {the_one(daemon, "thaw-template")}
        kill(pager, keeper)
        call.join(1)
        assert call.is_alive(), f"a page came from nowhere: {call.answer or call.error}"
        states = {pid: pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in clones}
        assert states and set(states.values()) <= {"S", "D"}, f"who met a page from nowhere has died of it, or runs on: {states}"
    assert call.result() == born
    assert function.call(dict(value=3, mb=24), version) == [3, born], "the snapshot is still the same"
    function.evict(version, templates=True)
    harness.wait_until(lambda: not holding(daemon), "what holds descriptors to end")


def test_nothing_is_held_when_all_pages_are_in(paged):
    daemon, function, version = paged
    born = function.call(dict(value=1), version)[1]
    harness.wait_until(lambda: "has all its pages" in daemon.log(), "the template to have all its pages")
    function.evict(version)
    harness.wait_until(lambda: not holding(daemon), "the template and its first clone to let go")
    assert function.call(dict(value=2, mb=24), version) == [2, born] and not holding(daemon)


def waiting_feeders(daemon):
    """Keepers and pagers that wait for a snapshot: (keeper, pager) each."""
    feeders = named(daemon, "thaw-feeder")
    parent = {pid: int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in feeders}
    return [(parent[pid], pid) for pid in feeders if parent[pid] in feeders]


@pytest.mark.parametrize("victims", [[0], [1], [0, 1]], ids=["keepers", "pagers", "both"])
def test_killed_while_they_wait(paged, victims):
    """What waits to serve a template is gone when there is one: others take its place, and nothing of it is left."""
    daemon, function, version = paged
    born = function.call(dict(value=1), version)[1]
    function.evict(version, templates=True)
    harness.wait_until(lambda: len(waiting_feeders(daemon)) == 2, "two feeders")
    feeders = waiting_feeders(daemon)
    kill(*[feeder[i] for feeder in feeders for i in victims])
    harness.wait_until(lambda: not {pid for feeder in feeders for pid in feeder} & set(named(daemon, "thaw-feeder")), "them to end")
    assert function.call(dict(value=2, mb=24), version) == [2, born]
    harness.wait_until(lambda: len(waiting_feeders(daemon)) == 2, "two others")
    function.evict(version, templates=True)
    assert function.call(dict(value=3, mb=24), version) == [3, born]


def lives(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_feeders_end_with_the_warden(paged):
    daemon, _, _ = paged
    harness.wait_until(lambda: len(waiting_feeders(daemon)) == 2, "two feeders")
    feeders = named(daemon, "thaw-feeder")
    kill(daemon.process.pid)
    daemon.process.wait(harness.PATIENCE_S)
    daemon.process = None
    harness.wait_until(lambda: not any(lives(pid) for pid in feeders), "them to end, too")


def test_killed_while_it_is_built(paged):
    """The pager is killed as early as it can be seen."""
    daemon, function, version = paged
    for round in range(5):
        calls = [Call(function, dict(value=[round, i], mb=1), version) for i in range(4)]
        deadline = time.monotonic() + 1
        while not (pagers := named(daemon, "thaw-pager")) and time.monotonic() < deadline:
            pass
        kill(*pagers)
        assert len({call.result() for call in calls}) == 1
        function.evict(version, templates=True)


def to_all_chunks(daemon, damage):
    for path in harness.files_below(daemon.data / "store" / "chunks"):
        with contextlib.suppress(FileNotFoundError):  # a collection may have come for it meanwhile
            damage(path)


def flip(path):
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 16]))


@contextlib.contextmanager
def pager_stopped(daemon):
    wait_for_state(daemon, "idle")
    pager = the_one(daemon, "thaw-pager")
    os.kill(pager, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pager, signal.SIGCONT)


@pytest.mark.parametrize("how", [flip, pathlib.Path.unlink], ids=["damaged", "removed"])
def test_chunks_are_lost_while_clones_run(paged, how):
    """Those calls that need what is lost, and those that wait meanwhile, are answered from the version as it was made anew."""
    daemon, function, version = paged
    born = function.call(dict(value=0), version)[1]
    with pager_stopped(daemon):
        calls = [Call(function, dict(value=i, mb=24), version) for i in range(3)]
        wait_for_state(daemon, "busy")
        to_all_chunks(daemon, how)
    new = {call.result() for call in calls}
    assert len(new) == 1 and born not in new
    assert "frozen anew" in daemon.log() and daemon.log().count("frozen anew") == 1, daemon.log()[-3000:]
    function.evict(version, templates=True)
    assert function.call(dict(value=9, mb=24), version) == [9, new.pop()], "the new snapshot is whole"


def test_an_event_is_run_again(paged):
    daemon, function, version = paged
    born = function.call(dict(value=0), version)[1]
    with pager_stopped(daemon):
        function.client.invoke(FunctionName=function.name, Qualifier=version, InvocationType="Event",
                               Payload=json.dumps(dict(value="event", mb=24)).encode())
        wait_for_state(daemon, "busy")
        to_all_chunks(daemon, flip)

    def answered():
        lines = daemon.thaw("logs", function.name, "-n", "1000").stdout.splitlines()
        return [line.split()[-1] for line in lines if "answered event" in line]

    assert harness.wait_until(answered, "the event to be run") != [born]
    assert len(answered()) == 1


def test_damage_that_is_found_at_the_first_thaw(paged):
    """Again and again. Without the hot set, which has all pages here: calls could be answered from it."""
    daemon, function, version = paged
    before = set()

    def hot_sets():
        return list(daemon.data.glob("store/snapshots/*/hot"))

    for _ in range(3):
        to_all_chunks(daemon, flip)
        for path in hot_sets():
            path.unlink()
        calls = [Call(function, dict(value=i, mb=24), version) for i in range(8)]
        born = {call.result() for call in calls}
        assert len(born) == 1 and not born & before
        before |= born
        harness.wait_until(hot_sets, "what the first clone touched to be stored")
        function.evict(version, templates=True)
