"""Functions that are several processes: frozen and thawed whole. The first is examples/bash-hello: bash, a child of its own,
and curl, which waits for the next event when the snapshot is taken."""

import concurrent.futures
import os
import pathlib
import signal

import pytest

import harness

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "bash-hello"


@pytest.fixture
def make_bash(make_function):
    def make(**more):
        files = {name: (EXAMPLE / name).read_text() for name in ["bootstrap", "function.sh"]}
        return make_function(files=files, runtime="provided.al2023", handler="function.handler", **more)

    return make


def test_without_a_snapshot(make_bash):
    function = make_bash()
    answer = function.call({"name": "cold"})
    assert answer["greeting"] == "Hello, cold!"
    assert (answer["primes"], answer["largest"], answer["calls"]) == (5133, 49999, 1)
    assert function.call({"name": "cold"})["calls"] == 2


def test_thawed_with_its_children(make_bash):
    function = make_bash(snap_start=True)
    version = function.publish()
    first = function.call({"name": "snow"}, version)
    assert first["greeting"] == "Hello, snow!"
    assert (first["primes"], first["calls"]) == (5133, 1)
    assert function.call(None, version)["calls"] == 2
    for templates in [False, True]:
        function.evict(version, templates)
        again = function.call({"name": "snow"}, version)
        assert again == first, "the same processes with the same numbers, from where the snapshot was taken"


def test_clones_at_once(make_bash):
    function = make_bash(snap_start=True)
    version = function.publish()
    function.call(None, version)
    function.evict(version)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: function.call({"name": f"n{i}"}, version), range(24)))
    assert [a["greeting"] for a in answers] == [f"Hello, n{i}!" for i in range(24)]
    by_call = [a["calls"] for a in answers]
    assert 1 in by_call and sum(c == 1 for c in by_call) <= 6


def test_logs_errors_and_what_is_seen_of_it(make_bash, server):
    function = make_bash(snap_start=True)
    version = function.publish()
    function.call({"name": "logged"}, version)
    lines = harness.wait_until(lambda: [l for l in server.thaw("logs", function.name).stdout.splitlines()
                                        if l.endswith("greeting logged")], "the line that the handler wrote")
    assert len(lines) == 1
    assert function.fail({"name": "nobody"}, version)["errorType"] == "Function.Failed"
    assert function.call(None, version)["calls"] == 2, "the child has not counted the call that failed before it"
    text = server.thaw("inspect", f"{function.name}:{version}").stdout
    assert "processes    3, 3 threads" in text
    tree = text[text.index("Processes\n"):text.index("==== process")].splitlines()
    assert [line.split()[3] for line in tree[2:5]] == ["bootstrap", "bootstrap", "curl"], tree
    assert "the runtime API, from port" in text[text.index("curl"):]


def test_all_of_a_clone_ends_with_it(make_bash, server):
    """Whether the root is killed, or the environment reclaimed: no child stays."""
    function = make_bash(snap_start=True)
    version = function.publish()
    others = set(harness.descendants(server.process.pid))
    function.call(None, version)

    def processes():
        return [pid for pid in harness.descendants(server.process.pid) if pid not in others
                and ("/bootstrap" in harness.command_line(pid) or "curl" in harness.command_line(pid))]

    def three():
        found = processes()
        return found if len(found) == 3 else None

    running = harness.wait_until(three, "bash, its child and curl")
    function.evict(version)
    harness.wait_until(lambda: not processes(), "the processes to end")
    assert function.call(None, version)["calls"] == 1
    parents = harness.parents()
    running = harness.wait_until(three, "bash, its child and curl")
    root = next(pid for pid in running if parents[pid][0] not in running)
    os.kill(root, signal.SIGKILL)
    harness.wait_until(lambda: not set(running) & set(processes()), "the processes to end with their root")
    assert function.call(None, version)["calls"] == 1


PYTHON = """
import mmap, multiprocessing, os, subprocess
context = multiprocessing.get_context("fork")
ours, theirs = context.Pipe()
shared = mmap.mmap(-1, 4096) # there is no /dev/shm on Lambda
shared[0] = 5

def work(connection):
    while True:
        n = connection.recv()
        shared[0] += n
        connection.send([os.getpid(), os.getppid(), shared[0]])

worker = context.Process(target=work, args=(theirs,), daemon=True)
worker.start()
cat = subprocess.Popen(["/usr/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

def handler(event, context):
    ours.send(event["add"])
    answer = ours.recv()
    cat.stdin.write(b"through cat\\n")
    cat.stdin.flush()
    line = cat.stdout.readline().decode()
    if event.get("end"):
        cat.stdin.close()
        return [answer, line, cat.wait(), shared[0]]
    return [answer, line, cat.poll(), shared[0]]
"""


def test_python_with_workers(make_function):
    function = make_function(PYTHON, snap_start=True)
    version = function.publish()
    first = function.call({"add": 1}, version)
    assert first[0][2] == first[3] == 6
    assert first[1:3] == ["through cat\n", None]
    function.evict(version)
    again = function.call({"add": 10, "end": True}, version)
    assert again[0][:2] == first[0][:2], "the worker has its number and its parent again"
    assert again[1:] == ["through cat\n", 0, 15]


NODE = """
const { spawn, fork, execFileSync } = require('child_process');
if (process.argv[2] === 'worker') {
  process.on('message', m => process.send({ twice: 2 * m.n }));
} else {
  const cat = spawn('/usr/bin/cat');
  const worker = fork(__filename, ['worker']);
  let lineCame, answerCame;
  cat.stdout.on('data', data => lineCame(data.toString()));
  worker.on('message', message => answerCame(message.twice));
  exports.handler = async event => {
    const line = new Promise(r => { lineCame = r; }), answer = new Promise(r => { answerCame = r; });
    cat.stdin.write(`line ${event.n}\\n`);
    worker.send({ n: event.n });
    const result = [await line, await answer, execFileSync('/usr/bin/echo', ['a child that is new']).toString(), worker.pid];
    if (!event.end) return result;
    const ends = [cat, worker].map(child => new Promise(r => child.on('exit', (code, signal) => r(code ?? signal))));
    cat.stdin.end();
    worker.kill('SIGTERM');
    return await Promise.all(ends);
  };
}
"""


def test_node_with_children(make_function, server):
    offered = [r["runtime"] for r in server.get("/thaw/v1/runtimes")["runtimes"] if r["offered"]]
    runtime = next(r for r in offered if r.startswith("nodejs"))
    function = make_function(files={"app.js": NODE}, runtime=runtime, snap_start=True, Timeout=20, MemorySize=512)
    version = function.publish()
    first = function.call({"n": 1}, version)
    assert first[:3] == ["line 1\n", 2, "a child that is new\n"]
    function.evict(version)
    again = function.call({"n": 5}, version)
    assert again == ["line 5\n", 10, "a child that is new\n", first[3]], "the worker has its number again"
    assert function.call({"n": 6, "end": True}, version) == [0, "SIGTERM"]
